"""`assert_matches` and the pytest fixture: the validator's own comparison."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nvl_golden
import pytest
import torch
import transformers
from conftest import LLAMA, ROOT
from nvl_golden.comparison import EXTENSIONS

GOLDENS = ROOT / "golden/fixtures/goldens"
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
# The command of the environment that the tests run in.
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
INPUT_IDS = torch.arange(1, 20).reshape(1, -1)


@pytest.fixture
def model():
    torch.manual_seed(5)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA, initializer_range=0.2)).eval()


@pytest.fixture
def golden(model, tmp_path):
    with nvl_golden.record(model, tmp_path / "golden", prefix="language_model") as recorder, torch.inference_mode():
        recorder.add("input_ids", INPUT_IDS, role="input")
        model(input_ids=INPUT_IDS)
        recorder.prompt = "What?"
    return tmp_path / "golden"


@pytest.fixture
def with_weights(model, tmp_path):
    """The golden with the weights of its attention, as a run with eager attention has them."""
    with nvl_golden.record(model, tmp_path / "weights", prefix="language_model") as recorder, torch.inference_mode():
        recorder.add("input_ids", INPUT_IDS, role="input")
        model(input_ids=INPUT_IDS)
        for layer in range(LLAMA["num_hidden_layers"]):
            name = f"language_model.model.layers.{layer}.self_attn.attn_weights"
            recorder.add(name, torch.zeros(1, 1, 19, 19), module="LlamaAttention attn_weights")
        recorder.prompt = "What?"
    return tmp_path / "weights"


def break_it(model):
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3] *= 1.5


def test_a_dump_matches_itself_and_not_another():
    text, described = GOLDENS / "shapes-text-float32", GOLDENS / "shapes-describe-float32"
    assert nvl_golden.assert_matches(text, text, policy="exact").passes
    assert nvl_golden.assert_matches(text, nvl_golden.Dump(text)).passes
    with pytest.raises(AssertionError, match="verdict: FAIL"):
        nvl_golden.assert_matches(text, described)


def test_weights_that_another_attention_does_not_return_are_not_judged(golden, with_weights, model):
    for first, second in ((golden, with_weights), (with_weights, golden)):
        comparison = nvl_golden.compare(first, second, policy="exact")
        assert comparison.passes
        table = comparison.reports["table"]
        assert "`attn_weights` of the" in table
        assert "MISSING" not in table and "EXTRA" not in table
    # A model whose attention returns none is right, too.
    assert nvl_golden.assert_matches(with_weights, model, prefix="language_model", policy="exact").passes


def test_the_report_is_that_of_the_command(golden, model, tmp_path):
    break_it(model)
    with nvl_golden.record(model, tmp_path / "candidate", prefix="language_model"), torch.inference_mode():
        model(input_ids=INPUT_IDS)
    comparison = nvl_golden.compare(golden, tmp_path / "candidate", formats=["json", "table"])
    program = [PROGRAMS / "nvl-validate", "diff", golden, tmp_path / "candidate"]
    for name, text in comparison.reports.items():
        result = subprocess.run([*program, "--format", name], capture_output=True, text=True, check=False)
        assert result.returncode == 1, result.stderr
        assert result.stdout == text


def test_a_model_is_recorded_at_the_goldens_sites_and_judged(golden, model):
    assert nvl_golden.assert_matches(golden, model, prefix="language_model", policy="exact").passes
    run = lambda engine: engine(input_ids=INPUT_IDS)  # noqa: E731
    assert nvl_golden.assert_matches(golden, model, prefix="language_model", policy="exact", run=run).passes
    break_it(model)
    with pytest.raises(AssertionError, match=r"first divergence: language_model\.model\.layers\.1\.mlp\.down_proj"):
        nvl_golden.assert_matches(golden, model, prefix="language_model")


def test_a_model_without_any_of_the_sites_does_not_pass(golden):
    with (
        pytest.raises(AssertionError, match="expected a model that has some of the golden's sites"),
        pytest.warns(UserWarning),
    ):
        nvl_golden.assert_matches(golden, torch.nn.Linear(2, 2), run=lambda engine: engine(torch.ones(2)))


def test_a_question_that_cannot_be_answered_is_no_failed_assertion(golden, tmp_path):
    for arguments in (
        {"candidate": tmp_path / "missing"},
        {"candidate": golden, "policy": tmp_path / "missing.toml"},
        {"candidate": 3},
        {"candidate": golden, "noise": [golden], "noise_factor": 0.5},
    ):
        with pytest.raises(nvl_golden.GoldenError):
            nvl_golden.assert_matches(golden, **arguments)
    names = ", ".join(f"`{name}`" for name in EXTENSIONS)
    with pytest.raises(nvl_golden.GoldenError, match=f"format: expected one of {names}, found `pdf`"):
        nvl_golden.compare(golden, golden, formats=["pdf"])


def test_a_model_with_names_of_its_own_is_judged_through_a_map(golden, model, tmp_path):
    assert nvl_golden.assert_matches(golden, model, names="transformers-llama", policy="exact").passes
    with pytest.raises(AssertionError, match="none of its"):
        nvl_golden.assert_matches(golden, model)
    break_it(model)
    with pytest.raises(AssertionError) as error:
        nvl_golden.assert_matches(golden, model, names="transformers-llama")
    assert "first divergence: language_model.model.layers.1.mlp.down_proj" in str(error.value)
    mine = tmp_path / "mine.toml"
    mine.write_text("version = 1\n[[rules]]\ngolden = 3\n")
    with pytest.raises(nvl_golden.GoldenError, match=r"mine\.toml"):
        nvl_golden.assert_matches(golden, model, names=mine)


def test_the_command_tells_its_version_and_commit():
    done = subprocess.run(["nvl-golden", "--version"], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert re.fullmatch(r"nvl-golden \d+\.\d+\.\d+ \([0-9a-f]{9,} \d{4}-\d\d-\d\d(, modified)?\)\n", done.stdout)
    assert done.stdout.split()[1] == nvl_golden.__version__


def test_a_changed_dump_is_not_judged(golden):
    file = golden / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(nvl_golden.GoldenError, match="expected SHA-256") as error:
        nvl_golden.assert_matches(golden, golden)
    assert "record it again" in error.value.hint


def test_the_fixture_writes_reports_for_ci(pytester, golden, tmp_path):
    candidate = GOLDENS / "shapes-describe-float32"
    pytester.makepyfile(
        f"""
        def test_same(assert_golden):
            assert_golden({str(golden)!r}, {str(golden)!r})

        def test_other(assert_golden):
            assert_golden({str(golden)!r}, {str(candidate)!r})
        """
    )
    plugin = () if "nvl_golden" in pytester.plugins or _is_installed() else ("-p", "nvl_golden.pytest_plugin")
    result = pytester.runpytest(*plugin, "--nvl-golden-reports", tmp_path / "reports", "--nvl-golden-policy", "exact")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*verdict: FAIL*"])
    folders = sorted((tmp_path / "reports").iterdir())
    assert [folder.name.rpartition("-")[2] for folder in folders] == ["test_other", "test_same"]
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {f"report.{end}" for end in EXTENSIONS.values()}
    suite = ElementTree.parse(folders[0] / "report.xml").getroot()
    assert int(suite.get("failures")) > 0
    assert json.loads((folders[1] / "report.json").read_text())


def _is_installed() -> bool:
    from importlib.metadata import entry_points

    return bool(entry_points(group="pytest11", name="nvl_golden"))
