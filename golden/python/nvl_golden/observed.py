"""What ran, found out from the modules that ran: the attention and the dtype of each part, and how pictures came in."""

from __future__ import annotations

import inspect
import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from .attention import Watch
from .copies import dtype_name
from .outputs import tensors_of

if TYPE_CHECKING:
    import torch

#: What the embedding of a vocabulary is called, where a model has no `get_input_embeddings` that tells it.
_VOCABULARY = ("embed_tokens", "wte", "tok_embeddings", "word_embeddings", "token_embedding")


class Observer:
    """Sees each module end, and tells at last what a manifest's `producer` says of the run."""

    def __init__(self, model: torch.nn.Module, names: dict[torch.nn.Module, str]) -> None:
        """`names` has every module of the model, with what it is called."""
        self._model = model
        self._names = names
        #: The model's direct children with parameters, by their names; the model itself if none has any.
        self._parts = [
            names[child] for child in model.children() if child in names and any(True for _ in child.parameters())
        ]
        self._dtypes: dict[str, Counter[str]] = defaultdict(Counter)
        #: Per attention: the paths of the modules that ended next.
        self._attention: dict[str, set[str]] = defaultdict(set)
        self._waiting = threading.local()
        #: The floating-point tensors that modules were given, by the modules' names: their shapes and dtypes.
        self._given: dict[str, list[tuple[tuple[int, ...], str]]] = {}
        self._pictures: tuple[int, ...] | None = None
        self._watch = Watch(self._saw_attention)

    def begin(self) -> None:
        """Starts to watch for attention."""
        self._watch.begin(sorted({module.__module__ for kind in map(type, self._names) for module in kind.__mro__}))

    def end(self) -> None:
        """Stops."""
        self._watch.end()

    def pictures(self, pixel_values: torch.Tensor) -> None:
        """Says what the pictures look like that the model is given."""
        self._pictures = tuple(pixel_values.shape)

    def saw(
        self,
        module: torch.nn.Module,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        *,
        recorded: bool,
    ) -> None:
        """Takes note of a module that has ended, or only forgets what ran in it if it is not `recorded`."""
        # Whatever ran in a module, the next one to end is that module or lies inside it.
        kinds, self._waiting.kinds = self._kinds(), []
        if not recorded:
            return
        for kind in kinds:
            self._attention[kind].add(name)
        if module._parameters:
            for _, tensor in tensors_of(output):
                if tensor.dtype.is_floating_point:
                    self._dtypes[self._part(name)][dtype_name(tensor.dtype)] += tensor.numel()
        if module is self._model and self._pictures is None:
            self._pictures = _argument(module, "pixel_values", args, kwargs)
        if name not in self._given:
            tensors = [tensor for _, tensor in tensors_of([args, kwargs]) if tensor.dtype.is_floating_point]
            self._given[name] = [(tuple(tensor.shape), dtype_name(tensor.dtype)) for tensor in tensors]

    def producer(self) -> dict[str, Any]:
        """The fields of a manifest's `producer` that were seen; those that were not are left out."""
        seen: dict[str, Any] = {}
        dtypes = {part: self._dtypes[part].most_common(1)[0][0] for part in self._parts if part in self._dtypes}
        if attention := self._sides():
            seen["attention"] = attention
        if pixels := self._pixel_values():
            seen["pixel_values_dtype"] = pixels[1]
        if dtypes:
            seen["dtypes"] = dtypes
        return seen

    def _saw_attention(self, kind: str) -> None:
        self._waiting.kinds = [*self._kinds(), kind]

    def _kinds(self) -> list[str]:
        return getattr(self._waiting, "kinds", [])

    def _part(self, name: str) -> str:
        return next((part for part in self._parts if _is_inside(name, part)), "")

    def _pixel_values(self) -> tuple[str, str] | None:
        """The outermost module inside the model that was given the pictures, and their dtype there."""
        if self._pictures is None:
            return None
        root = self._names[self._model]
        found = [
            (name, dtype)
            for name, tensors in self._given.items()
            for shape, dtype in tensors
            # A tower may be given the pictures in several goes.
            if len(shape) == len(self._pictures) and shape[1:] == self._pictures[1:]
        ]
        return min(found, key=lambda item: (item[0] == root, item[0].count(".")), default=None)

    def _sides(self) -> dict[str, str]:
        """The attention of the language model, and of what sees pictures."""
        text = self._text_root({path for paths in self._attention.values() for path in paths})
        tower = self._pixel_values()
        roots = [(root, side) for root, side in ((text, "text"), (tower and tower[0], "vision")) if root is not None]
        sides: dict[str, set[str]] = {"vision": set(), "text": set()}
        for kind, found in self._attention.items():
            for path in found:
                # A model whose language model lies inside what is given the pictures: the inner one counts.
                inside = max(((len(root), side) for root, side in roots if _is_inside(path, root)), default=None)
                if inside is not None:
                    sides[inside[1]].add(kind)
                elif self._saw_pictures():
                    sides["vision"].add(kind)
        return {side: "+".join(sorted(kinds)) for side, kinds in sides.items() if kinds}

    def _saw_pictures(self) -> bool:
        shapes = (shape for tensors in self._given.values() for shape, _ in tensors)
        return self._pictures is not None or any(len(shape) >= 4 and shape[-3] == 3 for shape in shapes)

    def _text_root(self, paths: set[str]) -> str | None:
        """The module around the vocabulary's embedding that has attention inside."""
        embedding = vocabulary(self._names)
        if embedding is None:
            return None
        root = self._names[embedding].rpartition(".")[0]
        while root and not any(_is_inside(path, root) for path in paths):
            root = root.rpartition(".")[0]
        return root


def vocabulary(names: dict[torch.nn.Module, str]) -> torch.nn.Module | None:
    """The embedding of the vocabulary, among all modules of a model."""
    for module in names:
        try:
            embedding = module.get_input_embeddings()  # type: ignore[operator]
        except (AttributeError, NotImplementedError, TypeError):
            continue
        # A tower's patch embedding has a convolution inside.
        is_table = "Embedding" in type(embedding).__name__ and not any(embedding.children())
        if is_table and embedding in names:
            return embedding
    return next((module for module, name in names.items() if name.rpartition(".")[2] in _VOCABULARY), None)


def _is_inside(name: str, root: str) -> bool:
    return not root or name == root or name.startswith(f"{root}.")


def _argument(
    module: torch.nn.Module, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int, ...] | None:
    """The shape of a tensor that a module was given under a name of its signature."""
    try:
        value = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments.get(name)
    except (TypeError, ValueError):
        return None
    return tuple(value.shape) if hasattr(value, "is_floating_point") and value.dtype.is_floating_point else None
