"""What `nvl-golden truncate` does: writes a small sister of a checkpoint, with its first layers."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ._core import GoldenError, Staging
from .huggingface.source import Source, find_source
from .talk import say
from .truncation.configuration import Plan, plan
from .truncation.stacks import TEXT, VISION
from .truncation.weights import Weights, Written, read_object, write_file, write_weights

#: What says, in the new checkpoint, what it was made of.
MANIFEST, FORMAT = "truncation.json", "nvl-truncated-checkpoint"
_CONFIG = "config.json"
#: Files of weights, of whatever format, and their indices.
_WEIGHTS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack", ".tflite"),
    *(".safetensors.index.json", ".bin.index.json"),
)


def truncate(arguments: argparse.Namespace) -> int:
    """Runs the command.

    # Errors
    `GoldenError`, which says what is in the way; nothing is written then.
    """
    asked = {TEXT: arguments.layers, VISION: arguments.vision_layers}
    asked = {part: count for part, count in asked.items() if count is not None}
    if not asked:
        raise GoldenError("expected `--layers`, `--vision-layers` or both, found neither")
    out: Path = arguments.out
    _check_place(out, arguments.force)
    source = find_source(arguments.source, weights=False)
    _check_apart(out, source.folder)
    config = read_object(source.folder / _CONFIG)
    weights = Weights(source.folder, source.file)
    chosen = plan(weights.files, config, _complete(config), asked)
    try:
        staging = Staging(out)
        try:
            written = _fill(staging.folder, source, config, weights, chosen)
            staging.publish(_check_own if arguments.force else None)
        finally:
            staging.discard()
    except OSError as error:
        raise GoldenError(
            f"`{error.filename or out}`: expected to write the checkpoint, found: {error.strerror}"
        ) from error
    _tell(chosen, weights, written, out)
    return 0


def _fill(folder: Path, source: Source, config: dict[str, Any], weights: Weights, chosen: Plan) -> Written:
    """Writes every file of the new checkpoint."""
    written = write_weights(weights, {name for name in weights.files if chosen.keeps(name)}, folder)
    files = [*written.files, _CONFIG]
    for path in _others(source.folder):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # A link is followed: the new checkpoint has nothing of the old one's.
        shutil.copyfile(source.folder / path, target)
        files.append(path.as_posix())
    for change in chosen.changes:
        change.apply(config)
    write_file(folder / _CONFIG, _json(config))
    origin = {"name": source.name} | ({"revision": source.revision} if source.revision else {})
    manifest = {
        "format": FORMAT,
        "version": 1,
        "source": origin,
        "layers": [{"of": stack.prefix, "before": stack.count, "after": count} for stack, count in chosen.cuts],
        "configuration": [
            {"field": ".".join(change.path), "before": change.before, "after": change.after}
            for change in chosen.changes
        ],
        "files": sorted(files),
    }
    write_file(folder / MANIFEST, _json(manifest))
    return written


def _others(folder: Path) -> Iterator[Path]:
    """The files of a checkpoint that are copied: all but weights, what is hidden, and what this program writes itself."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(files):
            path = (Path(parent) / name).relative_to(folder)
            if not name.startswith(".") and not name.endswith(_WEIGHTS) and str(path) not in (_CONFIG, MANIFEST):
                yield path


def _complete(config: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration with transformers' defaults for what it leaves out; `None` if they are not known."""
    if "auto_map" in config or importlib.util.find_spec("transformers") is None:
        return None
    import transformers

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        return None
    # A configuration that transformers does not take is still one whose fields can be read.
    with suppress(Exception):
        complete: dict[str, Any] = transformers.CONFIG_MAPPING[kind].from_dict(config).to_dict()
        return complete
    return None


def _check_place(out: Path, force: bool) -> None:
    parent = out.parent
    if not out.name or out.name == "..":
        raise GoldenError(f"`{out}`: expected a folder with a name of its own, found none")
    if not parent.is_dir():
        raise GoldenError(f"`{parent}`: expected a folder to write `{out.name}` in, found none")
    if not os.path.lexists(out):
        return
    if not force:
        error = GoldenError(f"`{out}`: expected nothing, found a file or folder")
        error.hint = "choose another folder, or `--force` to replace a checkpoint that this command wrote"
        raise error
    _check_own(out)


def _check_own(folder: Path) -> None:
    """Refuses to replace what is not an empty folder, or one that this command wrote and nobody has put anything into."""
    if folder.is_symlink() or not folder.is_dir():
        raise _foreign("no folder")
    found = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    if not found:
        return
    try:
        manifest = read_object(folder / MANIFEST)
    except GoldenError:
        manifest = {}
    files = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(files, list):
        raise _foreign(f"one without a `{MANIFEST}`")
    if added := sorted(found - {MANIFEST, *(name for name in files if isinstance(name, str))}):
        raise _foreign(f"`{added[0]}` in it")


def _foreign(found: str) -> GoldenError:
    error = GoldenError(f"--force: expected a folder that is empty or that `truncate` wrote, found {found}")
    error.hint = "it stays as it is: choose another folder"
    return error


def _check_apart(out: Path, source: Path) -> None:
    real, own = out.resolve(), source.resolve()
    if real.is_relative_to(own) or own.is_relative_to(real):
        raise GoldenError(
            f"`{out}`: expected a folder apart from the checkpoint `{source}`, found one inside of the other"
        )


def _tell(chosen: Plan, weights: Weights, written: Written, out: Path) -> None:
    for stack, count in chosen.cuts:
        say(f"kept {count} of {stack.count} layers of {stack.prefix}")
    for change in chosen.changes:
        before = "nothing" if change.before is None else json.dumps(change.before)
        say(f"config.json: {'.'.join(change.path)} is {json.dumps(change.after)}, and was {before}")
    say(f"wrote {written.tensors} of {len(weights.files)} tensors, {written.bytes / 1e6:,.1f} MB, to {out}")


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
