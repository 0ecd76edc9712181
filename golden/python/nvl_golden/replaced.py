"""What other libraries call, replaced for a while."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any


def replace(stack: ExitStack, holder: Any, name: str, replacement: Any) -> None:
    """Puts something in the place of a module's or a class's attribute, until the stack is closed."""
    own = name in vars(holder)
    before = getattr(holder, name)
    setattr(holder, name, replacement)
    # What belongs to a base class (`cuda` of `Tensor`) is there again once the replacement is taken away.
    stack.callback(lambda: setattr(holder, name, before) if own else delattr(holder, name))
