"""The command `nvl-golden`."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ._core import GoldenError, Sites, __build__
from .rows import Rows
from .sizes import parse_size
from .talk import say

if TYPE_CHECKING:
    from .huggingface.checkpoint import Source
    from .huggingface.private import PrivateCopy

_DTYPES = ("float32", "bfloat16", "float16", "float64")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _fail(message, f"`{self.prog} --help` lists the arguments")
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Exit status: 0 if a dump was recorded, 2 if not."""
    parsed = _parser().parse_args(arguments)
    try:
        with _terminations_raised():
            return _record(parsed)
    except GoldenError as error:
        return _fail(str(error), getattr(error, "hint", None))
    except KeyboardInterrupt:
        _fail("interrupted: nothing was recorded", None)
        return 130
    except _Terminated as terminated:
        _fail("terminated: nothing was recorded", None)
        return 128 + terminated.signal
    except Exception as error:  # The checkpoint's own code can raise anything.
        if os.environ.get("NVL_GOLDEN_TRACEBACK"):
            raise
        problem = f"{type(error).__name__}: {error}".strip()
        return _fail(problem, "; ".join(_hints(error, parsed)))


def _hints(error: Exception, parsed: argparse.Namespace) -> list[str]:
    """What to try after an error that is none of ours."""
    hints = []
    # What another version of transformers has under another name.
    if isinstance(error, ImportError | AttributeError | KeyError | TypeError) and "transformers" in sys.modules:
        from .huggingface.hooks import wrong_version

        hints.append(wrong_version(Path(parsed.model)))
    return [*hints, "with NVL_GOLDEN_TRACEBACK=1 in the environment you see where it comes from"]


class _Terminated(BaseException):
    """The process was asked to end, and is to clear up first."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


@contextmanager
def _terminations_raised() -> Iterator[None]:
    """Inside, the signals that end a program raise an exception, so that nothing is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, _frame: Any) -> NoReturn:
        raise _Terminated(number)

    chosen = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in chosen:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in chosen:
            signal.signal(number, signal.SIG_DFL)


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
    _check_texts(arguments)
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
        # One that is there can refuse, too: the version of another library, say.
        found = f"no `{error.name}`" if error.name else str(error)
        missing = GoldenError(f"expected torch and transformers to run the checkpoint with, found {found}")
        missing.hint = "install the ones that the checkpoint is to be run with: this package brings none"
        raise missing from error

    from .huggingface.checkpoint import find_source
    from .huggingface.code import refuse_kernels
    from .huggingface.private import PrivateCopy

    _check_device(torch, arguments.device)
    source = find_source(arguments.model)
    with PrivateCopy(source.folder, source.origin) as copy:
        if arguments.attention is None:
            refuse_kernels(source.folder, copy.configurations)
        return _record_copy(arguments, source, copy, history)


def _record_copy(
    arguments: argparse.Namespace, source: Source, copy: PrivateCopy, history: list[tuple[str, str]]
) -> int:
    """Loads a checkpoint from the copy of it whose code was listed, asks it, and records what it computes."""
    from dataclasses import replace

    import torch

    from .huggingface.chat import Request, ask
    from .huggingface.checkpoint import load
    from .huggingface.hazards import neutralised
    from .huggingface.listed import ListedCode
    from .recorder import record

    code = ListedCode(copy.code, copy.checkpoint, copy.code_folder)
    if copy.code:
        code.write()
        _ask_for_trust(copy, arguments.trust_remote_code)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    dtype = getattr(torch, arguments.dtype)
    deviations: list[str] = []
    say(f"loading {source.origin}")
    request = Request(arguments.prompt, arguments.image, arguments.system, history, arguments.max_new_tokens)
    with code.alone():
        with neutralised(arguments.device, dtype, deviations):
            private = replace(source, folder=copy.checkpoint)
            loaded = load(
                private,
                dtype,
                arguments.device,
                arguments.attention,
                bool(copy.code),
                deviations,
                pictures=bool(arguments.image),
            )
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
            recorder.remote_code = code.ran() or None
            recorder.checkpoint = {"name": source.name} | ({"revision": source.revision} if source.revision else {})
            recorder.producer["name"] = "nvl-golden record"
            recorder.producer["dtype"] = arguments.dtype
            ran = recorder.observed.get("attention", {}).get("text")
            if arguments.attention is not None and ran not in (None, arguments.attention):
                deviations.append(f"{arguments.attention} attention was asked for, and the language model ran {ran}")
            if deviations:
                recorder.producer["deviations"] = deviations
            size = recorder.bytes_recorded
    print(text, flush=True)
    say(f"recorded {size / 1e6:,.1f} MB in {arguments.out}")
    for deviation in deviations:
        say(f"deviation: {deviation}")
    return 0


def _ask_for_trust(copy: PrivateCopy, trusted: bool) -> None:
    from .huggingface.code import describe_code

    print("this checkpoint brings Python code, which runs with your rights:", file=sys.stderr)
    print(describe_code(copy.code), file=sys.stderr, flush=True)
    if trusted:
        return
    refused = GoldenError("expected your consent to run the checkpoint's code, found none")
    refused.hint = "read the files above; `--trust-remote-code` agrees"
    if not sys.stdin.isatty():
        raise refused
    print(f"it was copied as it is now, and runs as it was copied: {copy.code_folder}", file=sys.stderr)
    print("run it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise refused


def _check_texts(arguments: argparse.Namespace) -> None:
    """Refuses arguments that are no text. Paths may be any bytes, and `--model` is one, or is refused as a hub id."""
    for name, value in vars(arguments).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and name != "model" and (bad := re.search("[\ud800-\udfff]", text)):
                where = f"at character {bad.start()} of `{text}`"
                raise GoldenError(f"--{name.replace('_', '-')}: expected text in UTF-8, found another byte {where}")


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
