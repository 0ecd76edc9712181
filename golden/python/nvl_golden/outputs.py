"""The tensors in what a module returns, with the names that their entries get."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

OutputNames = Mapping[str, Sequence["str | None"]]

#: What the outputs of a class are called where it returns a bare tuple, by a glob over the class's name. These two are
#: tables, of one shape; engines have classes of such names that return queries and keys, which differ in theirs.
OUTPUT_NAMES: OutputNames = {"*RotaryEmbedding": ("cos", "sin")}

#: Classes that return their output and, where the attention that ran has some, the weights of it.
_ATTENTION = "*Attention*"


def tensors_of(value: Any) -> list[tuple[str, torch.Tensor]]:
    """Every tensor inside a value, with its path there: `""` for a bare tensor, `1.logits` for one further in.

    Tuples, lists, mappings, named tuples and dataclasses are looked into; anything else (a cache, a number) has no tensor.
    """
    return list(_walk(value, "", set()))


def name_outputs(module_class: str, value: Any, names: OutputNames) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a module's return value, with the names to append to the module's own.

    A single tensor needs no name of its own, wherever it is. A name of `None` in `names` leaves the tensor out; an empty
    one gives it the module's own name.
    """
    tensors = tensors_of(value)
    if len(tensors) == 1:
        return [("", tensors[0][1])]
    for pattern, given in names.items():
        if given is OUTPUT_NAMES.get(pattern) and len({tensor.shape for _, tensor in tensors}) > 1:
            continue
        if fnmatchcase(module_class, pattern) and len(given) == len(tensors):
            return [(name, tensor) for name, (_, tensor) in zip(given, tensors, strict=True) if name is not None]
    if fnmatchcase(module_class, _ATTENTION) and _has_weights_second(value):
        own = {"0": "", "1": "attn_weights"}
        return [(own.get(path, path), tensor) for path, tensor in tensors]
    return tensors


def _has_weights_second(value: Any) -> bool:
    """Whether an attention returned its output first and its weights, or `None` in their place, second.

    So that its output has one name whatever attention ran: eager attention has weights to return, others have none, and older
    versions of transformers return the keys and values behind them. The weights are `[batch, heads, queries, keys]`, with a
    query for each row of the output `[batch, queries, hidden]`; other pairs (queries and keys, say) are not meant.
    """
    import torch

    if type(value) not in (tuple, list) or len(value) < 2 or not isinstance(value[0], torch.Tensor):
        return False
    output, weights = value[:2]
    if weights is None:
        return True
    if not isinstance(weights, torch.Tensor) or weights.ndim != 4 or output.ndim not in (2, 3):
        return False
    return weights.shape[-2] == output.shape[-2]


def _walk(value: Any, path: str, inside: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
        return
    items: Iterator[tuple[str, Any]]
    if isinstance(value, Mapping):
        items = ((str(key), item) for key, item in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = zip(value._fields, value, strict=True)
    elif isinstance(value, tuple | list):
        items = ((str(index), item) for index, item in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
    else:
        return
    # A value that contains itself would never end.
    if id(value) in inside:
        return
    inside.add(id(value))
    for name, item in items:
        yield from _walk(item, f"{path}.{name}" if path else name, inside)
    inside.remove(id(value))
