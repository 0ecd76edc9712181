"""Loading a Hugging Face checkpoint with its own code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from .._core import GoldenError
from .classes import Chosen, choose_class
from .dtypes import move_back
from .hooks import check_hooks
from .processors import load_processor
from .source import Source
from .weights import Stored, fill_in

#: Attention that needs CUDA, by the beginning of its name.
_CUDA_ATTENTION = "flash_attention"


@dataclass
class Loaded:
    """A checkpoint, ready to be asked."""

    model: Any
    tokenizer: Any
    #: What the checkpoint's own `chat` is given pictures through.
    image_processor: Any | None
    #: What a model without `chat` is asked through, if it has more than a tokenizer.
    processor: Any | None = None


def load(
    source: Source,
    dtype: torch.dtype,
    device: str,
    attention: str | None,
    trust: bool,
    deviations: list[str],
    *,
    pictures: bool = True,
) -> Loaded:
    """Loads configuration, model and tokenizer, and what processes `pictures` if there are some.

    Nothing in the model is less precise than `dtype`.

    # Errors
    `GoldenError` if the checkpoint cannot be asked; if parameters are missing from it, which would have random values; if its
    image processor was written for another version of transformers.
    """
    options: dict[str, Any] = {"trust_remote_code": trust}
    # Before gigabytes are loaded.
    chosen = choose_class(source.folder, options)
    image_processor = tokenizer = processor = None
    if not chosen.has_chat:
        tokenizer, processor = load_processor(source.folder, pictures, options)
    elif pictures:
        image_processor = _image_processor(source.folder, device, options)
    model, info = _load_model(chosen, source.folder, dtype, device, attention, options, deviations)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    missing = sorted(name for name in info.get("missing_keys", ()) if name in parameters)
    if missing:
        names = ", ".join(f"`{name}`" for name in missing[:3]) + (", …" if len(missing) > 3 else "")
        raise GoldenError(f"`{source.folder}`: expected every parameter, found {len(missing)} missing: {names}")
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(torch.device(device))
    stored = Stored(source.folder)
    fill_in(model, stored, deviations)
    move_back(model, dtype, stored, deviations)
    model = model.to(device).eval()
    if tokenizer is None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.folder, **options)
    return Loaded(model, tokenizer, image_processor, processor)


def _image_processor(folder: Path, device: str, options: dict[str, Any]) -> Any | None:
    if not (folder / "preprocessor_config.json").is_file():
        return None
    processor = transformers.AutoImageProcessor.from_pretrained(folder, device=device, **options)
    check_hooks(processor, folder)
    return processor


def _load_model(
    chosen: Chosen,
    folder: Path,
    dtype: torch.dtype,
    device: str,
    attention: str | None,
    options: dict[str, Any],
    deviations: list[str],
) -> tuple[Any, dict[str, Any]]:
    """The model, and what loading it found, with the attention that is asked for wherever that is possible."""
    dtype_option = "dtype" if _version() >= (4, 56) else "torch_dtype"
    for only_text in (False, True):
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        _choose_attention(config, device, attention, only_text, deviations)
        try:
            return chosen.auto.from_pretrained(
                folder, config=config, output_loading_info=True, **{dtype_option: dtype}, **options
            )
        except ValueError:
            # A model may refuse an attention that the language model in it has: it is then asked for in that one alone.
            if attention is None or only_text:
                raise
    raise AssertionError


def _choose_attention(config: Any, device: str, attention: str | None, only_text: bool, deviations: list[str]) -> None:
    """Sets what was asked for; on a CPU, eager attention in place of what needs CUDA, in whatever is inside as well.

    With `only_text` it is asked for where there is a vocabulary, and everything else is left to transformers.
    """
    found = [getattr(config, field, None) for field in ("attn_implementation", "_attn_implementation")]
    needs_cuda = next((name for name in found if isinstance(name, str) and name.startswith(_CUDA_ATTENTION)), None)
    if attention is None and needs_cuda and torch.device(device).type != "cuda":
        attention = "eager"
        sentence = f"attention is eager, because the checkpoint's {needs_cuda} needs CUDA"
        if sentence not in deviations:
            deviations.append(sentence)
    if attention is not None:
        chosen = attention if not only_text or hasattr(config, "vocab_size") else None
        config._attn_implementation = chosen
        if hasattr(config, "attn_implementation"):
            config.attn_implementation = chosen
    for value in list(vars(config).values()):
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            _choose_attention(value, device, attention, only_text, deviations)


def _version() -> tuple[int, int]:
    major, minor = transformers.__version__.split(".")[:2]
    return int(major), int(minor)
