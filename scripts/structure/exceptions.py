"""The file of exceptions, one a line. An exception that no longer holds is an error."""

from pathlib import Path
from typing import NamedTuple


class Excess(NamedTuple):
    """Something that breaks a rule: the kind of rule, the place, and its size (0 if it has none)."""

    kind: str
    place: str
    size: int
    message: str


class Exceptions:
    """Lines of `KIND PLACE [SIZE] [why]`: `circle FILE`, `function FILE:NAME LINES`, `file FILE LINES`, and
    `table PLACE why` for a function or file that is a table and stays as long as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text().splitlines() if path.is_file() else []
        self.held: set[int] = set()

    def allow(self, excess: Excess) -> bool:
        """Whether a line permits it; what is larger than its line says is not permitted."""
        for number, line in enumerate(self.lines):
            words = line.split()
            if len(words) < 2 or words[1] != excess.place:
                continue
            if words[0] == excess.kind and (excess.size == 0 or excess.size <= int(words[2])):
                self.held.add(number)
                return True
            if words[0] == "table" and excess.kind != "circle":
                self.held.add(number)
                return True
        return False

    def stale(self) -> list[str]:
        """The lines that permit nothing (any more)."""
        return [self.lines[number] for number in self._stale()]

    def drop_stale(self) -> None:
        """Writes the file without them."""
        gone = set(self._stale())
        kept = [line for number, line in enumerate(self.lines) if number not in gone]
        self.path.write_text("".join(f"{line}\n" for line in kept))

    def _stale(self) -> list[int]:
        return [
            number
            for number, line in enumerate(self.lines)
            if line.strip() and not line.startswith("#") and number not in self.held
        ]
