"""The measuring half of scripts/benches/convert, which builds and calls it."""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from machine import machine

HERE = Path(__file__).resolve()
COPY = """
import os, sys
source, out = sys.argv[1:]
os.mkdir(out)
for name in sorted(os.listdir(source)):
    with open(f"{source}/{name}", "rb") as reader, open(f"{out}/{name}", "wb") as writer:
        left = os.fstat(reader.fileno()).st_size
        while left:
            left -= os.copy_file_range(reader.fileno(), writer.fileno(), left)
"""
PYTHON = """
import os, shutil, sys
from safetensors.torch import load_file, save_file
source, out = sys.argv[1:]
os.mkdir(out)
for name in sorted(os.listdir(source)):
    if name.endswith(".safetensors"):
        tensors = load_file(f"{source}/{name}")
        tensors = {key.replace("vision_model.radio_model.model.blocks.", "vision_model.encoder.layer."): tensor
                   for key, tensor in tensors.items()}
        save_file(tensors, f"{out}/{name}", metadata={"format": "pt"})
    else:
        shutil.copy(f"{source}/{name}", out)
"""
PROGRAMS = {
    "copy_file_range": ("bare `copy_file_range`", [sys.executable, "-c", COPY]),
    "cp": ("`cp -r`", ["cp", "-r"]),
    "python": ("`safetensors.torch`: load, rename, save", [sys.executable, "-c", PYTHON]),
    "nvl-convert": ("`nvl-convert convert`, with SHA-256", []),
}


class Run(NamedTuple):
    """Seconds until the program returned, until the disk had everything, and its most memory that is no file's."""

    returned: float
    synced: float
    anonymous: int


def main() -> None:
    """Measures every program in turns and prints the table."""
    parser = argparse.ArgumentParser(prog="bench convert", description=__doc__)
    parser.add_argument("--size", choices=["tiny", "wide", "8b"], default="wide")
    parser.add_argument("--source", type=Path, help="a checkpoint of this size that is there already")
    parser.add_argument("--work", type=Path, help="where the copies go (default: a temporary folder)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], choices=list(PROGRAMS), help="programs to leave out")
    parser.add_argument("--ours", required=True, type=Path)
    arguments = parser.parse_args()
    names = [name for name in PROGRAMS if name not in arguments.without]
    PROGRAMS["nvl-convert"] = (PROGRAMS["nvl-convert"][0], [str(arguments.ours.resolve()), "convert"])

    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        source = arguments.source
        if source is None:
            source = Path(work) / "source"
            make = [sys.executable, HERE.parent.parent / "random-checkpoint", source, "--size", arguments.size]
            subprocess.run(make, check=True, stdout=sys.stderr)
        bytes_ = sum(path.stat().st_size for path in source.iterdir())
        runs: dict[tuple[str, bool], list[Run]] = {}
        for round_ in range(arguments.rounds):
            for is_cold in (True, False):
                # Another order each time, so that none always meets the disk as the same one has left it.
                for name in random.Random(2 * round_ + is_cold).sample(names, len(names)):
                    run = measure(PROGRAMS[name][1], source, Path(work) / "out", is_cold)
                    runs.setdefault((name, is_cold), []).append(run)
                    temperature = "cold" if is_cold else "warm"
                    print(f"round {round_ + 1}, {temperature}, {name}: {run}", file=sys.stderr)
    print(table(names, runs, bytes_, arguments))


def measure(command: list[str], source: Path, out: Path, is_cold: bool) -> Run:
    """Runs a program once, in a state of the page cache that is known."""
    settle()
    drop = Path("/proc/sys/vm/drop_caches")
    if is_cold and os.access(drop, os.W_OK):
        # Needs root; without it the advice below has to do, which the system may not follow to the last page.
        drop.write_text("3")
    for path in source.iterdir():
        with path.open("rb") as file:
            if is_cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(1 << 24):
                    pass
    begun = time.perf_counter()
    process = subprocess.Popen([*command, source, out], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    most = [0]
    watcher = threading.Thread(target=watch, args=(process, most))
    watcher.start()
    talk = process.communicate()[1]
    returned = time.perf_counter() - begun
    watcher.join()
    if process.returncode != 0:
        sys.exit(f"bench: {command[0]} failed: {talk.decode()}")
    for path in [*out.iterdir(), out]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    synced = time.perf_counter() - begun
    shutil.rmtree(out)
    return Run(returned, synced, most[0])


def settle() -> None:
    """Waits until the disk has what was written before, and has freed what was deleted, which it does in the background."""
    subprocess.run(["sync"], check=True)
    stats = Path("/proc/diskstats")
    quiet_since, before = time.monotonic(), stats.read_text()
    deadline = quiet_since + 120
    while time.monotonic() < min(quiet_since + 1, deadline):
        time.sleep(0.1)
        now = stats.read_text()
        if now != before:
            quiet_since, before = time.monotonic(), now


def watch(process: subprocess.Popen, most: list[int]) -> None:
    """Looks at a process's anonymous memory until it ends."""
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                most[0] = max(most[0], int(line.split()[1]) * 1024)
        time.sleep(0.02)


def table(names: list[str], runs: dict[tuple[str, bool], list[Run]], bytes_: int, arguments) -> str:
    """The medians as Markdown, with the machine and the command."""

    def median(name: str, is_cold: bool, field: int) -> float:
        return statistics.median(run[field] for run in runs[name, is_cold])

    lines = [
        f"{bytes_ / 1e9:.2f} GB, medians of {arguments.rounds}, on {machine()}.",
        f"`scripts/bench convert --size {arguments.size} --rounds {arguments.rounds}`; {versions(arguments.ours)}",
        "",
        "| | cold | cold, synced | warm | warm, synced | memory |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        seconds = [median(name, is_cold, field) for is_cold in (True, False) for field in (0, 1)]
        most = max(run.anonymous for is_cold in (True, False) for run in runs[name, is_cold])
        cells = " | ".join(f"{value:.2f} s" for value in seconds)
        lines.append(f"| {PROGRAMS[name][0]} | {cells} | {most / 1e6:.0f} MB |")
    return "\n".join(lines)


def versions(ours: Path) -> str:
    """The programs that were compared."""
    import safetensors
    import torch

    cp = subprocess.run(["cp", "--version"], check=True, capture_output=True, text=True).stdout.split("\n")[0]
    version = subprocess.run([ours, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return f"{version}, {cp}, safetensors {safetensors.__version__}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
