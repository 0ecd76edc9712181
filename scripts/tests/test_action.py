"""action.yml: what GitHub would refuse, and what its steps do. No runner is at hand, so the steps are run by hand here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/nvl-validate"
GOLDENS = ROOT / "golden/fixtures/goldens"
ACTION = YAML(typ="safe").load(ROOT / "action.yml")


def schema(name: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_an_action_in_githubs_eyes(tmp_path):
    done = schema("github-actions", ROOT / "action.yml")
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "action.yml"
    broken.write_text((ROOT / "action.yml").read_text().replace("using: composite", "using: compost"))
    assert schema("github-actions", broken).returncode == 1


@pytest.mark.parametrize("page", ["porting.md", "recording.md"])
def test_the_documented_workflows_are_workflows(page, tmp_path):
    workflows = re.findall(r"```yaml\n(name: .*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert workflows
    for text in workflows:
        path = tmp_path / "workflow.yml"
        path.write_text(text)
        done = schema("github-workflows", path)
        assert done.returncode == 0, done.stdout
        for given in re.findall(r"^        with:\n((?:          .*\n)+)", text, re.MULTILINE):
            if "golden:" in given:
                assert set(re.findall(r"^ +([a-z-]+):", given, re.MULTILINE)) <= set(ACTION["inputs"])


class Runner:
    """Runs the steps that are scripts, as a runner does: expressions first, then `bash -e`, outputs by file."""

    def __init__(self, folder: Path, inputs: dict[str, str]) -> None:
        self.folder = folder
        self.values = {"runner.temp": str(folder / "temp"), "runner.os": "Linux", "runner.arch": "X64"}
        self.values["github.action_ref"] = "v1"
        for name, declared in ACTION["inputs"].items():
            if declared.get("required"):
                assert name in inputs
            self.values[f"inputs.{name}"] = inputs.get(name, declared.get("default", ""))
        bin_folder = folder / "bin"
        bin_folder.mkdir(parents=True)
        # In place of two minutes of compilation: what cargo was told, and the program that the tests have.
        stub = bin_folder / "cargo"
        stub.write_text(
            f'#!/bin/sh\necho "$NVL_COMMIT $*" >"{folder}/cargo.txt"\nfor root; do :; done\n'
            f'mkdir -p "$root/bin" && cp "{PROGRAM}" "$root/bin/"\n'
        )
        stub.chmod(0o755)
        self.summary = folder / "summary.md"
        self.environment = os.environ | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "RUNNER_TEMP": str(folder / "temp"),
        }

    def expand(self, text: str) -> str:
        return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda match: self.values.get(match[1], ""), text)

    def run(self) -> int:
        status = 0
        for step in ACTION["runs"]["steps"]:
            if "run" not in step or status:
                continue
            output = self.folder / "output.txt"
            output.write_text("")
            environment = self.environment | {"GITHUB_OUTPUT": str(output)}
            environment |= {name: self.expand(value) for name, value in step.get("env", {}).items()}
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self.expand(step["run"])]
            done = subprocess.run(
                command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
            )
            status = done.returncode
            for line in output.read_text().splitlines():
                name, value = line.split("=", 1)
                self.values[f"steps.{step['id']}.outputs.{name}"] = value
        return status


@pytest.mark.parametrize(
    ("candidate", "arguments", "status"),
    [
        ("shapes-describe-float32", "", 0),
        ("shapes-describe-bfloat16", "--preset exact --all", 1),
        ("nothing", "", 2),
    ],
)
def test_its_steps_compare_and_publish(candidate, arguments, status, tmp_path):
    given = {"golden": GOLDENS / "shapes-describe-float32", "candidate": GOLDENS / candidate, "arguments": arguments}
    runner = Runner(tmp_path, {name: str(value) for name, value in given.items()})
    assert runner.run() == status
    assert runner.expand(ACTION["outputs"]["status"]["value"]) == str(status)
    assert (tmp_path / "cargo.txt").read_text() == (
        f"v1 install --locked --path {ROOT}/validate --root {tmp_path}/temp/nvl-validate\n"
    )
    assert re.fullmatch(r"[0-9a-f]{16}", runner.values["steps.sources.outputs.hash"])
    assert runner.summary.read_text()
    report = tmp_path / "layer-diff"
    upload = next(step for step in ACTION["runs"]["steps"] if "upload-artifact" in step.get("uses", ""))
    assert runner.expand(upload["with"]["path"]) == report.name
    assert report.exists() == (status != 2)
    if status != 2:
        assert {"report.html", "report.xml", "report.md"} <= {path.name for path in report.iterdir()}


def test_the_program_is_built_anew_when_its_sources_change(tmp_path):
    def key(root: Path) -> str:
        step = next(step for step in ACTION["runs"]["steps"] if step.get("id") == "sources")
        output = tmp_path / "output.txt"
        output.write_text("")
        environment = os.environ | {"GITHUB_ACTION_PATH": str(root), "GITHUB_OUTPUT": str(output)}
        subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env=environment, check=True)
        return output.read_text()

    copy = tmp_path / "copy"
    copy.mkdir()
    compiled = compiled_files()
    crates = [path.parent.relative_to(ROOT) for path in ROOT.glob("*/Cargo.toml")]
    for name in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo", *crates]:
        target = copy / name
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("fixtures", "tests", "target", "*.so", "__pycache__")
            shutil.copytree(ROOT / name, target, ignore=ignored, symlinks=True)
        else:
            shutil.copy(ROOT / name, target)
    same = key(copy)
    (copy / "validate/README.md").write_text("no source")
    assert key(copy) == same
    for name in compiled:
        path = copy / name
        kept = path.read_bytes()
        path.write_bytes(kept + b"\n")
        assert key(copy) != same, name
        path.write_bytes(kept)


def compiled_files() -> list[str]:
    """What cargo says that nvl-validate was built from, and what says how."""
    words = PROGRAM.with_suffix(".d").read_text().replace("\\ ", "\0").split()
    paths = [Path(word.replace("\0", " ")) for word in words[1:]]
    # Git's own files tell the commit that a program names, and change with every one.
    paths = [path for path in paths if path.is_relative_to(ROOT) and path.is_file() and ".git" not in path.parts]
    own = [str(path.relative_to(ROOT)) for path in paths]
    assert {"store/src/input.rs", "cli/src/escape.rs", "validate/maps/vllm-llama.toml"} <= set(own)
    manifests = [str(path.relative_to(ROOT)) for path in ROOT.glob("*/Cargo.toml")]
    return [
        *own,
        *manifests,
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        ".cargo/config.toml",
        "cli/build.rs",
    ]


def test_what_others_wrote_is_pinned_by_commit():
    """A tag can be moved to other code; a commit cannot."""
    for path in [ROOT / "action.yml", *(ROOT / "docs").glob("*.md")]:
        for used in re.findall(r"^[ -]*uses: +(\S+)", path.read_text(), re.MULTILINE):
            if not used.startswith("nemotron-vl/"):
                assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", used), f"{path.name}: {used}"
