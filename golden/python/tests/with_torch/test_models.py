"""Recordings of published architectures, held to plain hooks."""

import nvl_golden
import pytest
import timm
import torch
import transformers
from conftest import LLAMA, read_back


def plain_hooks(model, run):
    """What `register_forward_hook` sees: the first tensor of each module's output, in order."""
    seen, handles = [], []
    for name, module in model.named_modules():

        def hook(module, args, output, name=name):
            first = (
                output
                if isinstance(output, torch.Tensor)
                else next(iter(output.values() if hasattr(output, "values") else output))
            )
            if isinstance(first, torch.Tensor):
                seen.append((name, first.detach().clone()))

        handles.append(module.register_forward_hook(hook))
    result = run()
    for handle in handles:
        handle.remove()
    return seen, result


def assert_recorded(dump, seen):
    """Every output that the hooks saw is in the dump, to the last bit and in the same order."""
    calls, last = {}, -1
    for name, tensor in seen:
        call = calls[name] = calls.get(name, -1) + 1
        suffix = f"#{call}" if call else ""
        names = [f"{name or 'output'}{part}{suffix}" for part in ("", ".0", ".cos", ".logits", ".last_hidden_state")]
        found = next((candidate for candidate in names if candidate in dump), None)
        assert found is not None, names
        recorded = dump.tensor(found)
        assert recorded.dtype == tensor.dtype and torch.equal(recorded, tensor), found
        assert dump.entry(found).order > last
        last = dump.entry(found).order


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_llama_for_causal_lm(dtype, tmp_path):
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).to(dtype).eval()
    input_ids = torch.arange(1, 20).reshape(1, -1)
    with torch.inference_mode():
        seen, expected = plain_hooks(model, lambda: model(input_ids=input_ids))
        with nvl_golden.record(model, tmp_path / "dump") as recorder:
            recorded = model(input_ids=input_ids)
            recorder.add("input_ids", input_ids, role="input")
    assert torch.equal(expected.logits, recorded.logits)
    dump = read_back(tmp_path / "dump")
    assert_recorded(dump, seen)
    assert {"model.rotary_emb.cos", "model.rotary_emb.sin", "model.layers.1.self_attn", "lm_head"} <= set(dump.names())
    assert dump.manifest["producer"]["dtype"] == str(dtype).removeprefix("torch.")
    assert dump.manifest["producer"]["transformers"] == transformers.__version__
    assert dump.manifest["producer"]["attention"]["text"] == model.config._attn_implementation
    # Twelve modules a layer, each with its one output.
    assert len([name for name in dump.names() if name.startswith("model.layers.0")]) == 13


def test_timm_vision_transformer(tmp_path):
    torch.manual_seed(4)
    model = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5
    ).eval()
    pixel_values = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        seen, expected = plain_hooks(model, lambda: model(pixel_values))
        with nvl_golden.record(model, tmp_path / "dump"):
            recorded = model(pixel_values)
    assert torch.equal(expected, recorded)
    dump = read_back(tmp_path / "dump")
    assert len(dump) == len(seen)
    assert_recorded(dump, seen)
    assert dump.entry("blocks.1.attn.qkv").module == "Linear"
    assert dump.manifest["producer"]["timm"] == timm.__version__
