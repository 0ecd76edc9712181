"""Programs that a proof runs: how long they took, how much memory, and what they said."""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from talk import CannotTellError, say

#: `prctl(2)`: the signal that a process gets when the one that started it has died.
_PR_SET_PDEATHSIG = 1
_LAST_LINES = 12


@dataclass
class Ran:
    """A program that has ended."""

    command: list[str]
    status: int
    seconds: float
    #: The most that was in memory at once, files that were mapped among it.
    peak_bytes: int
    stdout: str
    #: The last lines of standard error.
    said: list[str]

    def measured(self) -> dict[str, object]:
        """For the proof: the command and what it cost."""
        return {"command": self.command, "seconds": round(self.seconds, 2), "peak_bytes": self.peak_bytes}

    def failed(self, what: str) -> CannotTellError:
        """That it did not do what it should have."""
        told = [line for line in self.said if line.strip()]
        errors = [line for line in told if line.startswith(("error: ", "hint: "))] or told[-3:]
        return CannotTellError(f"{what}: exit status {self.status}: " + " / ".join(errors))


def run(
    command: Sequence[str | Path],
    log: Path,
    on_line: Callable[[str, int], None] | None = None,
    relayed: Callable[[str], bool] = lambda line: False,
    environment: dict[str, str] | None = None,
) -> Ran:
    """Runs a program to its end. `on_line` gets each line of its standard output as it comes, and the most memory that it had
    until then; what it says goes to `log`, and to the terminal where `relayed` says so."""
    given = [str(part) for part in command]
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            env=os.environ | (environment or {}),
            preexec_fn=_die_with_parent(os.getpid()),
        )
    except OSError as error:
        raise CannotTellError(f"`{given[0]}`: expected a program, found: {error.strerror}") from error
    said: list[str] = []

    def listen() -> None:
        assert process.stderr is not None
        with log.open("w", encoding="utf-8") as file:
            for line in process.stderr:
                file.write(line)
                file.flush()
                said.append(line.rstrip("\n"))
                del said[:-_LAST_LINES]
                if relayed(said[-1]):
                    say(f"        {said[-1]}")

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    stdout: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            stdout.append(line)
            if on_line is not None:
                on_line(line, _peak_bytes(process.pid))
        listener.join()
        _, wait_status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(wait_status)
    seconds = time.monotonic() - begun
    return Ran(given, process.returncode, seconds, usage.ru_maxrss * 1024, "".join(stdout), said)


def _peak_bytes(pid: int) -> int:
    """The most memory that a living process has had, as the system counts it at its end; 0 where that is not told."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """What makes a child end with this process, however that ends; on Linux only."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask
