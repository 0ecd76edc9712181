"""Which rows of an activation are kept: `tokens=` of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._core import GoldenError


class Rows:
    """A choice of rows: `last:8`, `first:8`, `every:16`, or indices, negative ones from the end.

    The rows of a tensor are its second-last dimension, which is that of tokens in `[tokens, hidden]` and
    `[batch, tokens, hidden]`. Tensors of any other number of dimensions are kept whole.
    """

    def __init__(self, choice: str | Sequence[int]) -> None:
        self.kind = "list"
        self.number = 0
        self.indices: list[int] = []
        if not isinstance(choice, str):
            self.indices = [int(index) for index in choice]
            if not self.indices:
                raise _refused("an empty list")
        elif ":" in choice:
            self.kind, _, number = choice.partition(":")
            if self.kind not in ("last", "first", "every") or not number.isascii() or not number.isdigit():
                raise _refused(f"`{choice}`")
            self.number = int(number)
            if self.number == 0:
                raise _refused(f"`{choice}`")
        else:
            try:
                self.indices = [int(index) for index in choice.split(",")]
            except ValueError:
                raise _refused(f"`{choice}`") from None
        self.text = f"{self.kind}:{self.number}" if self.kind != "list" else ",".join(map(str, self.indices))

    def __str__(self) -> str:
        return self.text

    def of(self, count: int) -> list[int]:
        """The indices of the rows that are kept of so many, in increasing order."""
        if self.kind == "last":
            return list(range(max(0, count - self.number), count))
        if self.kind == "first":
            return list(range(min(count, self.number)))
        if self.kind == "every":
            return list(range(0, count, self.number))
        indices = {index + count if index < 0 else index for index in self.indices}
        return sorted(index for index in indices if 0 <= index < count)

    def axis(self, shape: Sequence[int]) -> int | None:
        """The dimension of a tensor that is cut, if any is."""
        return len(shape) - 2 if len(shape) in (2, 3) else None


def _refused(found: str) -> GoldenError:
    expected = "expected `last:N`, `first:N`, `every:N` or a list of indices"
    return GoldenError(f"tokens: {expected}, found {found}")


def entry_fields(rows: Rows, axis: int, count: int) -> dict[str, Any]:
    """What the entry of a tensor that was cut says about it."""
    return {"rows": {"kept": str(rows), "of": count, "axis": axis}}
