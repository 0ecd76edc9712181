"""What each entry was computed from: memories, operators and rows."""

import gc

import nvl_golden
import pytest
import torch
from conftest import read_back
from flows import Site, Two, flow, flow_of
from nvl_golden.flow.parts import are_apart
from torch import nn
from torch.nn import functional as F  # noqa: N812

GRAD = [torch.no_grad, torch.inference_mode, torch.enable_grad]
W, B = torch.randn(6, 6), torch.randn(6)
BOTH = {"left": "same", "right": "same"}


def by_halves(left, right):
    result = torch.empty(2, 5, 6)
    result[..., :3] = left[..., :3]
    result[..., 3:].copy_(right[..., 3:])
    return result


def one_half(left, right):
    return by_halves(left, right)[..., 3:] + 0


def reused(left, right):
    buffer = left.clone()
    buffer.copy_(right)
    return buffer + 0


def by_index(left, right):
    cache = torch.zeros(4, 5, 6)
    cache.index_copy_(0, torch.tensor([1, 2]), left)
    cache[torch.tensor([0, 3])] = right
    return cache + 0


def scattered(left, right):
    mask = torch.zeros(2, 5, 1, dtype=torch.bool)
    mask[:, 1] = True
    return left.masked_scatter(mask.expand_as(left), right)


def out_of_place(left, right):
    result = torch.empty(2, 5, 6)
    torch.add(left, right, out=result)
    return result


def heads(left, right):
    queries, keys = (x.view(2, 5, 2, 3).transpose(1, 2) for x in (left, right))
    return F.scaled_dot_product_attention(queries, keys, keys).transpose(1, 2).reshape(2, 5, 6)


def eager_heads(left, right):
    queries, keys = (x.view(2, 5, 2, 3).transpose(1, 2) for x in (left, right))
    weights = (queries @ keys.mT).softmax(-1, dtype=torch.float64).to(torch.float32)
    return (weights @ keys).transpose(1, 2).reshape(2, 5, 6)


def norm(left, right):
    return left * torch.rsqrt(left.pow(2).mean(-1, keepdim=True) + 1e-5) * B


def shared_way(left, right):
    both = torch.tanh(left + right)
    return both * F.silu(both) + both.mT.mT


# What is computed of `left` and `right`, the inputs that are to be found with their rows, and the operations.
CASES = {
    "a view": (lambda left, right: left.view(10, 6), {"left": "same"}, {}),
    "views and copies": (lambda left, right: left.unsqueeze(1).contiguous().squeeze(1).clone(), {"left": "same"}, {}),
    "a sum": (lambda left, right: left + right, BOTH, {"aten.add": 1}),
    "in place": (lambda left, right: left.clone().add_(right).mul_(2), BOTH, {"aten.add": 1, "aten.mul": 1}),
    "an assignment": (by_halves, BOTH, {}),
    "a part of a memory": (one_half, {"right": "same"}, {"aten.add": 1}),
    "an overwritten memory": (reused, {"right": "same"}, {"aten.add": 1}),
    "emptied memory": (lambda left, right: left.clone().zero_() + right, {"right": "same"}, {"aten.add": 1}),
    "by index": (
        *(by_index, {"left": "mixed", "right": "mixed"}),
        {"aten.index_copy": 1, "aten.index_put": 1, "aten.add": 1},
    ),
    "scattered": (scattered, {"left": "same", "right": "mixed"}, {"aten.masked_scatter": 1}),
    "`out`": (out_of_place, BOTH, {"aten.add": 1}),
    "a projection": (lambda left, right: F.linear(left, W), {"left": "same"}, {"aten.linear": 1}),
    "one with a bias": (lambda left, right: F.linear(left, W, B), {"left": "same"}, {"aten.linear": 1}),
    "one of a transposed tensor": (
        lambda left, right: F.linear(left.transpose(0, 1), W, B),
        {"left": "mixed"},
        {"aten.linear": 1, "aten.add": 1},
    ),
    "a product with a weight": (lambda left, right: left @ W, {"left": "same"}, {"aten.linear": 1}),
    "one of two tensors": (
        lambda left, right: left @ right.mT,
        {"left": "same", "right": "mixed"},
        {"aten.matmul": 1},
    ),
    "added to a product": (
        lambda left, right: torch.addmm(left[0], right[0], W),
        {"left": "mixed", "right": "mixed"},
        {"aten.linear": 1, "aten.add": 1},
    ),
    "attention": (heads, {"left": "mixed", "right": "mixed"}, {"aten.scaled_dot_product_attention": 1}),
    "eager attention": (
        *(eager_heads, {"left": "mixed", "right": "mixed"}),
        {"aten.matmul": 2, "aten.softmax": 1, "aten._to_copy": 2},
    ),
    "a norm": (norm, {"left": "same"}, {"aten.pow": 1, "aten.mean": 1, "aten.add": 1, "aten.rsqrt": 1, "aten.mul": 2}),
    "a layer norm": (lambda left, right: F.layer_norm(left, (6,), B, B), {"left": "same"}, {"aten.layer_norm": 1}),
    "a norm of rows together": (
        lambda left, right: F.layer_norm(left, (5, 6)),
        {"left": "mixed"},
        {"aten.layer_norm": 1},
    ),
    "a softmax of rows": (lambda left, right: left.softmax(-1), {"left": "same"}, {"aten.softmax": 1}),
    "one of columns": (lambda left, right: left.softmax(1), {"left": "mixed"}, {"aten.softmax": 1}),
    "a convolution": (
        lambda left, right: F.conv1d(left, torch.ones(5, 5, 1)),
        {"left": "mixed"},
        {"aten.convolution": 1},
    ),
    "a lookup": (lambda left, right: F.embedding(left[..., 0].long().abs() % 6, W), {"left": "mixed"}, None),
    "rows added in front": (
        lambda left, right: torch.cat([W[:2].expand(2, 2, 6), left], dim=1),
        {"left": "from_end"},
        {"aten.cat": 1},
    ),
    "rows added behind": (
        lambda left, right: torch.cat([left, W[:2].expand(2, 2, 6)], dim=1),
        {"left": "mixed"},
        {"aten.cat": 1},
    ),
    "rows dropped in front": (lambda left, right: left[:, 2:], {"left": "from_end"}, {}),
    "as many dropped as added": (
        lambda left, right: torch.cat([W[:2].expand(2, 2, 6), left], dim=1)[:, 2:],
        {"left": "same"},
        {"aten.cat": 1},
    ),
    "rows dropped behind": (lambda left, right: left[:, :2], {"left": "mixed"}, {}),
    "side by side": (lambda left, right: torch.cat([left, right], dim=-1), BOTH, {"aten.cat": 1}),
    "stacked": (lambda left, right: torch.stack([left, right]), {"left": "mixed", "right": "mixed"}, {"aten.stack": 1}),
    "a chunk of each row": (lambda left, right: left.chunk(2, -1)[1] + 0, {"left": "same"}, {"aten.add": 1}),
    "split rows": (lambda left, right: left.reshape(2, 5, 2, 3) + 0, {"left": "mixed"}, {"aten.add": 1}),
    "a square that is turned": (lambda left, right: (left @ left.mT).mT, {"left": "mixed"}, {"aten.matmul": 1}),
    "a shared way": (shared_way, BOTH, {"aten.add": 2, "aten.tanh": 1, "aten.silu": 1, "aten.mul": 1}),
    "a repeated tensor": (lambda left, right: left + left, {"left": "same"}, {"aten.add": 1}),
    "weights": (lambda left, right: W * 2, {}, {}),
    "the shape of a tensor": (lambda left, right: torch.ones_like(left) + left.new_zeros(6), {}, {}),
    "the dtype of a tensor": (lambda left, right: left.to(right).type_as(right), {"left": "same"}, {}),
    "another dtype": (lambda left, right: left.to(torch.bfloat16), {"left": "same"}, {"aten._to_copy": 1}),
}


@pytest.mark.parametrize("under", GRAD)
@pytest.mark.parametrize("case", CASES)
def test_inputs_rows_and_operations_are_found_whatever_gradients_do(case, under, tmp_path):
    function, inputs, operations = CASES[case]
    found = flow(Two(function), torch.randn(2, 5, 6), tmp_path / "dump", "result", under=under)
    assert found[0] == inputs
    assert operations is None or found[1] == operations


@pytest.mark.parametrize("under", GRAD)
@pytest.mark.parametrize("case", [case for case in CASES if case != "a lookup"])
def test_following_costs_no_bit(case, under):
    given = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3))
    model = Two(CASES[case][0])
    with under():
        expected = model(given)
        follower = nvl_golden.flow.Follower()
        follower.begin()
        try:
            follower.begins("given", 0, given)
            found = model(given)
        finally:
            follower.end()
    assert found.dtype == expected.dtype and torch.equal(found, expected)


def test_outputs_that_share_a_memory_have_each_their_own_inputs(tmp_path):
    class Parts(nn.Module):
        def forward(self, x):
            both = x * 2
            return both[:, :2], both[:, 2:]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.parts, self.one, self.other = Site(), Parts(), nn.Tanh(), nn.Tanh()

        def forward(self, x):
            one, other = self.parts(self.first(x + 0))
            return self.one(one).sum() + self.other(other).sum()

    model = Model()
    with nvl_golden.record(model, tmp_path / "dump"):
        model(torch.randn(2, 5, 6))
    dump = read_back(tmp_path / "dump")
    flows = {entry.name: flow_of(entry, dump)[0] for entry in dump}
    assert flows["parts.0"] == {"first": "mixed"} and flows["parts.1"] == {"first": "from_end"}
    assert flows["one"] == {"parts.0": "same"} and flows["other"] == {"parts.1": "same"}


def test_memory_that_is_freed_and_used_again_is_not_taken_for_what_was_there(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.site, self.result = Site(), Site()

        def forward(self, x):
            # Of one size, so that the allocator gives the same memory again and again.
            for _ in range(50):
                self.site(x + 1)
                y = torch.ones(64, 64) * 3
            return self.result(y)

    model = Model()
    with nvl_golden.record(model, tmp_path / "dump"):
        model(torch.randn(64, 64))
        gc.collect()
    dump = read_back(tmp_path / "dump")
    assert flow_of(dump.entry("result"), dump) == ({}, {})
    assert {entry.inputs for entry in dump if entry.name.startswith("site")} == {()}


def test_memory_that_nobody_was_seen_to_write_makes_no_claim(tmp_path):
    def by_another_way(left, right):
        result = torch.empty(2, 5, 6)
        result.numpy()[:] = left.numpy()
        return result

    assert flow(Two(by_another_way), torch.randn(2, 5, 6), tmp_path / "dump", "result") is None


def test_a_site_that_is_left_out_is_passed_by(tmp_path):
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    found = flow(model, torch.randn(5, 6), tmp_path / "dump", "2", sites=["0", "2"])
    assert found == ({"0": "same"}, {"aten.linear": 1, "aten.tanh": 1})


def test_a_tensor_of_which_some_rows_are_kept_has_the_flow_of_the_whole(tmp_path):
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    assert flow(model, torch.randn(5, 6), tmp_path / "dump", "1", tokens="last:1") == ({"0": "same"}, {"aten.tanh": 1})


def test_a_recorded_input_has_its_inputs_and_hides_no_site(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Tanh()

        def forward(self, x):
            return self.second(self.first(x) * 2)

    model = Model()
    with nvl_golden.record(model, tmp_path / "dump", inputs=True):
        model(torch.randn(5, 6))
    dump = read_back(tmp_path / "dump")
    flows = {entry.name: flow_of(entry, dump) for entry in dump}
    assert flows == {
        # What comes from outside begins where it is first recorded.
        "input": ({}, {}),
        "first.input": ({"input": "same"}, {}),
        "first": ({"input": "same"}, {"aten.linear": 1}),
        "second.input": ({"first": "same"}, {"aten.mul": 1}),
        "second": ({"first": "same"}, {"aten.mul": 1, "aten.tanh": 1}),
        "output": ({"second": "same"}, {}),
    }


def test_added_tensors_begin_and_have_a_flow(tmp_path):
    model, x = nn.Linear(6, 6), torch.randn(5, 6)
    with nvl_golden.record(model, tmp_path / "dump") as recorder:
        recorder.add("given", x, role="input")
        y = model(x).relu()
        recorder.add("result", y, role="output")
        recorder.add("numbers", [1, 2, 3])
    dump = read_back(tmp_path / "dump")
    assert [flow_of(entry, dump) for entry in dump] == [
        None,
        ({"given": "same"}, {"aten.linear": 1}),
        ({"output": "same"}, {"aten.relu": 1}),
        None,
    ]


def test_without_flow_nothing_is_followed_and_the_dump_has_version_1(tmp_path):
    model = nn.Linear(6, 6)
    with nvl_golden.record(model, tmp_path / "dump", flow=False):
        assert torch._C._len_torch_dispatch_stack() == 0
        model(torch.randn(5, 6))
    dump = read_back(tmp_path / "dump")
    assert dump.manifest["version"] == 1 and dump.entry("output").inputs is None


def test_two_recordings_at_once_know_nothing_of_each_other(tmp_path):
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    with (
        nvl_golden.record(model, tmp_path / "all"),
        nvl_golden.record(model, tmp_path / "one", sites=["1", "x"]) as one,
    ):
        x = torch.randn(5, 6)
        one.add("x", x, role="input")
        model(x)
    everything, some = read_back(tmp_path / "all"), read_back(tmp_path / "one")
    assert flow_of(everything.entry("1"), everything) == ({"0": "same"}, {"aten.tanh": 1})
    assert flow_of(some.entry("1"), some) == ({"x": "same"}, {"aten.linear": 1, "aten.tanh": 1})


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_as_before_when_the_recording_ends(fails, tmp_path):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    model, mode = nn.Linear(6, 6), Mode()
    recorder = nvl_golden.record(model, tmp_path / "dump")
    recorder.__enter__()
    with mode:
        # It ends inside of a mode that began later.
        try:
            model(torch.randn(5, 6))
            assert not fails
            recorder.__exit__(None, None, None)
        except AssertionError as error:
            recorder.__exit__(type(error), error, None)
        assert torch._C._len_torch_dispatch_stack() == 1
        assert torch._C._get_dispatch_stack_at(0) is mode
    assert torch._C._len_torch_dispatch_stack() == 0


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        # Queries and keys of one projection; halves of a batch, of rows; what has elements in common.
        (((5, 4), (12, 1), 0), ((5, 4), (12, 1), 4), True),
        (((5, 5), (12, 1), 0), ((5, 4), (12, 1), 4), False),
        (((1, 3, 4), (12, 4, 1), 0), ((1, 3, 4), (12, 4, 1), 12), True),
        (((2, 2, 4), (12, 4, 1), 0), ((2, 1, 4), (12, 4, 1), 8), True),
        (((2, 2, 4), (12, 4, 1), 0), ((2, 2, 4), (12, 4, 1), 4), False),
        # The same rows, those of one split into two dimensions.
        (((2, 64, 8), (576, 8, 1), 64), ((2, 8, 8, 8), (576, 64, 8, 1), 64), False),
        (((2, 64, 8), (576, 8, 1), 64), ((2, 8, 8), (576, 8, 1), 0), True),
        (((24,), (1,), 0), ((6,), (1,), 24), True),
    ],
)
def test_whether_views_have_elements_in_common(one, other, apart):
    memory = torch.arange(2000)
    elements = [set(memory.as_strided(*view).flatten().tolist()) for view in (one, other)]
    assert elements[0].isdisjoint(elements[1]) == apart
    assert are_apart(one, other) == are_apart(other, one) == apart


def test_the_parts_of_a_view_are_known_however_its_rows_are_put(tmp_path):
    class Tower(nn.Module):
        def forward(self, given):
            rows = given * 2
            return rows[:, :3].flatten(1), rows[:, 5:]

    class Shuffle(nn.Module):
        def forward(self, rows):
            squares = rows.reshape(2, 4, 2, 16).transpose(1, 2)
            return squares.reshape(2, 2, 64) + 1

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower, self.shuffle = Tower(), Shuffle()

        def forward(self, given):
            return self.shuffle(self.tower(given)[1])

    # The first rows have an entry of their own, in the same memory.
    assert flow(Both(), torch.randn(2, 21, 8), tmp_path / "dump", "shuffle") == ({"tower.1": "mixed"}, {"aten.add": 1})
