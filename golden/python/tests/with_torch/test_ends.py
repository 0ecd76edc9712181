"""How a recording ends that is not finished: nothing is left under the dump's name."""

import gc
import os
import signal
import subprocess
import sys
import textwrap

import nvl_golden
import pytest

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
