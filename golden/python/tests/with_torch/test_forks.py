"""Processes that are forked from one that records: they leave its dump alone, and nothing waits for ever."""

import os
import subprocess
import sys
import textwrap

import pytest
from conftest import read_back

#: What each script begins with: a recording with tensors on their way, and work that a forked process does within a minute.
BEGIN = """
import os, signal, sys, threading, time, torch, nvl_golden
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
out = sys.argv[1]
model = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).requires_grad_(False)
x = torch.ones(2, 4)


def forked(work):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(60)
    work()
    os._exit(7)
"""

LEFT_BY_EXIT = """
with nvl_golden.record(model, out) as recorder:
    model(x)
    assert forked(lambda: sys.exit(3)) == 3
    model(x)
"""

LEFT_BY_ITS_END = """
recorder = nvl_golden.record(model, out)
recorder.__enter__()
model(x)

def leave():
    recorder.__exit__(None, None, None)
    os._exit(5)

assert forked(leave) == 5
model(x)
recorder.__exit__(None, None, None)
"""

DROPPED = """
recorder = nvl_golden.record(model, out)
recorder.__enter__()
model(x)

def leave():
    global recorder
    recorder._abandon.detach()
    recorder._stop()
    writer = recorder._writer
    del recorder
    writer.abandon()
    assert writer.queued_bytes() == 0
    try:
        writer.finish('{"producer": {"name": "test", "dtype": "float32"}}')
    except nvl_golden.GoldenError as error:
        assert "found one that was forked from it" in str(error)
        del writer
        os._exit(5)

assert forked(leave) == 5
model(x)
recorder.__exit__(None, None, None)
"""

RUNS_THE_MODEL = """
# A queue of one kilobyte, and nobody to empty it: a forked process that waited for room would wait for ever.
with nvl_golden.record(model, out, max_queue_size=1000) as recorder:
    model(x)

    def work():
        for _ in range(200):
            model(x)
            recorder.add("theirs", x)
            with recorder.paused():
                model(x)
        os._exit(5)

    assert forked(work) == 5
    model(x)
"""

WORKERS = """
class Features(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return model(x + index)

with nvl_golden.record(model, out, max_queue_size=1000):
    expected = sum(model(x + index).sum() for index in range(2)).item()
    features = DataLoader(Features(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
    found = [batch.sum().item() for batch in features]
    assert len(found) == 8 and abs(sum(found[:2]) - expected) < 1e-6
"""

HELD_LOCKS = """
# Other threads record all the while: whatever lock there is, one of the forked processes finds it taken.
stop = threading.Event()
# Without any of torch's own locks.
model = nn.Sequential(nn.Identity())

def run():
    while not stop.is_set():
        model(x)
        time.sleep(0.0002)

with nvl_golden.record(model, out, sites="0", max_queue_size=1000) as recorder:
    model(x)
    threads = [threading.Thread(target=run) for _ in range(2)]
    [thread.start() for thread in threads]

    def work():
        model(x)
        recorder.add("theirs", x)
        recorder.pause()
        recorder.resume()
        recorder.__exit__(None, None, None)
        os._exit(3)

    try:
        for _ in range(40):
            assert forked(work) == 3
    finally:
        stop.set()
        [thread.join() for thread in threads]
"""


def run(script, out):
    """Runs a script; a forked process that waits for ever ends by its alarm, and not with the status that is expected."""
    program = [sys.executable, "-W", "ignore", "-c", BEGIN + textwrap.dedent(script), str(out)]
    return subprocess.run(program, check=False, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "script",
    [LEFT_BY_EXIT, LEFT_BY_ITS_END, DROPPED, RUNS_THE_MODEL],
    ids=["exit", "end", "dropped", "runs"],
)
def test_a_forked_process_leaves_the_recording_alone(script, tmp_path):
    result = run(script, tmp_path / "dump")
    assert result.returncode == 0, result.stderr
    assert read_back(tmp_path / "dump").names() == ["0", "1", "output", "0#1", "1#1", "output#1"]
    assert os.listdir(tmp_path) == ["dump"]


def test_workers_of_a_data_loader_may_run_the_model(tmp_path):
    result = run(WORKERS, tmp_path / "dump")
    assert result.returncode == 0, result.stderr
    assert read_back(tmp_path / "dump").names() == ["0", "1", "output", "0#1", "1#1", "output#1"]


def test_a_process_that_is_forked_while_others_threads_hold_locks_waits_for_none(tmp_path):
    result = run(HELD_LOCKS, tmp_path / "dump")
    assert result.returncode == 0, result.stderr
    names = read_back(tmp_path / "dump").names()
    assert set(names) == {f"0#{number}" if number else "0" for number in range(len(names))}


OWN_RECORDING = """
with nvl_golden.record(model, out + "/first"):
    model(x)
dump = nvl_golden.Dump(out + "/first")
dump.verify()
nvl_golden.assert_matches(dump.path, dump.path)

def work():
    with nvl_golden.record(model, out + "/second", sketch=True):
        model(x)
        assert forked(lambda: sys.exit(3)) == 3
    with nvl_golden.record(model, out + "/third"):
        model(x)
    nvl_golden.Dump(out + "/third").verify()
    nvl_golden.assert_matches(out + "/first", out + "/third", policy="exact")
    os._exit(5)

assert forked(work) == 5
"""


def test_a_forked_process_records_and_compares_on_threads_of_its_own(tmp_path):
    result = run(OWN_RECORDING, tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(os.listdir(tmp_path)) == ["first", "second", "third"]
    assert read_back(tmp_path / "third").names() == ["0", "1", "output"]
