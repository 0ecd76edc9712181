"""Mistakes in what one module computes."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

Change = Callable[[torch.Tensor], torch.Tensor]


def scaled(_random: random.Random) -> Change:
    """All of it is a sixteenth too large."""
    return lambda tensor: tensor * (1 + 2**-4)


def rolled(_random: random.Random) -> Change:
    """The channels are one place off."""
    return lambda tensor: tensor.roll(1, -1)


def one_row(choice: random.Random) -> Change:
    """One token is a quarter too large."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        rows = tensor.clone().reshape(-1, tensor.shape[-1])
        rows[choice.randrange(len(rows))] *= 1.25
        return rows.reshape(tensor.shape)

    return change


def one_channel(choice: random.Random) -> Change:
    """One channel has the other sign, and is moved."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        channel = choice.randrange(tensor.shape[-1])
        tensor[..., channel] = 0.5 - tensor[..., channel]
        return tensor

    return change


CHANGES = (scaled, rolled, one_row, one_channel)


@contextmanager
def changed_output(module: torch.nn.Module, change: Change) -> Iterator[None]:
    """Inside, a module's first output is changed."""
    # Before the recorder's own hook, which is to see it.
    handle = module.register_forward_hook(lambda _module, _args, output: _changed(output, change), prepend=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def rolled_weight(module: torch.nn.Module) -> Iterator[None]:
    """Inside, the rows of a module's weight are one place off."""
    weight = module._parameters["weight"]
    assert weight is not None
    right = weight.data
    weight.data = right.roll(1, 0)
    try:
        yield
    finally:
        weight.data = right


def plant(number: int, module: torch.nn.Module, choice: random.Random) -> AbstractContextManager[None] | None:
    """The mistake of a number in a module; `None` if it has no weight for it."""
    kind = number % (len(CHANGES) + 1)
    if kind < len(CHANGES):
        return changed_output(module, CHANGES[kind](choice))
    return rolled_weight(module) if module._parameters.get("weight") is not None else None


def _changed(output: Any, change: Change) -> Any:
    if isinstance(output, torch.Tensor):
        return change(output) if output.is_floating_point() else output
    if isinstance(output, dict):
        first = next(name for name, value in output.items() if isinstance(value, torch.Tensor))
        output[first] = change(output[first])
        return output
    return (_changed(output[0], change), *output[1:])
