"""A memory of which parts were written one by one, such as a cache or a buffer that several results share."""

from __future__ import annotations

import itertools
from typing import Any

from .rows import Geometry
from .trace import UNKNOWN

#: How many parts are told apart; then the older half counts as one.
_MOST = 64


class Parts:
    """What lies where in a memory: states, which have a geometry each, the newest last."""

    __slots__ = ("_below", "_parts")

    def __init__(self, whole: tuple[Any, ...] | None) -> None:
        #: What may lie anywhere below the parts. Memory that was set aside and is filled part by part is known from the first part on.
        self._below: list[tuple[Any, ...]] = [] if whole is None or whole[0] is UNKNOWN else [whole]
        self._parts: list[tuple[tuple[Any, ...], int]] = []

    def write(self, state: tuple[Any, ...], itemsize: int) -> None:
        """Says what a part holds from now on."""
        geometry = state[1:]
        self._parts = [part for part in self._parts if not _covers(geometry, part[0][1:], itemsize == part[1])]
        self._parts.append((state, itemsize))
        if len(self._parts) > _MOST:
            older, self._parts = self._parts[: _MOST // 2], self._parts[_MOST // 2 :]
            self._below += [state for state, _ in older if state[0] is not None]

    def read(self, view: Geometry, itemsize: int) -> list[tuple[Any, ...]]:
        """What a view may show."""
        found = []
        for state, size in reversed(self._parts):
            comparable = itemsize == size
            if comparable and are_apart(state[1:], view):
                continue
            if state[0] is not None:
                found.append(state)
            if _covers(state[1:], view, comparable):
                return found
        return found + self._below


def are_apart(one: Geometry, other: Geometry) -> bool:
    """Whether two views of a memory have no element in common, as far as that is easily told."""
    boxes = _boxes(one, other)
    if boxes is not None:
        return any(
            begin >= other_end or other_begin >= end
            for (begin, end), (other_begin, other_end) in zip(*boxes, strict=False)
        )
    (begin, end), (other_begin, other_end) = _envelope(one), _envelope(other)
    return begin >= other_end or other_begin >= end


def _covers(one: Geometry, other: Geometry, comparable: bool) -> bool:
    """Whether a view has all elements of another."""
    if not comparable:
        return False
    if one == other:
        return True
    boxes = _boxes(one, other)
    if boxes is None:
        (begin, end), (other_begin, other_end) = _envelope(one), _envelope(other)
        return _is_dense(one, end - begin) and begin <= other_begin and other_end <= end
    return all(
        begin <= other_begin and other_end <= end
        for (begin, end), (other_begin, other_end) in zip(*boxes, strict=False)
    )


def _envelope(view: Geometry) -> tuple[int, int]:
    shape, stride, offset = view
    if 0 in shape:
        return offset, offset
    return offset, offset + 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def _is_dense(view: Geometry, length: int) -> bool:
    count = 1
    for size, step in zip(view[0], view[1], strict=True):
        if step:
            count *= size
    return count == length


def _boxes(one: Geometry, other: Geometry) -> tuple[list[tuple[int, int]], list[tuple[int, int]]] | None:
    """Two views as boxes in one system of coordinates, an interval for each stride; none if they have none in common."""
    one, other = _merged(one), _merged(other)
    strides = {1}
    for shape, stride, _ in (one, other):
        strides.update(step for size, step in zip(shape, stride, strict=True) if size > 1)
    strides.discard(0)
    steps = sorted(strides, reverse=True)
    if any(larger % smaller for larger, smaller in itertools.pairwise(steps)):
        return None
    boxes = _box(one, steps), _box(other, steps)
    return None if boxes[0] is None or boxes[1] is None else (boxes[0], boxes[1])


def _merged(view: Geometry) -> Geometry:
    """A view with as few dimensions as show the same elements, in whatever order."""
    shape: list[int] = []
    stride: list[int] = []
    for step, size in sorted(zip(view[1], view[0], strict=True), reverse=True):
        if size == 1:
            continue
        if shape and stride[-1] == size * step:
            shape[-1], stride[-1] = shape[-1] * size, step
        else:
            shape.append(size)
            stride.append(step)
    return shape, stride, view[2]


def _box(view: Geometry, steps: list[int]) -> list[tuple[int, int]] | None:
    shape, stride, rest = view
    sizes = dict.fromkeys(steps, 1)
    for size, step in zip(shape, stride, strict=True):
        if size <= 1 or not step:
            continue
        # A dimension that the other view has in several goes over as many strides.
        for larger in reversed(steps[: steps.index(step)]):
            if size <= larger // step:
                break
            if size % (larger // step) or sizes[step] > 1:
                return None
            sizes[step], size, step = larger // step, size // (larger // step), larger
        if sizes[step] > 1:
            return None
        sizes[step] = size
    box: list[tuple[int, int]] = []
    for index, step in enumerate(steps):
        begin, rest = divmod(rest, step)
        end = begin + sizes[step]
        if index and end > steps[index - 1] // step:
            return None
        box.append((begin, end))
    return box
