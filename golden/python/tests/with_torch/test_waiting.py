"""What the recorder waits for: the writer, and copies from another device."""

import threading
import time

import nvl_golden
import pytest
import torch
from conftest import read_back, record
from see_through import Model
from torch import nn


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
