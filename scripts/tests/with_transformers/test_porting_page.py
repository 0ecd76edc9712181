"""README.md, docs/porting.md and docs/engines.md are true: their commands run in this order, and print what stands there.

Commands are the lines of its `console` blocks that begin with `$`; what follows is what they print, and `[exit status N]`
where that is not 0. Numbers that depend on the processor are compared by their shape alone. `NVL_UPDATE=1` writes what was
printed into the pages.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts/benches"))

from machine import GOLDEN_KERNELS  # noqa: E402

#: Later pages use what the commands of earlier ones wrote.
PAGES = [ROOT / "README.md", ROOT / "docs/porting.md", ROOT / "docs/engines.md"]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command: str, folder: Path) -> str:
    """What a command prints on stdout, and its exit status where that is not 0."""
    path = os.pathsep.join([str(PROGRAMS), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | GOLDEN_KERNELS | {"PATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    shell = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), f"{command}: {done.stderr}"
    status = f"[exit status {done.returncode}]\n" if done.returncode else ""
    return done.stdout + status


def commands(block: str) -> list[tuple[str, str]]:
    """Each command of a block, with what it is said to print."""
    found: list[tuple[str, str]] = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].rstrip("\n"), ""))
        else:
            command, printed = found.pop()
            found.append((command, printed + line))
    return found


def shape(printed: str) -> str:
    """Without what depends on the processor: digits of measured numbers, and the widths of columns."""
    return re.sub(r"[ ─━]+", " ", re.sub(r"\d+(\.\d+)?e[-+]?\d+|\d+\.\d+", "#", printed))


def test_the_pages_commands_print_what_stands_there(tmp_path: Path):
    for name in ("golden", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    wrong: list[str] = []

    def rerun(match: re.Match) -> str:
        text = ""
        for command, said in commands(match[1]):
            printed = run(command, tmp_path)
            if shape(printed) != shape(said):
                wrong.append(f"$ {command}\nexpected:\n{said}found:\n{printed}")
            text += f"$ {command}\n{printed}"
        return f"```console\n{text}```"

    for path in PAGES:
        page = path.read_text()
        assert BLOCK.search(page), path
        updated = BLOCK.sub(rerun, page)
        if os.environ.get("NVL_UPDATE"):
            path.write_text(updated)
    assert os.environ.get("NVL_UPDATE") or not wrong, "\n".join(wrong)
