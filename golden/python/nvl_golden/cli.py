"""The command `nvl-golden`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ._core import GoldenError, Sites, __build__
from .rows import Rows
from .sizes import parse_size
from .talk import say

_DTYPES = ("float32", "bfloat16", "float16", "float64")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _fail(message, f"`{self.prog} --help` lists the arguments")
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Exit status: 0 if a dump was recorded, 2 if not."""
    parsed = _parser().parse_args(arguments)
    try:
        return _record(parsed)
    except GoldenError as error:
        return _fail(str(error), getattr(error, "hint", None))
    except KeyboardInterrupt:
        _fail("interrupted: nothing was recorded", None)
        return 130
    except Exception as error:  # The checkpoint's own code can raise anything.
        if os.environ.get("NVL_GOLDEN_TRACEBACK"):
            raise
        problem = f"{type(error).__name__}: {error}".strip()
        return _fail(problem, "with NVL_GOLDEN_TRACEBACK=1 in the environment you see where it comes from")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nvl-golden", description="Records what a model computes, layer by layer.")
    parser.add_argument("--version", action="version", version=f"nvl-golden {__build__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    record = commands.add_parser(
        "record",
        help="run a Hugging Face checkpoint's own code and record what it computes",
        description="Runs a Hugging Face checkpoint's own `chat` (or `generate`, where it has none) and records what each "
        "module computes in the prefill, and the logits of every step. The answer goes to standard output. "
        "Exit status: 0 if a dump was recorded, 2 if not.",
    )
    add = record.add_argument
    add(
        "--model", required=True, metavar="HF_DIR", help="the checkpoint: a folder, or a hub id `owner/name[@revision]`"
    )
    add("--image", action="append", default=[], type=Path, metavar="FILE", help="a picture; several in order")
    add("--prompt", required=True, metavar="TEXT", help="the question")
    add("--out", required=True, type=Path, metavar="DIR", help="the dump to write")
    add("--system", metavar="TEXT", help="a system prompt")
    add(
        "--history", type=Path, metavar="FILE", help="earlier turns: a JSON list of objects with `user` and `assistant`"
    )
    add("--dtype", default="bfloat16", choices=_DTYPES, help="what the model computes in (default: bfloat16)")
    add("--device", default="cpu", metavar="DEVICE", help="`cpu`, `cuda:0`, … (default: cpu)")
    add("--attention", metavar="NAME", help="`eager`, `sdpa`, … (default: the checkpoint's; eager if that needs CUDA)")
    add("--sites", action="append", metavar="GLOB", help="record only what matches; several times for several globs")
    add("--tokens", metavar="RANGE", help="keep only these rows of each activation: `last:8`, `every:16`, `0,5,-1`")
    add("--inputs", action="store_true", help="also record what each module is given")
    add("--sketch", action="store_true", help="write sketches instead of tensors: a dump that can live in git")
    add("--max-new-tokens", type=_count, default=512, metavar="N", help="the most tokens to generate (default: 512)")
    add(
        "--max-shard-size", default="5GB", metavar="SIZE", help="the size at which another file is begun (default: 5GB)"
    )
    add("--threads", type=_count, metavar="N", help="threads of the computation (default: torch's own choice)")
    add("--trust-remote-code", action="store_true", help="run the checkpoint's code without asking")
    add("--force", action="store_true", help="replace a dump that is there already")
    return parser


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 1 on, found `{text}`")


def _record(arguments: argparse.Namespace) -> int:
    # What can be refused at once is, before gigabytes are loaded.
    parse_size(arguments.max_shard_size, "--max-shard-size")
    if arguments.tokens is not None:
        Rows(arguments.tokens)
    if arguments.sites:
        Sites(arguments.sites)
    history = _read_history(arguments.history) if arguments.history else []
    for image in arguments.image:
        if not image.is_file():
            raise GoldenError(f"`{image}`: expected a picture, found no file")
    _check_out(arguments.out, arguments.force)
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        missing = GoldenError(f"expected torch and transformers to run the checkpoint with, found no `{error.name}`")
        missing.hint = "install the ones that the checkpoint is to be run with: this package brings none"
        raise missing from error

    from .huggingface.chat import Request, ask
    from .huggingface.checkpoint import find_source, load, vision_attention
    from .huggingface.code import code_that_ran, find_code
    from .huggingface.hazards import neutralised
    from .recorder import record

    _check_device(torch, arguments.device)
    source = find_source(arguments.model)
    code = find_code(source.folder, source.origin)
    if code:
        _ask_for_trust(code, arguments.trust_remote_code)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    dtype = getattr(torch, arguments.dtype)
    deviations: list[str] = []
    say(f"loading {source.origin}")
    with neutralised(arguments.device, dtype, deviations):
        loaded = load(source, dtype, arguments.device, arguments.attention, bool(code), deviations)
    request = Request(arguments.prompt, arguments.image, arguments.system, history, arguments.max_new_tokens)
    recorder = record(
        loaded.model,
        arguments.out,
        sites=arguments.sites,
        inputs=arguments.inputs,
        tokens=arguments.tokens,
        max_shard_size=arguments.max_shard_size,
        sketch=arguments.sketch,
        overwrite=arguments.force,
        # As the published goldens have them: no modules that do nothing, and of RADIO's two outputs the one that is used.
        identities=False,
        output_names={"RADIOModel": (None, "")},
    )
    with recorder:
        with neutralised(arguments.device, dtype, deviations):
            text = ask(loaded, request, recorder)
        recorder.remote_code = code_that_ran(code) or None
        recorder.checkpoint = {"name": source.name} | ({"revision": source.revision} if source.revision else {})
        recorder.producer["name"] = "nvl-golden record"
        recorder.producer["dtype"] = arguments.dtype
        if vision := vision_attention(loaded.model):
            recorder.producer["attention"] = {"vision": vision} | recorder.producer.get("attention", {})
        if deviations:
            recorder.producer["deviations"] = deviations
        size = recorder.bytes_recorded
    print(text, flush=True)
    say(f"recorded {size / 1e6:,.1f} MB in {arguments.out}")
    for deviation in deviations:
        say(f"deviation: {deviation}")
    return 0


def _ask_for_trust(code: list[Any], trusted: bool) -> None:
    from .huggingface.code import describe_code

    print("this checkpoint brings Python code, which runs with your rights:", file=sys.stderr)
    print(describe_code(code), file=sys.stderr, flush=True)
    if trusted:
        return
    refused = GoldenError("expected your consent to run the checkpoint's code, found none")
    refused.hint = "read the files above; `--trust-remote-code` agrees"
    if not sys.stdin.isatty():
        raise refused
    print("run it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise refused


def _read_history(path: Path) -> list[tuple[str, str]]:
    def refused(found: str) -> GoldenError:
        return GoldenError(f"`{path}`: expected a JSON list of objects with `user` and `assistant`, found {found}")

    try:
        turns = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refused(str(error)) from error
    if not isinstance(turns, list):
        raise refused(f"`{type(turns).__name__}`")
    history = []
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict) or set(turn) != {"user", "assistant"}:
            raise refused(f"something else at index {index}")
        if not all(isinstance(text, str) for text in turn.values()):
            raise refused(f"something other than texts at index {index}")
        history.append((turn["user"], turn["assistant"]))
    return history


def _check_out(out: Path, force: bool) -> None:
    if not force and out.exists() and (not out.is_dir() or any(out.iterdir())):
        error = GoldenError(f"`{out}`: expected no file and no folder with content, found one")
        error.hint = "choose another folder, or `--force` to replace a dump"
        raise error


def _check_device(torch: Any, device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise GoldenError(f"device: expected `cpu` or `cuda:N`, found `{device}`") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise GoldenError(f"device: expected a CUDA device for `{device}`, found none")


def _fail(message: str, hint: str | None) -> int:
    say(f"error: {message}")
    if hint:
        say(f"hint: {hint}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
