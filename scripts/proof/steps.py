"""Steps that are done once: a proof that was cut off goes on where it was."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from talk import CannotTellError, duration, say


def write(path: Path, text: str) -> None:
    """Writes a file as a whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class Steps:
    """What was done in a folder, and what is left to do."""

    def __init__(self, folder: Path, begun: float) -> None:
        """`begun`: when the program did, as `time.monotonic` tells it.

        # Errors
        `CannotTellError` if another proof is running in the folder."""
        self.folder = folder
        self._begun = begun
        self._number = 0
        self.total = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotTellError(
                f"`{folder}`: expected an unused folder, found another proof that is running in it"
            ) from None

    def begin(self, what: str) -> None:
        """Says which step of how many begins, and when."""
        self._number += 1
        elapsed = round(time.monotonic() - self._begun)
        clock = f"{elapsed // 3600}:{elapsed // 60 % 60:02}:{elapsed % 60:02}"
        say(f"[{self._number:2}/{self.total}] {clock} {what}")

    def done(
        self, name: str, depends: dict[str, Any], intact: Callable[[Any], bool] = lambda result: True
    ) -> Any | None:
        """The result of a step that was done, if all that it depends on is as it was; `None` if it is to be done.

        `intact` tells whether what the step made is still as it was made."""
        result, reason = self._kept(name, depends, intact)
        if reason is not None:
            say(f"        again, since {reason}")
        return result

    def is_done(self, name: str, depends: dict[str, Any], intact: Callable[[Any], bool] = lambda result: True) -> bool:
        """The same, without a word."""
        return self._kept(name, depends, intact)[0] is not None

    def keep(self, name: str, depends: dict[str, Any], result: Any) -> None:
        """Records that a step is done."""
        write(self._path(name), json.dumps({"depends": depends, "result": result}, indent=1) + "\n")

    def log(self, name: str) -> Path:
        """Where a step's program says what it has to say."""
        path = self.folder / "logs" / f"{name.replace('/', '-')}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _kept(self, name: str, depends: dict[str, Any], intact: Callable[[Any], bool]) -> tuple[Any | None, str | None]:
        """The result that still holds; or `None`, and why it does not hold if there was one."""
        try:
            state = json.loads(self._path(name).read_text(encoding="utf-8"))
            if changed := _difference(state["depends"], depends):
                return None, f"{changed} changed"
            result = state["result"]
            return (result, None) if intact(result) else (None, "its output was changed")
        except (OSError, ValueError, KeyError, TypeError):
            # The step was not done, or its file is damaged.
            return None, None

    def _path(self, name: str) -> Path:
        return self.folder / "state" / f"{name.replace('/', '-')}.json"


def said_of(result: dict[str, Any]) -> str:
    """What a step cost, in words."""
    peak = result.get("peak_bytes")
    memory = f", {peak / 1e9:.2f} GB of memory" if peak else ""
    return f"{duration(result['seconds'])}{memory}"


def _difference(before: Any, now: Any, name: str = "") -> str | None:
    """The first thing by name that is not as it was."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if found := _difference(before.get(key), now.get(key), f"{name}.{key}" if name else key):
                return found
        return None
    return None if before == now else f"`{name}`"
