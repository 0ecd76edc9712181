"""Which class of transformers, or of the checkpoint's own code, a checkpoint is loaded as."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from .._core import GoldenError
from .hooks import versions

#: The classes that answer in text, by what they are asked with; where two fit, the first is meant.
_PICTURES = ("AutoModelForImageTextToText", "AutoModelForVision2Seq", "AutoModelForMultimodalLM")
_TEXT = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
#: What a checkpoint's `auto_map` may name.
_OWN = ("AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForVision2Seq")
_OTHERWISE = (
    "`record` asks what transformers loads as AutoModelForImageTextToText, AutoModelForCausalLM or AutoModelForSeq2SeqLM; "
    "run any other model yourself, inside `with nvl_golden.record(model, out):`"
)


@dataclass(frozen=True)
class Chosen:
    """How a checkpoint is loaded and asked."""

    #: The class whose `from_pretrained` loads it.
    auto: Any
    #: Whether it is asked by a `chat` of its own.
    has_chat: bool


def choose_class(folder: Path, options: dict[str, Any]) -> Chosen:
    """The class that the checkpoint maps to its own code; otherwise transformers' own that answers in text.

    # Errors
    `GoldenError` if the installed transformers has no such class for the checkpoint's configuration.
    """
    configuration = _read(folder / "config.json")
    auto_map = configuration.get("auto_map") or {}
    for name in _OWN:
        if name in auto_map and hasattr(transformers, name):
            return Chosen(getattr(transformers, name), _has_chat(folder, auto_map[name], options))
    kind = configuration.get("model_type")
    if "AutoConfig" not in auto_map and kind not in transformers.CONFIG_MAPPING:
        known = f"expected one that {versions()} knows, or an `auto_map` to code in the checkpoint"
        found = "none" if kind is None else f"`{kind}`"
        error = GoldenError(f"`{folder / 'config.json'}`: `model_type`: {known}, found {found}")
        error.hint = "it may be a model of a newer transformers, or no checkpoint in the layout of transformers"
        raise error
    return Chosen(_answering(folder, transformers.AutoConfig.from_pretrained(folder, **options)), False)


def _answering(folder: Path, config: Any) -> Any:
    """The class that transformers has for a configuration and that can be asked."""
    text = reversed(_TEXT) if getattr(config, "is_encoder_decoder", False) else _TEXT
    fitting: dict[str, tuple[Any, Any]] = {}
    for name in (*_PICTURES, *text):
        auto = getattr(transformers, name, None)
        if auto is None or type(config) not in auto._model_mapping:
            continue
        kinds = auto._model_mapping[type(config)]
        for kind in kinds if isinstance(kinds, tuple | list) else [kinds]:
            fitting.setdefault(kind.__name__, (auto, kind))
    named = [name for name in getattr(config, "architectures", None) or () if isinstance(name, str)]
    # A configuration alone fits several: the decoder of Whisper is a language model of its own, and so is that of Bart.
    chosen = next((name for name in named if name in fitting), None)
    known = next((name for name in named if hasattr(transformers, name)), None)
    if chosen is None and known is None:
        chosen = next(iter(fitting), None)
    if chosen is None:
        raise _refused(folder, f"`{known or type(config).__name__}`")
    auto, kind = fitting[chosen]
    if not kind.can_generate():
        raise _refused(folder, f"`{chosen}`, which does not generate")
    if "input_ids" not in inspect.signature(kind.forward).parameters:
        raise _refused(folder, f"`{chosen}`, which is given `{kind.main_input_name}` and no `input_ids`")
    return auto


def _refused(folder: Path, found: str) -> GoldenError:
    error = GoldenError(f"`{folder}`: expected a model that is asked in text and answers in text, found {found}")
    error.hint = _OTHERWISE
    return error


def _has_chat(folder: Path, reference: Any, options: dict[str, Any]) -> bool:
    """Whether the class of the checkpoint's own code has a `chat`."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    return hasattr(get_class_from_dynamic_module(reference, folder, **options), "chat")


def _read(path: Path) -> dict[str, Any]:
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GoldenError(f"`{path}`: expected a configuration in JSON, found: {error}") from error
    if not isinstance(configuration, dict):
        raise GoldenError(f"`{path}`: expected a JSON object, found another kind of value")
    return configuration
