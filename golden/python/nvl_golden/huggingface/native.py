"""Asking a model without a `chat` of its own: transformers' processor, chat template and `generate`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import transformers

from .._core import GoldenError
from ..outputs import tensors_of
from ..recorder import Recorder
from ..replaced import replace
from ..requests import Request
from .conversation import TAG, Conversation, render
from .pictures import open_pictures
from .processors import takes_pictures

if TYPE_CHECKING:
    from .checkpoint import Loaded

#: Where to begin and to end is the checkpoint's own affair in any recording.
_KEPT = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
#: What makes `generate` take another token than the most likely one, with the values of no effect.
_CHOOSING: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1),
    "encoder_repetition_penalty": (None, 1),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "guidance_scale": (None, 1),
    "penalty_alpha": (None, 0),
    "bad_words_ids": (None, []),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "sequence_bias": (None, {}, []),
    "exponential_decay_length_penalty": (None,),
}


def generate(loaded: Loaded, request: Request, recorder: Recorder, deviations: list[str]) -> None:
    """Asks a model, and records what its processor makes of the request, under the processor's own names.

    # Errors
    `GoldenError` if the checkpoint cannot be asked this: a system prompt or earlier turns without a chat template, pictures
    that its processor has no place for.
    """
    model = loaded.model
    described, pictures = open_pictures(request)
    recorder.request = request.manifest(described)
    given = _inputs(loaded, request, pictures)
    taken = _taken(model)
    for name in [name for name in given if name not in taken]:
        del given[name]
        gives = type(loaded.tokenizer if loaded.processor is None else loaded.processor).__name__
        deviations.append(f"`{name}`, which `{gives}` gives, is left out: the model does not take it")
    for name, value in given.items():
        # `generate` is listened to for the prompt's ids.
        if name != "input_ids":
            for path, tensor in tensors_of(value):
                recorder.add(f"{name}.{path}" if path else name, tensor, role="input")
    device = next(model.parameters()).device
    moved = {name: _moved(value, device, getattr(model, "dtype", None)) for name, value in given.items()}
    with _most_likely(model, deviations):
        model.generate(**moved, max_new_tokens=request.max_new_tokens, do_sample=False)


def _inputs(loaded: Loaded, request: Request, pictures: list[Any]) -> dict[str, Any]:
    """What the processor, or the tokenizer where there is no processor, makes of a request."""
    asked = loaded.tokenizer if loaded.processor is None else loaded.processor
    conversation = Conversation(request, pictures, takes_pictures(loaded.processor))
    image_token = getattr(loaded.processor, "image_token", None)
    image_token = image_token if isinstance(image_token, str) else None
    template = _template(asked, loaded.tokenizer)
    if template is None:
        if request.system is not None or request.history:
            raise GoldenError("expected a chat template for a system prompt or a history, found none in the checkpoint")
        return _without_template(asked, conversation, request.prompt, pictures, image_token)
    messages, text, has_pictures = render(asked, template, conversation, request.system, image_token)
    try:
        if has_pictures or not pictures:
            options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
            return dict(asked.apply_chat_template(messages, chat_template=template, **options))
        begins = loaded.tokenizer.bos_token is not None and text.startswith(loaded.tokenizer.bos_token)
        return dict(asked(text=text, images=pictures, return_tensors="pt", add_special_tokens=not begins))
    except (TypeError, ValueError) as error:
        raise _not_taken(asked, error) from error


def _without_template(
    asked: Any, conversation: Conversation, prompt: str, pictures: list[Any], image_token: str | None
) -> dict[str, Any]:
    """What is made of a plain text: the prompt as it is, and with the tokens of the pictures where it needs them."""
    texts = [prompt]
    if pictures and image_token is not None:
        texts.append(conversation.text(image_token))
    images = {"images": pictures} if pictures else {}
    token = getattr(asked, "image_token_id", None) if image_token is not None else None
    refusal: Exception = ValueError("no place for a picture in the prompt")
    for text in texts:
        try:
            given = dict(asked(text=text, **images, return_tensors="pt"))
        except (TypeError, ValueError) as error:
            refusal = error
            continue
        if not pictures or token is None or bool((given["input_ids"] == token).any()):
            return given
    raise _not_taken(asked, refusal) from refusal


def _not_taken(asked: Any, found: Exception) -> GoldenError:
    error = GoldenError(f"expected a request that `{type(asked).__name__}` takes, found: {found}")
    error.hint = f"a tag `{TAG}` in the prompt is the place of a picture; without tags, pictures come before the prompt"
    return error


def _template(asked: Any, tokenizer: Any) -> str | None:
    """The chat template of a processor, or else of its tokenizer; the one named `default` of several."""
    for holder in (asked, tokenizer):
        template = getattr(holder, "chat_template", None)
        if isinstance(template, Mapping):
            template = template.get("default")
        if isinstance(template, str) and template:
            return template
    return None


def _taken(model: Any) -> set[str]:
    """What `generate` of a model takes besides its options: transformers refuses anything else."""
    kind = type(model)
    methods = (kind.prepare_inputs_for_generation, kind.forward, kind.generate)
    names = {name for method in methods for name in inspect.signature(method).parameters}
    # A processor may give these for training.
    return names - {"labels"}


def _moved(value: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """An input on the model's device; what is not of whole numbers in the model's dtype, too."""
    if isinstance(value, torch.Tensor):
        return value.to(device, dtype) if value.is_floating_point() and dtype is not None else value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device, dtype) for item in value)
    return value


@contextmanager
def _most_likely(model: torch.nn.Module, deviations: list[str]) -> Iterator[None]:
    """Inside, `generate` of the model and its parts takes the most likely token, whatever the checkpoint's generation
    configuration says; what of it would have made a difference is a sentence of `deviations`."""
    with ExitStack() as stack:
        for module in model.modules():
            own = getattr(module, "generation_config", None)
            if not isinstance(own, transformers.GenerationConfig):
                continue
            for name, neutral in _CHOOSING.items():
                if (value := getattr(own, name, None)) not in neutral:
                    sentence = f"the checkpoint's generation configuration has `{name}` {value}, which is not applied"
                    deviations += [] if sentence in deviations else [sentence]
            plain = transformers.GenerationConfig(**{name: getattr(own, name, None) for name in _KEPT})
            replace(stack, module, "generation_config", plain)
        yield
