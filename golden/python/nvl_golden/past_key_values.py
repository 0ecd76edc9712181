"""The key-value cache of a forward pass: where it is, and what it has, whatever class it is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._core import GoldenError

if TYPE_CHECKING:
    import torch

#: What the entries of a cache begin with.
NAME = "past_key_values"

#: What a layer may keep besides keys and values: the states of state-space and linear-attention layers.
_STATES = ("conv_states", "recurrent_states", "ssm_states")


class Found(NamedTuple):
    """A cache that a module was given or returned."""

    cache: Any
    #: How many positions the model had seen behind the pass, where the module was told.
    seen: int | None


class Layer(NamedTuple):
    """What a cache has of a layer."""

    #: Behind `past_key_values.`: the layer's number, and `cross_attention` behind it for the keys of an encoder's output.
    name: str
    #: `keys` and `values` `[batch, kv heads, positions, head width]`, and states of other shapes.
    tensors: dict[str, torch.Tensor]
    #: The position of each key.
    positions: Sequence[int]


def find_cache(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, before: Found | None) -> Found | None:
    """The cache that a module has returned, or was given; `before` if there is none."""
    seen = _seen(kwargs)
    if seen is None and before is not None:
        seen = before.seen
    for value in (*_items(output), *kwargs.values(), *args):
        if _is_cache(value):
            return Found(value, seen)
    return before and Found(before.cache, seen)


def read_cache(cache: Any, seen: int | None = None) -> list[Layer]:
    """The layers of a cache: those of transformers' classes, and tuples of keys and values.

    Of memory that was set aside only what is filled counts. Quantized keys are what attention gets to see.

    # Errors
    `GoldenError` that names the class, if it is of a kind that is not known.
    """
    import torch

    with torch.no_grad():
        layers = [layer for layer in _layers(cache, seen) if layer.tensors]
    for layer in layers:
        for kind, tensor in layer.tensors.items():
            if kind in ("keys", "values") and tensor.ndim != 4:
                shape = list(tensor.shape)
                expected = f"expected {kind} [batch, kv heads, positions, head width] in layer {layer.name}"
                raise GoldenError(f"`{_class(cache)}`: {expected}, found the shape {shape}")
    return layers


def cache_entries(found: Found, positions: Sequence[int] | None) -> list[tuple[str, torch.Tensor]]:
    """What is recorded of a cache, with its name behind `past_key_values.`; `positions`, where somebody knows them better.

    # Errors
    As `read_cache`.
    """
    import torch

    layers = read_cache(found.cache, found.seen)
    if positions is not None:
        layers = [layer._replace(positions=positions) for layer in layers]
    entries = [(f"{layer.name}.{kind}", tensor) for layer in layers for kind, tensor in layer.tensors.items()]
    unusual = {layer.name: list(layer.positions) for layer in layers if "keys" in layer.tensors}
    usual = [name for name, found in unusual.items() if found == list(range(len(found)))]
    if len(usual) < len(unusual):
        if len({tuple(found) for found in unusual.values()}) == 1:
            # All layers have the same.
            unusual = {"": next(iter(unusual.values()))}
        for name, found in unusual.items():
            if name not in usual:
                entries.append((f"{name}.positions".removeprefix("."), torch.tensor(found, dtype=torch.int64)))
    return entries


def _layers(cache: Any, seen: int | None) -> Iterator[Layer]:
    if isinstance(cache, tuple | list):
        yield from _of_tuples(cache)
    elif hasattr(cache, "self_attention_cache") and hasattr(cache, "cross_attention_cache"):
        yield from _layers(cache.self_attention_cache, seen)
        # It does not grow: how much the decoder has seen says nothing of it.
        for layer in _layers(cache.cross_attention_cache, None):
            yield layer._replace(name=f"{layer.name}.cross_attention")
    elif isinstance(getattr(cache, "layers", None), list | tuple):
        processor = getattr(cache, "cache_processor", None)
        for index, layer in enumerate(cache.layers):
            yield _of_layer(cache, index, layer, processor, seen)
    elif any(hasattr(cache, name) for name in ("key_cache", *_STATES)) and not hasattr(cache, "block_size"):
        yield from _of_lists(cache, seen)
    else:
        expected = f"expected a key-value cache that can be read, found a `{_class(cache)}`"
        error = GoldenError(f"`{NAME}`: {expected}")
        error.hint = "give its keys and values to `recorder.add_past_key_values`"
        raise error


def _of_tuples(cache: Sequence[Any]) -> Iterator[Layer]:
    """Of pairs of keys and values, and of four with those of an encoder's output; `None` is a layer without any."""
    for index, layer in enumerate(cache):
        if layer is None:
            continue
        pairs = {"": layer[0:2], ".cross_attention": layer[2:4]}
        for suffix, pair in pairs.items():
            if len(pair) == 2 and all(hasattr(tensor, "ndim") for tensor in pair):
                positions = range(pair[0].shape[-2] if pair[0].ndim >= 2 else 0)
                yield Layer(f"{index}{suffix}", {"keys": pair[0], "values": pair[1]}, positions)


def _of_layer(cache: Any, index: int, layer: Any, processor: Any, seen: int | None) -> Layer:
    """Of an object for each layer, as transformers has them from 4.54 on."""
    states = {name: tensor for name in _STATES if _is_filled(tensor := getattr(layer, name, None))}
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    # The quantized part of both is the layer's own, or with a processor (4.54 to 4.56) the cache's.
    if hasattr(layer, "_quantized_keys"):
        keys = _dequantized(layer, layer._quantized_keys, keys)
        values = _dequantized(layer, layer._quantized_values, values)
    elif index < len(getattr(processor, "_quantized_keys", ())):
        keys = _dequantized(processor, processor._quantized_keys[index], keys)
        values = _dequantized(processor, processor._quantized_values[index], values)
    if not _is_filled(keys) or not _is_filled(values):
        return Layer(str(index), states, ())
    counted = getattr(layer, "cumulative_length_int", getattr(layer, "cumulative_length", None))
    if counted is not None:
        seen = int(counted)
    elif not hasattr(layer, "max_cache_len"):
        # It grows, and has what it has seen.
        seen = keys.shape[-2]
    if seen is None:
        window = keys.shape[-2] if getattr(layer, "is_sliding", False) else None
        seen = _asked(cache, int(layer.get_seq_length()), window)
    return _filled(str(index), keys, values, states, seen)


def _of_lists(cache: Any, seen: int | None) -> Iterator[Layer]:
    """Of a list of keys and one of values, as transformers had them before, and as models with other layers too still have."""
    keys, values = getattr(cache, "key_cache", ()), getattr(cache, "value_cache", ())
    others = {name: states for name in _STATES if (states := getattr(cache, name, None)) is not None}
    quantized = getattr(cache, "_quantized_key_cache", ())
    counts, sliding = getattr(cache, "cumulative_length", ()), getattr(cache, "is_sliding", ())
    grows = not hasattr(cache, "max_cache_len")
    if seen is None and not grows:
        has_windows = any(sliding) or "Sliding" in _class(cache)
        seen = _asked(cache, int(cache.get_seq_length()), min(key.shape[-2] for key in keys) if has_windows else None)
    for index in range(max(len(keys), *(len(states) for states in others.values()), 0)):
        states = {name: state for name, whole in others.items() if _is_filled(state := _at(whole, index))}
        key, value = _at(keys, index), _at(values, index)
        if index < len(quantized):
            key = _dequantized(cache, quantized[index], key)
            value = _dequantized(cache, cache._quantized_value_cache[index], value)
        if not _is_filled(key) or not _is_filled(value):
            yield Layer(str(index), states, ())
            continue
        # Where layers are counted, it is those with a window.
        counted = int(counts[index]) if index < len(counts) and sliding[index] else seen
        yield _filled(str(index), key, value, states, key.shape[-2] if grows or counted is None else counted)


def _filled(name: str, keys: torch.Tensor, values: torch.Tensor, states: dict[str, torch.Tensor], seen: int) -> Layer:
    """The filled part of a layer's memory, which in all of transformers' classes has the oldest position first."""
    if keys.ndim != 4:
        return Layer(name, {"keys": keys, "values": values} | states, ())
    count = min(seen, keys.shape[-2])
    return Layer(
        name, {"keys": keys[..., :count, :], "values": values[..., :count, :]} | states, range(seen - count, seen)
    )


def _asked(cache: Any, count: int, window: int | None) -> int:
    """How many positions were seen, as the cache itself says; a full window does not know."""
    if window is not None and count >= window:
        expected = "expected `cache_position` to tell the positions of a full window"
        raise GoldenError(f"`{_class(cache)}`: {expected}, found none")
    return count


def _dequantized(owner: Any, quantized: Any, rest: torch.Tensor) -> torch.Tensor:
    """What was quantized, and behind it what waits to be."""
    import torch

    tensor = owner._dequantize(quantized)
    return torch.cat([tensor, rest], dim=-2) if rest.ndim == 4 else tensor


def _seen(kwargs: dict[str, Any]) -> int | None:
    """How many positions a model has seen behind a call, from the positions that it was given."""
    positions = kwargs.get("cache_position")
    return int(positions.max()) + 1 if _is_filled(positions) else None


def _is_filled(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.numel() > 0


def _at(values: Any, index: int) -> Any:
    """A member of a list, of a tensor, or of a dictionary by layer."""
    if isinstance(values, Mapping):
        return values.get(index)
    return values[index] if index < len(values) else None


def _items(output: Any) -> Iterator[Any]:
    """What a module returns, one by one."""
    if isinstance(output, Mapping):
        yield from output.values()
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        yield from (getattr(output, field.name, None) for field in dataclasses.fields(output))
    elif isinstance(output, tuple | list):
        yield from output


def _is_cache(value: Any) -> bool:
    import torch

    if isinstance(value, torch.Tensor) or value is None:
        return False
    if isinstance(value, tuple | list):
        layers = [layer for layer in value if layer is not None]
        return bool(layers) and all(
            isinstance(layer, tuple | list) and len(layer) >= 2 and all(hasattr(tensor, "ndim") for tensor in layer[:2])
            for layer in layers
        )
    return "Cache" in type(value).__name__ or hasattr(value, "key_cache")


def _class(value: Any) -> str:
    return type(value).__name__
