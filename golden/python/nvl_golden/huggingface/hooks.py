"""Whether the installed transformers calls what a checkpoint's own class has for it to call."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from .._core import GoldenError
from .code import ROOT

#: Where the code that transformers loads from a checkpoint lives.
REMOTE = f"{ROOT}."


def check_hooks(instance: Any, folder: Path) -> None:
    """Refuses an object of a checkpoint's own class that the installed transformers would not use as its code expects.

    Code overrides methods of transformers' classes, which have other names in other versions. A method that is there for them to
    call, and that they do not have, is then never called, and what it does is left out without a word. It gives itself away by
    asking `super()` for a method that is not there.

    # Errors
    `GoldenError` that names such methods.
    """
    kind = type(instance)
    unused = [name for own in kind.__mro__ if own.__module__.startswith(REMOTE) for name in _unused(own, kind)]
    if not unused:
        return
    names = ", ".join(f"`{name}`" for name in unused)
    base = next(other for other in kind.__mro__ if not other.__module__.startswith(REMOTE))
    error = GoldenError(
        f"`{kind.__name__}`: expected to override what `{base.__name__}` of {versions()} has, found {names}, which it has not"
    )
    error.hint = wrong_version(folder)
    raise error


def versions() -> str:
    """The installed version of transformers, as a sentence has it."""
    return f"transformers {sys.modules['transformers'].__version__}"


def wrong_version(folder: Path) -> str:
    """What to try where a checkpoint's code and the installed transformers do not go together."""
    try:
        written = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("transformers_version")
    except (OSError, ValueError, AttributeError):
        written = None
    asked = f"`config.json` says {written}" if isinstance(written, str) else "`config.json` does not say which"
    return f"the code may be for another version than {versions()} ({asked}); docs/recording.md says which were tried"


def _unused(own: type, kind: type) -> list[str]:
    """The methods of a class that call `super()` for a method that no class behind it has."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(own)))
    except (OSError, TypeError, SyntaxError):
        return []
    behind = kind.__mro__[kind.__mro__.index(own) + 1 :]
    methods = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [
        method.name
        for method in methods
        if any(_is_call_of_super(node, method.name) for node in ast.walk(method))
        and not any(hasattr(other, method.name) for other in behind)
    ]


def _is_call_of_super(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr != name or not isinstance(node.value, ast.Call):
        return False
    return isinstance(node.value.func, ast.Name) and node.value.func.id == "super"
