"""What each entry was computed from, in whole models and under everything that a model may run under."""

import shutil
import sys
import threading

import nvl_golden
import pytest
import torch
from conftest import LLAMA, WIDE, read_back
from family import inputs_of
from flows import Site, Two, flow, flow_of
from nvl_golden import cli
from torch import nn

LAYER = "model.layers"


def flows_of(dump):
    return {entry.name: flow_of(entry, dump) for entry in dump}


def aliases(flows):
    """The entry that each is the same tensor as: that of a container's last module, say."""
    same: dict[str, str] = {}
    for name, (found, operations) in flows.items():
        [(only, how)] = found.items() if len(found) == 1 else [("", "")]
        same[name] = same.get(only, only) if how == "same" and not operations else name
    return same


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_flow_of_the_bundled_checkpoint_is_what_the_family_says(dtype, attention, stand_in, tmp_path):
    out = tmp_path / "dump"
    model = ["--model", str(stand_in), "--trust-remote-code", "--out", str(out), "--dtype", dtype]
    asked = [
        "--attention",
        attention,
        "--prompt",
        "Describe this image.",
        "--image",
        str(WIDE),
        "--max-new-tokens",
        "2",
    ]
    assert cli.main(["record", *model, *asked]) == 0
    dump = read_back(out)
    flows = {name: found or ({}, {}) for name, found in flows_of(dump).items()}
    expected = inputs_of(dump.names())
    assert set(flows) <= set(expected) and len(flows) > 90
    same = aliases(flows)
    differences = {}
    for name, (found, _) in flows.items():
        a, b = ({same[other] for other in names} for names in (found, expected[name]))
        if a != b:
            differences[name] = a ^ b
    # The ids say where the picture's features go. The logits of a decoded token come out of the cache, too.
    assert differences.pop("inputs_embeds") == {"input_ids"}
    assert {name.rpartition(".")[2] for name in differences.pop("step_logits")} == {"k_proj", "v_proj", "cos", "sin"}
    assert differences == {}


def llama(attention="eager"):
    import transformers

    torch.manual_seed(8)
    config = transformers.LlamaConfig(**LLAMA, attn_implementation=attention)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_step_is_computed_from_what_earlier_ones_put_into_the_cache(cache, tmp_path):
    import transformers

    model = llama()
    past = (
        transformers.DynamicCache() if cache == "dynamic" else transformers.StaticCache(model.config, max_cache_len=16)
    )
    with torch.inference_mode(), nvl_golden.record(model, tmp_path / "dump") as recorder:
        ids = torch.tensor([[5, 6, 7]])
        recorder.add("input_ids", ids, role="input")
        model(ids, past_key_values=past, use_cache=True)
        model(torch.tensor([[8]]), past_key_values=past, use_cache=True)
    flows = flows_of(read_back(tmp_path / "dump"))
    attention = flows[f"{LAYER}.1.self_attn.o_proj#1"][0]
    now = {f"{LAYER}.1.self_attn.{name}#1" for name in ("q_proj", "k_proj", "v_proj")}
    before = {f"{LAYER}.1.self_attn.{name}" for name in ("k_proj", "v_proj")}
    assert now | before <= set(attention)
    # Of the other layers' caches and of the queries before there is nothing in it.
    assert {name for name in attention if "rotary" not in name} == now | before
    assert flows["model.embed_tokens"] == ({"input_ids": "mixed"}, {"aten.embedding": 1})


@pytest.mark.parametrize("under", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_has_the_same_bits_with_and_without_flow(dtype, attention, under, tmp_path):
    model, hashes = llama(attention).to(dtype), []
    for followed in (False, True):
        with under(), nvl_golden.record(model, tmp_path / str(followed), flow=followed):
            model(torch.tensor([[5, 6, 7, 8, 9]]))
        hashes.append([(entry.name, entry.sha256) for entry in read_back(tmp_path / str(followed))])
    assert hashes[0] == hashes[1] and len(hashes[0]) > 30


def test_the_flow_is_the_same_whatever_gradients_do(tmp_path):
    model, flows = llama(), []
    for under in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        out = tmp_path / under.__name__
        with under(), nvl_golden.record(model, out):
            model(torch.tensor([[5, 6, 7]]))
        flows.append(flows_of(read_back(out)))
    assert flows[0] == flows[1] == flows[2]
    assert flows[0][f"{LAYER}.0.mlp.down_proj"] == (
        {f"{LAYER}.0.mlp.up_proj": "same", f"{LAYER}.0.mlp.act_fn": "same"},
        {"aten.linear": 1, "aten.mul": 1},
    )


@pytest.mark.parametrize("under", [torch.no_grad, torch.inference_mode])
def test_autocast_is_as_without_it_but_for_its_conversions(under, tmp_path):
    model, given = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).eval(), torch.randn(5, 6)
    with under(), torch.autocast("cpu", torch.bfloat16):
        expected = model(given)
        with nvl_golden.record(model, tmp_path / "dump") as recorder:
            recorder.add("given", given, role="input")
            found = model(given)
    assert found.dtype == torch.bfloat16 and torch.equal(found, expected)
    dump = read_back(tmp_path / "dump")
    assert flow_of(dump.entry("0"), dump) == ({"given": "same"}, {"aten._to_copy": 1, "aten.linear": 1})
    assert flow_of(dump.entry("2"), dump) == ({"1": "same"}, {"aten.linear": 1})


def test_shared_modules_and_tied_weights_have_the_flow_of_each_call(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 6), nn.Linear(6, 7, bias=False)
            self.head.weight = self.embed.weight
            self.layers = nn.ModuleList(nn.Module() for _ in range(2))
            act = nn.Tanh()
            for layer in self.layers:
                layer.act = act

        def forward(self, ids):
            x = self.embed(ids)
            for layer in self.layers:
                x = x + layer.act(x)
            return self.head(x)

    model = Tied()
    with torch.no_grad(), nvl_golden.record(model, tmp_path / "dump"):
        model(torch.tensor([[1, 2]]))
    flows = flows_of(read_back(tmp_path / "dump"))
    assert flows["layers.0.act"][0] == {"embed": "same"}
    assert flows["layers.0.act#1"] == ({"layers.0.act": "same", "embed": "same"}, {"aten.add": 1, "aten.tanh": 1})
    # The weights are the embedding's, and no input.
    assert flows["head"][0] == {"layers.0.act#1": "same", "layers.0.act": "same", "embed": "same"}
    assert flows["head"][1] == {"aten.add": 2, "aten.linear": 1}


@pytest.fixture(scope="module")
def custom():
    """Custom operators as engines have them: one that writes what it is given, one that gives something new."""
    library = torch.library.Library("nvl_test", "FRAGMENT")
    library.define("norm_into(Tensor(a!) out, Tensor x, Tensor weight) -> ()")
    library.define("attention(Tensor q, Tensor kv) -> Tensor")
    library.define("pair(Tensor x) -> Tensor")
    library.impl("norm_into", lambda out, x, weight: (out.copy_(x.sin() * weight), None)[1], "CPU")
    library.impl("attention", lambda q, kv: torch.softmax(q @ kv.mT, -1) @ kv, "CPU")
    library.impl("pair", lambda x: x.sin() + x.cos(), "CompositeImplicitAutograd")
    yield torch.ops.nvl_test
    library._destroy()


@pytest.mark.parametrize("under", [torch.no_grad, torch.inference_mode])
def test_a_custom_operator_is_one_operation(under, custom, tmp_path):
    def function(left, right):
        out = torch.empty_like(left)
        custom.norm_into(out, left, torch.ones(6))
        return custom.attention(out, right)

    found = flow(Two(function), torch.randn(5, 6), tmp_path / "dump", "result", under=under)
    assert found == (
        {"left": "mixed", "right": "mixed"},
        {"nvl_test.norm_into": 1, "nvl_test.attention": 1},
    )
    # One that is made of others is those.
    found = flow(Two(lambda x, _: custom.pair(x)), torch.randn(5, 6), tmp_path / "pair", "result", under=under)
    assert found == ({"left": "same"}, {"aten.sin": 1, "aten.cos": 1, "aten.add": 1})


def test_another_threads_entries_make_no_claim_and_begin_anew(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.hidden, self.last = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)

        def forward(self, x):
            results = []

            def run():
                y = self.first(x)
                results.append((y, self.hidden(y)))

            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            ((y, hidden),) = results
            return self.last(y) + self.last(hidden)

    model = Model()
    with nvl_golden.record(model, tmp_path / "dump", sites=["first", "last", "output"]):
        model(torch.randn(5, 6))
    flows = flows_of(read_back(tmp_path / "dump"))
    assert flows == {
        "first": None,
        "last": ({"first": "same"}, {"aten.linear": 1}),
        # Computed from what no entry has.
        "last#1": None,
        "output": ({"last#1": "same", "last": "same"}, {"aten.add": 1}),
    }


def compiled(backend):
    torch.compiler.reset()
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.LayerNorm(6)), nn.Tanh())
    model[1] = torch.compile(model[1], backend=backend)
    return model.eval()


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor compiles with g++")
@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_compiled_code_is_one_operation_and_has_the_same_bits(tmp_path):
    given, model = torch.randn(5, 6), compiled("inductor")
    with torch.no_grad():
        # Compiled while it is recorded, and compiled already; each as without a recording.
        with nvl_golden.record(model, tmp_path / "first"):
            first = model(given)
        expected = model(given)
        with nvl_golden.record(model, tmp_path / "second"):
            second = model(given)
        assert torch.equal(first, expected) and torch.equal(second, expected)
        again = compiled("inductor")(given)
    assert torch.equal(again, expected)
    for name in ("first", "second"):
        flows = flows_of(read_back(tmp_path / name))
        assert flows["1"] == ({"0": "mixed"}, {"compiled": 1})
        assert flows["2"] == ({"1": "same"}, {"aten.tanh": 1})
    from torch._inductor.output_code import CompiledFxGraph

    assert "lambda" not in CompiledFxGraph.__call__.__qualname__
    torch.compiler.reset()


def test_what_a_compiler_leaves_to_python_is_followed_and_not_compiled(tmp_path):
    graphs = []

    def backend(graph, inputs):
        graphs.append([node.name for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.result = Site()

        def forward(self, x):
            y = x.tanh()
            torch._dynamo.graph_break()
            return self.result(y.sigmoid() + x)

    def run(**options):
        torch.compiler.reset()
        graphs.clear()
        model = torch.compile(Broken(), backend=backend)
        if not options:
            return model(given), list(graphs)
        with nvl_golden.record(model, **options) as recorder:
            recorder.add("given", given, role="input")
            return model(given), list(graphs)

    given = torch.randn(5, 6)
    with torch.no_grad():
        expected, found = run(), run(out=tmp_path / "dump")
    assert torch.equal(found[0], expected[0]) and found[1] == expected[1]
    dump = read_back(tmp_path / "dump")
    assert flow_of(dump.entry("output"), dump) == (
        {"given": "same"},
        {"aten.tanh": 1, "aten.sigmoid": 1, "aten.add": 1},
    )
    torch.compiler.reset()


def test_functions_that_are_transformed_are_followed(tmp_path):
    def function(left, right):
        return torch.func.vmap(lambda a, b: torch.dot(a, b) * a)(left, right)

    inputs, operations = flow(Two(function), torch.randn(5, 6), tmp_path / "dump", "result")
    assert set(inputs) == {"left", "right"} and operations["aten.mul"] == 1


def test_a_model_that_learns_is_followed_and_has_the_same_gradients(tmp_path):
    model, given = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1)), torch.randn(5, 6)
    model(given).sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    with nvl_golden.record(model, tmp_path / "dump"):
        model(given).sum().backward()
    assert all(torch.equal(one, parameter.grad) for one, parameter in zip(expected, model.parameters(), strict=True))
    dump = read_back(tmp_path / "dump")
    assert flow_of(dump.entry("2"), dump) == ({"1": "same"}, {"aten.linear": 1})
