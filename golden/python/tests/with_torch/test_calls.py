"""Modules that engines call in their own ways: shared between layers, or by a `__call__` that passes hooks by."""

from contextlib import suppress

import pytest
import torch
from conftest import record
from torch import nn


class Attention(nn.Module):
    """Rotates queries and keys with an embedding that all layers share, as vLLM does."""

    def __init__(self, rotary):
        super().__init__()
        self.qkv, self.rotary_emb = nn.Linear(6, 6), rotary

    def forward(self, x):
        q, k, v = self.qkv(x).split([3, 2, 1], dim=-1)
        q, k = self.rotary_emb(x, q, k)
        return torch.cat([q, k, v], dim=-1)


class RotaryEmbedding(nn.Module):
    def forward(self, positions, q, k):
        return 2 * q, 3 * k


class Layer(nn.Module):
    def __init__(self, act, rotary):
        super().__init__()
        self.attn = Attention(rotary)
        self.mlp = nn.Sequential(nn.Linear(6, 6), act)

    def forward(self, x):
        return x + self.mlp(self.attn(x))


class Decorated(Layer):
    """A layer whose class goes straight to `forward`, as vLLM's do that may be compiled."""

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


class Wrapped(Layer):
    """A layer whose class does something of its own, and then what every module does."""

    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)


class Model(nn.Module):
    def __init__(self, layer):
        super().__init__()
        torch.manual_seed(3)
        act, rotary = nn.GELU(), RotaryEmbedding()
        self.layers = nn.ModuleList([layer(act, rotary) for _ in range(3)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


NAMES = [".attn.qkv", ".attn.rotary_emb.0", ".attn.rotary_emb.1", ".attn", ".mlp.0", ".mlp.1", ".mlp", ""]


@pytest.fixture
def given():
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("layer", [Layer, Decorated, Wrapped])
def test_shared_modules_are_named_where_they_run_and_every_layer_is_seen_once(layer, given, tmp_path):
    model = Model(layer)
    expected = model(given)
    dump = record(model, tmp_path / "dump", given)
    layers = [f"layers.{number}{name}" for number in range(3) for name in NAMES]
    assert dump.names() == [*layers, "output"]
    assert dump.entry("layers.1").module == layer.__name__
    assert torch.equal(dump.tensor("layers.2"), expected)
    assert torch.equal(dump.tensor("layers.1.mlp.1"), nn.functional.gelu(dump.tensor("layers.1.mlp.0")))
    # Queries and keys, and not tables of cosines and sines: their shapes differ.
    assert dump.entry("layers.2.attn.rotary_emb.0").shape == (4, 3)


@pytest.mark.parametrize("layer", [Decorated, Wrapped])
def test_inputs_are_seen_where_a_class_has_a_call_of_its_own(layer, given, tmp_path):
    dump = record(Model(layer), tmp_path / "dump", given, inputs=True)
    names = dump.names()
    assert [names.count(f"layers.{number}.input") for number in range(3)] == [1, 1, 1]
    assert names.index("layers.1.input") < names.index("layers.1.attn.input") < names.index("layers.1")
    assert torch.equal(dump.tensor("layers.1.input"), dump.tensor("layers.0"))
    assert torch.equal(dump.tensor("layers.2.mlp.1.input"), dump.tensor("layers.2.mlp.0"))


@pytest.mark.parametrize("own", [False, True])
def test_a_module_gets_its_forward_back(own, given, tmp_path):
    model = Model(Decorated)
    layer = model.layers[1]
    if own:
        layer.forward = lambda x: x + 1
    before = dict(layer.__dict__)
    dump = record(model, tmp_path / "dump", given)
    assert "layers.1" in dump
    assert layer.__dict__ == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_layer_that_fails_does_not_lend_its_place_to_others(given, tmp_path):
    class Caught(Model):
        def forward(self, x):
            with suppress(RuntimeError):
                self.layers[1](x[:, :5])
            self.layers[0].mlp(x)
            return self.layers[2].mlp[1](x)

    dump = record(Caught(Layer), tmp_path / "dump", given)
    # The last call is the activation's alone, outside any layer: it has the first of its names.
    assert dump.names() == ["layers.0.mlp.0", "layers.0.mlp.1", "layers.0.mlp", "layers.0.mlp.1#1", "output"]


@pytest.mark.parametrize("layer", [Layer, Decorated, Wrapped])
def test_compiled_layers_compute_the_same(layer, given, tmp_path):
    model = Model(layer)
    expected = model(given)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    dump = record(compiled, tmp_path / "dump", given)
    assert dump.names() == ["output"]
    assert torch.equal(dump.tensor("output"), expected)
    torch.compiler.reset()
