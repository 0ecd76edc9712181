"""The pictures of a request, as a processor takes them and as a manifest describes them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from .._core import GoldenError
from ..requests import Request

if TYPE_CHECKING:
    from PIL.Image import Image


def open_pictures(request: Request) -> tuple[list[dict[str, Any]], list[Image]]:
    """What the manifest says of each picture, and the pictures.

    # Errors
    `GoldenError` for a file that is no picture.
    """
    if not request.images:
        return [], []
    from PIL import Image

    described, pictures = [], []
    for path in request.images:
        try:
            data = path.read_bytes()
            picture = Image.open(path)
            picture.load()
        except OSError as error:
            raise GoldenError(f"`{path}`: expected a picture, found: {error}") from error
        width, height = picture.size
        sha256 = hashlib.sha256(data).hexdigest()
        described.append({"file": path.name, "width": width, "height": height, "sha256": sha256})
        pictures.append(picture)
    return described, pictures
