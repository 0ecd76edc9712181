"""Which step of a generation runs, told from the calls of the model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._core import GoldenError
from .observed import vocabulary
from .past_key_values import Found, find_cache

if TYPE_CHECKING:
    import torch


class Passes:
    """Counts the forward passes of the part of a model that decodes.

    That part is around the embedding of the vocabulary; a model without one decodes as a whole. A step begins with a call of a
    module that has the part inside, or is it, and lies in no other such call. What runs behind the call belongs to the step, too
    (an engine computes logits there), up to the first module that ran in or before the call and runs again: it begins the next
    step (an engine embeds tokens there). What runs before the first call (a tower) belongs to step 0.
    """

    def __init__(
        self, *, automatic: bool, began: Callable[[], None], ended: Callable[[Found | None, str], None] | None
    ) -> None:
        """Steps are told from calls if it is `automatic`; otherwise somebody says where one begins.

        `began` is called when another step begins; `ended` behind each step, with the key-value cache that was found and the class
        of the module that it was looked for in.
        """
        #: The step that runs.
        self.number = 0
        #: The modules whose calls begin steps.
        self.modules: dict[torch.nn.Module, str] = {}
        self._automatic = automatic
        self._began = began
        self._ended = ended
        self._process = os.getpid()
        self._lock = threading.RLock()
        #: How many calls of such modules are under way, in any thread.
        self._depth = 0
        #: Whether the step's own call has ended.
        self._complete = False
        #: What ran in the step up to the end of its call.
        self._ran: set[str] = set()
        self._told = False
        self._found: Found | None = None
        #: The class of the module that was called, where a cache waits to be recorded.
        self._waiting: str | None = None

    def watch(self, model: torch.nn.Module, names: dict[torch.nn.Module, str]) -> None:
        """Finds out whose calls begin steps; `names` has every module of the model, with what it is called."""
        if self._automatic:
            self.modules = _around_decoder(model, names)

    def begin(self, number: int | None) -> None:
        """Begins a step because somebody says so; calls of the model begin none from here on.

        # Errors
        `GoldenError` for a step before the one that runs.
        """
        with self._lock:
            following = self.number + 1 if self._told or self._complete else 0
            number = following if number is None else number
            if number < self.number:
                raise GoldenError(f"step: expected a number from {self.number} on, found {number}")
            self._automatic, self._told = False, True
            if number != self.number:
                self.flush()
                self._begin(number)

    def flush(self) -> None:
        """Reports the cache of a step that somebody else has to end."""
        if self._waiting is not None and self._ended is not None:
            found, name = self._found, self._waiting
            self._found = self._waiting = None
            self._ended(found, name)

    def runs(self, name: str) -> None:
        """Takes note of a module that runs."""
        if not self._automatic:
            return
        with self._lock:
            if not self._complete:
                self._ran.add(name)
            elif self._depth == 0 and name in self._ran:
                self._begin(self.number + 1)
                self._ran.add(name)

    def enter(self, _module: torch.nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        """One of `modules` is called."""
        if self._is_off():
            return
        with self._lock:
            self._depth += 1
            if self._depth == 1 and self._complete and self._automatic:
                self._begin(self.number + 1)

    def leave(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """One of `modules` has ended; a call that failed has no output."""
        if self._is_off():
            return
        with self._lock:
            self._depth = max(0, self._depth - 1)
            if self._ended is not None and output is not None:
                self._found = find_cache(args, kwargs, output, self._found)
            if self._depth:
                return
            self._complete = True
            if output is None:
                self._found = None
                return
            self._waiting = type(module).__name__
            if self._automatic:
                self.flush()

    def _is_off(self) -> bool:
        """Whether a call is none: where it is only traced, and in a process that was forked from the one that records."""
        from torch.compiler import is_compiling

        return is_compiling() or os.getpid() != self._process

    def _begin(self, number: int) -> None:
        self.number = number
        self._complete = False
        self._ran.clear()
        self._began()


def _around_decoder(model: torch.nn.Module, names: dict[torch.nn.Module, str]) -> dict[torch.nn.Module, str]:
    """The modules that have the part of a model inside that decodes, or are it, by the names of each."""
    embedding = vocabulary(names)
    inside = model
    if embedding is not None:
        # The innermost that computes something besides: `embeddings` of BERT is only a table among tables.
        around = [module for module in names if any(child is embedding for child in module.modules())]
        inside = next((module for module in reversed(around) if _computes(module)), model)
    path = names[inside]
    return {module: name for module, name in names.items() if not name or f"{path}.".startswith(f"{name}.")}


def _computes(module: torch.nn.Module) -> bool:
    """Whether there is a matrix of weights inside that is no table to look up."""
    return any(
        tensor is not None and tensor.ndim >= 2
        for part in module.modules()
        if "Embedding" not in type(part).__name__
        for tensor in (*part._parameters.values(), *part._buffers.values())
    )
