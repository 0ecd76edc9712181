"""Asking a checkpoint as its own code does, and recording what it computes on the way."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from .._core import GoldenError
from ..recorder import Recorder
from ..requests import Request
from . import native
from .checkpoint import Loaded
from .pictures import open_pictures


@dataclass
class _Trace:
    """What is seen of a generation."""

    #: The prompt's ids, as the outermost `generate` was given them.
    input_ids: torch.Tensor | None = None
    step_logits: list[torch.Tensor] = field(default_factory=list)
    generated_ids: list[int] | None = None
    #: The texts that were tokenised.
    texts: list[str] = field(default_factory=list)
    #: How many calls of `generate` are under way.
    depth: int = 0


def ask(loaded: Loaded, request: Request, recorder: Recorder, deviations: list[str] | None = None) -> str:
    """Runs the checkpoint's own `chat`, or `generate` where it has none, under an entered recorder; the answer.

    The activations are those of the prefill, or of the steps that the recorder was asked for; `step_logits` has every step.
    `deviations` gets a sentence for each thing of the checkpoint's that was not done.

    # Errors
    `GoldenError` if the checkpoint cannot be asked this, such as a system prompt that its `chat` does not take.
    """
    model = loaded.model
    trace = _Trace()
    chat = getattr(model, "chat", None)
    with _traced(loaded, recorder, trace), torch.inference_mode():
        if chat is not None:
            images, features = _pictures(loaded, request)
            recorder.request = request.manifest(images)
            if features.get("pixel_values") is not None:
                recorder.add("pixel_values", _joined(features["pixel_values"]), role="input")
            text = chat(**_chat_arguments(chat, loaded, request, features))
            text = text[0] if isinstance(text, tuple) else text
        else:
            native.generate(loaded, request, recorder, [] if deviations is None else deviations)
            text = loaded.tokenizer.decode(trace.generated_ids or [], skip_special_tokens=True).strip()
    if trace.generated_ids is None or not trace.step_logits:
        raise GoldenError("expected the checkpoint's code to call `generate`, found no such call")
    if len(trace.step_logits) != len(trace.generated_ids):
        found = f"{len(trace.generated_ids)} tokens from {len(trace.step_logits)} passes"
        raise GoldenError(f"expected a token from each forward pass, found {found}")
    recorder.add("step_logits", torch.stack(trace.step_logits), role="output")
    recorder.generated_ids = trace.generated_ids
    recorder.text = str(text)
    recorder.prompt = _prompt(loaded.tokenizer, trace)
    return recorder.text


def _pictures(loaded: Loaded, request: Request) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the manifest says of the pictures, and what the checkpoint's processor makes of them."""
    if not request.images:
        return [], {}
    if loaded.image_processor is None:
        raise GoldenError("images: expected a checkpoint with a `preprocessor_config.json`, found none")
    described, pictures = open_pictures(request)
    features = dict(loaded.image_processor(pictures))
    for image, count in zip(described, _tiles(loaded.model.chat, features, len(pictures)), strict=False):
        image["tiles"] = count
    return described, features


def _tiles(chat: Any, features: dict[str, Any], pictures: int) -> list[int]:
    """How many tiles each picture has: what `chat` is given that has a number for each picture and accounts for all tiles.

    Its name is the checkpoint's own affair (`num_patches`, `num_patches_list`). Empty if there is no such thing.
    """
    pixel_values = features.get("pixel_values")
    if pixel_values is None:
        return []
    total = len(_joined(pixel_values))
    for name, value in features.items():
        if name == "pixel_values" or name not in inspect.signature(chat).parameters:
            continue
        counts = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(counts, list | tuple) or len(counts) != pictures:
            continue
        if all(isinstance(count, int) for count in counts) and sum(counts) == total:
            return list(counts)
    return [total] if pictures == 1 else []


def _chat_arguments(chat: Any, loaded: Loaded, request: Request, features: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `chat` by the names that its signature has."""
    parameters = inspect.signature(chat).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    generation = {"max_new_tokens": request.max_new_tokens, "do_sample": False}
    if (eos := getattr(loaded.tokenizer, "eos_token_id", None)) is not None:
        generation["eos_token_id"] = eos
    arguments: dict[str, Any] = {"tokenizer": loaded.tokenizer, "question": request.prompt}
    arguments |= {"generation_config": generation}
    arguments |= {name: value for name, value in features.items() if name in parameters}
    if "pixel_values" in parameters:
        arguments.setdefault("pixel_values", None)
    if request.history:
        arguments["history"] = [tuple(turn) for turn in request.history]
    if request.system is not None:
        name = next(
            (name for name in ("system_prompt", "system_message", "system") if name in parameters), "system_prompt"
        )
        arguments[name] = request.system
    unknown = [name for name in arguments if name not in parameters]
    if unknown and not takes_any:
        takes = ", ".join(f"`{name}`" for name in parameters)
        raise GoldenError(f"`chat`: expected a parameter `{unknown[0]}`, found {takes}")
    return arguments


@contextmanager
def _traced(loaded: Loaded, recorder: Recorder, trace: _Trace) -> Iterator[None]:
    """Listens to every `generate` of the model and its parts, and to the tokenizer."""
    with ExitStack() as stack:
        for module in loaded.model.modules():
            generate = getattr(module, "generate", None)
            if callable(generate):
                object.__setattr__(module, "generate", _listening(module, generate, recorder, trace))
                stack.callback(vars(module).pop, "generate", None)
        _listen_to_tokenizer(stack, loaded.tokenizer, trace)
        yield


def _listening(module: torch.nn.Module, generate: Any, recorder: Recorder, trace: _Trace) -> Any:
    def listening(*args: Any, **kwargs: Any) -> Any:
        input_ids = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs"))
        input_ids = input_ids if isinstance(input_ids, torch.Tensor) else None
        if trace.depth == 0 and input_ids is not None:
            trace.input_ids = input_ids.detach().clone()
            recorder.add("input_ids", input_ids, role="input")
        trace.depth += 1
        steps: list[torch.Tensor] = []

        def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            embeds = kwargs.get("inputs_embeds")
            if not steps and isinstance(embeds, torch.Tensor):
                recorder.add("inputs_embeds", embeds, module="merged text and image embeddings")

        def after(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if not steps and not recorder.tells_steps:
                recorder.pause()
            logits = output.logits if hasattr(output, "logits") else output[0]
            steps.append(logits[0, -1].detach().to("cpu", torch.float32, copy=True))

        handles = [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]
        try:
            result = generate(*args, **kwargs)
        finally:
            trace.depth -= 1
            for handle in handles:
                handle.remove()
        # The innermost call is the one that runs the language model step by step.
        if steps and not trace.step_logits:
            trace.step_logits = steps
            sequences = result if isinstance(result, torch.Tensor) else result.sequences
            # What stands before the answer is the prompt, or the token that a decoder begins with, or nothing.
            trace.generated_ids = [int(token) for token in sequences[0, -len(steps) :]]
        return result

    return listening


def _listen_to_tokenizer(stack: ExitStack, tokenizer: Any, trace: _Trace) -> None:
    """Keeps the texts that a tokenizer is called with. A call is looked up in the class, so the object gets one of its own."""
    original = type(tokenizer)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        text = args[0] if args else kwargs.get("text")
        texts = [text] if isinstance(text, str) else text if isinstance(text, list) else []
        trace.texts += [text for text in texts if isinstance(text, str)]
        return original.__call__(self, *args, **kwargs)

    listening = type(original.__name__, (original,), {"__call__": call, "__module__": original.__module__})
    tokenizer.__class__ = listening
    stack.callback(setattr, tokenizer, "__class__", original)


def _prompt(tokenizer: Any, trace: _Trace) -> str | None:
    """The text whose ids the model was given; decoded from them if none of the texts that were seen is it."""
    if trace.input_ids is None:
        return trace.texts[-1] if trace.texts else None
    ids = trace.input_ids[0].tolist()
    for text in reversed(trace.texts):
        if ids in (tokenizer(text, add_special_tokens=special)["input_ids"] for special in (False, True)):
            return text
    return tokenizer.decode(ids, skip_special_tokens=False)


def _joined(pixel_values: Any) -> torch.Tensor:
    """The tiles of all pictures in one tensor."""
    if isinstance(pixel_values, torch.Tensor):
        return pixel_values
    return torch.cat([torch.as_tensor(tiles) for tiles in pixel_values])
