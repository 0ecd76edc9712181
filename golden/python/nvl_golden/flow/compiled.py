"""Compiled code: what happens inside is not seen, and its results count as computed from all that it is given."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from types import CodeType, FunctionType, ModuleType
from typing import Any, ClassVar

from ..replaced import replace

#: What runs in place of a graph that Inductor has compiled: called with the function that does, the graph, and its inputs.
_HOLDERS = ("torch._inductor.output_code", "torch._inductor.codecache")


class CompiledGraphs:
    """Shows every run of a compiled graph to who asks for it. Any number may do so at once."""

    _lock: ClassVar = threading.Lock()
    _users: ClassVar[int] = 0
    _undo: ClassVar = ExitStack()

    @classmethod
    def begin(cls, run: Any) -> None:
        """From now on, `run(original, graph, inputs)` is called instead of a compiled graph.

        Nothing happens where nobody has loaded a compiler yet.
        """
        with cls._lock:
            cls._users += 1
            if cls._users == 1 and (graph := _class_of_graphs()) is not None:
                original = graph.__call__
                replace(cls._undo, graph, "__call__", lambda self, inputs: run(original, self, inputs))

    @classmethod
    def end(cls) -> None:
        """After the last user has said this, everything is as it was."""
        with cls._lock:
            cls._users -= 1
            if not cls._users:
                cls._undo.close()


def pass_by(*holders: ModuleType | type) -> None:
    """Lets compilers pass by the functions of modules and classes.

    Below a compiled function that has to call Python in between, a compiler looks at each frame that begins, those of a dispatch
    mode too.
    """
    if (compiler := sys.modules.get("torch._dynamo.eval_frame")) is None:
        return
    found = [value for holder in holders for value in vars(holder).values()]
    codes = [value.__code__ for value in found if isinstance(value, FunctionType)]
    while codes:
        code = codes.pop()
        compiler.skip_code(code)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _class_of_graphs() -> Any:
    if "torch._dynamo" not in sys.modules:
        return None
    import importlib

    for holder in _HOLDERS:
        try:
            graph = getattr(importlib.import_module(holder), "CompiledFxGraph", None)
        except ImportError:
            continue
        if graph is not None:
            return graph
    return None
