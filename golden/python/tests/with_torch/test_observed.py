"""What ran is found out from the modules that ran, not from what a configuration says."""

import sys
import types

import nvl_golden
import pytest
import torch
import transformers
from conftest import LLAMA, read_back
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

SCORES = {"q": (1, 2, 5, 4)}


class Attends(nn.Module):
    """An attention in one of many ways, under a configuration that says another."""

    def __init__(self, way, dtype=torch.float32):
        super().__init__()
        self.proj = nn.Linear(8, 8, dtype=dtype)
        self.way = way

    def forward(self, x):
        x = x.reshape(len(x), -1, 8)
        q = x.unflatten(-1, (2, 4)).transpose(1, 2)
        if self.way == "sdpa":
            mixed = functional.scaled_dot_product_attention(q, q, q)
        elif self.way == "by name":
            mixed = scaled_dot_product_attention(q, q, q)
        elif self.way == "flash":
            mixed = sys.modules["flash_attn"].flash_attn_func(q, q, q)
        elif self.way == "functional softmax":
            mixed = functional.softmax(q @ q.mT, dim=-1) @ q
        elif self.way == "no heads":
            return self.proj(torch.softmax(x @ x.mT, -1) @ x)
        elif self.way == "experts":
            return self.proj(x) * x.softmax(-1)[..., :1]
        else:
            mixed = (q @ q.mT).softmax(dim=-1) @ q
        return self.proj(mixed.transpose(1, 2).flatten(2).to(self.proj.weight.dtype))


class Text(nn.Module):
    def __init__(self, way, dtype=torch.float32):
        super().__init__()
        self.embed_tokens = nn.Embedding(16, 8, dtype=dtype)
        self.layer = Attends(way, dtype)

    def forward(self, input_ids):
        return self.layer(self.embed_tokens(input_ids))


class Pair(nn.Module):
    """A tower and a language model."""

    config = types.SimpleNamespace(_attn_implementation="flash_attention_2", vision_config=None)

    def __init__(self, tower, text, dtypes=(torch.float32, torch.float32), rounds=False):
        super().__init__()
        self.tower, self.text = Attends(tower, dtypes[0]), Text(text, dtypes[1])
        self.act, self.rounds = nn.ReLU(), rounds

    def forward(self, pixel_values, input_ids):
        if self.rounds:
            pixel_values = pixel_values.to(torch.bfloat16)
        return self.act(self.tower(pixel_values.mul(2)).sum().float() + self.text(input_ids).sum().float())


PIXELS, IDS = torch.rand(2, 3, 4, 4), torch.arange(5).reshape(1, 5)


def producer(model, tmp_path, *given, **options):
    with nvl_golden.record(model, tmp_path / "dump", overwrite=True, **options), torch.inference_mode():
        model(*given)
    return read_back(tmp_path / "dump").manifest["producer"]


@pytest.mark.parametrize(
    ("way", "ran"),
    [
        ("sdpa", "sdpa"),
        ("by name", "sdpa"),
        ("eager", "eager"),
        ("functional softmax", "eager"),
        ("no heads", "eager"),
        ("experts", None),
    ],
)
def test_the_attention_that_ran_is_seen(way, ran, tmp_path):
    assert producer(Text(way), tmp_path, IDS).get("attention") == (None if ran is None else {"text": ran})


def test_each_side_has_its_own(tmp_path):
    found = producer(Pair("sdpa", "eager"), tmp_path, PIXELS, IDS)
    assert found["attention"] == {"vision": "sdpa", "text": "eager"}
    assert producer(Pair("eager", "sdpa"), tmp_path, PIXELS, IDS)["attention"] == {"vision": "eager", "text": "sdpa"}


def test_flash_attention_is_called_by_its_name_and_not_by_what_it_calls(tmp_path, monkeypatch):
    flash = types.ModuleType("flash_attn")
    flash.flash_attn_func = lambda q, k, v: functional.scaled_dot_product_attention(q, k, v)
    monkeypatch.setitem(sys.modules, "flash_attn", flash)
    assert producer(Text("flash"), tmp_path, IDS)["attention"] == {"text": "flash_attention_2"}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_attention_is_seen(attention, tmp_path):
    config = transformers.LlamaConfig(**LLAMA, attn_implementation=attention)
    model = transformers.LlamaForCausalLM(config).eval()
    assert producer(model, tmp_path, IDS)["attention"] == {"text": attention}


def test_an_attention_that_was_registered_with_transformers_has_the_name_it_has_there(tmp_path):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

    AttentionInterface.register("mine", sdpa_attention_forward)
    try:
        config = transformers.LlamaConfig(**LLAMA)
        model = transformers.LlamaForCausalLM(config).eval()
        model.config._attn_implementation = "mine"
        assert producer(model, tmp_path, IDS)["attention"] == {"text": "mine"}
        assert ALL_ATTENTION_FUNCTIONS["mine"] is sdpa_attention_forward
    finally:
        AttentionInterface._global_mapping.pop("mine", None)


@pytest.mark.parametrize(("fused", "ran"), [(True, "sdpa"), (False, "eager")])
def test_timms_attention_is_seen(fused, ran, tmp_path):
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5).eval()
    for block in model.blocks:
        block.attn.fused_attn = fused
    assert producer(model, tmp_path, torch.rand(2, 3, 32, 32))["attention"] == {"vision": ran}


def test_what_runs_while_the_recording_pauses_is_not_part_of_it(tmp_path):
    model = Text("eager")
    with nvl_golden.record(model, tmp_path / "dump") as recorder:
        model(IDS)
        model.layer.way = "sdpa"
        with recorder.paused():
            model(IDS)
        assert recorder.observed["attention"] == {"text": "eager"}
        model(IDS)
    assert read_back(tmp_path / "dump").manifest["producer"]["attention"] == {"text": "eager+sdpa"}


def test_what_the_caller_says_has_precedence(tmp_path):
    model = Text("eager")
    with nvl_golden.record(model, tmp_path / "dump") as recorder:
        model(IDS)
        recorder.producer["attention"] = {"text": "paged"}
    assert read_back(tmp_path / "dump").manifest["producer"]["attention"] == {"text": "paged"}


def test_everything_is_as_before_when_the_last_recording_ends(tmp_path):
    here = sys.modules[__name__]
    before = functional.scaled_dot_product_attention, torch.softmax, here.scaled_dot_product_attention
    one, other = (nvl_golden.record(Text("sdpa"), tmp_path / name) for name in ("one", "other"))
    with one:
        other.__enter__()
    # The first to come is gone; the other still listens.
    other._model(IDS)
    other.__exit__(None, None, None)
    assert read_back(tmp_path / "other").manifest["producer"]["attention"] == {"text": "sdpa"}
    assert (functional.scaled_dot_product_attention, torch.softmax, here.scaled_dot_product_attention) == before
    assert "softmax" not in vars(torch.Tensor)
    with pytest.raises(ZeroDivisionError), nvl_golden.record(Text("sdpa"), tmp_path / "failed"):
        raise ZeroDivisionError
    assert functional.scaled_dot_product_attention is before[0]


@pytest.mark.parametrize(("rounds", "dtype"), [(False, "float32"), (True, "bfloat16")])
def test_pixels_are_seen_as_they_reach_the_tower(rounds, dtype, tmp_path):
    model = Pair("sdpa", "sdpa", (torch.bfloat16 if rounds else torch.float32, torch.float32), rounds)
    found = producer(model, tmp_path, PIXELS, IDS)
    assert found["pixel_values_dtype"] == dtype
    # Without pictures there is nothing to say of them.
    assert "pixel_values_dtype" not in producer(Text("sdpa"), tmp_path, IDS)


def test_each_part_that_ran_has_its_dtype(tmp_path):
    model = Pair("sdpa", "sdpa", (torch.float32, torch.bfloat16))
    model.unused = nn.Linear(2, 2)
    assert producer(model, tmp_path, PIXELS, IDS)["dtypes"] == {"tower": "float32", "text": "bfloat16"}
    assert producer(model, tmp_path, PIXELS, IDS, prefix="engine")["dtypes"] == {
        "engine.tower": "float32",
        "engine.text": "bfloat16",
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = producer(nn.Sequential(nn.Linear(16, 16), nn.ReLU()), tmp_path, torch.rand(3, 16))
    assert found["dtypes"] == {"0": "bfloat16"}, "what was computed in is not what is stored"
