"""The requests that a proof asks: a set of its own, or the user's."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from environment import ROOT
from talk import CannotTellError

_SHAPES = ROOT / "golden/fixtures/goldens/images"
_ROUND, _WIDE, _SQUARE = (
    _SHAPES / name
    for name in ("red-circle-above-blue-square.png", "green-triangle-left-of-yellow-circle.png", "purple-square.png")
)
#: Doubled, four by three tiles and a thumbnail, whatever the size of a tile is.
_LARGE = ROOT / "golden/fixtures/preprocess/images/rgb-640x480.png"
_ANSWERED = {"user": "<image>\nDescribe this image.", "assistant": "a green triangle left of a yellow circle"}

#: Each form of a request that the public `chat` knows.
OWN: list[dict[str, Any]] = [
    {"id": "text", "prompt": "How many shapes are there?"},
    {"id": "system", "system": "Answer in one word.", "prompt": "How many shapes are there?"},
    {"id": "one-tile", "prompt": "Describe this image.", "images": [str(_ROUND)]},
    {"id": "many-tiles", "prompt": "Describe this image.", "images": [str(_LARGE)]},
    {"id": "pictures", "prompt": "Describe these images.", "images": [str(_WIDE), str(_SQUARE)]},
    {
        "id": "history",
        "system": "Answer in one word.",
        "turns": [_ANSWERED, {"user": "<image>\nWhat color is the square?"}],
        "images": [str(_WIDE), str(_SQUARE)],
    },
]
#: What becomes `_` in the name of an id's dump, as in `dump_name` of nvl-golden, which refuses two ids with one name.
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")


def requests(file: Path | None, chosen: list[str], max_new_tokens: int) -> list[dict[str, Any]]:
    """The rows to record: `file`'s, or the set of its own, or those of either that are `chosen`; with the SHA-256 of each
    picture as `image_sha256` and the folder's name as `name`.

    # Errors
    `CannotTellError` for a row that is none, a picture that is not there, an id that is none of them.
    """
    rows = OWN if file is None else _read(file)
    for id in chosen:
        if id not in {row["id"] for row in rows}:
            known = ", ".join(f"`{row['id']}`" for row in rows)
            raise CannotTellError(f"--only: expected one of {known}, found `{id}`")
    return [_complete(row, file, max_new_tokens) for row in rows if not chosen or row["id"] in chosen]


def as_row(row: dict[str, Any]) -> str:
    """A request as `nvl-golden record` reads it."""
    return json.dumps({field: value for field, value in row.items() if field not in ("name", "image_sha256")})


def _read(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise CannotTellError(f"`{file}`: expected a file of requests, found no file")
    rows, ids = [], set()
    for number, line in enumerate(file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CannotTellError(f"`{file}`, line {number}: expected a request as a JSON object: {error}") from None
        images = row.get("images", []) if isinstance(row, dict) else None
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            raise CannotTellError(f"`{file}`, line {number}: expected a request as a JSON object, found something else")
        row = {"id": str(number)} | row
        if not isinstance(row["id"], str) or row["id"] in ids:
            raise CannotTellError(f"`{file}`, line {number}: `id`: expected a unique text, found `{row['id']}`")
        ids.add(row["id"])
        rows.append(row)
    if not rows:
        raise CannotTellError(f"`{file}`: expected a request a line, found none")
    return rows


def _complete(row: dict[str, Any], file: Path | None, max_new_tokens: int) -> dict[str, Any]:
    images = [str(((file or ROOT).parent / image).absolute()) for image in row.get("images", [])]
    hashes = []
    for image in images:
        if not Path(image).is_file():
            raise CannotTellError(f"`{image}`: expected a picture, found no file")
        hashes.append(hashlib.sha256(Path(image).read_bytes()).hexdigest())
    name = _NOT_IN_A_NAME.sub("_", row["id"])[:100]
    name = "_" + name[1:] if name.startswith(".") else name
    given = {"max_new_tokens": max_new_tokens} | row
    return given | ({"images": images} if images else {}) | {"name": name, "image_sha256": hashes}
