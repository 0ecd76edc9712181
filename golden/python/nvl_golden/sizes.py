"""Sizes as a user writes them: `5GB`, `512MiB`, or a number of bytes."""

from __future__ import annotations

import re

from ._core import GoldenError

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    _UNITS |= {f"{_letter}B": 1000**_power, f"{_letter}IB": 1024**_power}


def parse_size(size: int | str, what: str) -> int:
    """A size in bytes.

    # Errors
    `GoldenError` for what is no size, or none at all.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(size))
    unit = _UNITS.get(match[2].upper()) if match else None
    value = int(float(match[1]) * unit) if match and unit else 0
    if value <= 0:
        raise GoldenError(f"{what}: expected a size such as `5GB`, `512MiB` or a number of bytes, found `{size}`")
    return value
