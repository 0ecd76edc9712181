"""Which steps of a generation are recorded: `steps=` of a recording."""

from __future__ import annotations

from collections.abc import Sequence

from ._core import GoldenError


class Steps:
    """A choice of forward passes: `0:4` (0 to 3), `2:` (from 2 on), `every:16`, indices, or several of these with commas.

    Step 0 is the prefill, step n the pass whose logits choose generated token n.
    """

    def __init__(self, choice: str | int | Sequence[int]) -> None:
        if isinstance(choice, int):
            choice = [choice]
        if not isinstance(choice, str):
            choice = ",".join(_number(str(index), str(choice)) for index in choice)
        self.text = choice
        #: The first step of each part, the one behind its last, and how far apart they are.
        self._ranges = [_range(part.strip(), choice) for part in choice.split(",")]

    def __str__(self) -> str:
        return self.text

    def __contains__(self, step: int) -> bool:
        return any(
            step >= start and (stop is None or step < stop) and (step - start) % stride == 0
            for start, stop, stride in self._ranges
        )


def key_of(name: str, step: int) -> str:
    """An entry's key: the name, with `@` and the step behind it if that is not 0."""
    return f"{name}@{step}" if step else name


def _range(part: str, choice: str) -> tuple[int, int | None, int]:
    start, colon, stop = part.partition(":")
    if not colon:
        first = int(_number(part, choice))
        return first, first + 1, 1
    if start == "every":
        stride = int(_number(stop, choice))
        if stride == 0:
            raise _refused(choice)
        return 0, None, stride
    first = int(_number(start, choice)) if start else 0
    end = int(_number(stop, choice)) if stop else None
    if end is not None and end <= first:
        raise _refused(choice)
    return first, end, 1


def _number(text: str, choice: str) -> str:
    if text.isascii() and text.isdigit():
        return text
    raise _refused(choice)


def _refused(found: str) -> GoldenError:
    return GoldenError(f"steps: expected `START:STOP`, `every:N` or a list of numbers from 0 on, found `{found}`")
