"""Modules that do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Modules that pass on what they are given, by class; the others of them while they do not train.
_ALWAYS_IDENTITY = frozenset({"Identity"})
_IDENTITY_IN_EVALUATION = frozenset({"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "DropPath"})


def is_identity(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> bool:
    """Whether a module has passed on what it was given, as its class always does."""
    kind = type(module).__name__
    passes_on = kind in _ALWAYS_IDENTITY or (kind in _IDENTITY_IN_EVALUATION and not module.training)
    return passes_on and len(args) > 0 and output is args[0]
