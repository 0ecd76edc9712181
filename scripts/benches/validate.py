"""The measuring half of scripts/benches/validate, which builds and calls it."""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from machine import cpu_name

HERE = Path(__file__).resolve()

# The sites of a decoder layer of the 8B and their widths; the tokens are those of a picture of twelve tiles.
SITES = {
    "input_layernorm": 4096,
    "self_attn.q_proj": 4096,
    "self_attn.k_proj": 1024,
    "self_attn.v_proj": 1024,
    "self_attn.o_proj": 4096,
    "self_attn": 4096,
    "post_attention_layernorm": 4096,
    "mlp.gate_proj": 14336,
    "mlp.act_fn": 14336,
    "mlp.up_proj": 14336,
    "mlp.down_proj": 4096,
    "mlp": 4096,
}
TOKENS = 3340
WIDTHS = {"float32": 4, "bfloat16": 2}


class Run(NamedTuple):
    """Seconds, and the most memory that is no file's."""

    seconds: float
    anonymous: int


def sites(size: int, width: int):
    """Names and shapes until they are as many bytes."""
    layer = 0
    while True:
        for name, columns in SITES.items():
            if size <= 0:
                return
            yield f"language_model.model.layers.{layer}.{name}", [1, TOKENS, columns]
            size -= TOKENS * columns * width
        layer += 1


def make_dumps(folder: Path, dtype: str, size: int) -> list[Path]:
    """A golden dump and a candidate whose elements are all about a unit in the last place off."""
    random = np.random.default_rng(0)
    noise = random.standard_normal(1 << 22, dtype=np.float32)
    dumps = [folder / "golden", folder / "candidate"]
    header, entries, offset = {}, [[], []], 0
    shapes = list(sites(size, WIDTHS[dtype]))
    for order, (name, shape) in enumerate(shapes):
        length = int(np.prod(shape)) * WIDTHS[dtype]
        header[name] = {"dtype": {"float32": "F32", "bfloat16": "BF16"}[dtype], "shape": shape}
        header[name]["data_offsets"] = [offset, offset + length]
        offset += length
        for side in entries:
            entry = {"order": order, "name": name, "role": "activation", "module": "Linear", "dtype": dtype}
            side.append({**entry, "shape": shape})
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    for path in dumps:
        path.mkdir()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path / "tensors.safetensors", "wb")) for path in dumps]
        for file in files:
            file.write(struct.pack("<Q", len(text)) + text)
        for index, (_, shape) in enumerate(shapes):
            golden = np.resize(np.roll(noise, 7919 * index), int(np.prod(shape)))
            if dtype == "float32":
                candidate = golden * np.float32(1 + 2**-22)
            else:
                golden = (golden.view(np.uint32) >> 16).astype(np.uint16)
                candidate = golden ^ np.uint16(1)
            for file, side, values in zip(files, entries, [golden, candidate], strict=True):
                data = values.tobytes()
                side[index]["sha256"] = hashlib.sha256(data).hexdigest()
                file.write(data)
    for path, side in zip(dumps, entries, strict=True):
        producer = {"name": "bench", "dtype": dtype}
        manifest = {"format": "activation-dump", "version": 1, "producer": producer, "entries": side}
        (path / "manifest.json").write_text(json.dumps(manifest))
    return dumps


def read(dumps: list[Path]) -> None:
    """Reads both files, a thread each: the halves of both, so that neither thread is done earlier."""

    def halves(half: int) -> None:
        buffer = bytearray(1 << 20)
        for dump in dumps:
            with open(dump / "tensors.safetensors", "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(half * (size // 2))
                left = size - size // 2 if half else size // 2
                while left > 0 and (count := file.readinto(memoryview(buffer)[: min(left, len(buffer))])):
                    left -= count

    threads = [threading.Thread(target=halves, args=(half,)) for half in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def numpy_way(dumps: list[Path]) -> None:
    """What one writes in a notebook: each pair of tensors in float64."""
    files = []
    for dump in dumps:
        data = np.memmap(dump / "tensors.safetensors", np.uint8, "r")
        length = struct.unpack("<Q", data[:8].tobytes())[0]
        files.append((data[8 + length :], json.loads(data[8 : 8 + length].tobytes())))

    def tensor(file, name: str) -> np.ndarray:
        data, header = file
        start, end = header[name]["data_offsets"]
        if header[name]["dtype"] == "F32":
            values = data[start:end].view(np.float32)
        else:
            values = (data[start:end].view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float64).reshape(-1, header[name]["shape"][-1])

    for name in files[0][1]:
        golden, candidate = (tensor(file, name) for file in files)
        difference = candidate - golden
        length = np.linalg.norm(golden)
        result = {
            "relative_l2": np.linalg.norm(difference) / length,
            "worst_row": (np.linalg.norm(difference, axis=1) / np.linalg.norm(golden, axis=1)).max(),
            "max_abs": np.unravel_index(np.abs(difference).argmax(), difference.shape),
            "cosine": np.vdot(golden, candidate) / (length * np.linalg.norm(candidate)),
            "non_finite": (~np.isfinite(golden)).sum() + (~np.isfinite(candidate)).sum(),
            "differing": (golden != candidate).sum(),
        }
        assert 0 < result["relative_l2"] < 1, name


def measure(command: list[str], statuses: set[int]) -> Run:
    """Runs a program and watches its memory."""
    start = time.perf_counter()
    itself = command[0] == sys.executable
    process = subprocess.Popen(command, stdout=subprocess.PIPE if itself else subprocess.DEVNULL)
    anonymous = 0
    while process.poll() is None:
        try:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    anonymous = max(anonymous, int(line.split()[1]) * 1024)
        except (FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.005)
    seconds = time.perf_counter() - start
    if process.returncode not in statuses:
        sys.exit(f"`{' '.join(command)}` ended with status {process.returncode}")
    # Interpreters start slowly: those of this file tell themselves what they needed for the work.
    return Run(float(process.stdout.read()) if itself else seconds, anonymous)


def main() -> None:
    """Measures in turns and prints the table."""
    parser = argparse.ArgumentParser(prog="bench validate", description=__doc__)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="the size of both dumps together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", action="append", choices=list(WIDTHS))
    parser.add_argument("--folder", type=Path, help="where the dumps are made and removed again")
    arguments = parser.parse_args()
    print("| | dtype | seconds | GB/s | of reading | numpy / this | memory |")
    print("|---|---|---|---|---|---|---|")
    for dtype in arguments.dtype or list(WIDTHS):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            print(f"making two dumps, {arguments.gigabytes:g} GB in all, in {dtype}", file=sys.stderr)
            dumps = make_dumps(Path(folder), dtype, int(arguments.gigabytes * 1e9 / 2))
            size = sum((dump / "tensors.safetensors").stat().st_size for dump in dumps)
            ours = [arguments.ours, "diff", *map(str, dumps)]
            itself = [sys.executable, str(HERE)]
            programs = {
                "reading, 2 threads": ([*itself, "--read", *map(str, dumps)], {0}),
                "`nvl-validate diff --no-verify`": ([*ours, "--no-verify"], {0, 1}),
                "`nvl-validate diff`, with SHA-256": (ours, {0, 1}),
                "numpy": ([*itself, "--numpy", *map(str, dumps)], {0}),
            }
            read(dumps)
            runs = {name: [] for name in programs}
            for turn in range(arguments.rounds):
                print(f"turn {turn + 1} of {arguments.rounds}", file=sys.stderr)
                for name, (command, statuses) in programs.items():
                    runs[name].append(measure(command, statuses))
            seconds = {name: statistics.median(run.seconds for run in of) for name, of in runs.items()}
            reading, obvious = seconds["reading, 2 threads"], seconds["numpy"]
            for name, of in runs.items():
                memory = max(run.anonymous for run in of)
                print(
                    f"| {name} | {dtype} | {seconds[name]:.2f} | {size / seconds[name] / 1e9:.2f} "
                    f"| {reading / seconds[name]:.2f} | {obvious / seconds[name]:.1f} | {memory / 1e6:.0f} MB |",
                    flush=True,
                )
    load = os.getloadavg()[0]
    print(
        f"\nTwo dumps, {arguments.gigabytes:g} GB in all, medians of {arguments.rounds}, {os.cpu_count()} cores of ",
        end="",
    )
    print(f"{cpu_name()}, {platform.system()} {platform.release()}, load {load:.1f}; ", end="")
    version = subprocess.run([arguments.ours, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{version}, Python {platform.python_version()}, numpy {np.__version__}.")


if __name__ == "__main__":
    WORK = {"--read": read, "--numpy": numpy_way}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if WORK:
        BEGUN = time.perf_counter()
        WORK([Path(path) for path in sys.argv[2:]])
        print(time.perf_counter() - BEGUN)
    else:
        main()
