"""Copies of tensors on their way to a writer, without a wait for each of them."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ._core import GoldenError, Writer
from .copies import Copy, copy_of, unobserved
from .rows import Rows
from .steps import key_of

if TYPE_CHECKING:
    import torch

    from .flow import Flow


class Destination(NamedTuple):
    """The entry that a tensor becomes."""

    name: str
    role: str
    module: str
    step: int = 0

    @property
    def key(self) -> str:
        """What tells the entry from those of other steps."""
        return key_of(self.name, self.step)


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
        self._pending: deque[tuple[Destination, Copy, Flow | None]] = deque()
        self._count = 0
        self._pending_bytes = 0
        #: Tensors come from several threads: they are copied side by side, and stand in line for the writer.
        self._lock = threading.RLock()
        self._closed = False
        #: What was recorded, in bytes.
        self.bytes_recorded = 0

    def push(
        self, destination: Destination, tensor: torch.Tensor, rows: Rows | None = None, flow: Flow | None = None
    ) -> int | None:
        """Copies a tensor as it is now, or some rows of it, and sends it on its way to the dump; its place among all.

        Nothing happens once this is closed: another thread may still run what was recorded.

        # Errors
        `GoldenError` for a tensor that has no elements of its own (sparse, quantized, meta, …), or where the writer has failed.
        """
        with unobserved():
            copy = copy_of(destination.key, tensor, rows)
            with self._lock:
                if self._closed:
                    return None
                order, self._count = self._count, self._count + 1
                self.bytes_recorded += copy.host.numel()
                self._pending_bytes += copy.host.numel()
                self._pending.append((destination, copy, flow))
                self._drain(self._max_pending_bytes)
        return order

    def flush(self) -> None:
        """Waits for all copies and hands them to the writer."""
        with unobserved(), self._lock:
            self._drain(-1)

    def close(self, discard: bool) -> None:
        """Takes nothing more; what is there is handed to the writer, or discarded."""
        if discard:
            # Without the lock: the thread that has it may wait for the writer, which is abandoned next.
            self._closed = True
            return
        with self._lock:
            self.flush()
            self._closed = True

    def _drain(self, allowed_bytes: int) -> None:
        """Hands over what is there; waits for copies while more than `allowed_bytes` are pending."""
        while self._pending:
            destination, oldest, flow = self._pending[0]
            if oldest.event is not None and not oldest.event.query():
                if self._pending_bytes <= allowed_bytes:
                    return
                oldest.event.synchronize()
            self._pending.popleft()
            self._pending_bytes -= oldest.host.numel()
            try:
                self._hand_over(destination, oldest, flow)
            except GoldenError:
                if not self._closed:
                    raise

    def _hand_over(self, destination: Destination, copy: Copy, flow: Flow | None) -> None:
        name, role, module, step = destination
        self._writer.push(
            name,
            role=role,  # type: ignore[arg-type]
            module=module,
            dtype=copy.dtype,
            shape=copy.shape,
            data=copy.host,
            sketch=self._sketch,
            step=step,
            flow=None if flow is None else flow.as_json(),
            extra=json.dumps(copy.extra) if copy.extra else None,
        )
