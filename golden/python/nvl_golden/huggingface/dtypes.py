"""A run in the dtype that was asked for, where a checkpoint's code has made its modules in another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .._core import PRECISION
from ..copies import dtype_name
from .weights import Stored

_PRECISION = {getattr(torch, name): bits for name, bits in PRECISION.items()}


def is_less_precise(dtype: Any, asked: torch.dtype) -> bool:
    """Whether a dtype is one of floating point with fewer bits of significand than another."""
    return dtype in _PRECISION and _PRECISION[dtype] < _PRECISION[asked]


def move_back(model: torch.nn.Module, dtype: torch.dtype, stored: Stored, deviations: list[str]) -> None:
    """Moves every module that is less precise than was asked for to what was asked for, and what it casts to likewise.

    What was asked for is the least precision: a module that is more precise (a tower in float32 in a bfloat16 run) is as its code
    wants it, and so is everything in a bfloat16 run. Parameters get the values that the checkpoint has, not what they were rounded to.
    Each thing is a sentence of `deviations`.
    """
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    rounded = {name: (tensor, tensor.dtype) for name, tensor in named if is_less_precise(tensor.dtype, dtype)}
    for what, found in _outermost(model, "", {name: found for name, (_, found) in rounded.items()}, set()):
        deviations.append(f"{what} is moved from {dtype_name(found)} to {dtype_name(dtype)}")
    for name, (tensor, found) in rounded.items():
        tensor.data = tensor.data.to(dtype)
        value = stored.tensor(name)
        if value is not None and is_less_precise(found, value.dtype):
            tensor.data.copy_(value)
    for path, module in model.named_modules():
        for key, value in list(vars(module).items()):
            if isinstance(value, torch.dtype) and is_less_precise(value, dtype):
                setattr(module, key, dtype)
                name = f"{path}.{key}" if path else key
                deviations.append(f"`{name}`, which is {dtype_name(value)}, is {dtype_name(dtype)}")


def _outermost(
    module: torch.nn.Module, path: str, rounded: dict[str, torch.dtype], seen: set[torch.nn.Module]
) -> Iterator[tuple[str, torch.dtype]]:
    """The outermost modules all of whose floating-point parameters are to be moved from one dtype; single tensors elsewhere."""
    if module in seen:
        return
    seen.add(module)
    prefix = f"{path}." if path else ""
    parameters = dict(module.named_parameters(prefix=path))
    moved = {rounded.get(name) for name, tensor in parameters.items() if tensor.is_floating_point()}
    if path and len(moved) == 1 and None not in moved:
        seen.update(module.modules())
        yield f"`{path}`", moved.pop()
        return
    for key in (*module._parameters, *module._buffers):
        if (name := f"{prefix}{key}") in rounded:
            yield f"`{name}`", rounded[name]
    for key, child in module.named_children():
        yield from _outermost(child, f"{prefix}{key}", rounded, seen)
