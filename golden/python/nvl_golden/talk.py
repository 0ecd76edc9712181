"""What is said to the user, which is no data: on standard error, a line at a time."""

from __future__ import annotations

import sys

from ._core import terminal


def visible(text: str) -> str:
    """A text with everything escaped that ends a line, moves the cursor, hides what is around it, or is a command to a CI
    service. A byte of a file's name that is not UTF-8 is shown as `\\xff`."""
    try:
        # Such bytes are surrogates in Python, which can be neither printed nor given to Rust.
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return terminal(text)


def say(text: str) -> None:
    """Says one line."""
    print(visible(text), file=sys.stderr, flush=True)
