"""A run in the dtype that was asked for, where a checkpoint's code has made its modules in another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .weights import Stored

#: Floating-point dtypes by the number of bits of their significand.
_PRECISION = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24, torch.float64: 53}


def is_less_precise(dtype: Any, asked: torch.dtype) -> bool:
    """Whether a dtype is one of floating point with fewer bits of significand than another."""
    return dtype in _PRECISION and _PRECISION[dtype] < _PRECISION[asked]


def name_of(dtype: torch.dtype) -> str:
    """A dtype's name without `torch.`."""
    return str(dtype).removeprefix("torch.")


def move_back(model: torch.nn.Module, dtype: torch.dtype, stored: Stored, deviations: list[str]) -> None:
    """Moves every module that is less precise than was asked for to what was asked for, and what it casts to likewise.

    What was asked for is the least precision: a module that is more precise (a tower in float32 in a bfloat16 run) is as its code
    wants it, and so is everything in a bfloat16 run. Parameters get the values that the checkpoint has, not what they were rounded to.
    Each thing is a sentence of `deviations`.
    """
    rounded = {
        name: tensor
        for name, tensor in [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
        if is_less_precise(tensor.dtype, dtype)
    }
    if rounded:
        deviations += [
            f"{what} is moved from {found} to {name_of(dtype)}" for what, found in _outermost(model, "", rounded)
        ]
        for name, tensor in rounded.items():
            was = tensor.dtype
            tensor.data = tensor.data.to(dtype)
            value = stored.tensor(name)
            if value is not None and is_less_precise(was, value.dtype):
                tensor.data.copy_(value)
    for path, module in model.named_modules():
        for key, value in list(vars(module).items()):
            if isinstance(value, torch.dtype) and is_less_precise(value, dtype):
                setattr(module, key, dtype)
                name = f"{path}.{key}" if path else key
                deviations.append(f"`{name}`, which is {name_of(value)}, is {name_of(dtype)}")


def _outermost(module: torch.nn.Module, path: str, rounded: dict[str, torch.Tensor]) -> Iterator[tuple[str, str]]:
    """The outermost modules all of whose floating-point parameters are to be moved, from one dtype; single tensors elsewhere."""
    prefix = f"{path}." if path else ""
    inside = {tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()}
    names = [name for name, _ in module.named_parameters(prefix=path) if name in rounded]
    if path and names and len(inside) == 1 and inside == {rounded[name].dtype for name in names}:
        yield f"`{path}`", name_of(inside.pop())
        return
    for key in (*module._parameters, *module._buffers):
        if (name := f"{prefix}{key}") in rounded:
            yield f"`{name}`", name_of(rounded[name].dtype)
    for key, child in module.named_children():
        yield from _outermost(child, f"{prefix}{key}", rounded)
