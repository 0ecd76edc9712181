"""What ran, as a manifest's `producer` says it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from ._core import __commit__, __version__, cpu_vendor
from .copies import dtype_name

if TYPE_CHECKING:
    import torch


def describe_producer(model: torch.nn.Module) -> dict[str, Any]:
    """The program and library versions, and what the numbers depend on besides, as far as it is known before the run."""
    import torch

    device, dtype = _most_of(model)
    producer: dict[str, Any] = {"name": "nvl_golden", "version": __version__, "torch": torch.__version__}
    for library in ("transformers", "timm"):
        if (version := getattr(sys.modules.get(library), "__version__", None)) is not None:
            producer[library] = version
    producer |= {"device": device, "dtype": dtype}
    producer["threads"] = torch.get_num_threads()
    producer["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    producer["cpu_vendor"] = cpu_vendor()
    producer["mkl_cbwr"] = os.environ.get("MKL_CBWR")
    producer["model"] = type(model).__name__
    return {key: value for key, value in producer.items() if value is not None}


def with_commit(producer: dict[str, Any]) -> dict[str, Any]:
    """The producer with this package's commit, unless the version is an engine's, whose commit is another."""
    if __commit__ is None or producer.get("version") != __version__:
        return producer
    return {"commit": __commit__, **producer}


def _most_of(model: torch.nn.Module) -> tuple[str, str]:
    """The device, and the floating-point dtype, of most of a model's elements."""
    devices: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    for tensor in (*model.parameters(), *model.buffers()):
        devices[str(tensor.device)] += tensor.numel()
        if tensor.is_floating_point():
            dtypes[dtype_name(tensor.dtype)] += tensor.numel()
    device = devices.most_common(1)[0][0] if devices else "cpu"
    return device, dtypes.most_common(1)[0][0] if dtypes else "float32"
