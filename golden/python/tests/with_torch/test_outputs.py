"""One site, one name: what the outputs of a module are called, whatever it returns besides."""

import nvl_golden
import pytest
import torch
import transformers
from conftest import LLAMA, read_back
from nvl_golden.outputs import OUTPUT_NAMES, name_outputs

OUTPUT, WEIGHTS, KEYS = torch.zeros(1, 7, 32), torch.zeros(1, 4, 7, 9), torch.zeros(1, 2, 9, 8)


def names(kind, value):
    return [name for name, _ in name_outputs(kind, value, OUTPUT_NAMES)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (OUTPUT, [""]),
        ((OUTPUT, None), [""]),
        ((OUTPUT, WEIGHTS), ["", "attn_weights"]),
        ((OUTPUT, WEIGHTS, object()), ["", "attn_weights"]),
        ((OUTPUT, None, object()), [""]),
        ((OUTPUT, WEIGHTS, (KEYS, KEYS)), ["", "attn_weights", "2.0", "2.1"]),
        ((OUTPUT, None, (KEYS, KEYS)), ["", "2.0", "2.1"]),
        ([OUTPUT, WEIGHTS], ["", "attn_weights"]),
        # Without a batch, as some engines have it.
        ((OUTPUT[0], WEIGHTS), ["", "attn_weights"]),
        # Other pairs keep their places.
        ((OUTPUT, OUTPUT), ["0", "1"]),
        ((KEYS, WEIGHTS), ["0", "1"]),
        ((OUTPUT, torch.zeros(1, 4, 8, 9)), ["0", "1"]),
        ((OUTPUT, torch.zeros(3)), ["0", "1"]),
        ({"0": OUTPUT, "1": WEIGHTS}, ["0", "1"]),
    ],
)
@pytest.mark.parametrize("kind", ["LlamaAttention", "LlamaSdpaAttention", "LlamaFlashAttention2"])
def test_an_attentions_output_has_the_modules_own_name(kind, value, expected):
    assert names(kind, value) == expected


def test_other_classes_and_given_names_are_as_they_were():
    assert names("Mixer", (OUTPUT, WEIGHTS)) == ["0", "1"]
    assert [name for name, _ in name_outputs("LlamaAttention", (OUTPUT, WEIGHTS), {"Llama*": ("x", None)})] == ["x"]


def test_eager_and_sdpa_have_the_same_sites_but_for_the_weights(tmp_path):
    sites = {}
    for attention in ("eager", "sdpa"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA, attn_implementation=attention)).eval()
        with nvl_golden.record(model, tmp_path / attention), torch.inference_mode():
            model(torch.arange(6).reshape(1, 6))
        sites[attention] = read_back(tmp_path / attention)
    weights = [f"model.layers.{layer}.self_attn.attn_weights" for layer in range(2)]
    assert [name for name in sites["eager"].names() if name not in weights] == sites["sdpa"].names()
    assert sites["eager"].entry(weights[0]).shape == (1, 4, 6, 6)
    assert sites["eager"].entry("model.layers.0.self_attn").shape == (1, 6, 32)
