"""The command `scripts/prove`."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from proof import Proof
from talk import CannotTellError, say

_EPILOG = """After a kill, run the same command again: it repeats only the steps that were not done, or that depend on something
that has changed. Exit status: 0 proved, 1 a difference, 2 could not tell, 130 after Ctrl-C."""


class _Terminated(BaseException):
    """The process was asked to end."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        say(f"error: {message}")
        say("hint: `scripts/prove --help` lists the arguments")
        raise SystemExit(2)


def main() -> int:
    """Runs the command."""
    arguments = _parser().parse_args()

    def terminate(_number: int, _frame: Any) -> NoReturn:
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        return Proof(arguments).run()
    except CannotTellError as error:
        say(f"error: {error}")
        if error.hint:
            say(f"hint: {error.hint}")
        return 2
    except KeyboardInterrupt:
        say("interrupted: the same command continues from here")
        return 130
    except _Terminated:
        say("terminated: the same command continues from here")
        return 143
    except OSError as error:
        # A full disk, a folder that is not to be written to.
        say(f"error: {f'`{error.filename}`: ' if error.filename else ''}{error.strerror or error}")
        return 2


def _parser() -> argparse.ArgumentParser:
    description = (
        "Proves, or refutes, that this toolkit computes what a checkpoint's own code computes, to the last bit."
    )
    parser = _Parser(prog="scripts/prove", description=description, epilog=_EPILOG)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="the checkpoint: a folder, or a hub id `owner/name[@revision]`")
    add("--work", type=Path, metavar="DIR", help="the output folder (default: proof-NAME)")
    add(
        "--dtype",
        choices=["bfloat16", "float32", "float16", "both"],
        help="`both`: bfloat16 and float32 (default: the checkpoint's)",
    )
    add(
        "--attention",
        choices=["natural", "eager", "sdpa", "both"],
        default="natural",
        help="of the language model; `natural`: as transformers loads it; `both`: eager and sdpa (default: natural)",
    )
    add("--full", action="store_true", help="keep whole tensors instead of sketches")
    add(
        "--requests",
        type=Path,
        metavar="FILE",
        help="JSON Lines, as `nvl-golden record --requests` reads them (default: six of its own)",
    )
    add("--only", action="append", default=[], metavar="ID", help="run only this request; may be repeated")
    add("--max-new-tokens", type=_count, default=8, metavar="N", help="for requests that do not set it (default: 8)")
    add("--device", default="cpu", metavar="DEVICE", help="`cpu` or `cuda:N` (default: cpu)")
    add("--threads", type=_count, metavar="N", help="threads of the computation (default: torch's own choice)")
    add(
        "--trust-remote-code",
        action="store_true",
        help="run the checkpoint's code without asking; it is shown all the same",
    )
    add(
        "--python",
        type=Path,
        metavar="FILE",
        help="a Python with nvl-golden and what the checkpoint needs (default: .venv-proof)",
    )
    add("--bin", type=Path, metavar="DIR", help="the folder of the programs (default: built in target/release)")
    add(
        "--align-corners",
        choices=["true", "false"],
        help="passed to `nvl-convert`, for code that it does not recognise",
    )
    add("--upscale-factor", metavar="N", help="the same, for the image processor's code")
    return parser


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 1 on, found `{text}`")


if __name__ == "__main__":
    sys.exit(main())
