"""The way back from a tensor to the recorded tensors nearest to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from . import rows
from .rows import ANY, MIXED, SAME


class Source:
    """A recorded tensor that others are computed from."""

    __slots__ = ("key", "order", "shape")

    def __init__(self, key: str, order: int, shape: Sequence[int]) -> None:
        #: The entry's.
        self.key = key
        #: Entries of a higher order were recorded later.
        self.order = order
        self.shape = shape


#: Where values come from that nobody saw being written.
UNKNOWN = Source("", -1, ())


class Flow:
    """What an entry was computed from."""

    def __init__(self, inputs: dict[Source, int], operations: Counter[str]) -> None:
        """`inputs`: how the rows of each belong to the entry's, as `rows` counts it."""
        #: The nearest first.
        self.inputs = sorted(inputs.items(), key=lambda item: -item[0].order)
        self.operations = operations

    def as_json(self) -> str:
        """What the writer is given."""
        flow: dict[str, Any] = {"inputs": [source.key for source, _ in self.inputs]}
        if any(how != SAME for _, how in self.inputs):
            flow["input_rows"] = [rows.NAMES[how] for _, how in self.inputs]
        if self.operations:
            flow["operations"] = dict(sorted(self.operations.items()))
        return json.dumps(flow)


def trace(states: Sequence[tuple[Any, ...]], view: rows.Geometry) -> Flow | None:
    """The flow of a tensor, by the states of its memory and how it lies there; `None` if nobody knows it."""
    inputs: dict[Source, int] = {}
    calls: dict[int, tuple[Any, ...]] = {}
    #: Per state: how its rows belong to the tensor's, on the way where they do so least.
    seen: dict[int, int] = {}
    waiting = [(state, rows.of_view(state[1:], view)) for state in states]
    while waiting:
        state, how = waiting.pop()
        if seen.get(id(state), -1) >= how:
            continue
        seen[id(state)] = how
        origin, shape = state[0], state[1]
        if origin is UNKNOWN:
            return None
        if origin.__class__ is Source:
            inputs[origin] = max(how, inputs.get(origin, SAME))
            continue
        calls[id(origin)] = origin
        _, reads, whats = origin
        for before, given, stride, offset, place in reads:
            there = how
            if there != MIXED:
                what = whats[place if place.__class__ is int and place < len(whats) else -1] if whats else ANY
                there = max(there, rows.of_operator(what, given, shape))
                there = there if there == MIXED else max(there, rows.of_view(before[1:], (given, stride, offset)))
            waiting.append((before, there))
    for source, how in inputs.items():
        if how == rows.FROM_END and rows.number(source.shape) == rows.number(view[0]):
            # As many were added as dropped.
            inputs[source] = SAME
    return Flow(inputs, _counted(calls.values()))


def _counted(calls: Any) -> Counter[str]:
    operations: Counter[str] = Counter()
    for names, _, _ in calls:
        if names.__class__ is str:
            operations[names] += 1
        elif names is not None:
            operations.update(names)
    return operations
