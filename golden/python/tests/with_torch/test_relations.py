"""transformers' own Llama against itself: alone, in pieces, in a padded batch, behind a cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nvl_golden import _core
from nvl_golden.comparison import Comparison, compare
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

TOKENS = 21


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(1, 97, (1, TOKENS), generator=torch.Generator().manual_seed(4))


class Run:
    """Writes what every module of a model computes in each of its forward passes, and the cache behind it."""

    def __init__(self, model: LlamaForCausalLM, path: Path) -> None:
        self.path, self.model, self.step, self.cache = path, model, 0, DynamicCache()
        self.writer = _core.Writer(path, replace=False, max_shard_bytes=1 << 30, max_queued_bytes=1 << 30)

    def forward(self, ids: torch.Tensor, *, recorded: bool = True, **options: Any) -> torch.Tensor:
        hooks = [
            module.register_forward_hook(lambda _, __, output, name=name: self._outputs(name, output))
            for name, module in self.model.named_modules()
            if recorded and name
        ]
        if recorded:
            self._push("input_ids", ids, "input")
        with torch.inference_mode():
            logits = self.model(ids, past_key_values=self.cache, use_cache=True, **options).logits
        for hook in hooks:
            hook.remove()
        if recorded:
            for number, layer in enumerate(self.cache.layers):
                self._push(f"past_key_values.{number}.keys", layer.keys)
                self._push(f"past_key_values.{number}.values", layer.values)
            self.step += 1
        return logits

    def _outputs(self, name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            self._push(name, output)
        elif isinstance(output, tuple):
            for suffix, tensor in zip(
                ("cos", "sin") if "rotary" in name else ("", "attn_weights"), output, strict=True
            ):
                self._push(f"{name}.{suffix}".rstrip("."), tensor)

    def _push(self, name: str, tensor: torch.Tensor, role: str = "activation") -> None:
        data = tensor.detach().contiguous()
        self.writer.push(
            name,
            role=role,
            module="",
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=list(tensor.shape),
            data=data.numpy().tobytes(),
            step=self.step,
        )

    def finish(self) -> Path:
        self.writer.finish(json.dumps({"producer": {"name": "transformers", "dtype": "float32"}}))
        return self.path


@pytest.fixture(scope="module")
def plain(model: LlamaForCausalLM, ids: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run(model, tmp_path_factory.mktemp("relations") / "plain")
    run.forward(ids)
    run.forward(ids[:, :1])
    return run.finish()


def judge(plain: Path, candidate: Path, relation: str) -> tuple[Comparison, dict[str, Any]]:
    comparison = compare(plain, candidate, relation=relation, formats=["table", "json"])
    return comparison, json.loads(comparison.reports["json"])


def compared(report: dict[str, Any]) -> set[str]:
    return {entry["name"] for entry in report["entries"] if entry["measurement"] is not None}


def test_a_prompt_in_pieces(model: LlamaForCausalLM, ids: torch.Tensor, plain: Path, tmp_path: Path) -> None:
    for name, positions in (("right", None), ("wrong", torch.arange(13)[None])):
        run = Run(model, tmp_path / name)
        run.forward(ids[:, :8])
        run.forward(ids[:, 8:], position_ids=positions)
        run.forward(ids[:, :1])
        comparison, report = judge(plain, run.finish(), "chunked")
        assert comparison.passes == (name == "right"), comparison.reports["table"]
        left_out = {entry["name"] for entry in report["entries"]} - compared(report)
        # Those of the decoding step have all keys.
        assert not left_out, left_out
        weights = [entry for entry in report["entries"] if entry["name"].endswith("attn_weights")]
        assert [entry["verdict"] for entry in weights[:2]] == ["ignored", "ignored"]
    # The second piece counted its positions from zero.
    assert report["first_divergence"]["name"] == "model.rotary_emb.cos"


def batch(ids: torch.Tensor, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The request behind a longer one, padded on a side; ids and mask."""
    other = torch.randint(1, 97, (1, TOKENS + 6), generator=torch.Generator().manual_seed(5))
    padding, real = torch.zeros_like(ids[:, :6]), torch.ones_like(ids)
    row, mask = [ids, padding], [real, padding]
    if side == "left":
        row, mask = row[::-1], mask[::-1]
    return torch.cat([other, torch.cat(row, 1)]), torch.cat([torch.ones_like(other), torch.cat(mask, 1)])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_request_in_a_batch(
    model: LlamaForCausalLM, ids: torch.Tensor, plain: Path, tmp_path: Path, side: str
) -> None:
    rows, mask = batch(ids, side)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    run = Run(model, tmp_path / "right")
    run.forward(rows, attention_mask=mask, position_ids=positions)
    new = torch.ones_like(mask[:, :1])
    run.forward(
        torch.cat([rows[:1, :1], ids[:, :1]]),
        attention_mask=torch.cat([mask, new], 1),
        position_ids=positions[:, -1:] + 1 if side == "left" else torch.tensor([[TOKENS + 6], [TOKENS]]),
    )
    comparison, report = judge(plain, run.finish(), "batched")
    assert comparison.passes, comparison.reports["table"]
    assert all(entry["measurement"] is not None for entry in report["entries"])
    own = [6, TOKENS + 5] if side == "left" else [0, TOKENS - 1]
    assert report["relation"]["steps"][0]["candidate"] == [
        {"step": 0, "sequence": 1, "own": own, "tokens": [0, TOKENS - 1]}
    ]


def test_padding_that_nobody_masks(model: LlamaForCausalLM, ids: torch.Tensor, plain: Path, tmp_path: Path) -> None:
    rows, mask = batch(ids, "left")
    run = Run(model, tmp_path / "wrong")
    run.forward(rows, position_ids=(mask.cumsum(-1) - 1).clamp(min=0))
    comparison, report = judge(plain, run.finish(), "batched")
    assert not comparison.passes
    assert report["first_divergence"]["name"].startswith("model.layers.0.self_attn"), comparison.reports["table"]


def test_a_prompt_whose_beginning_is_cached(
    model: LlamaForCausalLM, ids: torch.Tensor, plain: Path, tmp_path: Path
) -> None:
    for cached in (1, 16, TOKENS - 1):
        run = Run(model, tmp_path / f"{cached}")
        run.forward(ids[:, :cached], recorded=False)
        run.forward(ids[:, cached:])
        run.forward(ids[:, :1])
        comparison, report = judge(plain, run.finish(), "prefix-cache")
        assert comparison.passes, comparison.reports["table"]
        assert all(entry["measurement"] is not None for entry in report["entries"])
        assert report["relation"]["steps"][0]["candidate"][0]["tokens"] == [cached, TOKENS - 1]


def test_an_unknown_relation_is_refused(plain: Path) -> None:
    with pytest.raises(
        _core.GoldenError, match="relation: expected one of `same`, `chunked`, `batched`, `prefix-cache`"
    ):
        compare(plain, plain, relation="other")
    assert compare(plain, plain, relation="same").passes
