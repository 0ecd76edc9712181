"""Forward passes on several threads at once."""

import sys
import threading
from collections import Counter

import nvl_golden
import pytest
import torch
from conftest import read_back
from torch import nn

COUNT = 4


class Meeting(nn.Module):
    """Where all threads wait for each other."""

    def __init__(self):
        super().__init__()
        self.barrier = threading.Barrier(COUNT, timeout=60)

    def forward(self, x):
        self.barrier.wait()
        return x + 0


class Layer(nn.Module):
    """A layer with what all layers share; every thread is inside its own when the shared modules run."""

    def __init__(self, shared):
        super().__init__()
        self.act = shared

    def forward(self, x):
        return self.act(x)


class Decorated(Layer):
    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


def together(*calls):
    """Runs calls on threads of their own; the first error of any is raised."""
    errors = []

    def run(call):
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("layer", [Layer, Decorated])
@pytest.mark.parametrize("inputs", [False, True])
def test_shared_modules_are_named_after_the_layer_that_runs_in_their_thread(layer, inputs, tmp_path):
    shared = nn.Sequential(Meeting(), nn.Tanh())
    layers = nn.ModuleList(layer(shared) for _ in range(COUNT))
    with nvl_golden.record(layers, tmp_path / "dump", inputs=inputs):
        together(*(lambda i=i: layers[i](torch.full((2,), float(i))) for i in range(COUNT)))
    dump = read_back(tmp_path / "dump")
    for i in range(COUNT):
        given = torch.full((2,), float(i))
        # What is inside of a shared module is where that one is.
        for name in (f"{i}.act.1", f"{i}.act", f"{i}"):
            assert torch.equal(dump.tensor(name), torch.tanh(given)), name
        assert torch.equal(dump.tensor(f"{i}.act.0"), given)
        if inputs:
            for name in (f"{i}.act.input", f"{i}.act.0.input", f"{i}.act.1.input"):
                assert torch.equal(dump.tensor(name), given), name
            assert dump.names().index(f"{i}.input") < dump.names().index(f"{i}.act.input") < dump.names().index(f"{i}")
    assert len(dump) == COUNT * (8 if inputs else 4)


def test_an_output_has_the_number_of_its_own_input(tmp_path):
    """Calls of one module begin in one order and end in another."""
    first_inside, second_done = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def forward(self, x):
            if x[0] == 0:
                first_inside.set()
                assert second_done.wait(60)
            return x + 10

    def second():
        assert first_inside.wait(60)
        module(torch.ones(1))
        second_done.set()

    module = Waiting()
    with nvl_golden.record(module, tmp_path / "dump", inputs=True):
        together(lambda: module(torch.zeros(1)), second)
    dump = read_back(tmp_path / "dump")
    assert dump.names() == ["input", "input#1", "output#1", "output"]
    assert [dump.tensor(name).item() for name in dump.names()] == [0, 1, 11, 10]


def test_a_call_that_passes_hooks_by_is_not_mistaken_for_another_threads(tmp_path):
    hooked, passed_by = threading.Event(), threading.Event()

    class Either(nn.Module):
        """A class whose `__call__` goes to the hooks for one thread, and straight to `forward` for another."""

        def __call__(self, x):
            return super().__call__(x) if x[0] == 0 else self.forward(x)

        def forward(self, x):
            return x + 10

    def wait(_module, _args):
        hooked.set()
        assert passed_by.wait(60)

    def by_hand():
        assert hooked.wait(60)
        module(torch.ones(1))
        passed_by.set()

    module = Either()
    with nvl_golden.record(module, tmp_path / "dump"):
        # Behind the recorder's own: the first thread is between its hooks and `forward` while the second calls.
        handle = module.register_forward_pre_hook(wait)
        together(lambda: module(torch.zeros(1)), by_hand)
        handle.remove()
    dump = read_back(tmp_path / "dump")
    assert [(name, dump.tensor(name).item()) for name in dump.names()] == [("output", 11), ("output#1", 10)]


@pytest.fixture
def hasty():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("inputs", [False, True])
def test_no_call_and_no_name_is_lost_or_given_twice(inputs, hasty, tmp_path):
    module, calls = nn.Sequential(nn.Identity(), nn.Identity()), 60
    with nvl_golden.record(module, tmp_path / "dump", inputs=inputs) as recorder:

        def run(thread):
            for call in range(calls):
                module(torch.tensor([thread, call]))
                recorder.add(f"plain.{thread}.{call}", torch.tensor([thread, call]))

        together(*(lambda thread=thread: run(thread) for thread in range(COUNT)))
        size = recorder.bytes_recorded
    dump = read_back(tmp_path / "dump")
    assert len(dump) == COUNT * calls * (7 if inputs else 4)
    assert size == 16 * len(dump)
    for base in ("0", "1", "output", *(("input", "0.input", "1.input") if inputs else ())):
        names = [base if number == 0 else f"{base}#{number}" for number in range(COUNT * calls)]
        seen = Counter(tuple(dump.tensor(name).tolist()) for name in names)
        assert seen == Counter((thread, call) for thread in range(COUNT) for call in range(calls))
    if inputs:
        for number in range(COUNT * calls):
            mark = f"#{number}" if number else ""
            assert torch.equal(dump.tensor(f"0.input{mark}"), dump.tensor(f"0{mark}"))


def test_pauses_of_several_threads_add_up(hasty, tmp_path):
    module = nn.Identity()
    with nvl_golden.record(module, tmp_path / "dump") as recorder:

        def pause_and_resume():
            for _ in range(3000):
                with recorder.paused():
                    pass

        together(*[pause_and_resume] * COUNT)
        module(torch.ones(1))
        recorder.pause()
        together(recorder.pause, recorder.resume)
        module(torch.ones(1))
        recorder.resume()
        module(torch.ones(1))
    assert read_back(tmp_path / "dump").names() == ["output", "output#1"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_thread_that_still_runs_when_the_recording_ends_is_left_alone(fails, tmp_path):
    inside, over, errors = threading.Event(), threading.Event(), []

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):
            inside.set()
            assert over.wait(60)
            return self.inner(x)

    def run():
        try:
            model(torch.ones(1))
        except BaseException as error:
            errors.append(error)

    model = Late()
    thread = threading.Thread(target=run)
    recorder = nvl_golden.record(model, tmp_path / "dump")
    try:
        with recorder:
            model.inner(torch.zeros(1))
            thread.start()
            assert inside.wait(60)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    finally:
        over.set()
        thread.join()
    assert errors == []
    if fails:
        assert list(tmp_path.iterdir()) == []
    else:
        assert read_back(tmp_path / "dump").names() == ["inner"]
