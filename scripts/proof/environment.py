"""What a proof is made with: the recorder's Python, the programs, the machine."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talk import CannotTellError, say

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/benches"))

from machine import GOLDEN_KERNELS, cpu_name, total_memory  # noqa: E402

PROGRAMS = ("nvl-convert", "nvl-reference", "nvl-validate")
#: What the bits of a computation on a CPU depend on, if the user has set it.
KERNELS = (*GOLDEN_KERNELS, "OMP_NUM_THREADS")

_DESCRIBE = """
import hashlib, importlib.metadata, json, pathlib, sys
import nvl_golden, torch
digest = hashlib.sha256()
folder = pathlib.Path(nvl_golden.__file__).parent
for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".so", ".pyd")):
    digest.update(f"{path.relative_to(folder)}\\0".encode() + hashlib.sha256(path.read_bytes()).digest())
packages = {}
for name in ("torch", "torchvision", "transformers", "timm", "einops", "open_clip_torch", "accelerate", "safetensors",
             "tokenizers", "pillow", "numpy", "huggingface_hub"):
    try:
        packages[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps({
    "python": sys.version.split()[0], "packages": packages,
    "recorder": {"version": nvl_golden.__version__, "sha256": digest.hexdigest()},
    "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    "device": torch.cuda.get_device_name(sys.argv[1]) if sys.argv[1] != "cpu" else "cpu",
}))
"""


@dataclass
class Environment:
    """What runs."""

    python: Path
    programs: dict[str, Path]
    #: For the proof, and for what a step depends on.
    described: dict[str, Any]


def find_environment(python: Path | None, folder: Path | None, device: str) -> Environment:
    """Finds everything, builds the programs if no `folder` has them, and asks each for its version.

    # Errors
    `CannotTellError` that names what is missing.
    """
    python = python or ROOT / ".venv-proof/bin/python"
    if not python.is_file():
        hint = "`scripts/setup --proof` makes it; `--python` takes one of yours"
        raise CannotTellError(f"`{python}`: expected the Python to record with, found none", hint)
    described = _described(python, device)
    programs = _programs(folder)
    described["programs"] = {name: _version(path) for name, path in programs.items()}
    described["machine"] = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": total_memory(),
        "system": f"{platform.system()} {platform.release()}",
        "settings": {name: os.environ[name] for name in KERNELS if name in os.environ},
    }
    return Environment(python, programs, described)


def _described(python: Path, device: str) -> dict[str, Any]:
    result = subprocess.run([python, "-c", _DESCRIBE, device], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        found = (result.stderr.strip().splitlines() or ["nothing said"])[-1]
        hint = "`scripts/setup --proof` makes an environment that has all"
        raise CannotTellError(
            f"`{python}`: expected nvl_golden, torch and transformers to record with, found: {found}", hint
        )
    return json.loads(result.stdout.splitlines()[-1])


def _programs(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        if shutil.which("cargo") is None:
            raise CannotTellError("expected `cargo` to build the programs with, or `--bin` with a folder that has them")
        say("building the programs")
        command = ["cargo", "build", "--release", "--workspace", "--locked", "--bins"]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise CannotTellError("the programs could not be built", "`scripts/setup` installs what that needs")
        folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    programs = {name: folder.absolute() / name for name in PROGRAMS}
    for path in programs.values():
        if not path.is_file():
            raise CannotTellError(f"`{path}`: expected a program of this project, found none")
    return programs


def _version(path: Path) -> dict[str, str]:
    result = subprocess.run([path, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise CannotTellError(f"`{path}`: expected its version, found: {result.stderr.strip()[-300:]}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"version": result.stdout.strip(), "sha256": digest}
