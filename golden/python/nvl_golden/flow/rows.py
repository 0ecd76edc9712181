"""How the rows of two tensors belong together. A row is what an index of all dimensions but the last one selects."""

from __future__ import annotations

from collections.abc import Sequence

#: The rows belong together one to one in order; the same, counted from the end of each sequence; any may matter for any. The
#: larger number is that of two in a row.
SAME, FROM_END, MIXED = 0, 1, 2
#: What a manifest calls them.
NAMES = ("same", "from_end", "mixed")

#: What an operator does with the rows of an argument. `ROWS`: it computes row for row, where both have as many; `ORDER`: it
#: keeps the order of the elements; `LAST`: it puts the argument behind others; `ANY`: nobody knows.
ROWS, ORDER, LAST, ANY = 0, 1, 2, 3

#: A tensor's shape, strides and offset in its memory, in elements.
Geometry = tuple[Sequence[int], Sequence[int], int]


def of_operator(what: int, given: Sequence[int], result: Sequence[int]) -> int:
    """The rows of an operator's argument and of its result, by their shapes."""
    if what == ROWS:
        return SAME if _leading(given) == _leading(result) else MIXED
    if what == ORDER:
        return SAME if given[-1:] == result[-1:] and _count(given) == _count(result) else MIXED
    return FROM_END if what == LAST else MIXED


def of_view(base: Geometry, view: Geometry) -> int:
    """The rows of a tensor and of a view of it, which may show other elements, or the same in another order."""
    if base == view:
        return SAME
    (shape, stride, offset), (own_shape, own_stride, own_offset) = base, view
    if not shape or not own_shape:
        return MIXED
    columns, own_columns = (shape[-1], stride[-1]), (own_shape[-1], own_stride[-1])
    start = own_offset - offset
    if _merged(shape, stride) == _merged(own_shape, own_stride):
        # A view of the tensor, or of a memory in which the tensor is a part of each row.
        within = _are_within(columns, own_columns, start) or _are_within(own_columns, columns, -start)
        return SAME if within else MIXED
    if len(shape) != len(own_shape) or len(shape) < 2:
        return MIXED
    dropped = shape[-2] - own_shape[-2]
    dims = [*range(len(shape) - 2), *([-2] if own_shape[-2] > 1 else [])]
    if dropped <= 0 or shape[:-2] != own_shape[:-2] or any(stride[dim] != own_stride[dim] for dim in dims):
        return MIXED
    return FROM_END if _are_within(columns, own_columns, start - dropped * stride[-2]) else MIXED


def number(shape: Sequence[int]) -> int:
    """How many rows a sequence has."""
    return shape[-2] if len(shape) > 1 else 1


def _leading(shape: Sequence[int]) -> list[int]:
    return [size for size in shape[:-1] if size != 1]


def _count(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _merged(shape: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """The sizes and strides of all dimensions but the last one, as few as say the same."""
    merged: list[tuple[int, int]] = []
    for size, step in zip(shape[:-1], stride[:-1], strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == size * step:
            merged[-1] = (merged[-1][0] * size, step)
        else:
            merged.append((size, step))
    return merged


def _are_within(columns: tuple[int, int], own: tuple[int, int], start: int) -> bool:
    """Whether the elements of a row are elements of another, which begins so many elements before."""
    (size, step), (own_size, own_step) = columns, own
    if own_size <= 1:
        own_step = 0
    if size <= 1 or step == 0:
        return start == 0 and own_step == 0
    if start % step or own_step % step:
        return False
    first = start // step
    return first >= 0 and first + (own_size - 1) * own_step // step < size
