"""scripts/bench finds its programs by name."""

import subprocess
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench"


def bench(*arguments):
    return subprocess.run([BENCH, *arguments], capture_output=True, text=True)


def test_an_unknown_name_is_answered_with_the_known_ones():
    for name in ("nothing", "../bench", "preprocess.py"):
        result = bench(name)
        assert result.returncode == 2
        assert f"found `{name}`" in result.stderr
        assert "preprocess" in result.stderr.split(";")[0].split()
        assert result.stdout == ""


def test_a_program_describes_itself():
    result = bench("preprocess", "--help")
    assert result.returncode == 0
    assert "scripts/bench preprocess [--rounds N]" in result.stdout


def test_every_program_can_be_run():
    programs = [path for path in (BENCH.parent / "benches").iterdir() if not path.suffix and path.is_file()]
    assert programs
    for program in programs:
        assert program.stat().st_mode & 0o111, program
        assert program.read_text().startswith("#!"), program
