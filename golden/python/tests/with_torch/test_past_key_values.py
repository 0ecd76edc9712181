"""The key-value cache behind each step, of whatever class it is."""

import nvl_golden
import pytest
import torch
import transformers
from conftest import LLAMA, read_back
from nvl_golden.past_key_values import Found, cache_entries, read_cache
from torch import nn
from transformers import cache_utils

IDS = torch.arange(1, 8)[None]
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"], "use_sliding_window": True}


def small(kind, config, **changes):
    torch.manual_seed(5)
    return kind(config(**LLAMA | changes, initializer_range=0.3)).eval()


@pytest.fixture(scope="module")
def llama():
    return small(transformers.LlamaForCausalLM, transformers.LlamaConfig)


def generate(model, folder, tokens=5, given=IDS, **options):
    with torch.inference_mode(), nvl_golden.record(model, folder, steps="0:", kv=True, sites="past_key_values.*"):
        model.generate(given, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, **options)
    return read_back(folder)


def keys_of(step, layer=0):
    return f"past_key_values.{layer}.keys@{step}" if step else f"past_key_values.{layer}.keys"


def test_the_cache_behind_each_step_is_that_of_a_pass_over_all_tokens(llama, tmp_path):
    dump = generate(llama, tmp_path / "dump")
    names = [f"past_key_values.{layer}.{kind}" for layer in (0, 1) for kind in ("keys", "values")]
    assert dump.names() == [f"{name}@{step}" if step else name for step in range(5) for name in names]
    assert {(entry.role, entry.module) for entry in dump} == {("activation", "")}
    with torch.inference_mode():
        sequence = llama.generate(IDS, max_new_tokens=5, min_new_tokens=5, do_sample=False)
        whole = llama(sequence[:, :-1], use_cache=True).past_key_values
    for layer, (keys, values, *_) in enumerate(whole):
        assert dump.entry(keys_of(4, layer)).shape == (1, 2, 11, 8)
        assert torch.allclose(dump.tensor(f"past_key_values.{layer}.keys@4"), keys, atol=1e-5)
        assert torch.allclose(dump.tensor(f"past_key_values.{layer}.values@4"), values, atol=1e-5)
        # What was cached stays as it is.
        assert torch.equal(dump.tensor(keys_of(0, layer)), dump.tensor(keys_of(4, layer))[:, :, :7])


def test_a_static_cache_has_its_filled_positions(llama, tmp_path):
    dynamic = generate(llama, tmp_path / "dynamic")
    static = generate(llama, tmp_path / "static", cache_implementation="static", disable_compile=True)
    assert static.names() == dynamic.names()
    for name in dynamic.names():
        assert torch.allclose(static.tensor(name), dynamic.tensor(name), atol=1e-5), name


def test_a_position_of_zeros_is_filled(llama, tmp_path):
    """Where a cache counts what is not zero, the positions that the model is given are believed."""
    cache = cache_utils.StaticCache(llama.config, max_cache_len=16)
    with torch.inference_mode(), nvl_golden.record(llama, tmp_path / "dump", kv=True, sites="past_key_values.*"):
        for layer in llama.model.layers:
            layer.self_attn.k_proj.weight.data[:8].zero_()
        llama(IDS, past_key_values=cache, cache_position=torch.arange(7), use_cache=True)
    assert read_back(tmp_path / "dump").entry("past_key_values.0.keys").shape == (1, 2, 7, 8)


@pytest.mark.parametrize("implementation", [None, "static"])
def test_a_window_tells_its_positions(implementation, tmp_path):
    model = small(transformers.Qwen2ForCausalLM, transformers.Qwen2Config, **WINDOW)
    options = {} if implementation is None else {"cache_implementation": implementation, "disable_compile": True}
    dump = generate(model, tmp_path / "dump", **options)
    for step in range(5):
        behind = f"@{step}" if step else ""
        kept = 3 if implementation is None else 4
        assert dump.entry(f"past_key_values.0.keys{behind}").shape == (1, 2, kept, 8)
        assert dump.entry(f"past_key_values.1.keys{behind}").shape == (1, 2, 7 + step, 8)
        positions = dump.tensor(f"past_key_values.0.positions{behind}")
        assert positions.dtype == torch.int64 and positions.tolist() == list(range(7 + step - kept, 7 + step))
        assert f"past_key_values.1.positions{behind}" not in dump and f"past_key_values.positions{behind}" not in dump


def test_layers_with_the_same_window_share_their_positions(tmp_path):
    model = small(transformers.MistralForCausalLM, transformers.MistralConfig, sliding_window=4)
    dump = generate(model, tmp_path / "dump", tokens=2)
    assert dump.tensor("past_key_values.positions@1").tolist() == [5, 6, 7]
    assert not [name for name in dump.names() if "0.positions" in name]
    # Before the window is full there is nothing to tell.
    dump = generate(model, tmp_path / "short", tokens=1, given=IDS[:, :3])
    assert dump.names() == [f"past_key_values.{layer}.{kind}" for layer in (0, 1) for kind in ("keys", "values")]


def test_tuples_of_tensors_are_caches(tmp_path):
    class Legacy(nn.Module):
        """Takes and returns what caches were before they had classes."""

        def __init__(self):
            super().__init__()
            self.embed_tokens, self.proj = nn.Embedding(32, 8), nn.Linear(8, 8)

        def forward(self, ids, past=None):
            x = self.proj(self.embed_tokens(ids)).unflatten(-1, (2, 4)).transpose(1, 2)
            pairs = [(x, -x), (x + 1, x - 1)]
            if past is not None:
                pairs = [
                    tuple(torch.cat(both, dim=-2) for both in zip(old, new, strict=True))
                    for old, new in zip(past, pairs, strict=True)
                ]
            return x.sum(), tuple(pairs)

    torch.manual_seed(3)
    model = Legacy()
    with nvl_golden.record(model, tmp_path / "dump", steps="0:", kv=True, sites="past_key_values.*"):
        _, past = model(IDS)
        _, past = model(IDS[:, :1], past)
    dump = read_back(tmp_path / "dump")
    assert torch.equal(dump.tensor("past_key_values.1.values@1"), past[1][1])
    assert dump.entry("past_key_values.1.values").shape == (1, 2, 7, 4)


def test_quantized_keys_are_what_attention_sees():
    class Halved(cache_utils.QuantizedLayer):
        """Quantizes to whole numbers."""

        def _quantize(self, tensor, axis):
            return tensor.round().to(torch.int8)

        def _dequantize(self, q_tensor):
            return q_tensor.float()

    cache = cache_utils.Cache(layers=[Halved(residual_length=4)])
    states = torch.randn(6, 1, 2, 3, 4)
    for step in range(2):
        cache.update(states[step], states[step] + 1, 0)
    (layer,) = read_cache(cache)
    expected = torch.cat([states[0].round(), states[1]], dim=-2)
    assert torch.equal(layer.tensors["keys"], expected) and layer.positions == range(6)


def test_lists_of_keys_are_caches():
    class Hybrid:
        """As models have them of which some layers have a state in the place of keys."""

        key_cache = value_cache = (torch.ones(1, 2, 5, 4), None, torch.zeros(1, 0))
        conv_states = (None, torch.ones(1, 6, 3), None)
        ssm_states = (None, torch.ones(1, 6, 7), None)

    entries = cache_entries(Found(Hybrid(), None), None)
    assert [(name, tuple(tensor.shape)) for name, tensor in entries] == [
        ("0.keys", (1, 2, 5, 4)),
        ("0.values", (1, 2, 5, 4)),
        ("1.conv_states", (1, 6, 3)),
        ("1.ssm_states", (1, 6, 7)),
    ]


def test_an_older_static_cache_with_a_window():
    class HybridCache:
        """Memory of a fixed size, as in transformers 4.53."""

        max_cache_len, is_sliding = 8, (True, False)
        key_cache = value_cache = (torch.ones(1, 2, 4, 3), torch.ones(1, 2, 8, 3))

        def get_seq_length(self, layer_idx=0):
            return 4

    first, second = read_cache(HybridCache(), seen=6)
    assert first.positions == range(2, 6) and first.tensors["keys"].shape == (1, 2, 4, 3)
    assert second.positions == range(6) and second.tensors["keys"].shape == (1, 2, 6, 3)
    with pytest.raises(nvl_golden.GoldenError, match="`HybridCache`: expected `cache_position` to tell the positions"):
        read_cache(HybridCache())


def test_a_cache_that_cannot_be_read_is_refused_by_its_class(llama, tmp_path):
    class PagedAttentionCache:
        key_cache = value_cache = (torch.ones(2, 4, 16, 8),)
        block_size = 16

    with pytest.raises(nvl_golden.GoldenError) as error:
        read_cache(PagedAttentionCache())
    assert str(error.value) == (
        "`past_key_values`: expected a key-value cache that can be read, found a `PagedAttentionCache`"
    )
    assert error.value.hint == "give its keys and values to `recorder.add_past_key_values`"
    expected = (
        r"`tuple`: expected keys \[batch, kv heads, positions, head width\] in layer 0, found the shape \[2, 7, 4\]"
    )
    with pytest.raises(nvl_golden.GoldenError, match=expected):
        read_cache(((torch.ones(2, 7, 4), torch.ones(2, 7, 4)),))
    expected = "step 0: expected a key-value cache in what `LlamaForCausalLM` was given or has returned, found none"
    recording = nvl_golden.record(llama, tmp_path / "dumps/dump", kv=True)
    with pytest.raises(nvl_golden.GoldenError, match=expected) as error, recording:
        llama(IDS, use_cache=False)
    assert "use_cache=True" in error.value.hint
    assert list((tmp_path / "dumps").iterdir()) == []


def test_engines_give_their_caches_themselves(tmp_path):
    model = nn.Linear(2, 2)
    keys, values = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4)
    with nvl_golden.record(model, tmp_path / "dump", steps="0:") as recorder:
        for _ in range(2):
            model(torch.ones(1, 2))
            recorder.add_past_key_values([(keys, values)], positions=[4, 6, 5])
    dump = read_back(tmp_path / "dump")
    assert dump.names()[5:] == [f"past_key_values.{name}@1" for name in ("0.keys", "0.values", "positions")]
    assert dump.tensor("past_key_values.positions").tolist() == [4, 6, 5]
    assert torch.equal(dump.tensor("past_key_values.0.values@1"), values)


def test_pieces_of_a_prompt_leave_one_cache(llama, tmp_path):
    cache = cache_utils.DynamicCache()
    with torch.inference_mode(), nvl_golden.record(llama, tmp_path / "dump", steps="0:", kv=True) as recorder:
        for pieces in ((IDS[:, :4], IDS[:, 4:]), (IDS[:, :1],)):
            recorder.begin_step()
            for ids in pieces:
                llama(ids, past_key_values=cache, use_cache=True)
    dump = read_back(tmp_path / "dump")
    caches = [entry.key for entry in dump if entry.name == "past_key_values.1.keys"]
    assert caches == ["past_key_values.1.keys", "past_key_values.1.keys@1"]
    assert dump.entry(caches[0]).shape == (1, 2, 7, 8) and dump.entry(caches[1]).shape == (1, 2, 8, 8)
    assert dump.entry("lm_head#1").shape == (1, 3, 512)
