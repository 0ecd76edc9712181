"""What every program has beside its work: a version with the commit, completions, manual pages."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
SHAPES = ROOT / "golden/fixtures/checkpoints/shapes"
GOLDENS = ROOT / "golden/fixtures/goldens"
COMMANDS = {
    "nvl-convert": ["inspect", "convert", "verify", "export"],
    "nvl-reference": ["generate", "run", "preprocess", "bench", "replay", "isolate"],
    "nvl-validate": ["diff", "calibrate", "maps", "names", "sketch", "show"],
}
EVERY = ["completions", "man"]


def run(program: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("program", COMMANDS)
def test_the_version_has_the_commit(program):
    version = re.fullmatch(
        r"(\S+) (\d+\.\d+\.\d+) \(([0-9a-f]{9,}) (\d{4}-\d\d-\d\d)(, modified)?\)\n", run(program, "--version").stdout
    )
    assert version
    manifest = (ROOT / "Cargo.toml").read_text()
    assert version[1] == program
    assert f'version = "{version[2]}"' in manifest
    assert git("rev-parse", "HEAD").startswith(version[3])
    assert version[4] == git("log", "-1", "--format=%cs")


def test_what_the_programs_write_has_the_commit(tmp_path):
    commit = re.search(r"\((.*)\)", run("nvl-convert", "--version").stdout)[1]
    run("nvl-convert", "convert", str(SHAPES), str(tmp_path / "model"))
    ledger = json.loads((tmp_path / "model/conversion.json").read_text())
    assert ledger["tool"]["commit"] == commit
    golden = str(GOLDENS / "shapes-text-float32")
    report = json.loads(run("nvl-validate", "diff", golden, golden, "--format", "json").stdout)
    assert report["tool"]["commit"] == commit
    dump = str(tmp_path / "dump")
    run("nvl-reference", "replay", "--model", str(tmp_path / "model"), golden, "--record", dump)
    assert json.loads((tmp_path / "dump/manifest.json").read_text())["producer"]["commit"] == commit
    assert re.search(
        rf"^producer +nvl-reference [0-9.]+ \({re.escape(commit)}\)$",
        run("nvl-validate", "show", dump).stdout,
        re.MULTILINE,
    )


@pytest.mark.parametrize("program", COMMANDS)
def test_bash_completes_commands_and_flags(program, tmp_path):
    script = tmp_path / "completions.bash"
    script.write_text(run(program, "completions", "bash").stdout)

    def completed(*words: str) -> list[str]:
        line = f"""source {script}
            COMP_WORDS=({program} {" ".join(words)} '') COMP_CWORD={len(words) + 1}
            function=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
            "$function" {program} '' {(program, *words)[-1]}
            printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert {*COMMANDS[program], *EVERY} <= set(completed())
    help_text = run(program, COMMANDS[program][0], "--help").stdout
    flags = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", help_text, re.MULTILINE))
    assert flags and flags <= set(completed(COMMANDS[program][0]))


@pytest.mark.parametrize("program", COMMANDS)
@pytest.mark.parametrize("shell", ["elvish", "fish", "powershell", "zsh"])
def test_there_are_completions_for_other_shells(program, shell):
    text = run(program, "completions", shell).stdout
    assert all(command in text for command in (*COMMANDS[program], *EVERY))


def test_an_unknown_shell_is_refused():
    refused = run("nvl-validate", "completions", "dos", status=2)
    assert refused.stdout == "" and "possible values: bash" in refused.stderr


@pytest.mark.parametrize("program", COMMANDS)
def test_there_is_a_page_for_each_command(program, tmp_path):
    folder = tmp_path / "share/man1"
    run(program, "man", "--out", str(folder))
    pages = {path.name for path in folder.iterdir()}
    expected = {f"{program}-{command}.1" for command in (*COMMANDS[program], *EVERY)}
    assert {f"{program}.1", *expected} <= pages
    main = (folder / f"{program}.1").read_text()
    assert main == run(program, "man").stdout
    assert main.startswith(".ie") or ".TH" in main
    for command in COMMANDS[program]:
        page = (folder / f"{program}-{command}.1").read_text().replace("\\-", "-")
        flags = re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", run(program, command, "--help").stdout, re.MULTILINE)
        missing = [flag for flag in flags if flag not in page]
        assert not missing, command


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    refused = run("nvl-convert", "man", "--out", str(tmp_path / "file/man1"), status=2)
    assert re.fullmatch(r"error: cannot write the manual pages to `.*file/man1`: .*\n", refused.stderr)
