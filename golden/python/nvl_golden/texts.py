"""Texts that go into a manifest, which are Unicode."""

from __future__ import annotations

import json
import re
from typing import Any

from ._core import GoldenError
from .talk import visible

#: What is no Unicode: half of a character, or Python's stand-in for a byte of a file's name that is not UTF-8.
_NO_UNICODE = re.compile("[\ud800-\udfff]")


def check_name(name: str) -> None:
    """Refuses the name of an entry that is no Unicode."""
    if _NO_UNICODE.search(name):
        raise GoldenError(f"entry `{visible(name)}`: expected a name in Unicode, found something else in it")


def as_json(head: dict[str, Any]) -> str:
    """A manifest's head; what is no Unicode, as in the name of a picture's file, is replaced."""
    return _NO_UNICODE.sub("\ufffd", json.dumps(head, ensure_ascii=False))
