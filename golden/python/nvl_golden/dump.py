"""Reading dumps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from ._core import GoldenError
from .steps import key_of

if TYPE_CHECKING:
    import torch


class Entry(NamedTuple):
    """A recorded tensor, as the manifest describes it."""

    order: int
    name: str
    role: str
    module: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    extra: dict[str, Any]
    #: The forward pass that computed it: 0 is the prefill.
    step: int = 0
    #: The `order` of each entry that it was computed from, the nearest first; `None` where nobody recorded that.
    inputs: tuple[int, ...] | None = None
    #: How the rows of each of them belong to its own: `same`, `from_end` or `mixed`.
    input_rows: tuple[str, ...] = ()
    #: The operators in between, each with its number.
    operations: dict[str, int] = {}  # noqa: RUF012

    @property
    def key(self) -> str:
        """What tells the entry from all others: the name, with `@` and the step behind it if that is not 0."""
        return key_of(self.name, self.step)


class Dump:
    """An open dump: its manifest, and its tensors, which stay on disk until they are asked for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a dump and checks that manifest and tensors describe each other; the bytes are not read.

        # Errors
        `GoldenError` for whatever is unreadable, or in disagreement.
        """
        self._dump = _core.Dump(os.fspath(path))
        self.manifest: dict[str, Any] = json.loads(self._dump.manifest_json)
        self.entries: list[Entry] = [_entry(entry) for entry in self.manifest["entries"]]
        self._by_key = {entry.key: entry for entry in self.entries}

    @property
    def path(self) -> Path:
        """The dump's folder."""
        return Path(self._dump.path)

    @property
    def size_bytes(self) -> int:
        """The sum of all tensors' sizes."""
        return self._dump.size_bytes

    def verify(self) -> None:
        """Checks that the bytes of every tensor are those that were recorded, on all threads.

        # Errors
        `GoldenError` for the first entry, in order of execution, whose bytes differ.
        """
        self._dump.verify()

    def names(self) -> list[str]:
        """The keys of the entries in order of execution: their names, with `@` and the step where it is not 0."""
        return [entry.key for entry in self.entries]

    def entry(self, name: str) -> Entry:
        """The entry of a key.

        # Errors
        `GoldenError` if there is none.
        """
        try:
            return self._by_key[name]
        except KeyError:
            found = f"none of that name among {len(self.entries)}"
            raise GoldenError(f"`{self.path}`: expected an entry `{name}`, found {found}") from None

    def bytes(self, name: str) -> bytes:
        """The little-endian bytes of a tensor in row-major order."""
        return self._dump.bytes(name)

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor, copied into memory.

        # Errors
        `GoldenError` if there is no such entry.
        """
        import torch

        entry = self.entry(name)
        data = bytearray(self.bytes(name))
        dtype = getattr(torch, entry.dtype)
        if not data:
            return torch.empty(entry.shape, dtype=dtype)
        return torch.frombuffer(data, dtype=torch.uint8).view(dtype).reshape(entry.shape)

    def __contains__(self, name: str) -> bool:
        return name in self._by_key

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)


def _entry(found: dict[str, Any]) -> Entry:
    fields = set(Entry._fields) - {"extra"}
    known: dict[str, Any] = {name: value for name, value in found.items() if name in fields}
    for name in ("shape", "inputs", "input_rows"):
        if name in known:
            known[name] = tuple(known[name])
    if known.get("inputs") and "input_rows" not in known:
        known["input_rows"] = ("same",) * len(known["inputs"])
    return Entry(**known, extra={name: value for name, value in found.items() if name not in fields})
