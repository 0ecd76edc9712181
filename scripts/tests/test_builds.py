"""What cargo takes for changed."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def test_every_file_that_a_build_script_watches_is_there():
    """Cargo would compile its crate, and all that depend on it, anew each time."""
    for crate in ("cli", "reference"):
        outputs = sorted(TARGET.glob(f"debug/build/{crate}-*/output"), key=lambda path: path.stat().st_mtime)
        lines = outputs[-1].read_text().splitlines()
        watched = [line.partition("rerun-if-changed=")[2] for line in lines if "rerun-if-changed=" in line]
        assert "build.rs" in watched, crate
        assert [path for path in watched if not (ROOT / crate / path).exists()] == [], crate
