"""The compiled half of `nvl_golden`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

__version__: str
__build__: str
__commit__: str | None

#: The dtypes of a dump, by their torch names.
DTYPES: Sequence[str]
#: The dtypes that a model can compute in, with the number of bits of their significand.
PRECISION: dict[str, int]
#: The formats of a report, and the extension of each one's files.
EXTENSIONS: dict[str, str]
#: The policies that have a name.
PRESETS: Sequence[str]
#: How many times the noise of right runs an error may be, if nothing else is said.
NOISE_FACTOR: float

_Path: TypeAlias = str | os.PathLike[str]

class GoldenError(Exception):
    """What can be wrong with a dump, or with what is asked of one; `hint` says what to try, where it is known."""

    hint: str | None

def cpu_vendor() -> str | None:
    """Who made the processor, as it says itself (`GenuineIntel`); none where it is not of the x86 family."""

def terminal(text: str) -> str:
    """A text for one line of a terminal or of a job's log: what is not seen, or is a command there, is escaped."""

def replace_file(path: _Path, content: bytes) -> None:
    """Writes a file in the place of what is there: at every moment the old content or the new one has the name, whole."""

def refuse_stand_ins(folder: _Path) -> None: ...

@final
class Staging:
    """A folder that appears under its name when it is complete. Discarded, or killed, it leaves what was there before."""

    def __new__(cls, target: _Path) -> Staging: ...
    @property
    def folder(self) -> Path:
        """Where its files are written."""

    def publish(self, check: Callable[[Path], None] | None = None) -> None:
        """Gives the folder its name, where nothing may be; with `check`, in the place of a folder that this does not refuse."""

    def discard(self) -> None:
        """Removes what was written."""

@final
class Sites:
    """A set of globs; a name that one of them matches is chosen."""

    def __new__(cls, patterns: Sequence[str]) -> Sites: ...
    def matches(self, name: str) -> bool: ...

@final
class Writer:
    """Writes a dump on a thread of its own."""

    def __new__(cls, path: _Path, *, replace: bool, max_shard_bytes: int, max_queued_bytes: int) -> Writer: ...
    def push(
        self,
        name: str,
        *,
        role: Literal["input", "activation", "output"],
        module: str,
        dtype: str,
        shape: Sequence[int],
        data: Any,
        sketch: int | None = None,
        step: int = 0,
        flow: str | None = None,
        extra: str | None = None,
    ) -> None:
        """Appends a tensor: `bytes`, or what gives or is a DLPack capsule; waits while too much is waiting already.

        With `sketch`, a seed, the dump gets a sketch of the tensor instead, but for small tensors of whole numbers.
        """

    def queued_bytes(self) -> int:
        """The bytes that wait to be written."""

    def finish(self, head: str) -> None:
        """Writes what waits and the manifest, a JSON object without `entries`, and gives the folder its name."""

    def abandon(self) -> None:
        """Ends without a dump; nothing is left behind."""

@final
class Dump:
    """An open dump: its manifest, checked against its mapped tensors."""

    def __new__(cls, path: _Path) -> Dump: ...
    @property
    def path(self) -> str: ...
    @property
    def manifest_json(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    def verify(self) -> None:
        """Checks that the bytes of every tensor are those that were recorded."""

    def bytes(self, name: str) -> bytes:
        """The little-endian bytes of a tensor in row-major order."""

def compare(
    golden: _Path,
    candidate: _Path,
    *,
    policy: _Path | None = None,
    preset: str | None = None,
    names: str | None = None,
    relation: str | None = None,
    noise: Sequence[_Path] = (),
    noise_factor: float = ...,
    ignore_unpaired: bool = False,
    verify: bool = True,
    formats: Sequence[str] = (),
    all: bool = False,
) -> tuple[bool, dict[str, str]]:
    """Compares two dumps; whether the candidate passes, and the report in each format that was asked for."""

def is_report(extension: str, head: str) -> bool:
    """Whether a file of this extension that begins with `head` is an earlier report."""
