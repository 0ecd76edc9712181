"""Every corner of the configuration space, against code that we did not write.

Small random checkpoints are converted and run by `nvl-reference`, which records every site. The same source weights are
loaded into transformers' `LlamaForCausalLM` and timm's `Block`, put together as the model is; every site that the two have
in common must be equal to the last bit, and so must the logits of every step of decoding, with either attention of
transformers. Needs torch, transformers and timm: `scripts/setup --transformers`.
"""

import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from timm.models.vision_transformer import Block
from torch import nn

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
PICTURE = ROOT / "golden/fixtures/goldens/images/green-triangle-left-of-yellow-circle.png"
STEPS = 4

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
# Name, arguments of scripts/random-checkpoint, arguments of nvl-convert.
CONFIGURATIONS = {
    "as released": ([], []),
    "align_corners false": ([], ["--align-corners", "false"]),
    "the grid is the table": (["--max-img-size", "64"], []),
    "one class token": (["--one-cls-token", "--teachers", "clip,sam"], []),
    "an exact multiple of registers": (["--teachers", "a,b,c,d,e,f,g,h"], []),
    "cpe_num_registers": (["--registers", "3"], []),
    "LayerScale": (["--layer-scale", "0.1"], []),
    "a final norm": (["--model-norm"], []),
    "ps_version v1": (["--ps-version", "v1"], []),
    "nvlm tags": (["--image-tag-type", "nvlm"], []),
    "float32 buffers": (["--float32-buffers"], []),
    "a float32 tower": (["--vision-dtype", "float32"], []),
    "tied embeddings": (["--tie-word-embeddings"], []),
    "attention and MLP biases": (["--attention-bias", "--mlp-bias"], []),
    "head_dim of its own": (["--head-dim", "22"], []),
    "no key-value groups": (["--kv-heads", "4"], []),
    "no rope scaling": (["--rope-scaling", "null"], []),
    "linear rope scaling": (["--rope-scaling", '{"rope_type": "linear", "factor": 2.5}'], []),
    "dynamic rope scaling": (
        ["--max-position-embeddings", "24", "--rope-scaling", '{"rope_type": "dynamic", "factor": 8.0}'],
        [],
    ),
    "yarn rope scaling": (["--max-position-embeddings", "256", "--rope-scaling", json.dumps(YARN)], []),
    "yarn with mscale": (
        [
            "--max-position-embeddings",
            "256",
            "--rope-scaling",
            json.dumps(YARN | {"mscale": 0.7, "mscale_all_dim": 0.5, "beta_fast": 16, "truncate": False}),
        ],
        [],
    ),
}


class Features(nn.Module):
    """The tower: blocks by timm; what is in front of them as the notes in docs/ have it."""

    def __init__(self, config: dict, dtype: torch.dtype, align_corners: bool):
        super().__init__()
        args = config["vision_config"]["args"]
        kwargs = args["model_kwargs"]
        width, heads = kwargs["embed_dim"], kwargs["num_heads"]
        self.dtype, self.align_corners = dtype, align_corners
        self.radio_model = nn.Module()
        self.radio_model.model = model = nn.Module()
        self.radio_model.input_conditioner = nn.Module()
        norm = functools.partial(nn.LayerNorm, eps=1e-6)
        model.blocks = nn.Sequential(
            *[
                Block(width, heads, qkv_bias=True, init_values=kwargs.get("init_values"), norm_layer=norm)
                for _ in range(kwargs["depth"])
            ]
        )
        if args["model_norm"]:
            model.norm = norm(width)
        model.patch_generator = generator = nn.Module()
        generator.embedder = nn.Linear(3 * 16 * 16, width, bias=False)
        teachers = {teacher["name"] for teacher in args["teachers"]}
        classes = len(teachers) if args["cls_token_per_teacher"] else 1
        multiple = args["register_multiple"]
        registers = args.get("cpe_num_registers") or multiple - classes % multiple
        generator.cls_token = nn.Module()
        generator.cls_token.token = nn.Parameter(torch.empty(classes + registers, width))
        self.side = math.ceil(args["cpe_max_size"] / 16)
        generator.pos_embed = nn.Parameter(torch.empty(1, self.side**2, width))
        for name in ("norm_mean", "norm_std"):
            self.radio_model.input_conditioner.register_buffer(name, torch.empty(3, 1, 1))

    def positions(self, grid: int) -> torch.Tensor:
        table = self.radio_model.model.patch_generator.pos_embed
        if grid == self.side:
            return table
        square = table.reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        resized = nn.functional.interpolate(
            square.float(), size=(grid, grid), mode="bilinear", align_corners=self.align_corners
        )
        return resized.to(table.dtype).flatten(2).permute(0, 2, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        conditioner, model = self.radio_model.input_conditioner, self.radio_model.model
        pixels = ((pixels - conditioner.norm_mean) / conditioner.norm_std).to(self.dtype)
        tiles, channels, side, _ = pixels.shape
        grid = side // 16
        patches = pixels.reshape(tiles, channels, grid, 16, grid, 16).permute(0, 2, 4, 1, 3, 5)
        patches = model.patch_generator.embedder(patches.reshape(tiles, grid * grid, -1))
        patches = patches + self.positions(grid)
        token = model.patch_generator.cls_token.token
        hidden = torch.cat([token.unsqueeze(0).expand(tiles, -1, -1), patches], dim=1)
        hidden = model.blocks(hidden)
        if hasattr(model, "norm"):
            hidden = model.norm(hidden)
        return hidden[:, token.shape[0] :]


class Whole(nn.Module):
    """The whole model, its modules under the names of the checkpoint."""

    def __init__(self, config: dict, text_config: dict, dtype: torch.dtype, attention: str, align_corners: bool):
        super().__init__()
        self.dtype = dtype
        self.vision_model = Features(config, dtype, align_corners)
        width, hidden = config["vit_hidden_size"], text_config["hidden_size"]
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(4 * width),
            nn.Linear(4 * width, config["projector_hidden_size"]),
            nn.GELU(),
            nn.Linear(config["projector_hidden_size"], hidden),
        )
        llama = transformers.LlamaConfig(**text_config)
        llama._attn_implementation = attention
        self.language_model = transformers.LlamaForCausalLM(llama)
        self.upright = config["ps_version"] == "v2"

    def embeddings(self, pixels: torch.Tensor, input_ids: torch.Tensor, image_token: int) -> torch.Tensor:
        features = self.vision_model(pixels).to(self.dtype)
        tiles, patches, width = features.shape
        side = math.isqrt(patches)
        # Rows and columns in pairs; a pair of columns of one row, then of the next.
        squares = features.reshape(tiles, side // 2, 2, side // 2, 2, width).permute(0, 1, 3, 2, 4, 5)
        if not self.upright:
            squares = squares.transpose(1, 2)
        features = self.mlp1(squares.reshape(tiles, patches // 4, 4 * width))
        embeds = self.language_model.get_input_embeddings()(input_ids)
        embeds[input_ids == image_token] = features.reshape(-1, embeds.shape[-1])
        return embeds


def run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def source_weights(source: Path) -> dict[str, torch.Tensor]:
    weights = {}
    for file in sorted(source.glob("*.safetensors")):
        # RADIO's own copy of LayerScale has another name for its weight than timm's.
        weights |= {name.replace(".grandma", ".gamma"): tensor for name, tensor in load_file(file).items()}
    weights.pop("vision_model.radio_model.summary_idxs", None)
    return weights


def record_outputs(model: nn.Module) -> dict[str, torch.Tensor]:
    """Keeps the first output of each module, under its path, and the weights of an attention that returns them."""
    outputs = {}

    def keep(name: str):
        def hook(_module, _inputs, output):
            parts = output if isinstance(output, tuple) else (output,)
            if isinstance(parts[0], torch.Tensor):
                outputs.setdefault(name, parts[0].clone())
            if name.endswith(".self_attn") and parts[1] is not None:
                outputs.setdefault(f"{name}.attn_weights", parts[1].clone())

        return hook

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(keep(name))
    return outputs


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
@torch.no_grad()
def test_every_site_is_equal_to_the_last_bit(name: str, dtype: str, attention: str, tmp_path: Path):
    generator_arguments, convert_arguments = CONFIGURATIONS[name]
    source, converted, out = tmp_path / "source", tmp_path / "converted", tmp_path / "dump"
    run(sys.executable, ROOT / "scripts/random-checkpoint", source, *generator_arguments)
    convert_arguments = convert_arguments or ["--align-corners", "true"]
    run(PROGRAMS / "nvl-convert", "convert", source, converted, *convert_arguments)
    arguments = ["--image", PICTURE, "--prompt", "Describe this image.", "--max-new-tokens", STEPS, "--dtype", dtype]
    arguments += ["--attention", attention, *(["--attn-weights"] if attention == "eager" else [])]
    # The pixels are as the image processor gives them; with one attention they are rounded first, as some callers do.
    pixels = "float32" if attention == "eager" else "model"
    arguments += ["--pixel-values-dtype", pixels]
    model_arguments = ["--model", converted, "--threads", 1, "--device", "cpu", "--math", "exact"]
    run(PROGRAMS / "nvl-reference", "generate", *model_arguments, *arguments, "--record", out)

    recorded = load_file(out / "tensors.safetensors")
    manifest = json.loads((out / "manifest.json").read_text())
    config = json.loads((source / "config.json").read_text())
    normalized = json.loads((converted / "config.json").read_text())
    torch.set_num_threads(1)
    kind = getattr(torch, dtype)
    model = Whole(config, normalized["text_config"], kind, attention, "true" in convert_arguments).eval()
    weights = source_weights(source)
    buffers = {key: weights.pop(key) for key in list(weights) if key.endswith(("norm_mean", "norm_std"))}
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    tied = ["language_model.lm_head.weight"] if normalized["text_config"]["tie_word_embeddings"] else []
    assert [key for key in missing.missing_keys if key not in buffers and key not in tied] == []
    model.language_model.tie_weights()
    # The rotary frequencies stay float32, as `from_pretrained` leaves them.
    rotary = model.language_model.model.rotary_emb
    model.language_model.model.rotary_emb = None
    model = model.to(kind)
    if config["vision_config"]["args"]["dtype"] == "float32":
        model.vision_model.to(torch.float32)
        model.vision_model.dtype = torch.float32
    model.language_model.model.rotary_emb = rotary
    conditioner = model.vision_model.radio_model.input_conditioner
    for key, value in buffers.items():
        setattr(conditioner, key.rsplit(".", 1)[1], value.float())

    outputs = record_outputs(model)
    image_token = normalized["image_token_id"]
    pixel_values = recorded["pixel_values"].to(kind if pixels == "model" else torch.float32)
    embeds = model.embeddings(pixel_values, recorded["input_ids"], image_token)
    assert torch.equal(embeds, recorded["inputs_embeds"])
    cache = transformers.DynamicCache()
    step_logits = []
    for token in manifest["generated_ids"]:
        step = model.language_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1)
        step_logits.append(step.logits[:, -1].float())
        assert step_logits[-1].argmax().item() == token
        embeds = model.language_model.get_input_embeddings()(torch.tensor([[token]]))
    assert torch.equal(torch.cat(step_logits), recorded["step_logits"])

    common = [entry["name"] for entry in manifest["entries"] if entry["name"] in outputs]
    blocks, layers = config["vision_config"]["args"]["model_kwargs"]["depth"], config["llm_config"]["num_hidden_layers"]
    assert len(common) >= 10 * blocks + (13 if attention == "eager" else 12) * layers + 8
    different = [name for name in common if not torch.equal(outputs[name], recorded[name])]
    assert different == []
