"""The measuring half of scripts/benches/reference, which builds and calls it."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import AVX2, machine

HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent.parent
BUNDLED = ROOT / "golden/fixtures/checkpoints/shapes"
# As the libraries under torch are told to leave the rest of a processor alone.
INSTRUCTIONS = {"avx2": AVX2}
PROMPT_TOKENS = 300
NEW_TOKENS = 32
RUNS = 3


def main() -> None:
    """Measures both sides in turns and prints the tables."""
    parser = argparse.ArgumentParser(prog="bench reference", description=__doc__)
    parser.add_argument("--checkpoint", choices=["bundled", "wide"], action="append")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--instructions", choices=list(INSTRUCTIONS))
    parser.add_argument("--bin", type=Path, required=True)
    arguments = parser.parse_args()
    environment = os.environ | INSTRUCTIONS.get(arguments.instructions, {}) | {"HF_HUB_OFFLINE": "1"}

    rows, starts = [], []
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint in arguments.checkpoint or ["bundled", "wide"]:
            whole, text = convert(checkpoint, Path(folder), arguments.bin)
            for dtype in arguments.dtype or ["float32", "bfloat16"]:
                ours, python = [], []
                for turn in range(arguments.rounds):
                    print(f"{checkpoint}, {dtype}, turn {turn + 1} of {arguments.rounds}", file=sys.stderr)
                    ours.append(run_ours(whole, dtype, arguments, environment))
                    python.append(run_python(whole, text, dtype, ours[-1], arguments, environment))
                rows += compare(checkpoint, dtype, ours, python)
            starts.append(first_token(checkpoint, whole, text, arguments, environment))

    print(f"{machine()}, {arguments.threads} threads{limit(arguments)}; {versions(arguments.bin)}.")
    print(
        f"Medians of {arguments.rounds} turns, each the median of {RUNS} runs; {PROMPT_TOKENS} tokens of text after one"
    )
    print(f"tile, {NEW_TOKENS} decoded.\n")
    print("| checkpoint | dtype | what | `nvl-reference` | Python | Python / ours | share of memory's speed |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    print("\n| from the start of the process to the first token | `nvl-reference` | Python | Python / ours |")
    print("|---|---|---|---|")
    print("\n".join(starts))


def convert(checkpoint: str, folder: Path, bin_: Path) -> tuple[Path, Path]:
    """The normalized checkpoint, and its language model as transformers loads it."""
    source = BUNDLED
    if checkpoint == "wide":
        source = folder / "source"
        make = [sys.executable, ROOT / "scripts/random-checkpoint", source, "--size", "wide"]
        subprocess.run(make, check=True, stdout=sys.stderr)
    parts = []
    for part in ("all", "text"):
        out = folder / f"{checkpoint}-{part}"
        command = [bin_ / "nvl-convert", "convert", source, out, "--part", part, "--align-corners", "true"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        parts.append(out)
    return parts[0], parts[1]


def run_ours(model: Path, dtype: str, arguments, environment) -> dict:
    """One process of `nvl-reference bench`."""
    command = [
        arguments.bin / "nvl-reference",
        "bench",
        "--json",
        "--model",
        model,
        "--dtype",
        dtype,
        "--device",
        "cpu",
    ]
    command += ["--prompt-tokens", PROMPT_TOKENS, "--new-tokens", NEW_TOKENS, "--runs", RUNS]
    command += ["--threads", arguments.threads]
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(output.stdout)


def run_python(whole: Path, text: Path, dtype: str, ours: dict, arguments, environment) -> dict:
    """The same in a process of its own, so that neither side has the other's memory."""
    command = [sys.executable, HERE.parent / "reference_python.py", whole, text, dtype, arguments.threads]
    command += [ours["prompt_tokens"], NEW_TOKENS, RUNS]
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(output.stdout)


def compare(checkpoint: str, dtype: str, ours: list[dict], python: list[dict]) -> list[str]:
    """A row for the tower, the prompt and a decoded token."""
    names = {
        "vision_secs": "tower and projector, a tile",
        "prefill_secs": f"prefill, {ours[0]['prompt_tokens']} tokens",
        "decode_secs_per_token": "a decoded token",
    }
    rows = []
    for field, what in names.items():
        a, b = (statistics.median(run[field] for run in runs) for runs in (ours, python))
        share = ""
        if field == "decode_secs_per_token":
            shares = [run["decode_gb_per_sec"] / run["memory_gb_per_sec"] for run in ours]
            share = f"{100 * statistics.median(shares):.0f} %"
        rows.append(
            f"| {checkpoint} | {dtype} | {what} | {1e3 * a:.2f} ms | {1e3 * b:.2f} ms | {b / a:.2f} | {share} |"
        )
    return rows


def first_token(checkpoint: str, whole: Path, text: Path, arguments, environment) -> str:
    """Seconds from the start of a process to its end after one token of a short prompt."""
    ours = [arguments.bin / "nvl-reference", "generate", "--model", whole, "--prompt", "Hello", "--max-new-tokens", "1"]
    ours += ["--device", "cpu"]
    python = [sys.executable, HERE.parent / "reference_python.py", "--first-token", text]
    seconds: dict[str, list[float]] = {"ours": [], "python": []}
    for _ in range(arguments.rounds):
        for name, command in (("ours", ours), ("python", python)):
            start = time.perf_counter()
            subprocess.run(
                list(map(str, command)),
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            seconds[name].append(time.perf_counter() - start)
    a, b = (statistics.median(seconds[name]) for name in ("ours", "python"))
    return f"| {checkpoint}, bfloat16, text only | {a:.2f} s | {b:.2f} s | {b / a:.1f} |"


def limit(arguments) -> str:
    """What the libraries may use, where that is limited."""
    return f", no instructions beyond {arguments.instructions.upper()}" if arguments.instructions else ""


def versions(bin_: Path) -> str:
    """The programs that were compared."""
    from importlib.metadata import version

    ours = subprocess.run([bin_ / "nvl-reference", "--version"], check=True, capture_output=True, text=True)
    others = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "timm"))
    return f"{ours.stdout.strip()}, Python {platform.python_version()}, {others}"


if __name__ == "__main__":
    main()
