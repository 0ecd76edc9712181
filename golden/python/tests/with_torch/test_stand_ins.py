"""Checkpoints with something else in the place of a file, and manifests with numbers that JSON does not have."""

import json
import shutil
import subprocess
import sys

import nvl_golden
import pytest
import torch
from conftest import SHAPES, read_back

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 17209920\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model-00002-of-00003.safetensors"])
def test_a_pointer_of_git_lfs_is_named_with_what_to_do(tmp_path, name):
    checkpoint = tmp_path / "shapes"
    shutil.copytree(SHAPES, checkpoint)
    (checkpoint / name).write_text(POINTER)
    program = [sys.executable, "-m", "nvl_golden.cli", "record", "--model", str(checkpoint), "--prompt", "x"]
    result = subprocess.run([*program, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert (
        f"`{checkpoint / name}`: expected a file of the checkpoint, found a Git LFS pointer to a file of 17209920 bytes"
        in result.stderr
    )
    assert "hint: `git lfs pull`" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_number_that_json_does_not_have_spoils_no_recording(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with nvl_golden.record(model, tmp_path / "dump") as recorder:
        model(torch.zeros(1, 2))
        recorder.request = {"turns": [{"user": "What?"}], "temperature": float("nan")}
    dump = read_back(tmp_path / "dump")
    assert dump.manifest["request"]["temperature"] == "NaN"
    # Every reader of JSON takes it.
    json.loads((tmp_path / "dump/manifest.json").read_text(), parse_constant=pytest.fail)
