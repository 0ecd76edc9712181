"""scripts/layer-diff, which the GitHub action runs: its exit status, reports and step summary."""

import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/nvl-validate"
GOLDENS = ROOT / "golden/fixtures/goldens"
DESCRIBE = GOLDENS / "shapes-describe-float32"


@pytest.fixture
def layer_diff(tmp_path):
    """Runs the script as a job does; its result, the report's folder and the step summary."""

    def run(*arguments, actions="false"):
        summary, report = tmp_path / "summary.md", tmp_path / "report"
        summary.write_text("before\n")
        environment = os.environ | {"NVL_VALIDATE": str(PROGRAM), "GITHUB_STEP_SUMMARY": str(summary)}
        environment["GITHUB_ACTIONS"] = actions
        command = [ROOT / "scripts/layer-diff", *arguments[:2], report, *arguments[2:]]
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        return result, report, summary.read_text()

    return run


def test_dumps_that_agree_pass_with_every_report(layer_diff):
    result, report, summary = layer_diff(DESCRIBE, DESCRIBE)
    assert result.returncode == 0, result.stderr
    names = {path.name for path in report.iterdir()}
    assert {"report.xml", "report.json", "report.md", "report.html"} <= names
    assert summary == "before\n" + (report / "report.md").read_text()
    assert ElementTree.parse(report / "report.xml").getroot().get("failures") == "0"


def test_dumps_that_differ_fail_and_the_reports_are_there(layer_diff):
    other = GOLDENS / "shapes-describe-bfloat16"
    result, report, summary = layer_diff(DESCRIBE, other, "--preset", "exact")
    assert result.returncode == 1, result.stderr
    assert int(ElementTree.parse(report / "report.xml").getroot().get("failures")) > 0
    assert summary == "before\n" + (report / "report.md").read_text()


def test_a_dump_that_is_not_there_is_no_verdict(layer_diff, tmp_path):
    result, _, summary = layer_diff(DESCRIBE, tmp_path / "nothing")
    assert result.returncode == 2
    assert "nothing" in result.stderr
    assert "could not be compared" in summary


def test_annotations_are_printed_in_github_actions_only(layer_diff, tmp_path):
    other = GOLDENS / "shapes-describe-bfloat16"
    for candidate, beginning in (
        (DESCRIBE, "::notice title=Activations%3A pass::"),
        (other, "::error title=Activations%3A first divergence at "),
        (tmp_path / "nothing", "::error title=Activations%3A not compared::"),
    ):
        commands = {}
        for actions in ("true", "false"):
            result, _, _ = layer_diff(DESCRIBE, candidate, "--preset", "exact", actions=actions)
            commands[actions] = [line for line in result.stdout.splitlines() if line.startswith("::")]
        assert commands["true"] and commands["true"][0].startswith(beginning)
        assert commands["false"] == []


def test_reports_of_an_earlier_run_are_not_shown(layer_diff):
    other = GOLDENS / "shapes-describe-bfloat16"
    result, report, _ = layer_diff(DESCRIBE, other, "--preset", "exact", actions="true")
    assert (report / "report.md").exists() and (report / "report.annotations").exists()
    result, _, summary = layer_diff(DESCRIBE, DESCRIBE, "--format", "json", actions="true")
    assert result.returncode == 0, result.stderr
    assert summary == "before\n"
    assert "::" not in result.stdout


def test_a_program_that_is_not_there_is_no_verdict(layer_diff, monkeypatch, tmp_path):
    monkeypatch.setattr("test_layer_diff.PROGRAM", tmp_path / "nvl-validate")
    result, _, summary = layer_diff(DESCRIBE, DESCRIBE, actions="true")
    assert result.returncode == 127
    assert "could not be compared" in summary
    assert result.stdout.startswith("::error title=Activations%3A not compared::")


def test_paths_are_paths_whatever_they_begin_with(layer_diff, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("--help", "--policy=x"):
        result, _, _ = layer_diff(name, DESCRIBE)
        assert result.returncode == 2, result.stdout
        assert f"`{name}/manifest.json`" in result.stderr
        shutil.copytree(DESCRIBE, tmp_path / name)
        result, report, _ = layer_diff(name, name, "--all")
        assert result.returncode == 0, result.stderr
        assert (report / "report.xml").exists()


def test_the_action_hands_its_inputs_to_the_script():
    text = (ROOT / "action.yml").read_text()
    assert '"$GITHUB_ACTION_PATH/scripts/layer-diff" "$GOLDEN" "$CANDIDATE" "$REPORT" $ARGUMENTS' in text
    for name in ("golden", "candidate", "report", "arguments"):
        assert f"{name.upper()}: ${{{{ inputs.{name} }}}}" in text
