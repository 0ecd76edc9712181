"""Text that others have written, for a terminal."""

from __future__ import annotations


def visible(text: str, keep: str = "") -> str:
    """A text with everything escaped that a terminal does not show as a character of its own, but for what is in `keep`.

    What moves the cursor, changes colours, turns the direction of writing or has no width could hide the text around it. A byte
    of a file's name that is not UTF-8 is shown as `\\xff`.
    """
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    # Python's stand-in for a byte that is not UTF-8.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
