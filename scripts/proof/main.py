"""The command `scripts/prove`."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from proof import Proof
from talk import CannotTellError, say

_EPILOG = """Steps that are done are not done again, unless something that they depend on has changed: start the same command
again after a kill. Exit status: 0 proved, 1 a difference, 2 could not tell, 130 after Ctrl-C."""


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
        say("interrupted: the same command goes on from here")
        return 130
    except _Terminated:
        say("terminated: the same command goes on from here")
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
    add("--work", type=Path, metavar="DIR", help="where everything goes (default: proof-NAME)")
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
    add("--full", action="store_true", help="whole tensors instead of sketches, whose hashes say as much")
    add(
        "--requests",
        type=Path,
        metavar="FILE",
        help="JSON Lines, as `nvl-golden record --requests` reads them (default: six of its own)",
    )
    add(
        "--only", action="append", default=[], metavar="ID", help="of the requests only this; several times for several"
    )
    add("--max-new-tokens", type=_count, default=8, metavar="N", help="of requests that do not say (default: 8)")
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
    add("--align-corners", choices=["true", "false"], help="for `nvl-convert`, of a tower whose code it does not know")
    add("--upscale-factor", metavar="N", help="likewise, of a picture's preparation")
    return parser


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 1 on, found `{text}`")


if __name__ == "__main__":
    sys.exit(main())
