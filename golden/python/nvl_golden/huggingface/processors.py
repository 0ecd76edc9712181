"""What makes a model's inputs of a request: transformers' processor of a checkpoint, or its tokenizer alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from .._core import GoldenError
from .hooks import check_hooks

#: What transformers makes a processor from; a checkpoint without them has a tokenizer alone.
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def load_processor(folder: Path, pictures: bool, options: dict[str, Any]) -> tuple[Any, Any | None]:
    """The tokenizer, and the processor around it where the checkpoint has one.

    # Errors
    `GoldenError` if there is no tokenizer, or there are `pictures` and nothing that takes them.
    """
    processor = None
    if any((folder / name).is_file() for name in _PROCESSOR_FILES):
        processor = transformers.AutoProcessor.from_pretrained(folder, **options)
        if isinstance(processor, transformers.PreTrainedTokenizerBase):
            return _with_pictures(folder, processor, None, pictures)
        check_hooks(processor, folder)
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None:
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        except (OSError, ValueError) as error:
            found = f"none that transformers loads: {str(error).splitlines()[0] if str(error) else error!r}"
            raise GoldenError(f"`{folder}`: expected a tokenizer, found {found}") from error
        processor = None
    return _with_pictures(folder, tokenizer, processor, pictures)


def _with_pictures(folder: Path, tokenizer: Any, processor: Any | None, pictures: bool) -> tuple[Any, Any | None]:
    if pictures and not takes_pictures(processor):
        found = f"`{type(tokenizer if processor is None else processor).__name__}`"
        raise GoldenError(f"images: `{folder}`: expected a checkpoint whose processor takes pictures, found {found}")
    image_processor = getattr(processor, "image_processor", None)
    if image_processor is not None:
        check_hooks(image_processor, folder)
    return tokenizer, processor


def takes_pictures(processor: Any | None) -> bool:
    """Whether a processor has a part for pictures."""
    return getattr(processor, "image_processor", None) is not None
