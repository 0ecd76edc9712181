"""From a tensor on any device to a copy whose bytes lie in the processor's memory in row-major order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from ._core import GoldenError
from .rows import Rows, entry_fields

if TYPE_CHECKING:
    import torch

#: The element types of a dump; each is torch's own name.
DTYPES = frozenset(_core.DTYPES)


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype's name without `torch.`."""
    return str(dtype).removeprefix("torch.")


class Copy(NamedTuple):
    """A tensor as it was when it was copied."""

    dtype: str
    shape: tuple[int, ...]
    #: Its bytes: uint8 `[bytes]`.
    host: torch.Tensor
    #: What the entry says besides.
    extra: dict[str, Any]
    #: Recorded behind the copy on the device's stream; none if the bytes are there already.
    event: Any


def copy_of(name: str, tensor: torch.Tensor, rows: Rows | None) -> Copy:
    """Copies a tensor, or some rows of it.

    # Errors
    `GoldenError`, with the name, for a tensor that has no memory of its own (sparse, quantized, meta, fake, inside `vmap`, …) or
    that torch cannot copy.
    """
    import torch

    _check(name, tensor)
    try:
        dtype, shape, host, extra, event = _copy(tensor, rows)
    except (RuntimeError, TypeError, ValueError) as error:
        # It comes out of the user's own call of the model, and is to say where.
        raise GoldenError(f"tensor `{name}`: expected one that can be copied, found: {error}") from error
    if (found := _missing_memory(host)) is not None:
        raise _refusal(name, found)
    return Copy(dtype, shape, host.reshape(-1).view(torch.uint8), extra, event)


@contextmanager
def unobserved() -> Iterator[None]:
    """Operations inside are those of plain tensors: no mode or subclass of the user's sees them or changes what they do."""
    import torch
    from torch.utils._python_dispatch import _disable_current_modes

    with ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.no_grad())
        if torch._C._len_torch_dispatch_stack():
            stack.enter_context(_disable_current_modes() if _user_has_modes() else _not_followed())
        yield


def _user_has_modes() -> bool:
    import torch

    from .flow import Follower

    if torch._C._len_torch_dispatch_stack() > 1:
        return True
    return not isinstance(torch._C._get_dispatch_stack_at(0), Follower)


@contextmanager
def _not_followed() -> Iterator[None]:
    """Takes the one mode that is on away for a while. Torch's own way to do so costs more than a small copy."""
    import torch

    mode = torch._C._pop_torch_dispatch_stack(None)
    try:
        yield
    finally:
        torch._C._push_on_torch_dispatch_stack(mode)


def _copy(tensor: torch.Tensor, rows: Rows | None) -> tuple[str, tuple[int, ...], torch.Tensor, dict[str, Any], Any]:
    import torch

    extra: dict[str, Any] = {}
    tensor = tensor.detach()
    if tensor.has_names():
        tensor = tensor.rename(None)
    dtype, tensor = _representable(tensor, extra)
    axis = rows.axis(tensor.shape) if rows else None
    is_copy = False
    if rows is not None and axis is not None:
        kept = rows.of(tensor.shape[axis])
        if len(kept) < tensor.shape[axis]:
            extra |= entry_fields(rows, axis, tensor.shape[axis])
            tensor = tensor.index_select(axis, torch.tensor(kept, device=tensor.device))
            is_copy = True
    host, event = _to_host(tensor, is_copy)
    return dtype, tuple(tensor.shape), host, extra, event


def _check(name: str, tensor: torch.Tensor) -> None:
    import torch

    found = None
    if (wrapper := _functorch_wrapper(tensor)) is not None:
        found = wrapper
    elif tensor.layout != torch.strided:
        found = f"layout {tensor.layout}"
    elif tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        found = "a quantized one" if tensor.is_quantized else "a meta one" if tensor.is_meta else "a nested one"
    elif hasattr(tensor, "to_local"):
        found = f"{type(tensor).__name__}, of which this process has a part"
    elif _is_freed(tensor):
        found = "one whose memory was given back"
    if found is not None:
        raise _refusal(name, found)
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        error = GoldenError(f"tensor `{name}`: expected eager execution, found the capture of a CUDA graph")
        error.hint = "turn CUDA graphs off while you record: vLLM's `enforce_eager`, torch.compile's `mode`"
        raise error


def _refusal(name: str, found: str) -> GoldenError:
    error = GoldenError(f"tensor `{name}`: expected a tensor with strided elements, found {found}")
    error.hint = "choose sites that leave it out"
    return error


def _functorch_wrapper(tensor: torch.Tensor) -> str | None:
    """What a tensor stands for inside one of torch's transforms of functions, where it has no memory."""
    import torch

    functorch = torch._C._functorch
    if torch._is_functional_tensor(tensor):
        return "one inside `torch.func.functionalize`"
    if not functorch.is_functorch_wrapped_tensor(tensor):
        return None
    if functorch.is_batchedtensor(tensor):
        return "one inside `torch.func.vmap`"
    return "one inside `torch.func.grad` or `jvp`"


def _is_freed(tensor: torch.Tensor) -> bool:
    """Whether a plain tensor's elements lie outside of its memory, as after `untyped_storage().resize_(0)`."""
    if tensor.numel() == 0 or tensor.device.type not in ("cpu", "cuda") or tensor._is_zerotensor():
        return False
    last = tensor.storage_offset() + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return (last + 1) * tensor.itemsize > tensor.untyped_storage().nbytes()


def _missing_memory(host: torch.Tensor) -> str | None:
    """What a copy is instead of bytes in memory; `None` if it is that."""
    from torch._subclasses.fake_tensor import FakeTensor

    if (wrapper := _functorch_wrapper(host)) is not None:
        return wrapper
    try:
        if not isinstance(host, FakeTensor) and (host.numel() == 0 or host.data_ptr() != 0):
            return None
    except RuntimeError:
        pass
    return f"a {type(host).__name__}, which has no memory"


def _representable(tensor: torch.Tensor, extra: dict[str, Any]) -> tuple[str, torch.Tensor]:
    """The dtype's name, and the tensor under it: with the same bytes, if a dump does not have its own dtype."""
    import torch

    name = dtype_name(tensor.dtype)
    # What torch keeps as a mark on the tensor, to be applied when it is used, is to be in the bytes.
    tensor = tensor.resolve_conj().resolve_neg()
    if name in DTYPES:
        return name, tensor
    extra["torch_dtype"] = name
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
        return dtype_name(tensor.dtype), tensor
    return "uint8", tensor.contiguous().view(torch.uint8)


def _to_host(tensor: torch.Tensor, is_copy: bool) -> tuple[torch.Tensor, Any]:
    """A contiguous copy in the processor's memory, and an event behind which it is complete, or none."""
    import torch

    if tensor.device.type == "cpu":
        if is_copy and tensor.is_contiguous():
            return tensor, None
        return tensor.clone(memory_format=torch.contiguous_format), None
    if tensor.device.type != "cuda":
        return tensor.to("cpu", copy=True).contiguous(), None
    host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
    with torch.cuda.device(tensor.device):
        host.copy_(tensor, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(tensor.device))
    return host, event
