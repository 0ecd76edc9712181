"""Records the SHA-256 of pixel_values that transformers computes for the bundled pictures, under many configurations.

    python scripts/make-pixel-values-fixtures.py golden/fixtures/preprocess

Needs torch 2.11.0, torchvision 0.26.0, transformers 4.57.6 and Pillow 13.0.0. The steps are those of the public image
processor, each by the library function that it calls.
"""

import hashlib
import json
import os
import random
import sys
from pathlib import Path

# torchvision resizes bytes as such only where this is so.
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")

import torch
from PIL import Image
from transformers.image_processing_utils_fast import BaseImageProcessorFast, divide_to_patches
from transformers.image_utils import SizeDict

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


def grid_of(width, height, config):
    side, most = config["image_size"], config["max_num_tiles"]
    # A set, as in the public code: its order decides between grids that fit equally well.
    grids = set()
    for n in range(1, most + 1):
        for columns in range(1, n + 1):
            grids.update((columns, rows) for rows in range(1, n + 1) if columns * rows <= most)
    best, best_score = (1, 1), float("-inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        aspect, target = width / height, columns / rows
        score = min(columns * rows * side * side / (width * height), 0.6) * min(target / aspect, aspect / target)
        if score > best_score:
            best, best_score = (columns, rows), score
    return best


def pixel_values_of(path, config):
    processor = BaseImageProcessorFast()
    image = Image.open(path)
    factor = config["upscale_factor"]
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BILINEAR)
    planes = processor._process_image(image, do_convert_rgb=True)
    side = config["image_size"]
    columns, rows = grid_of(planes.shape[2], planes.shape[1], config)
    tiles = divide_to_patches(processor.resize(planes, SizeDict(height=side * rows, width=side * columns)), side)
    if config["use_thumbnail"] and len(tiles) != 1:
        tiles.append(processor.resize(planes, SizeDict(height=side, width=side)))
    values = processor.rescale_and_normalize(
        torch.stack(tiles),
        config["do_rescale"],
        config["rescale_factor"],
        config["do_normalize"],
        tuple(config["image_mean"]),
        tuple(config["image_std"]),
    )
    return (columns, rows), values.to(torch.float32).contiguous()


def main():
    folder = Path(sys.argv[1])
    choose = random.Random(7)
    cases = []
    for path in sorted((folder / "images").iterdir()):
        for _ in range(4):
            config = {
                "image_size": choose.choice([16, 128, 224]),
                "max_num_tiles": choose.choice([1, 4, 6, 12, 30]),
                "use_thumbnail": choose.random() < 0.7,
                "upscale_factor": choose.choice([1, 2, 3]),
                "do_rescale": choose.random() < 0.7,
                "rescale_factor": choose.choice([1 / 255, 1 / 127.5]),
                "do_normalize": choose.random() < 0.5,
                "image_mean": MEAN,
                "image_std": STD,
            }
            grid, values = pixel_values_of(path, config)
            cases.append({
                "image": path.name,
                "image_processor": config,
                "grid": {"columns": grid[0], "rows": grid[1]},
                "tiles": len(values),
                "sha256": hashlib.sha256(values.numpy().tobytes()).hexdigest(),
            })  # fmt: skip
    (folder / "pixel_values.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
