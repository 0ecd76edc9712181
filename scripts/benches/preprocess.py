"""The measuring half of scripts/benches/preprocess, which builds and calls it."""

import argparse
import hashlib
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import cpu_name

HERE = Path(__file__).resolve().parent

# The 8B's configuration; preprocess_seconds has the same.
CONFIG = {
    "image_size": 512,
    "max_num_tiles": 12,
    "use_thumbnail": True,
    "upscale_factor": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": False,
    "image_mean": [0.0] * 3,
    "image_std": [1.0] * 3,
}
PICTURES = {
    "photo-4000x3000.jpg": {"quality": 90},
    "photo-640x480.png": {},
    "photo-1920x1080.png": {},
    "photo-1280x960-lossless.webp": {"lossless": True},
}


def public_processor():
    """The function that makes the fixtures: the public processor's steps, each by the library function that it calls."""
    spec = importlib.util.spec_from_file_location("fixtures", HERE.parent / "make-pixel-values-fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pixel_values_of


def make_pictures(folder):
    """Smooth waves with noise on them: as hard to compress as a photograph, and the same on every machine."""
    import numpy
    from PIL import Image

    for name, options in PICTURES.items():
        width, height = (int(side) for side in name.split("-")[1].split(".")[0].split("x"))
        y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float32)
        waves = [numpy.sin(x / (37 + 9 * k) + y / (91 - 7 * k)) + numpy.sin(x * y / 9e4) / 3 for k in range(3)]
        noise = numpy.random.default_rng(0).normal(0, 6, (height, width, 3))
        pixels = 127 + 80 * numpy.stack(waves, axis=-1) + noise
        Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(folder / name, **options)


def time_public(paths, threads, repeats):
    """Run in a process of its own, as ours is: what the parent's memory looks like does not count."""
    command = [sys.executable, __file__, "--public", str(threads), str(repeats), *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def time_ours(program, paths, threads, repeats):
    command = [str(program), str(threads), str(repeats), *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def run_public(threads, repeats, paths):
    import torch

    pixel_values_of = public_processor()
    torch.set_num_threads(threads)
    result = {}
    for path in paths:
        seconds = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            _, values = pixel_values_of(path, CONFIG)
            seconds.append(time.perf_counter() - start)
        digest = hashlib.sha256(values.numpy()).hexdigest()
        result[path] = {"tiles": len(values), "sha256": digest, "seconds": seconds[1:]}
    print(json.dumps(result))


def main():
    if sys.argv[1:2] == ["--public"]:
        run_public(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each of the two")
    parser.add_argument("--repeats", type=int, default=3, help="runs over each picture in a turn")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()

    import PIL
    import torch
    import torchvision
    import transformers

    rows, differing = [], []
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder))
        paths = [Path(folder) / name for name in PICTURES]
        for threads in arguments.threads:
            seconds = {(side, path): [] for side in ("ours", "public") for path in paths}
            for turn in range(arguments.rounds):
                print(f"{threads} threads, turn {turn + 1} of {arguments.rounds}", file=sys.stderr)
                ours = time_ours(arguments.ours, paths, threads, arguments.repeats)
                public = time_public(paths, threads, arguments.repeats)
                for path in paths:
                    seconds["ours", path] += ours[str(path)]["seconds"]
                    seconds["public", path] += public[str(path)]["seconds"]
                    if ours[str(path)]["sha256"] != public[str(path)]["sha256"]:
                        differing.append(path.name)
            for path in paths:
                a, b = (statistics.median(seconds[side, path]) for side in ("ours", "public"))
                tiles = ours[str(path)]["tiles"]
                rows.append(
                    f"| `{path.name}` | {tiles} | {threads} | {1e3 * a:.0f} ms | {1e3 * b:.0f} ms | {b / a:.2f} |"
                )

    if differing:
        print(f"pixel values differ: {', '.join(sorted(set(differing)))}", file=sys.stderr)
        return 1
    print("| picture | tiles | threads | `nvl-reference` | public processor | public / ours |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))
    runs = arguments.rounds * arguments.repeats
    print(f"\nMedians of {runs} runs in {arguments.rounds} turns; all pixel values equal to the last bit.")
    print(f"{cpu_name()}, {platform.system()}; Python {platform.python_version()}, Pillow {PIL.__version__}, ", end="")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, transformers {transformers.__version__}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
