"""Stacks of layers, as the names of tensors show them, and what part of a model each belongs to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

TEXT, VISION = "text", "vision"

#: Words of parts of a model, as configurations and modules have them.
_VISION_WORDS = frozenset({"vision", "visual", "image", "img", "vit", "vpm"})
_TEXT_WORDS = frozenset({"text", "llm", "language", "lm", "decoder", "encoder", "thinker", "model", "transformer"})
_OTHER_WORDS = frozenset(
    {"audio", "speech", "video", "qformer", "resampler", "perceiver", "projector", "connector", "talker"}
)
#: What a stack of layers is called.
_LAYERS = re.compile(r"h|\w*(?:layers?|blocks?)")


@dataclass(frozen=True)
class Stack:
    """Layers that follow each other: `language_model.model.layers` has those from 0 to `count - 1`."""

    prefix: str
    count: int

    def layer_of(self, name: str) -> int | None:
        """The layer that a tensor belongs to."""
        place = _place(name)
        return place[1] if place is not None and place[0] == self.prefix else None

    @property
    def is_called_layers(self) -> bool:
        """Whether its name says that it has layers."""
        return _LAYERS.fullmatch(self.prefix.rpartition(".")[2]) is not None

    def part(self, named: dict[str, str | None]) -> str | None:
        """Whether it is of the text's part or of the vision's; `None` for another. `named`: the parts that `named_parts` gives."""
        for segment in self.prefix.split("."):
            if segment in named:
                return named[segment]
        found = words(self.prefix)
        if found & _VISION_WORDS:
            return VISION
        return None if found & _OTHER_WORDS else TEXT


def find_stacks(names: Iterable[str]) -> list[Stack]:
    """The outermost stacks, each with all of its numbers from 0 on, whose layers have modules inside them."""
    numbers: dict[str, set[int]] = defaultdict(set)
    has_modules: set[str] = set()
    for name in names:
        if (place := _place(name)) is not None:
            prefix, number, rest = place
            numbers[prefix].add(number)
            if "." in rest:
                has_modules.add(prefix)
    return [
        Stack(prefix, len(found))
        for prefix, found in numbers.items()
        if prefix in has_modules and found == set(range(len(found)))
    ]


def sections(config: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every object inside a configuration, with the keys that lead to it."""
    yield path, config
    for key, value in config.items():
        if isinstance(value, dict):
            yield from sections(value, (*path, key))


def part_of_section(config: dict[str, Any], path: tuple[str, ...]) -> str | None:
    """The part of a model that an object of its configuration is about; the root is about the text."""
    inner: Any = config
    found = set()
    for key in path:
        inner = inner[key]
        kind = inner.get("model_type")
        found |= words(key) | (words(kind) if isinstance(kind, str) else set())
    if found & _VISION_WORDS:
        return VISION
    return TEXT if not path or all(words(key) & _TEXT_WORDS for key in path) else None


def named_parts(config: dict[str, Any]) -> dict[str, str | None]:
    """The part that each module is of that a configuration has an object for: `qformer` for `qformer_config`."""
    parts = ((key, part_of_section(config, (key,))) for key, value in config.items() if isinstance(value, dict))
    return {key.removesuffix("_config"): part for key, part in parts}


def words(name: str) -> set[str]:
    """The words in a name, between its dots, dashes and underscores."""
    return set(re.split(r"[._\-\s]+", name.lower()))


def _place(name: str) -> tuple[str, int, str] | None:
    """The first number in a tensor's name, with what stands before and after it."""
    segments = name.split(".")
    for index, segment in enumerate(segments):
        if index > 0 and re.fullmatch("0|[1-9][0-9]*", segment):
            return ".".join(segments[:index]), int(segment), ".".join(segments[index + 1 :])
    return None
