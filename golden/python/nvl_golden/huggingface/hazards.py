"""What keeps public code from running as asked, set aside while it runs, and told.

Three things make a checkpoint's own `chat` fail, or compute something other than asked, on a CPU or in float32: it moves its
inputs to CUDA, it casts to bfloat16 whatever was asked for, and it asks for the rank in a group of processes that nobody has
started. Here these calls get another meaning for the time of a recording; every one that is met is a sentence of the dump's
`producer.deviations`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def neutralised(device: str, dtype: torch.dtype, deviations: list[str]) -> Iterator[None]:
    """Sets the hazards aside inside; appends to `deviations` what was met, once for each place in the code."""
    on_cpu = torch.device(device).type != "cuda"
    keep_float32 = dtype == torch.float32

    def met(sentence: str) -> None:
        if (whole := sentence.format(place=_place())) not in deviations:
            deviations.append(whole)

    with ExitStack() as stack:
        if on_cpu:
            _neutralise_cuda(stack, met)
        if on_cpu or keep_float32:
            _neutralise_to(stack, met, on_cpu, keep_float32)
        if keep_float32:
            _neutralise_bfloat16(stack, met)
        _neutralise_rank(stack, met)
        yield


def _neutralise_cuda(stack: ExitStack, met: Callable[[str], None]) -> None:
    def stay(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        met("inputs are not moved to CUDA ({place})")
        return self

    _replace(stack, torch.Tensor, "cuda", stay)


def _neutralise_to(stack: ExitStack, met: Callable[[str], None], on_cpu: bool, keep_float32: bool) -> None:
    original = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        def allowed(value: Any) -> Any:
            if keep_float32 and self.dtype == torch.float32 and _is_bfloat16(value):
                met("the cast to bfloat16 in {place} is a cast to float32")
                return self if isinstance(value, torch.Tensor) else torch.float32
            if on_cpu and _is_cuda(value):
                met("inputs are not moved to CUDA ({place})")
                return self if isinstance(value, torch.Tensor) else self.device
            return value

        return original(self, *map(allowed, args), **{name: allowed(value) for name, value in kwargs.items()})

    _replace(stack, torch.Tensor, "to", to)


def _neutralise_bfloat16(stack: ExitStack, met: Callable[[str], None]) -> None:
    def keep(original: Callable[..., Any]) -> Callable[..., Any]:
        def cast(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            to_bfloat16 = original is bfloat16 or any(map(_is_bfloat16, (*args, *kwargs.values())))
            if self.dtype == torch.float32 and to_bfloat16:
                met("the cast to bfloat16 in {place} is a cast to float32")
                return self
            return original(self, *args, **kwargs)

        return cast

    bfloat16 = torch.Tensor.bfloat16
    for name in ("bfloat16", "type", "type_as"):
        _replace(stack, torch.Tensor, name, keep(getattr(torch.Tensor, name)))


def _neutralise_rank(stack: ExitStack, met: Callable[[str], None]) -> None:
    if not torch.distributed.is_available() or torch.distributed.is_initialized():
        return
    for name, alone in (("get_rank", 0), ("get_world_size", 1)):
        original = getattr(torch.distributed, name)
        what = name.removeprefix("get_").replace("_", " ")
        sentence = f"the {what} of torch.distributed is {alone} in {{place}}, without a group of processes"

        def answer(
            *args: Any, original: Any = original, alone: int = alone, sentence: str = sentence, **kwargs: Any
        ) -> int:
            if torch.distributed.is_initialized():
                return original(*args, **kwargs)
            met(sentence)
            return alone

        _replace(stack, torch.distributed, name, answer)
        # Code that was loaded before has its own reference if it imported the function by name.
        for module in list(sys.modules.values()):
            if (
                getattr(module, "__name__", "").startswith("transformers_modules.")
                and vars(module).get(name) is original
            ):
                _replace(stack, module, name, answer)


def _replace(stack: ExitStack, holder: Any, name: str, replacement: Any) -> None:
    own = name in vars(holder)
    before = getattr(holder, name)
    setattr(holder, name, replacement)
    # `cuda` and its like belong to a base class of `Tensor`: the replacement is then taken away, not overwritten.
    stack.callback(lambda: setattr(holder, name, before) if own else delattr(holder, name))


def _is_bfloat16(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.dtype == torch.bfloat16
    if isinstance(value, str):
        return value == "torch.BFloat16Tensor"
    return value is torch.bfloat16 or value is torch.BFloat16Tensor


def _is_cuda(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_cuda
    return isinstance(value, str | torch.device) and torch.device(value).type == "cuda"


def _place() -> str:
    """The file and line of the checkpoint's code, or of whoever else is first outside torch."""
    torch_folder = str(Path(torch.__file__).parent)
    frame = sys._getframe(1)
    outside = None
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_globals.get("__name__", "")
        if name.startswith("transformers_modules."):
            return f"`{Path(file).name}`, line {frame.f_lineno}"
        if outside is None and not file.startswith(torch_folder) and not name.startswith("nvl_golden."):
            outside = f"`{Path(file).name}`, line {frame.f_lineno}"
        frame = frame.f_back
    return outside or "unknown code"
