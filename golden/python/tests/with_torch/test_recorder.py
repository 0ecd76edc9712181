"""`nvl_golden.record` on modules that are easy to see through."""

import os
from collections import OrderedDict

import nvl_golden
import pytest
import torch
from conftest import read_back, record
from nvl_golden.copies import DTYPES
from torch import nn


def test_every_output_has_a_name_in_order_of_completion(model, given, tmp_path):
    dump = record(model, tmp_path / "dump", given)
    assert [(entry.name, entry.module) for entry in dump] == [
        ("first", "Linear"),
        ("act", "ReLU"),
        ("drop", "Dropout"),
        ("first#1", "Linear"),
        ("inner.left", "Inner left"),
        ("inner.right", "Inner right"),
        ("rotary.cos", "RotaryEmbedding cos"),
        ("rotary.sin", "RotaryEmbedding sin"),
        ("output.logits", "Model logits"),
        ("output.hidden_states.0", "Model hidden_states.0"),
        ("output.hidden_states.1.deep", "Model hidden_states.1.deep"),
    ]
    assert {entry.role for entry in dump} == {"activation"}


def test_inputs_come_before_the_module_that_they_are_given_to(model, given, tmp_path):
    dump = record(model, tmp_path / "dump", given, inputs=True)
    names = dump.names()
    assert names[:4] == ["input", "first.input", "first", "act.input"]
    assert names[names.index("first#1") - 1] == "first.input#1"
    assert {"inner.input.0", "inner.input.scale"} <= set(names)
    assert {entry.role for entry in dump if "input" in entry.name} == {"input"}
    assert torch.equal(dump.tensor("input"), given)
    assert torch.equal(dump.tensor("inner.input.scale"), torch.tensor(3.0))


def test_the_recorded_bytes_are_those_at_the_time_of_the_call(model, given, tmp_path):
    dump = record(model, tmp_path / "dump", given)
    with torch.no_grad():
        first = nn.functional.linear(given, model.first.weight, model.first.bias)
    assert (first < 0).any()
    assert torch.equal(dump.tensor("first"), first)
    assert torch.equal(dump.tensor("act"), first.relu())
    # Not contiguous in memory: recorded in row-major order all the same.
    assert torch.equal(dump.tensor("output.hidden_states.1.deep"), dump.tensor("inner.right").mT)


@pytest.mark.parametrize("mode", ["grad", "no_grad", "inference", "autocast"])
def test_outputs_are_unchanged_to_the_last_bit(mode, model, given, tmp_path):
    modes = {
        "grad": torch.enable_grad,
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    }
    with modes[mode]():
        before = model(given)
        with nvl_golden.record(model, tmp_path / "dump", inputs=True):
            recorded = model(given)
        after = model(given)
    for other in (recorded, after):
        assert torch.equal(before.logits, other.logits)
        assert torch.equal(before.hidden_states[1]["deep"], other.hidden_states[1]["deep"])
    assert recorded.logits.requires_grad == before.logits.requires_grad
    dump = read_back(tmp_path / "dump")
    assert dump.entry("first").dtype == ("bfloat16" if mode == "autocast" else "float32")
    assert torch.equal(dump.tensor("output.logits"), recorded.logits)


def test_gradients_are_unchanged(model, given, tmp_path):
    def gradient():
        model.zero_grad()
        model(given).logits.sum().backward()
        return model.first.weight.grad.clone()

    before = gradient()
    with nvl_golden.record(model, tmp_path / "dump", inputs=True):
        assert torch.equal(gradient(), before)


def hooks_of(model):
    return [hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


def test_hooks_go_on_every_way_out_and_an_exception_leaves_no_dump(model, given, tmp_path):
    record(model, tmp_path / "fine", given, inputs=True)
    assert hooks_of(model) == []
    with pytest.raises(ZeroDivisionError), nvl_golden.record(model, tmp_path / "dumps/failed", inputs=True):
        model(given)
        raise ZeroDivisionError
    assert hooks_of(model) == []
    assert os.listdir(tmp_path / "dumps") == []
    with pytest.raises(RuntimeError), nvl_golden.record(model, tmp_path / "dumps/failed"):
        model(given[..., :3])
    assert hooks_of(model) == [] and os.listdir(tmp_path / "dumps") == []
    with pytest.raises(KeyboardInterrupt), nvl_golden.record(model, tmp_path / "dumps/failed"):
        raise KeyboardInterrupt
    assert hooks_of(model) == [] and os.listdir(tmp_path / "dumps") == []


def test_a_call_that_failed_and_was_caught_keeps_inputs_and_outputs_in_step(given, tmp_path):
    class Retry(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x):
            try:
                return self.inner(x[..., :2])
            except RuntimeError:
                return self.inner(x)

    dump = record(Retry(), tmp_path / "dump", given, inputs=True)
    assert dump.names() == ["input", "inner.input", "inner.input#1", "inner#1", "output"]


def test_every_dtype_of_a_dump_keeps_its_bits(tmp_path):
    class Cast(nn.Module):
        def forward(self, x):
            return {
                name: x.view(torch.uint8).contiguous().view(getattr(torch, name)) for name in sorted(DTYPES - {"bool"})
            }

    x = torch.randint(0, 255, (3, 16), dtype=torch.uint8)
    dump = record(Cast(), tmp_path / "dump", x)
    assert {entry.dtype for entry in dump} == DTYPES - {"bool"}
    for entry in dump:
        assert dump.bytes(entry.name) == x.numpy().tobytes(), entry.name
        assert entry.shape == (3, 16 // getattr(torch, entry.dtype).itemsize)
        assert torch.equal(dump.tensor(entry.name).view(torch.uint8), x)


def test_what_a_dump_has_no_dtype_for_is_recorded_losslessly(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            z = torch.view_as_complex(x)
            return {"z": z, "conj": z.conj(), "bool": x > 0, "empty": x[:0], "scalar": x.sum(), "neg": z.conj().imag}

    x = torch.randn(4, 3, 2)
    dump = record(Odd(), tmp_path / "dump", x)
    assert dump.entry("output.z").extra == {"torch_dtype": "complex64"}
    assert torch.equal(dump.tensor("output.z"), x)
    assert torch.equal(dump.tensor("output.conj"), x * torch.tensor([1.0, -1.0]))
    assert torch.equal(dump.tensor("output.bool"), x > 0)
    assert dump.entry("output.empty").shape == (0, 3, 2) and dump.bytes("output.empty") == b""
    assert dump.entry("output.scalar").shape == () and torch.equal(dump.tensor("output.scalar"), x.sum())
    assert torch.equal(dump.tensor("output.neg"), -x[..., 1])


def test_a_tensor_without_elements_of_its_own_is_refused_by_name(tmp_path):
    class Sparse(nn.Module):
        def forward(self, x):
            return x.to_sparse()

    with pytest.raises(
        nvl_golden.GoldenError, match="tensor `output`: expected a tensor with strided elements, found layout"
    ) as error:
        record(Sparse(), tmp_path / "dumps/dump", torch.eye(3))
    assert error.value.hint == "choose sites that leave it out"
    assert os.listdir(tmp_path / "dumps") == []


def test_sites_match_names_and_modules(model, given, tmp_path):
    def names(**options):
        return record(model, tmp_path / "dump", given, overwrite=True, **options).names()

    assert names(sites="rotary") == ["rotary.cos", "rotary.sin"]
    assert names(sites=["{first,inner.left}"]) == ["first", "first#1", "inner.left"]
    assert names(sites=["*#1"]) == ["first#1"]
    assert names(only={"first", "inner.right"}) == ["first", "inner.right"]
    assert names(max_calls=1, sites="first") == ["first"]
    assert names(identities=False, sites=["drop", "act"]) == ["act"]
    assert names(prefix="language_model", sites="*.act") == ["language_model.act"]
    assert names(sites="inner", output_names={"Inner": (None, "")}) == ["inner"]


def test_tokens_keep_chosen_rows_and_say_so(model, given, tmp_path):
    whole = record(model, tmp_path / "whole", given)
    for tokens, kept in (
        ("last:2", [3, 4]),
        ("first:1", [0]),
        ("every:2", [0, 2, 4]),
        ([-1, 0, 9], [0, 4]),
        ("1,3", [1, 3]),
    ):
        dump = record(model, tmp_path / "dump", given, overwrite=True, tokens=tokens)
        for name in ("first", "rotary.cos"):
            assert torch.equal(dump.tensor(name), whole.tensor(name)[:, kept]), tokens
            assert dump.entry(name).extra["rows"]["of"] == 5 and dump.entry(name).extra["rows"]["axis"] == 1
        # Already whole: nothing is cut, and nothing is said.
    assert record(model, tmp_path / "dump", given, overwrite=True, tokens="last:50").entry("first").extra == {}


@pytest.mark.parametrize("tokens", ["last", "last:0", "most:3", "last:x", "1,two", [], "last:-1"])
def test_tokens_that_make_no_sense_are_refused(tokens, model, tmp_path):
    with pytest.raises(nvl_golden.GoldenError, match="tokens: expected `last:N`"):
        nvl_golden.record(model, tmp_path / "dump", tokens=tokens)


def test_files_are_begun_anew_at_the_limit(model, given, tmp_path):
    dump = record(model, tmp_path / "dump", given, max_shard_size="500B")
    files = sorted(path.name for path in (tmp_path / "dump").glob("*.safetensors"))
    # Eleven tensors of 240 bytes, two to a file.
    assert len(files) == 6 and files[0] == "tensors-00001-of-00006.safetensors"
    assert {entry.extra["file"] for entry in dump} == set(files)
    with pytest.raises(nvl_golden.GoldenError, match="max_shard_size: expected a size such as `5GB`"):
        nvl_golden.record(model, tmp_path / "dump", max_shard_size="big")


def test_sketches_stand_for_tensors(model, given, tmp_path):
    whole = record(model, tmp_path / "whole", given)
    with nvl_golden.record(model, tmp_path / "sketched", sketch=True, sketch_seed=3) as recorder:
        recorder.add("input_ids", [[1, 2]], role="input")
        model(given)
    dump = nvl_golden.Dump(tmp_path / "sketched")
    dump.verify()
    # Whole numbers are few and judged to the bit: they are kept.
    assert dump.tensor("input_ids").tolist() == [[1, 2]]
    sketch = dump.entry("first").extra["sketch"]
    assert sketch["seed"] == 3 and sketch["count"] == 60
    assert sketch["l2"] == pytest.approx(whole.tensor("first").double().norm().item(), rel=1e-12)
    assert dump.entry("first").sha256 == whole.entry("first").sha256
    with pytest.raises(nvl_golden.GoldenError, match="`first`"):
        dump.tensor("first")


def test_an_engines_version_does_not_get_this_packages_commit(tmp_path):
    model = torch.nn.Linear(2, 2)
    with nvl_golden.record(model, tmp_path / "dump") as recorder:
        model(torch.ones(1, 2))
        recorder.producer |= {"name": "vLLM", "version": "0.32.0"}
    producer = read_back(tmp_path / "dump").manifest["producer"]
    assert (producer["name"], producer["version"]) == ("vLLM", "0.32.0") and "commit" not in producer


def test_plain_entries_and_the_manifest(model, given, tmp_path):
    with nvl_golden.record(model, tmp_path / "dump", sites=["first", "*_ids", "step_logits"]) as recorder:
        recorder.add("input_ids", [[1, 2, 3]], role="input")
        with recorder.paused():
            model(given)
        logits = torch.ones(2, 7)
        recorder.add("step_logits", logits, role="output")
        logits.zero_()
        recorder.add("left_out", logits)
        with pytest.raises(nvl_golden.GoldenError, match="entry `input_ids`: expected a unique name"):
            recorder.add("input_ids", [[1]])
        recorder.request = {"turns": [{"user": "What?"}], "max_new_tokens": 2, "do_sample": False}
        recorder.prompt, recorder.text, recorder.generated_ids = "What?", "That.", [5, 6]
        recorder.checkpoint = {"name": "mine", "revision": "abc"}
        recorder.producer |= {"name": "my engine", "deviations": ["none to speak of"]}
    dump = read_back(tmp_path / "dump")
    assert [(entry.name, entry.role, entry.dtype) for entry in dump] == [
        ("input_ids", "input", "int64"),
        ("step_logits", "output", "float32"),
    ]
    assert dump.tensor("step_logits").sum() == 14
    manifest = dump.manifest
    assert manifest["producer"]["commit"] == nvl_golden._core.__commit__
    assert manifest["producer"]["name"] == "my engine" and manifest["producer"]["torch"] == torch.__version__
    assert manifest["producer"]["dtype"] == "float32" and manifest["producer"]["threads"] == torch.get_num_threads()
    assert (manifest["prompt"], manifest["text"], manifest["generated_ids"]) == ("What?", "That.", [5, 6])
    assert manifest["checkpoint"] == {"name": "mine", "revision": "abc"}
    with pytest.raises(nvl_golden.GoldenError, match="expected a running recording"):
        recorder.add("late", logits)


def test_only_a_dump_is_replaced(model, given, tmp_path):
    record(model, tmp_path / "dump", given)
    with pytest.raises(nvl_golden.GoldenError, match="expected no file and no folder with content") as error:
        nvl_golden.record(model, tmp_path / "dump").__enter__()
    assert error.value.hint and hooks_of(model) == []
    assert len(record(model, tmp_path / "dump", given, overwrite=True, sites="first")) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("mine")
    with pytest.raises(nvl_golden.GoldenError, match="expected a dump to replace"):
        nvl_golden.record(model, tmp_path / "other", overwrite=True).__enter__()


def test_nothing_recorded_is_worth_a_warning(model, given, tmp_path):
    with pytest.warns(UserWarning, match="nothing was recorded"):
        record(model, tmp_path / "dump", given, sites="no.such.module")


def test_ordered_mappings_keep_their_order(tmp_path):
    class Keys(nn.Module):
        def forward(self, x):
            return OrderedDict(z=x, a=x, m=[x])

    assert record(Keys(), tmp_path / "dump", torch.ones(2)).names() == ["output.z", "output.a", "output.m.0"]
