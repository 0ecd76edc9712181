"""What is said to the user, which is no data: on standard error, a line at a time."""

from __future__ import annotations

import sys

from ._core import terminal


def say(text: str) -> None:
    """Says one line; nothing in it ends the line, moves the cursor or is a command to a CI service."""
    # A path that is no UTF-8 has surrogates, which can be neither printed nor given to Rust.
    print(terminal(text.encode("utf-8", "backslashreplace").decode("utf-8")), file=sys.stderr, flush=True)
