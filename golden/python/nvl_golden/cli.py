"""The command `nvl-golden`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ._core import PRECISION, GoldenError, __build__
from .code_command import list_code
from .record_command import record
from .talk import say
from .truncate_command import truncate


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _fail(message, f"`{self.prog} --help` lists the arguments")
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Exit status: 0 if everything was recorded, 2 if not."""
    parsed = _parser().parse_args(arguments)
    done: list[Path] = []
    try:
        with _terminations_raised():
            if parsed.command == "record":
                return record(parsed, done)
            return {"code": list_code, "truncate": truncate}[parsed.command](parsed)
    except GoldenError as error:
        return _fail(str(error), getattr(error, "hint", None))
    except KeyboardInterrupt:
        _fail(f"interrupted: {_recorded(parsed.command, done)}", None)
        return 130
    except _Terminated as terminated:
        _fail(f"terminated: {_recorded(parsed.command, done)}", None)
        return 128 + terminated.signal
    except Exception as error:  # The checkpoint's own code can raise anything.
        if os.environ.get("NVL_GOLDEN_TRACEBACK"):
            raise
        problem = f"{type(error).__name__}: {error}".strip()
        return _fail(problem, "; ".join(_hints(error, parsed)))


def _recorded(command: str, done: Sequence[Path]) -> str:
    if done:
        return f"recorded before: {', '.join(out.name for out in done)}"
    return "nothing was written" if command == "truncate" else "nothing was recorded"


def _hints(error: Exception, parsed: argparse.Namespace) -> list[str]:
    """What to try after an error that the checkpoint's code or a library raised."""
    hints = []
    # What another version of transformers has under another name.
    is_version = isinstance(error, ImportError | AttributeError | KeyError | TypeError)
    if is_version and "transformers" in sys.modules and "model" in parsed:
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
    command = commands.add_parser(
        "record",
        help="run a Hugging Face checkpoint and record what it computes",
        description="Asks a Hugging Face checkpoint by its own `chat`, or by its processor, its chat template and `generate` "
        "if it has none. Records what each module computes in the prefill (and with `--steps` in decoding), and the logits of "
        "every step. The answer goes to standard output. "
        "With `--requests` each request of a file is recorded, with one load of the checkpoint. "
        "Exit status: 0 if everything was recorded, 2 if not.",
    )
    add = command.add_argument
    add(
        "--model", required=True, metavar="HF_DIR", help="the checkpoint: a folder, or a hub id `owner/name[@revision]`"
    )
    add(
        "--image",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a picture; repeat it for several, in order",
    )
    add("--prompt", metavar="TEXT", help="the question")
    add(
        "--requests",
        type=Path,
        metavar="FILE",
        help="instead of a prompt: a file of requests (JSON Lines), as `nvl-reference run` reads them",
    )
    add(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="the dump to write; with --requests, the folder of the dumps, each named by its id",
    )
    add("--system", metavar="TEXT", help="a system prompt")
    add(
        "--history", type=Path, metavar="FILE", help="earlier turns: a JSON list of objects with `user` and `assistant`"
    )
    add("--dtype", default="bfloat16", choices=PRECISION, help="the least precision to compute in (default: bfloat16)")
    add("--device", default="cpu", metavar="DEVICE", help="`cpu`, `cuda:0`, … (default: cpu)")
    add("--attention", metavar="NAME", help="`eager`, `sdpa`, … (default: the checkpoint's; eager if that needs CUDA)")
    add("--sites", action="append", metavar="GLOB", help="record only sites that match; may be repeated")
    add("--tokens", metavar="RANGE", help="keep only these rows of each activation: `last:8`, `every:16`, `0,5,-1`")
    add(
        "--steps",
        metavar="RANGE",
        help="record these steps: `0:4`, `2:`, `every:16`, `0,3,7`; 0 is the prefill, the others decode (default: 0)",
    )
    add("--kv", action="store_true", help="also record the key-value cache behind each step")
    add("--inputs", action="store_true", help="also record the inputs of each module")
    add("--sketch", action="store_true", help="write sketches instead of tensors: the dump is small enough for git")
    add("--no-flow", action="store_true", help="do not record what each tensor was computed from")
    add("--max-new-tokens", type=_count, default=512, metavar="N", help="the most tokens to generate (default: 512)")
    add("--max-shard-size", default="5GB", metavar="SIZE", help="the size at which a new file begins (default: 5GB)")
    add("--threads", type=_count, metavar="N", help="threads of the computation (default: torch's own choice)")
    add("--trust-remote-code", action="store_true", help="run the checkpoint's code without asking")
    add(
        "--trust-code",
        metavar="SHA256",
        help="the same, but only if `nvl-golden code` prints this SHA-256 for its list",
    )
    add("--force", action="store_true", help="replace an existing dump")
    code = commands.add_parser(
        "code",
        help="list the Python code of a checkpoint, without running it",
        description="Lists the Python files that `record` would run, with their SHA-256, and a SHA-256 over the list, which "
        "`record --trust-code` takes. Runs none of them. Exit status: 0, or 2 if they cannot be listed.",
    )
    code.add_argument("--model", required=True, metavar="HF_DIR", help="as for `record`")
    code.add_argument("--json", action="store_true", help="print JSON instead of text")
    _add_truncate(commands)
    return parser


def _add_truncate(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = commands.add_parser(
        "truncate",
        help="write a small sister of a checkpoint, with its first layers",
        description="Copies the first layers of a checkpoint, and everything that is no layer, to a new checkpoint, so that "
        "a port can be judged on a small machine. Reads safetensors files a piece at a time, and runs no code of the "
        "checkpoint. Says what it kept. Exit status: 0 if the new checkpoint was written, 2 if not.",
    )
    add = command.add_argument
    add("source", metavar="SOURCE", help="the checkpoint: a folder, or a hub id `owner/name[@revision]`")
    add("out", type=Path, metavar="OUT", help="the folder to write")
    add("--layers", type=_count, metavar="N", help="keep the first N layers of the language model (default: all)")
    add("--vision-layers", type=_count, metavar="N", help="keep the first N layers of the vision tower (default: all)")
    add("--force", action="store_true", help="replace a folder that this command wrote")


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 1 on, found `{text}`")


def _fail(message: str, hint: str | None) -> int:
    say(f"error: {message}")
    if hint:
        say(f"hint: {hint}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
