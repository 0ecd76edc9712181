"""The weights in a checkpoint's files, where the loaded model does not have them as they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from .._core import GoldenError


class Stored:
    """The tensors of a checkpoint's safetensors files, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        index = folder / "model.safetensors.index.json"
        self._files: dict[str, str] = {}
        if index.is_file():
            self._files = json.loads(index.read_text(encoding="utf-8"))["weight_map"]

    def tensor(self, name: str) -> torch.Tensor | None:
        """A tensor, or `None` if the files have none of that name."""
        from safetensors import safe_open

        path = self._folder / self._files.get(name, "model.safetensors")
        if not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118


def fill_in(model: torch.nn.Module, stored: Stored, deviations: list[str]) -> None:
    """Gives what was left without memory when the model was loaded the values that the checkpoint has.

    transformers makes a model without memory and puts in what it loads; code with a way of its own to load a module (RADIO's
    LayerScale copies into the memory that is not there yet) loses it.

    # Errors
    `GoldenError` for a tensor that the checkpoint does not have under its name.
    """
    filled = []
    for path, module in model.named_modules():
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is None or not tensor.is_meta:
                    continue
                name = f"{path}.{key}" if path else key
                value = stored.tensor(name)
                if value is None:
                    raise GoldenError(f"`{name}`: expected values after loading, found none, nor any in the checkpoint")
                value = value.to(tensor.dtype)
                tensors[key] = (
                    torch.nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else value
                )
                filled.append(name)
    if filled:
        names = f"`{filled[0]}`" + (f" and {len(filled) - 1} more" if len(filled) > 1 else "")
        deviations.append(f"{names}, which transformers {_transformers()} does not load, is read from the checkpoint")


def _transformers() -> str:
    import transformers

    return str(transformers.__version__)
