"""What keeps public code from running as asked, set aside while it runs, and told.

Three things make a checkpoint's own `chat` fail, or compute something other than asked, on a CPU or in float32: it moves its
inputs to CUDA, it casts to bfloat16 whatever was asked for (inputs, or whole modules while it makes them), and it asks for the
rank in a group of processes that nobody has started. Here these calls get another meaning for the time of a recording; every
one that is met is a sentence of the dump's `producer.deviations`.

What was asked for is the least precision: a cast to less is none, a cast to more is the code's own business. In bfloat16 no cast
is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from ..copies import dtype_name
from ..replaced import replace
from .dtypes import is_less_precise
from .hooks import REMOTE


@contextmanager
def neutralised(device: str, dtype: torch.dtype, deviations: list[str]) -> Iterator[None]:
    """Sets the hazards aside inside; appends to `deviations` what was met, once for each place in the code."""
    on_cpu = torch.device(device).type != "cuda"
    keeps = _Keeping(dtype)

    def met(sentence: str) -> None:
        if (whole := sentence.format(place=_place())) not in deviations:
            deviations.append(whole)

    with ExitStack() as stack:
        if on_cpu:
            _neutralise_cuda(stack, met)
        if on_cpu or keeps.anything:
            _neutralise_to(stack, met, on_cpu, keeps)
        if keeps.anything:
            _neutralise_casts(stack, met, keeps)
            _neutralise_default(stack, met, keeps)
        _neutralise_rank(stack, met)
        yield


class _Keeping:
    """Which casts are none in a run of some dtype: those of its tensors to half precision that is less precise."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.lost = frozenset(half for half in (torch.bfloat16, torch.float16) if is_less_precise(half, dtype))
        self.anything = bool(self.lost)

    def asked(self, tensor: torch.Tensor, value: Any) -> torch.dtype | None:
        """The dtype that a cast with this argument would lose precision to."""
        found = _dtype_of(value)
        return found if tensor.dtype == self.dtype and found in self.lost else None

    def sentence(self, lost: torch.dtype) -> str:
        return f"the cast to {dtype_name(lost)} in {{place}} is a cast to {dtype_name(self.dtype)}"


def _neutralise_cuda(stack: ExitStack, met: Callable[[str], None]) -> None:
    def stay(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        met("inputs are not moved to CUDA ({place})")
        return self

    replace(stack, torch.Tensor, "cuda", stay)


def _neutralise_to(stack: ExitStack, met: Callable[[str], None], on_cpu: bool, keeps: _Keeping) -> None:
    original = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        def allowed(value: Any) -> Any:
            if lost := keeps.asked(self, value):
                met(keeps.sentence(lost))
                return self if isinstance(value, torch.Tensor) else keeps.dtype
            if on_cpu and _is_cuda(value):
                met("inputs are not moved to CUDA ({place})")
                return self if isinstance(value, torch.Tensor) else self.device
            return value

        return original(self, *map(allowed, args), **{name: allowed(value) for name, value in kwargs.items()})

    replace(stack, torch.Tensor, "to", to)


def _neutralise_casts(stack: ExitStack, met: Callable[[str], None], keeps: _Keeping) -> None:
    def keep(original: Callable[..., Any], own: torch.dtype | None) -> Callable[..., Any]:
        def cast(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            values = (own, *args, *kwargs.values())
            if lost := next((lost for value in values if (lost := keeps.asked(self, value))), None):
                met(keeps.sentence(lost))
                return self
            return original(self, *args, **kwargs)

        return cast

    for name, own in (("bfloat16", torch.bfloat16), ("half", torch.float16), ("type", None), ("type_as", None)):
        replace(stack, torch.Tensor, name, keep(getattr(torch.Tensor, name), own))


def _neutralise_default(stack: ExitStack, met: Callable[[str], None], keeps: _Keeping) -> None:
    """Code that makes a part of its model in half precision, whatever was asked for, makes it as it was asked."""
    original = torch.set_default_dtype

    def set_default_dtype(dtype: torch.dtype) -> None:
        if dtype in keeps.lost and torch.get_default_dtype() == keeps.dtype:
            met(f"what {{place}} makes in {dtype_name(dtype)} is made in {dtype_name(keeps.dtype)}")
            return
        original(dtype)

    replace(stack, torch, "set_default_dtype", set_default_dtype)


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

        replace(stack, torch.distributed, name, answer)
        # Code that was loaded before has its own reference if it imported the function by name.
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith(REMOTE) and vars(module).get(name) is original:
                replace(stack, module, name, answer)


def _dtype_of(value: Any) -> torch.dtype | None:
    """The half precision that an argument of a cast stands for: a dtype, a tensor of it, or an old name of its tensors."""
    if isinstance(value, torch.Tensor):
        value = value.dtype
    names = {torch.bfloat16: ("BFloat16Tensor", torch.BFloat16Tensor), torch.float16: ("HalfTensor", torch.HalfTensor)}
    for half, (name, kind) in names.items():
        if value is half or value is kind or (isinstance(value, str) and value == f"torch.{name}"):
            return half
    return None


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
        if name.startswith(REMOTE):
            return f"`{Path(file).name}`, line {frame.f_lineno}"
        if outside is None and not file.startswith(torch_folder) and not name.startswith("nvl_golden."):
            outside = f"`{Path(file).name}`, line {frame.f_lineno}"
        frame = frame.f_back
    return outside or "unknown code"
