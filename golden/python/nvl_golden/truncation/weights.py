"""The safetensors files of a checkpoint: their headers, and copies of some of their tensors, a piece at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

from .._core import GoldenError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

#: The longest header that the format allows, and how much of a tensor is copied at once, in bytes.
_MAX_HEADER, _PIECE = 100_000_000, 16 << 20


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    #: Its first byte in the file, and the number of its bytes.
    begin: int
    size: int


@dataclass(frozen=True)
class Shard:
    """A safetensors file: the tensors of its header, in the order of their bytes."""

    path: Path
    tensors: tuple[Tensor, ...]
    metadata: dict[str, Any]


class Weights:
    """The tensors of a checkpoint by name; a file is asked for when it is needed."""

    def __init__(self, folder: Path, fetch: Callable[[str], Path]) -> None:
        """Reads the index, or the header of the one file of a checkpoint without an index; `fetch` gives a file by its name.

        # Errors
        `GoldenError` if there are no safetensors files, or they cannot be read.
        """
        self._fetch = fetch
        self._shards: dict[str, Shard] = {}
        #: What an index says besides.
        self.index: dict[str, Any] | None = None
        if (folder / INDEX).is_file():
            self.index = read_object(folder / INDEX)
            files = self.index.get("weight_map")
            if not isinstance(files, dict) or not all(_is_file_name(name) for name in files.values()):
                raise GoldenError(
                    f"`{folder / INDEX}`: `weight_map`: expected a file's name for each tensor, found others"
                )
            #: The file of each tensor.
            self.files: dict[str, str] = files
            return
        try:
            path = fetch(SINGLE)
        except FileNotFoundError as error:
            missing = GoldenError(f"`{folder}`: expected `{SINGLE}` or `{INDEX}`, found neither")
            missing.hint = "weights in another format: load the checkpoint and save it with `save_pretrained`"
            raise missing from error
        self._shards[SINGLE] = read_shard(path)
        self.files = {tensor.name: SINGLE for tensor in self._shards[SINGLE].tensors}

    def shard(self, file: str) -> Shard:
        """A file's header.

        # Errors
        `GoldenError` if it is not there or is no safetensors file; if it does not have what the index says.
        """
        if file not in self._shards:
            try:
                self._shards[file] = read_shard(self._fetch(file))
            except FileNotFoundError as error:
                raise GoldenError(f"`{file}`: expected the file that the index names, found none") from error
        shard = self._shards[file]
        held = {tensor.name for tensor in shard.tensors}
        if missing := next((name for name, place in self.files.items() if place == file and name not in held), None):
            raise GoldenError(f"`{shard.path}`: expected the tensor `{missing}` that the index has in it, found none")
        return shard


@dataclass(frozen=True)
class Written:
    """What was written of a checkpoint's weights."""

    files: list[str]
    tensors: int
    bytes: int


def write_weights(weights: Weights, kept: Collection[str], folder: Path) -> Written:
    """Copies some tensors into new files, a file for each of the old ones that has some, with a new index if there was one.

    # Errors
    `GoldenError` as `Weights.shard`, or if a file ends early.
    """
    sources = list(dict.fromkeys(weights.files[name] for name in weights.files if name in kept))
    chosen: list[tuple[Shard, list[Tensor]]] = []
    for file in sources:
        shard = weights.shard(file)
        chosen.append((shard, [t for t in shard.tensors if t.name in kept and weights.files.get(t.name) == file]))
    places: dict[str, str] = {}
    names = []
    for number, (shard, tensors) in enumerate(chosen, 1):
        is_single = weights.index is None
        name = SINGLE if is_single else f"model-{number:05}-of-{len(chosen):05}.safetensors"
        _write_shard(shard, tensors, folder / name)
        names.append(name)
        places |= {tensor.name: name for tensor in tensors}
    everything = [tensor for _, tensors in chosen for tensor in tensors]
    total = sum(tensor.size for tensor in everything)
    if weights.index is not None:
        metadata = dict(weights.index.get("metadata") or {}) | {"total_size": total}
        if "total_parameters" in metadata:
            metadata["total_parameters"] = sum(prod(tensor.shape) for tensor in everything)
        index = {**weights.index, "metadata": metadata, "weight_map": dict(sorted(places.items()))}
        write_file(folder / INDEX, json.dumps(index, indent=2).encode() + b"\n")
        names.append(INDEX)
    return Written(names, len(everything), total)


def write_file(path: Path, content: bytes) -> None:
    """Writes a new file, to the disk."""
    with path.open("xb") as file:
        file.write(content)
        _to_disk(file)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    # Errors
    `GoldenError` if the file is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GoldenError(f"`{path}`: expected a JSON object, found: {error}") from error
    if not isinstance(value, dict):
        raise GoldenError(f"`{path}`: expected a JSON object, found another kind of value")
    return value


def read_shard(path: Path) -> Shard:
    """The header of a safetensors file.

    # Errors
    `GoldenError` if it is none; `FileNotFoundError` if it is not there.
    """

    def refused(found: str) -> GoldenError:
        return GoldenError(f"`{path}`: expected a safetensors file, found {found}")

    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise refused("a header that is longer than the file or the format allows")
        content = file.read(length)
    try:
        header = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise refused(f"a header that is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise refused("a header that is no JSON object")
    metadata = header.pop("__metadata__", None) or {}
    begin = 8 + length
    tensors = [_tensor(name, entry, begin, size, refused) for name, entry in header.items()]
    return Shard(path, tuple(sorted(tensors, key=lambda tensor: tensor.begin)), metadata)


def _tensor(name: str, entry: Any, begin: int, size: int, refused: Callable[[str], GoldenError]) -> Tensor:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise refused(f"`{name}` without dtype, shape or place")
    if not offsets[0] <= offsets[1] <= size - begin:
        raise refused(f"`{name}` beyond its end")
    return Tensor(name, dtype, tuple(shape), begin + offsets[0], offsets[1] - offsets[0])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _write_shard(shard: Shard, tensors: Iterable[Tensor], path: Path) -> None:
    header: dict[str, Any] = {"__metadata__": shard.metadata} if shard.metadata else {}
    place = 0
    for tensor in tensors:
        offsets = [place, place + tensor.size]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        place += tensor.size
    content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    # The elements begin at a multiple of eight.
    content += b" " * (-len(content) % 8)
    with shard.path.open("rb") as source, path.open("xb") as target:
        target.write(len(content).to_bytes(8, "little") + content)
        for tensor in tensors:
            source.seek(tensor.begin)
            _copy(source, target, tensor.size, f"`{shard.path}`: `{tensor.name}`")
        _to_disk(target)


def _copy(source: IO[bytes], target: IO[bytes], size: int, what: str) -> None:
    while size > 0:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise GoldenError(f"{what}: expected {size} bytes more, found the end of the file")
        target.write(piece)
        size -= len(piece)


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
