"""A configuration for fewer layers: what counts the layers, and what says something of each of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .._core import GoldenError
from .stacks import TEXT, VISION, Stack, find_stacks, named_parts, part_of_section, sections, words

#: The end of a field's name that counts layers: `num_hidden_layers`, `n_layer`, `depth`.
_COUNTER = re.compile(r"(?:.*_)?(?:layers?|blocks?|depth)")
#: Words of fields with something for each layer, or with the numbers of some layers.
_LAYER_WORDS = frozenset({"layer", "layers", "block", "blocks"})
_EACH_WORDS = _LAYER_WORDS | {"types"}
_NUMBER_WORDS = _LAYER_WORDS | {"index", "indexes", "indices", "idx", "ids"}
#: Words of fields whose numbers choose what is taken out of a stack: the taker needs as many of them as before.
_TAKEN_OUT = frozenset({"feature", "features", "intermediate", "deepstack", "out"})
#: The option that says how many layers of a part stay.
OPTIONS = {TEXT: "--layers", VISION: "--vision-layers"}


@dataclass(frozen=True)
class Change:
    """A field of the configuration with another value."""

    path: tuple[str, ...]
    before: Any
    after: Any

    def apply(self, config: dict[str, Any]) -> None:
        """Makes the change."""
        for key in self.path[:-1]:
            if not isinstance(config.get(key), dict):
                config[key] = {}
            config = config[key]
        config[self.path[-1]] = self.after


@dataclass(frozen=True)
class Plan:
    """Which stacks are cut, to how many layers each, and what changes in the configuration."""

    cuts: list[tuple[Stack, int]]
    changes: list[Change]

    def keeps(self, name: str) -> bool:
        """Whether a tensor stays."""
        layers = ((stack.layer_of(name), count) for stack, count in self.cuts)
        return all(layer is None or layer < count for layer, count in layers)


def plan(names: Iterable[str], config: dict[str, Any], complete: dict[str, Any] | None, asked: dict[str, int]) -> Plan:
    """What is to be done for `asked` layers of each part.

    - `names`: those of the checkpoint's tensors.
    - `config`: its configuration; `complete`: the same with the defaults of what it leaves out, where they are known.

    # Errors
    `GoldenError` if it cannot be told which tensors are the layers of a part, or what counts them.
    """
    names = list(names)
    stacks = find_stacks(names)
    result = Plan([], [])
    for part, count in asked.items():
        for known in (config, complete):
            if known is not None and (found := _counted(stacks, known, part)):
                break
        else:
            known, found = config, {}
        if found:
            changes = _changes(known, part, found, count)
        else:
            found, changes = _made_by_timm(stacks, config, part, count)
        if not found:
            raise _untold(stacks, config, part)
        _check(names, known, found, part, count)
        result.cuts.extend((stack, min(count, stack.count)) for stack in found)
        result.changes.extend(changes)
    return result


def _of_part(stacks: list[Stack], config: dict[str, Any], part: str) -> list[Stack]:
    named = named_parts(config)
    return [stack for stack in stacks if stack.part(named) == part]


def _counters(config: dict[str, Any], part: str) -> dict[tuple[str, ...], int]:
    """The fields that count layers of a part."""
    return {
        (*path, key): value
        for path, section in sections(config)
        if part_of_section(config, path) == part
        for key, value in section.items()
        if type(value) is int and _COUNTER.fullmatch(key)
    }


def _counted(stacks: list[Stack], config: dict[str, Any], part: str) -> dict[Stack, list[tuple[str, ...]]]:
    """The stacks of a part whose number of layers the configuration has, and the fields that have it."""
    counters = _counters(config, part)
    found = {
        stack: fields
        for stack in _of_part(stacks, config, part)
        if (fields := [field for field, value in counters.items() if value == stack.count])
    }
    # Other lists of modules may happen to be as long.
    called = {stack: fields for stack, fields in found.items() if stack.is_called_layers}
    other = VISION if part == TEXT else TEXT
    lengths = {stack.count for stack in found}
    if len(found) > 1 and not _of_part(stacks, config, other) and lengths & {*_counters(config, other).values()}:
        # One of them is of the other part, and nothing says which.
        return {}
    return called or (found if len(found) == 1 else {})


def _changes(config: dict[str, Any], part: str, found: dict[Stack, list[tuple[str, ...]]], count: int) -> list[Change]:
    """What changes in the configuration: counters, lists with a value for each layer, and numbers of layers."""
    lengths = {stack.count: min(count, stack.count) for stack in found}
    changes = []
    for path, section in sections(config):
        own = part_of_section(config, path)
        for key, value in section.items():
            # The root has fields about the tower: `vision_feature_layer`.
            about = VISION if not path and part_of_section({key: {}}, (key,)) == VISION else own
            if about != part or isinstance(value, dict):
                continue
            after = _changed(key, value, lengths)
            if after != value:
                changes.append(Change((*path, key), value, after))
    return changes


def _changed(key: str, value: Any, lengths: dict[int, int]) -> Any:
    """A field's value for fewer layers; `lengths` has the new number for each old one."""
    if isinstance(value, list) and value:
        return _changed_list(key, value, lengths)
    if type(value) is not int:
        return value
    if value in lengths and _COUNTER.fullmatch(key):
        return lengths[value]
    return _nearest(value, lengths[max(lengths)]) if {"feature", "layer"} <= words(key) else value


def _changed_list(key: str, value: list[Any], lengths: dict[int, int]) -> list[Any]:
    named = words(key)
    longest = max(lengths)
    kept = lengths[longest]
    is_taken_out = bool(named & _TAKEN_OUT)
    if len(value) in lengths and not is_taken_out and named & _EACH_WORDS:
        return value[: lengths[len(value)]]
    are_layers = all(type(item) is int and -longest <= item < longest for item in value)
    if not are_layers or not named & _NUMBER_WORDS or "token" in named:
        return value
    if is_taken_out:
        last = kept if "feature" in named else kept - 1
        return [_nearest(item, last) for item in value]
    return [item for item in value if item < kept]


def _nearest(layer: int, last: int) -> int:
    """A layer's number, counted from either end, or the nearest one that is still there."""
    return min(layer, last) if layer >= 0 else max(layer, -last - 1)


def _made_by_timm(
    stacks: list[Stack], config: dict[str, Any], part: str, count: int
) -> tuple[dict[Stack, list[tuple[str, ...]]], list[Change]]:
    """A tower that timm makes by its name, which counts the blocks; an argument beside the name has precedence."""
    blocks = [stack for stack in _of_part(stacks, config, part) if stack.prefix.endswith("blocks")]
    for path, section in sections(config):
        if part_of_section(config, path) != part or len(blocks) != 1:
            continue
        for name, arguments in (("model", "model_kwargs"), ("architecture", "model_args")):
            if isinstance(section.get(name), str) and isinstance(section.get(arguments) or {}, dict):
                field = (*path, arguments, "depth")
                return {blocks[0]: [field]}, [Change(field, None, min(count, blocks[0].count))]
    return {}, []


def _untold(stacks: list[Stack], config: dict[str, Any], part: str) -> GoldenError:
    own = _of_part(stacks, config, part)
    counters = ", ".join(f"`{'.'.join(field)}` {value}" for field, value in _counters(config, part).items()) or "none"
    if own:
        having = ", ".join(f"{stack.count} of `{stack.prefix}`" for stack in own)
        error = GoldenError(
            f"{OPTIONS[part]}: expected a field of `config.json` that counts the layers ({having}), found {counters}"
        )
        error.hint = "a configuration that leaves the number to a default can say it: write `num_hidden_layers` into it"
        return error
    every = ", ".join(f"`{stack.prefix}`" for stack in stacks) or "none"
    return GoldenError(f"{OPTIONS[part]}: expected numbered layers of the {part} part among the tensors, found {every}")


def _check(names: list[str], config: dict[str, Any], found: Iterable[Stack], part: str, count: int) -> None:
    """Refuses more layers than there are, stages of different widths, and tensors that have something of every layer.

    # Errors
    `GoldenError` that names them.
    """
    found = list(found)
    longest = max(found, key=lambda stack: stack.count)
    if count > longest.count:
        expected = f"expected at most the {longest.count} layers of `{longest.prefix}`"
        raise GoldenError(f"{OPTIONS[part]}: {expected}, found {count}")
    if count == longest.count:
        return
    for path, section in sections(config):
        depths = section.get("depths")
        if isinstance(depths, list) and len(depths) == longest.count and part_of_section(config, path) == part:
            field = ".".join((*path, "depths"))
            raise GoldenError(f"{OPTIONS[part]}: expected layers of one width, found stages: `{field}` {depths}")
    inside = [name for name in names if "per_layer" in name and all(stack.layer_of(name) is None for stack in found)]
    if inside and part == TEXT:
        raise GoldenError(f"`{inside[0]}`: expected each layer's tensors to be its own, found one for all layers")
