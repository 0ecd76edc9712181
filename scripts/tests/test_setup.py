"""scripts/setup: what it installs again, and when."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_recorder_is_built_again_when_any_of_its_crates_changes():
    command = ["cargo", "tree", "--package", "nvl-golden-python", "--edges", "normal,build", "--prefix", "none"]
    tree = subprocess.run([*command, "--locked"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {Path(folder).relative_to(ROOT).parts[0] for folder in re.findall(r"\((/[^)]+)\)", tree)}
    assert {"golden", "validate"} <= folders
    watched = re.search(
        r"^install_recorder\(\).*?sha256sum", (ROOT / "scripts/setup").read_text(), re.DOTALL | re.MULTILINE
    )
    assert watched
    assert folders == set(re.findall(r"(\w+)/\{Cargo\.toml,", watched[0]))
