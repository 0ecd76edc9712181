"""`nvl_golden.record` of models that `torch.compile` has compiled, in part or whole."""

import torch
from conftest import record
from torch import nn


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
