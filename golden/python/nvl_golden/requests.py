"""What a checkpoint is asked: one request, or a file of them, read and checked before anything is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._core import GoldenError

#: The fields of a request's row that a recording follows.
_FIELDS = ("id", "system", "prompt", "turns", "images", "max_new_tokens")
#: What rows of `nvl-reference run` may have besides, with the values that change nothing: a recording's tokens are the most
#: likely ones, and it has the pictures that it was given.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "videos": ([],),
    "num_frames": (8,),
    "temperature": (0,),
    "top_k": (None,),
    "top_p": (1,),
    "repetition_penalty": (1,),
    "seed": (0,),
    "eos_token_ids": ([],),
    "stop": ([],),
    "logprobs": (None,),
}
#: What a file's name may have of an id; the rest becomes `_`.
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME = 100


@dataclass(frozen=True)
class Request:
    """What is asked."""

    prompt: str
    images: Sequence[Path] = ()
    system: str | None = None
    #: Earlier questions with their answers.
    history: Sequence[tuple[str, str]] = ()
    max_new_tokens: int = 512
    #: What it is called, in a file of several.
    id: str | None = None

    def manifest(self, images: list[dict[str, Any]]) -> dict[str, Any]:
        """As a dump's manifest describes it."""
        turns: list[dict[str, str]] = [{"user": user, "assistant": assistant} for user, assistant in self.history]
        return {
            "system": self.system,
            "turns": [*turns, {"user": self.prompt}],
            "images": images,
            "max_new_tokens": self.max_new_tokens,
            "do_sample": False,
        }

    def check_images(self) -> None:
        """Refuses a picture that is no file.

        # Errors
        `GoldenError` that names it.
        """
        for image in self.images:
            if not image.is_file():
                raise GoldenError(f"`{image}`: expected a picture, found no file")


def dump_name(id: str) -> str:
    """The name of the folder of a request's dump: the harmless characters of its id, not hidden."""
    name = _NOT_IN_A_NAME.sub("_", id)[:_MAX_NAME]
    return "_" + name[1:] if name.startswith(".") else name


def read_history(path: Path) -> list[tuple[str, str]]:
    """Earlier turns: a JSON list of objects with `user` and `assistant`.

    # Errors
    `GoldenError` if the file cannot be read, or is not such a list.
    """

    def refused(found: str) -> GoldenError:
        return GoldenError(f"`{path}`: expected a JSON list of objects with `user` and `assistant`, found {found}")

    try:
        turns = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refused(str(error)) from error
    if not isinstance(turns, list):
        raise refused(f"`{type(turns).__name__}`")
    history = []
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict) or set(turn) != {"user", "assistant"}:
            raise refused(f"something else at index {index}")
        if not all(isinstance(text, str) for text in turn.values()):
            raise refused(f"something other than texts at index {index}")
        history.append((turn["user"], turn["assistant"]))
    return history


def read_requests(path: Path, max_new_tokens: int) -> list[Request]:
    """The requests of a file of JSON Lines, in the form that `nvl-reference run` reads; `max_new_tokens` where a row has none.

    # Errors
    `GoldenError` that names file, line and field, for a row that is none, asks for what a recording does not do, or whose
    dump would have the name of another's.
    """
    # A pipe would not end.
    if not path.is_file():
        raise GoldenError(f"`{path}`: expected a file of requests, found no file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GoldenError(f"`{path}`: expected a file of requests, found: {error.strerror}") from error
    requests: list[Request] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"`{path}`, line {number}"
        request = _request(_row(line, where), str(number), path.parent, max_new_tokens, where)
        name = dump_name(request.id or "")
        if name in lines:
            found = f"the name of line {lines[name]}: `{name}`"
            raise GoldenError(f"{where}: `id`: expected a unique name for the dump, found {found}")
        lines[name] = number
        requests.append(request)
    if not requests:
        raise GoldenError(f"`{path}`: expected a request a line, found none")
    return requests


def _row(line: bytes, where: str) -> dict[str, Any]:
    expected = f"{where}: expected a request as a JSON object, found"
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise GoldenError(f"{expected} the byte 0x{line[error.start]:02x}, which is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise GoldenError(f"{expected} something else: {error}") from None
    if not isinstance(row, dict):
        raise GoldenError(f"{expected} another kind of value")
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"`{next(name for name in names if names.count(name) > 1)}` twice")
    return row


def _request(row: dict[str, Any], id: str, folder: Path, max_new_tokens: int, where: str) -> Request:
    def refused(field: str, expected: str, found: object) -> GoldenError:
        return GoldenError(f"{where}: `{field}`: expected {expected}, found {found}")

    def text(field: str) -> str | None:
        value = row.get(field)
        if value is not None and not isinstance(value, str):
            raise refused(field, "a text", f"`{json.dumps(value)}`")
        if value is not None and re.search("[\ud800-\udfff]", value):
            raise refused(field, "a text in Unicode", "half of a character")
        return value

    for field, value in row.items():
        if field in _FIELDS:
            continue
        if field not in _NEUTRAL:
            known = ", ".join(f"`{name}`" for name in _FIELDS)
            raise GoldenError(f"{where}: expected one of the fields {known}, found `{field}`")
        if value not in _NEUTRAL[field]:
            raise refused(field, "what changes nothing in a recording", f"`{json.dumps(value)}`")
    id = text("id") or id
    history, prompt = _turns(row, text("prompt"), where)
    images = row.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
        raise refused("images", "a list of files", f"`{json.dumps(images)}`")
    tokens = row.get("max_new_tokens", max_new_tokens)
    if type(tokens) is not int or tokens < 1:
        raise refused("max_new_tokens", "a number from 1 on", f"`{json.dumps(tokens)}`")
    return Request(prompt, [folder / image for image in images], text("system"), history, tokens, id)


def _turns(row: dict[str, Any], prompt: str | None, where: str) -> tuple[list[tuple[str, str]], str]:
    """The earlier turns and the question."""
    turns = row.get("turns") or []
    if (prompt is None) == (not turns):
        found = "both" if turns else "neither"
        raise GoldenError(f"{where}: expected `prompt` or `turns`, found {found}")
    if prompt is not None:
        return [], prompt
    if not isinstance(turns, list):
        raise GoldenError(f"{where}: `turns`: expected a list, found `{json.dumps(turns)}`")
    history = []
    for index, turn in enumerate(turns):
        is_last = index == len(turns) - 1
        answer = turn.get("assistant") if isinstance(turn, dict) else None
        fields = {"user"} if is_last else {"user", "assistant"}
        expected = "`user` alone" if is_last else "`user` and `assistant`"
        if not isinstance(turn, dict) or {name for name, value in turn.items() if value is not None} != fields:
            raise GoldenError(f"{where}: `turns`: expected {expected} at index {index}, found something else")
        if not all(isinstance(turn[field], str) for field in fields):
            raise GoldenError(f"{where}: `turns`: expected texts at index {index}, found something else")
        history.append((turn["user"], answer))
    return history[:-1], turns[-1]["user"]
