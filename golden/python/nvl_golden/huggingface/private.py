"""A copy of a checkpoint that nobody else writes to: what was shown is what is loaded."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from .._core import GoldenError
from .code import CodeFile, find_code

#: What says how a checkpoint is loaded is copied. The rest, weights above all, is data, and linked.
_COPIED = (".json", ".jinja")
#: The files that may have an `auto_map`.
_CONFIGURATION = re.compile(r".*config.*\.json")

_PREFIX, _SUFFIX = "nvl-golden-", ".checkpoint"

#: From what age on a copy that is not locked has no owner, in seconds: a younger one may be about to be locked.
_SETTLED = 60


class PrivateCopy:
    """A temporary folder with a checkpoint's configuration and code, and links to everything else."""

    def __init__(self, folder: Path, origin: str) -> None:
        """Copies a checkpoint.

        # Errors
        `GoldenError` if it cannot be copied, or its code cannot be listed.
        """
        self._original = folder
        self._process = os.getpid()
        try:
            self._root = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX))
        except OSError as error:
            raise GoldenError(f"expected a temporary folder to copy the checkpoint to, found none: {error}") from error
        self._lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        # Where the file system has no locks, nobody takes this for dead.
        with suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            _clear_dead(self._root.parent)
            # transformers names modules after the folder.
            name = re.sub(r"[^A-Za-z0-9._-]", "_", folder.resolve().name).strip(".") or "checkpoint"
            #: The checkpoint, to be loaded from here.
            self.checkpoint = self._root / "checkpoint" / name
            self.checkpoint.mkdir(parents=True)
            #: The contents of its configuration files.
            self.configurations = self._fill(folder)
            #: The Python files that loading it may run.
            self.code: list[CodeFile] = find_code(folder, origin, name, self.configurations)
        except OSError as error:
            self.remove()
            raise GoldenError(f"`{folder}`: expected a checkpoint that can be copied, found: {error}") from error
        except BaseException:
            self.remove()
            raise

    @property
    def code_folder(self) -> Path:
        """Where the copies of the code are."""
        return self._root / "code"

    def __enter__(self) -> PrivateCopy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            # The user knows the original.
            error.args = tuple(
                arg.replace(str(self.checkpoint), str(self._original)) if isinstance(arg, str) else arg
                for arg in error.args
            )
        self.remove()

    def remove(self) -> None:
        """Removes it, unless this process was forked from the one whose it is."""
        if os.getpid() == self._process:
            shutil.rmtree(self._root, ignore_errors=True)
            with suppress(OSError):
                os.close(self._lock)

    def _fill(self, folder: Path) -> dict[str, bytes]:
        """Copies or links every file; the contents of the configuration files."""
        configurations = {}
        for path in sorted(folder.iterdir()):
            copy = self.checkpoint / path.name
            if path.suffix in _COPIED and path.is_file():
                content = path.read_bytes()
                copy.write_bytes(content)
                if _CONFIGURATION.fullmatch(path.name):
                    configurations[path.name] = content
            else:
                copy.symlink_to(path.absolute())
        return configurations


def _clear_dead(folder: Path) -> None:
    """Removes the copies that processes of this user have left which were killed."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            status = path.lstat()
            is_settled = time.time() - status.st_mtime > _SETTLED
            if not (is_settled and stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()):
                continue
            lock = os.open(path / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
