"""Which attention runs: the functions that compute it are watched while something is recorded.

No configuration is asked. `scaled_dot_product_attention`, FlashAttention's and xformers' functions, and whatever transformers'
attention interface calls, say their names; eager attention has no function of its own, and is seen by its softmax.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import wraps
from typing import Any, ClassVar

from .replaced import replace

#: Called with the name of an attention that is about to run.
Listener = Callable[[str], None]

#: Functions that are an attention: the module that has them, their name there, and what they are called in a manifest.
_FUNCTIONS = (
    ("torch.nn.functional", "scaled_dot_product_attention", "sdpa"),
    ("flash_attn", "flash_attn_func", "flash_attention_2"),
    ("flash_attn", "flash_attn_kvpacked_func", "flash_attention_2"),
    ("flash_attn", "flash_attn_qkvpacked_func", "flash_attention_2"),
    ("flash_attn", "flash_attn_varlen_func", "flash_attention_2"),
    ("flash_attn", "flash_attn_varlen_kvpacked_func", "flash_attention_2"),
    ("flash_attn", "flash_attn_varlen_qkvpacked_func", "flash_attention_2"),
    ("flash_attn", "flash_attn_with_kvcache", "flash_attention_2"),
    ("flash_attn_interface", "flash_attn_func", "flash_attention_3"),
    ("flash_attn_interface", "flash_attn_varlen_func", "flash_attention_3"),
    ("xformers.ops", "memory_efficient_attention", "xformers"),
)


class Watch:
    """Tells its listener of every attention from `begin` to `end`. Any number may be under way at once."""

    _lock: ClassVar = threading.Lock()
    _listeners: ClassVar[list[Listener]] = []
    #: Puts back what was replaced, when it is closed.
    _undo: ClassVar = ExitStack()
    #: How many attentions are under way in this thread: what one calls inside is part of it.
    _inside: ClassVar = threading.local()

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._begun = False

    def begin(self, modules: Iterable[str]) -> None:
        """Starts to listen; `modules` are those that may have taken a function into their own namespace, by name."""
        with Watch._lock:
            if not Watch._listeners:
                _put_in_place(list(modules), Watch._undo)
            Watch._listeners.append(self._listener)
            self._begun = True

    def end(self) -> None:
        """Stops; after the last one everything is as it was."""
        with Watch._lock:
            if not self._begun:
                return
            self._begun = False
            Watch._listeners.remove(self._listener)
            if not Watch._listeners:
                Watch._undo.close()


def _put_in_place(modules: list[str], undo: ExitStack) -> None:
    import torch

    for module_name, name, kind in _FUNCTIONS:
        original = getattr(sys.modules.get(module_name), name, None)
        if original is None:
            continue
        replacement = _telling(original, kind)
        for holder in {module_name, *modules}:
            found = sys.modules.get(holder)
            # Code that imported the function by name has a reference of its own.
            for own in [own for own, value in vars(found).items() if value is original] if found else ():
                replace(undo, found, own, replacement)
    for holder, name in ((torch.Tensor, "softmax"), (torch, "softmax")):
        replace(undo, holder, name, _telling(getattr(holder, name), "eager", _is_of_scores))
    _watch_interface(undo)


def _watch_interface(undo: ExitStack) -> None:
    """Watches what transformers' attention interface has registered, under the names that it has there."""
    interface = getattr(sys.modules.get("transformers.modeling_utils"), "ALL_ATTENTION_FUNCTIONS", None)
    local = getattr(interface, "_local_mapping", None)
    if not isinstance(local, dict):
        return
    for kind in list(interface):
        if kind in local:
            undo.callback(local.__setitem__, kind, local[kind])
        else:
            undo.callback(local.pop, kind)
        local[kind] = _telling(interface[kind], str(kind))


def _telling(original: Any, kind: str, applies: Callable[..., bool] | None = None) -> Any:
    from torch.compiler import is_compiling

    @wraps(original)
    def telling(*args: Any, **kwargs: Any) -> Any:
        if is_compiling() or getattr(Watch._inside, "depth", 0) or (applies and not applies(*args, **kwargs)):
            return original(*args, **kwargs)
        for listener in list(Watch._listeners):
            listener(kind)
        Watch._inside.depth = 1
        try:
            return original(*args, **kwargs)
        finally:
            Watch._inside.depth = 0

    return telling


def _is_of_scores(scores: Any, dim: Any = None, *_args: Any, **_kwargs: Any) -> bool:
    """Whether a softmax is one over attention scores: `[batch, heads, queries, keys]`, or without heads and then square.

    Others are over classes or experts, `[tokens, experts]`.
    """
    rank = getattr(scores, "ndim", 0)
    if not isinstance(dim, int) or dim not in (-1, rank - 1):
        return False
    return rank >= 4 or (rank == 3 and scores.shape[-1] == scores.shape[-2])
