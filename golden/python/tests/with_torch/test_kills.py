"""Recordings that are killed: a dump is whole under its name or not there, and the next recording clears up."""

import json
import os
import subprocess
import sys

import pytest
from conftest import read_back

#: Forks a process that records, again and again, kills it at a random moment, and says what is left under the name.
KILLS = """
import hashlib, json, os, random, signal, sys, time, torch, nvl_golden
from torch import nn

torch.set_num_threads(1)
out, replaces, kills = sys.argv[1], sys.argv[2] == "force", int(sys.argv[3])
random.seed(int(sys.argv[4]))
parent = os.path.dirname(out)


def record(mark):
    with nvl_golden.record(nn.Identity(), out, overwrite=replaces, max_shard_size="20kB") as recorder:
        for index in range(6):
            recorder.add(f"layers.{index}", torch.full((1000,), float(mark)))
        recorder.text = str(mark)


def whole():
    '''What is under the name: the mark of a whole dump, or none.'''
    if not os.path.exists(out):
        return None
    dump = nvl_golden.Dump(out)
    mark = int(dump.manifest["text"])
    assert dump.names() == [f"layers.{index}" for index in range(6)]
    for entry in dump:
        data = dump.bytes(entry.name)
        assert hashlib.sha256(data).hexdigest() == entry.sha256 and data == torch.full((1000,), float(mark)).numpy().tobytes()
    return mark


begun = time.monotonic()
record(0)
took = time.monotonic() - begun
seen = set()
for mark in range(1, kills + 1):
    if not replaces and os.path.exists(out):
        os.rename(out, out + ".aside")
    before = whole()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b".")
        record(mark)
        os._exit(0)
    os.read(reader, 1)
    os.close(reader), os.close(writer)
    time.sleep(random.uniform(0, 2 * took))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    after = whole()
    assert after in (before, mark), (before, mark, after)
    hidden = [name for name in os.listdir(parent) if name.startswith(".")]
    seen.add((after == mark, bool(hidden)))
    if os.path.exists(out + ".aside"):
        for name in os.listdir(out + ".aside"):
            os.unlink(os.path.join(out + ".aside", name))
        os.rmdir(out + ".aside")
if not replaces and os.path.exists(out):
    os.rename(out, out + ".aside")
record(-1)
assert whole() == -1
print(json.dumps({"left": sorted(os.listdir(parent)), "seen": sorted(seen)}))
"""


@pytest.mark.parametrize("kind", ["new", "force"])
def test_a_kill_at_any_moment_leaves_the_old_dump_or_the_new_one_and_nothing_for_ever(kind, tmp_path):
    program = [sys.executable, "-c", KILLS, str(tmp_path / "dumps/dump"), kind, "100", "15"]
    result = subprocess.run(program, check=False, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [name for name in found["left"] if name != "dump.aside"] == ["dump"]
    # Some were killed before they had finished and left something behind, and some had finished.
    assert [False, True] in found["seen"] and any(finished for finished, _ in found["seen"])
    read_back(tmp_path / "dumps/dump")


HELD = """
import sys, torch, nvl_golden
from torch import nn
with nvl_golden.record(nn.Identity(), sys.argv[1]) as recorder:
    recorder.add("a", torch.zeros(5))
    print("recording", flush=True)
    sys.stdin.readline()
"""


def test_what_a_living_recording_has_begun_is_never_touched(tmp_path):
    import nvl_golden
    import torch

    def hidden():
        return [name for name in os.listdir(tmp_path) if name.startswith(".")]

    program = [sys.executable, "-c", HELD, str(tmp_path / "theirs")]
    theirs = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert theirs.stdout.readline() == "recording\n"
    living = hidden()
    assert len(living) == 1
    for name in ("ours", "another"):
        with nvl_golden.record(torch.nn.Identity(), tmp_path / name) as recorder:
            recorder.add("b", torch.ones(2))
            assert set(living) < set(hidden())
    theirs.communicate("go on\n", timeout=120)
    assert theirs.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["another", "ours", "theirs"]
    assert read_back(tmp_path / "theirs").names() == ["a"]
