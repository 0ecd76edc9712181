"""The disk and the memory that a proof needs, before it begins."""

import math
import os
import shutil
from pathlib import Path
from typing import Any

from environment import total_memory
from talk import CannotTellError, say, size

#: What a golden of sketches has at most, seen at the 8B's shapes with thirteen tiles.
_SKETCHED = 2e6
#: Python, torch and transformers without a model.
_PROGRAMS = 1.5e9
_ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Tokens of a prompt beside those of its pictures, roughly.
_WORDS = 100


def say_needs(
    inspected: dict[str, Any],
    rows: list[dict[str, Any]],
    configurations: list[tuple[str, str]],
    full: bool,
    to_convert: bool,
    to_record: int,
    folder: Path,
) -> dict[str, float]:
    """Says the disk and memory that are needed, in bytes.

    # Errors
    `CannotTellError` if the disk clearly has too little room.
    """
    config = inspected["config"]
    room = shutil.disk_usage(_there(folder)).free
    weights = inspected["bytes"] if to_convert else 0
    least = most = 2 * _SKETCHED * to_record
    if full and to_record:
        dtypes = [dtype for dtype, _ in configurations]
        least = sum(2 * _tensors(config, row, dtype, 1, False) for row in rows for dtype in dtypes)
        tiles = config["image_processor"]["max_num_tiles"] + 1
        most = sum(2 * _tensors(config, row, dtype, tiles, True) for row in rows for dtype in dtypes)
    dumps = size(most) if least == most else f"{size(least)} to {size(most)}"
    say(f"disk: {size(weights)} for the converted checkpoint, {dumps} for dumps; {size(room)} are free in {folder}")
    needed = weights + least
    if not inspected["is_local"]:
        say(f"      and {size(inspected['bytes'])} for the checkpoint itself, in the hub's cache")
        cache = _there(Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface")))
        if cache.stat().st_dev == _there(folder).stat().st_dev:
            needed += inspected["bytes"]
        elif inspected["bytes"] > shutil.disk_usage(cache).free:
            raise _too_little(cache, inspected["bytes"])
    if needed > room:
        raise _too_little(folder, needed)
    memory = max(_memory(inspected, rows, *configuration) for configuration in configurations)
    total = total_memory()
    say(f"memory: about {size(memory)} for the larger of recording and replay; this machine has {size(total)}")
    if memory > total:
        say("        that is more than it has: the system may end a step")
    return {"disk_bytes": needed, "disk_free_bytes": room, "memory_bytes": memory}


def _too_little(folder: Path, needed: float) -> CannotTellError:
    free = shutil.disk_usage(_there(folder)).free
    hint = "`--work` takes a folder on another disk"
    return CannotTellError(f"`{folder}`: expected room for {size(needed)}, found {size(free)}", hint)


def _there(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _tokens(config: dict[str, Any], row: dict[str, Any], tiles: int) -> int:
    return _WORDS + len(row.get("images", [])) * tiles * config["image_seq_length"]


def _tensors(config: dict[str, Any], row: dict[str, Any], dtype: str, tiles: int, eager: bool) -> float:
    """The bytes of a golden in full."""
    text, vision = config["text_config"], config["vision_config"]
    tokens = _tokens(config, row, tiles)
    heads = (text["num_attention_heads"] + 2 * text["num_key_value_heads"]) * text["head_dim"]
    elems = text["num_hidden_layers"] * tokens * (8 * text["hidden_size"] + heads + 4 * text["intermediate_size"])
    if eager:
        elems += text["num_hidden_layers"] * text["num_attention_heads"] * tokens**2
    patches = (vision["image_size"] // vision["patch_size"]) ** 2 + vision["num_cls_tokens"] + vision["num_registers"]
    width = vision["hidden_size"] * (9 + 3 * vision["mlp_ratio"] + 3)
    elems += len(row.get("images", [])) * tiles * patches * width * vision["num_hidden_layers"]
    return elems * _ITEM[dtype]


def _memory(inspected: dict[str, Any], rows: list[dict[str, Any]], dtype: str, attention: str) -> float:
    """The memory of a run: its weights, and the largest of what one layer makes, a few times."""
    config = inspected["config"]
    text = config["text_config"]
    tiles = config["image_processor"]["max_num_tiles"] + 1
    most = max(_tokens(config, row, tiles) for row in rows)
    layer = most * 4 * text["intermediate_size"] * 4
    if attention == "eager":
        layer += 3 * text["num_attention_heads"] * most**2 * 4
    return inspected["parameters"] * _ITEM[dtype] + _PROGRAMS + math.ceil(layer)
