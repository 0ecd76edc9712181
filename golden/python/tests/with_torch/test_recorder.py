"""`nvl_golden.record` on modules that are easy to see through."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import nvl_golden
import pytest
import torch
from conftest import read_back
from nvl_golden.copies import DTYPES
from torch import nn

Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Result:
    """An output as transformers has them."""

    logits: torch.Tensor
    cache: object = None
    hidden_states: tuple = ()


class Inner(nn.Module):
    def forward(self, x, scale=None):
        return Pair(x + 1, x * (2 if scale is None else scale))


class Model(nn.Module):
    """Every kind of output, an in-place kernel, and a module that runs twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.inner = Inner()
        self.rotary = RotaryEmbedding()

    def forward(self, x):
        x = self.drop(self.act(self.first(x)))
        x = self.first(x)
        pair = self.inner(x, scale=torch.tensor(3.0))
        cos, sin = self.rotary(pair.left)
        return Result(cos + sin, cache=object(), hidden_states=(pair.left, {"deep": pair.right.mT}))


class RotaryEmbedding(nn.Module):
    def forward(self, x):
        return x.cos(), x.sin()


@pytest.fixture
def model():
    torch.manual_seed(1)
    return Model().eval()


@pytest.fixture
def given():
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))


def record(model, out, given, **options):
    with nvl_golden.record(model, out, **options):
        model(given)
    return read_back(out)


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


def test_compiled_modules_are_left_as_they_are_and_eager_parts_recorded(given, tmp_path):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(9)
            self.inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
            self.post = nn.Linear(6, 6)

        def forward(self, x):
            return self.post(self.inner(x))

    eager = Outer()
    expected = eager(given)
    everything = ["inner.0", "inner.1", "inner", "post", "output"]
    assert record(eager, tmp_path / "eager", given).names() == everything
    outer = Outer()
    outer.inner = torch.compile(outer.inner, backend="eager")
    # Compiled for the first time while it is recorded, the hooks are compiled away; the second time it is compiled already.
    for name in ("first", "second"):
        dump = record(outer, tmp_path / name, given)
        assert dump.names() == ["inner", "post", "output"]
        assert dump.entry("inner").module == "Sequential"
        assert torch.equal(dump.tensor("output"), expected)
    torch.compiler.reset()


def test_what_a_compiler_leaves_to_python_is_recorded(given, tmp_path):
    @torch.compiler.disable
    def double(x):
        return 2 * x

    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.after = nn.Tanh(), Eager()

        def forward(self, x):
            return self.after(self.before(x))

    class Eager(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sigmoid()
            self.forward = torch.compiler.disable(self.run)

        def run(self, x):
            return double(self.inner(x))

    model = Broken()
    expected = model(given)
    compiled = torch.compile(model, backend="eager")
    dump = record(compiled, tmp_path / "dump", given)
    assert "after.inner" in dump and dump.names()[-1] == "output"
    assert torch.equal(dump.tensor("output"), expected)
    torch.compiler.reset()


def test_python_goes_on_while_the_writer_is_waited_for(tmp_path):
    wide = nn.Sequential(*(nn.Identity() for _ in range(40)))
    x = torch.zeros(1 << 18)
    ticks = 0
    stop = threading.Event()

    def tick():
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        # A megabyte may wait: the writer is waited for again and again, and Python goes on meanwhile.
        dump = record(wide, tmp_path / "dump", x, max_queue_size="1MiB", max_shard_size="3MB")
    finally:
        stop.set()
        thread.join()
    assert dump.size_bytes == 41 << 20 and ticks > 10


FULL_DISK = """
import resource, sys, torch, nvl_golden
from torch import nn
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000_000, 30_000_000))
model = nn.Sequential(*(nn.Identity() for _ in range(8)))
try:
    with nvl_golden.record(model, sys.argv[1]):
        for _ in range(8):
            model(torch.zeros(1_000_000))
except nvl_golden.GoldenError as error:
    print(error)
"""


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    out = tmp_path / "dumps/dump"
    result = subprocess.run([sys.executable, "-c", FULL_DISK, out], capture_output=True, text=True, check=False)
    assert "cannot be written: File too large" in result.stdout, result.stderr
    assert os.listdir(out.parent) == []


KILLED = """
import sys, time, torch, nvl_golden
from torch import nn
with nvl_golden.record(nn.Identity(), sys.argv[1]) as recorder:
    for index in range(10):
        recorder.add(str(index), torch.zeros(5_000_000))
    print("recording", flush=True)
    time.sleep(600)
"""
EXITED = KILLED.replace("time.sleep(600)", "sys.exit(3)")
FORGOTTEN = """
import sys, torch, nvl_golden
from torch import nn
recorder = nvl_golden.record(nn.Identity(), sys.argv[1]).__enter__()
recorder.add("a", torch.zeros(5_000_000))
"""


def test_a_crash_leaves_no_dump_under_the_final_name(tmp_path):
    out = tmp_path / "dump"
    process = subprocess.Popen([sys.executable, "-c", KILLED, out], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "recording\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()


@pytest.mark.parametrize(("script", "status"), [(EXITED, 3), (FORGOTTEN, 0)], ids=["exit", "forgotten"])
def test_a_program_that_ends_while_it_records_leaves_nothing(script, status, tmp_path):
    out = tmp_path / "dumps/dump"
    command = [sys.executable, "-c", textwrap.dedent(script), out]
    assert subprocess.run(command, check=False, timeout=300, stdout=subprocess.DEVNULL).returncode == status
    assert os.listdir(out.parent) == []


def test_a_recorder_that_is_dropped_is_abandoned(model, given, tmp_path):
    recorder = nvl_golden.record(model, tmp_path / "dumps/dump").__enter__()
    model(given)
    recorder._stop()
    del recorder
    gc.collect()
    assert os.listdir(tmp_path / "dumps") == []


def test_ordered_mappings_keep_their_order(tmp_path):
    class Keys(nn.Module):
        def forward(self, x):
            return OrderedDict(z=x, a=x, m=[x])

    assert record(Keys(), tmp_path / "dump", torch.ones(2)).names() == ["output.z", "output.a", "output.m.0"]


class Event:
    """Stands for `torch.cuda.Event`: complete once as many waits or looks have passed."""

    waits = 0

    def __init__(self, looks):
        self.looks = looks

    def query(self):
        self.looks -= 1
        return self.looks < 0

    def synchronize(self):
        Event.waits += 1
        self.looks = 0


def test_copies_under_way_are_awaited_together_and_in_order(monkeypatch, tmp_path):
    from nvl_golden import _core, copies, staging

    monkeypatch.setattr(copies, "_to_host", lambda tensor, is_copy: (tensor.clone(), Event(looks=10**6)))
    writer = _core.Writer(str(tmp_path / "dump"), replace=False, max_shard_bytes=10**9, max_queued_bytes=10**9)
    pending = staging.Staging(writer, max_pending_bytes=1000)
    Event.waits = 0
    for index in range(25):
        pending.push(staging.Destination(str(index), "activation", ""), torch.full((25,), float(index)))
    # 100 bytes each: the first ten are free, and each later one makes room by waiting for the oldest.
    assert Event.waits == 15
    pending.flush()
    assert Event.waits == 25
    writer.finish('{"producer": {"name": "test", "dtype": "float32"}}')
    dump = read_back(tmp_path / "dump")
    assert dump.names() == [str(index) for index in range(25)]
    assert [dump.tensor(name)[0].item() for name in dump.names()] == list(range(25))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_recorded_through_pinned_memory(given, tmp_path):
    model = Model().eval().cuda()
    expected = model(given.cuda())
    with nvl_golden.record(model, tmp_path / "dump"):
        recorded = model(given.cuda())
    assert torch.equal(expected.logits, recorded.logits)
    dump = read_back(tmp_path / "dump")
    assert torch.equal(dump.tensor("output.logits"), expected.logits.cpu())
    assert (dump.tensor("first") < 0).any(), "recorded after the in-place kernel"
