"""From a tensor on any device to bytes that the writer may read, without a wait for each of them."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from ._core import GoldenError, Writer
from .rows import Rows, entry_fields

if TYPE_CHECKING:
    import torch

#: The element types of a dump; each is torch's own name.
DTYPES = frozenset(
    [
        "bool",
        "uint8",
        "int8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float8_e5m2",
        "float8_e4m3fn",
        "float16",
        "bfloat16",
        "float32",
        "float64",
    ]
)


class Destination(NamedTuple):
    """The entry that a tensor becomes."""

    name: str
    role: str
    module: str


class _Pending(NamedTuple):
    destination: Destination
    dtype: str
    shape: tuple[int, ...]
    host: torch.Tensor
    extra: dict[str, Any]
    #: Recorded behind the copy on the device's stream; none if the bytes are there already.
    event: Any


class Staging:
    """Clones tensors as they are seen and hands them to a writer in that order.

    On the CPU a tensor is copied once, by torch, and its storage is handed over. On a GPU it is copied to pinned memory on the
    stream that computes it, so that later kernels cannot change what is recorded; the copies are awaited together, and the
    oldest ones only if more than `max_pending_bytes` are under way.
    """

    def __init__(self, writer: Writer, max_pending_bytes: int, sketch: int | None = None) -> None:
        self._writer = writer
        self._sketch = sketch
        self._max_pending_bytes = max_pending_bytes
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        #: What was recorded, in bytes.
        self.bytes_recorded = 0

    def push(self, destination: Destination, tensor: torch.Tensor, rows: Rows | None = None) -> None:
        """Copies a tensor as it is now, or some rows of it, and sends it on its way to the dump.

        # Errors
        `GoldenError` for a tensor that has no elements of its own (sparse, quantized, meta, …), or where the writer has failed.
        """
        import torch

        _check(destination.name, tensor)
        extra: dict[str, Any] = {}
        with torch.no_grad():
            tensor = tensor.detach()
            dtype, tensor = _representable(tensor, extra)
            axis = rows.axis(tensor.shape) if rows else None
            is_copy = False
            if rows is not None and axis is not None:
                kept = rows.of(tensor.shape[axis])
                if len(kept) < tensor.shape[axis]:
                    extra |= entry_fields(rows, axis, tensor.shape[axis])
                    tensor = tensor.index_select(axis, torch.tensor(kept, device=tensor.device))
                    is_copy = True
            shape = tuple(tensor.shape)
            host, event = _to_host(tensor, is_copy)
            host = host.reshape(-1).view(torch.uint8)
        self.bytes_recorded += host.numel()
        self._pending_bytes += host.numel()
        self._pending.append(_Pending(destination, dtype, shape, host, extra, event))
        self._drain(self._max_pending_bytes)

    def flush(self) -> None:
        """Waits for all copies and hands them to the writer."""
        self._drain(-1)

    def _drain(self, allowed_bytes: int) -> None:
        """Hands over what is there; waits for copies while more than `allowed_bytes` are pending."""
        while self._pending:
            oldest = self._pending[0]
            if oldest.event is not None and not oldest.event.query():
                if self._pending_bytes <= allowed_bytes:
                    return
                oldest.event.synchronize()
            self._pending.popleft()
            self._pending_bytes -= oldest.host.numel()
            name, role, module = oldest.destination
            self._writer.push(
                name,
                role=role,  # type: ignore[arg-type]
                module=module,
                dtype=oldest.dtype,
                shape=oldest.shape,
                data=oldest.host,
                sketch=self._sketch,
                extra=json.dumps(oldest.extra) if oldest.extra else None,
            )


def _check(name: str, tensor: torch.Tensor) -> None:
    import torch

    found = None
    if tensor.layout != torch.strided:
        found = f"layout {tensor.layout}"
    elif tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        found = "a quantized one" if tensor.is_quantized else "a meta one" if tensor.is_meta else "a nested one"
    elif hasattr(tensor, "to_local"):
        found = f"{type(tensor).__name__}, of which this process has a part"
    if found is not None:
        error = GoldenError(f"tensor `{name}`: expected a tensor with strided elements, found {found}")
        error.hint = "choose sites that leave it out"
        raise error
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        error = GoldenError(f"tensor `{name}`: expected eager execution, found the capture of a CUDA graph")
        error.hint = "turn CUDA graphs off while you record: vLLM's `enforce_eager`, torch.compile's `mode`"
        raise error


def _representable(tensor: torch.Tensor, extra: dict[str, Any]) -> tuple[str, torch.Tensor]:
    """The dtype's name, and the tensor under it: with the same bytes, if a dump does not have its own dtype."""
    import torch

    name = str(tensor.dtype).removeprefix("torch.")
    # What torch keeps as a mark on the tensor, to be applied when it is used, is to be in the bytes.
    tensor = tensor.resolve_conj().resolve_neg()
    if name in DTYPES:
        return name, tensor
    extra["torch_dtype"] = name
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
        return str(tensor.dtype).removeprefix("torch."), tensor
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
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    with torch.cuda.device(tensor.device):
        host.copy_(tensor, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(tensor.device))
    return host, event
