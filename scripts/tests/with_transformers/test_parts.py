"""Parts: transformers' own classes load them, with no weight missing or left over, and compute what the goldens have.

Runs in `.venv-transformers` (`scripts/setup --transformers`).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
SHAPES = ROOT / "golden/fixtures/checkpoints/shapes"
GOLDENS = ROOT / "golden/fixtures/goldens"
TOWER = "vision_model.radio_model"

CLASSES = {"vision": transformers.RadioModel, "text": transformers.LlamaForCausalLM}


def convert(source: Path, part: str, out: Path, *options: str) -> Path:
    program = [PROGRAMS / "nvl-convert", "convert", source, out, "--part", part, *options]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return out


def load(part: str, folder: Path, **options: object) -> torch.nn.Module:
    """Loads a part; nothing may be missing, left over or of another shape."""
    model, info = CLASSES[part].from_pretrained(folder, output_loading_info=True, **options)
    assert all(not problems for problems in info.values()), info
    return model.eval()


def source_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def golden(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDENS / name / "tensors.safetensors")


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(SHAPES, "vision", tmp_path_factory.mktemp("vision") / "part")


def test_llama_gives_the_goldens_logits(tmp_path: Path):
    folder = convert(SHAPES, "text", tmp_path / "part")
    model = load("text", folder, dtype=torch.float32, attn_implementation="eager")
    expected = golden("shapes-text-float32")
    with torch.no_grad():
        logits = model(input_ids=expected["input_ids"]).logits
    assert relative_error(logits[0, -1], expected["step_logits"][0]) <= 1e-5
    # The second step, on the answer that is recorded: positions behind the prompt are right as well.
    answer = json.loads((GOLDENS / "shapes-text-float32/manifest.json").read_text())["generated_ids"]
    longer = torch.cat([expected["input_ids"], torch.tensor([answer[:1]])], dim=1)
    with torch.no_grad():
        logits = model(input_ids=longer).logits
    assert relative_error(logits[0, -1], expected["step_logits"][1]) <= 1e-5


def test_radio_gives_the_goldens_features_but_for_its_own_resize_of_positions(vision: Path):
    model = load("vision", vision, dtype=torch.float32)
    expected = golden("shapes-describe-float32")
    prefix = model.config.num_cls_tokens + model.config.num_registers
    features = expected["vision_model"]
    with torch.no_grad():
        conditioned = model.input_conditioner(expected["pixel_values"])
        assert relative_error(conditioned, expected[f"{TOWER}.input_conditioner"]) <= 1e-6
        embedded = model.embeddings(conditioned)
        entry = expected[f"{TOWER}.model.patch_generator"]
        assert torch.equal(embedded[:, :prefix], entry[:, :prefix])
        # From the blocks on there is nothing that the two do differently.
        hidden_states = model.encoder(entry).last_hidden_state
        assert relative_error(hidden_states[:, prefix:], features) <= 1e-5
        # transformers does not align corners, and the golden does: `--part vision` warns of that, rightly.
        output = model(expected["pixel_values"])
    assert relative_error(output.features, features) > 1e-3
    assert output.summary.shape == (1, len(model.config.summary_idxs) * model.config.hidden_size)


def test_radio_gives_the_goldens_features_where_no_position_is_resized(vision: Path, tmp_path: Path):
    """A table that has the tile's own grid: from pixels to features, everything is the golden's."""
    folder = tmp_path / "part"
    shutil.copytree(vision, folder)
    config = json.loads((folder / "config.json").read_text())
    side, grid = (config[name] // config["patch_size"] for name in ("max_img_size", "image_size"))
    tensors = load_file(folder / "model.safetensors")
    table = tensors["embeddings.position_embedding"].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    table = torch.nn.functional.interpolate(table, size=(grid, grid), mode="bilinear", align_corners=True)
    tensors["embeddings.position_embedding"] = table.flatten(2).permute(0, 2, 1).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config["max_img_size"] = config["image_size"]
    (folder / "config.json").write_text(json.dumps(config))

    model = load("vision", folder, dtype=torch.float32)
    expected = golden("shapes-describe-float32")
    with torch.no_grad():
        output = model(expected["pixel_values"])
    assert relative_error(output.features, expected["vision_model"]) <= 1e-5


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--layer-scale", "1e-5", "--attention-bias", "--mlp-bias", "--tie-word-embeddings"],
        [
            "--one-cls-token",
            "--teachers",
            "clip,sam",
            "--registers",
            "3",
            "--dtype",
            "float32",
            "--max-shard-size",
            "0.00005",
        ],
    ],
    ids=["plain", "everything", "sharded-float32"],
)
@pytest.mark.parametrize("part", CLASSES)
def test_every_weight_of_a_part_arrives_bit_by_bit(part: str, options: list[str], tmp_path: Path):
    source = tmp_path / "source"
    subprocess.run([sys.executable, ROOT / "scripts/random-checkpoint", source, *options], check=True)
    sharded = ["--max-shard-size", "50KB"] if "--max-shard-size" in options else []
    model = load(part, convert(source, part, tmp_path / "part", *sharded))
    given = source_tensors(source)
    state = model.state_dict()
    if part == "text":
        weights = {name: given.get(f"language_model.{name}") for name in state}
        if model.config.tie_word_embeddings:
            weights["lm_head.weight"] = given["language_model.model.embed_tokens.weight"]
    else:
        weights = radio_weights(state, given)
    for name, tensor in state.items():
        assert weights[name] is not None, name
        assert weights[name].dtype == tensor.dtype, name
        assert torch.equal(weights[name], tensor), name


def radio_weights(state: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
    """The source's tensors under the names of transformers' tower, whichever release it is."""
    renamed = {
        "embeddings.patch_projection.weight": "model.patch_generator.embedder.weight",
        "embeddings.position_embedding": "model.patch_generator.pos_embed",
        "embeddings.cls_register_token": "model.patch_generator.cls_token.token",
    }
    projections = {"query": 0, "q_proj": 0, "key": 1, "k_proj": 1, "value": 2, "v_proj": 2}
    weights: dict[str, torch.Tensor | None] = {}
    for name, tensor in state.items():
        module, leaf = f".{name}".split(".")[-2:]
        place = renamed.get(name, name.replace("encoder.layer.", "model.blocks."))
        if module in projections:
            block = ".".join(name.split(".")[:3]).replace("encoder.layer", f"{TOWER}.model.blocks")
            weights[name] = given[f"{block}.attn.qkv.{leaf}"].chunk(3)[projections[module]]
            continue
        for ours, source in {
            "attention.output.dense": "attn.proj",
            "attention.o_proj": "attn.proj",
            "layer_scale1.lambda1": "ls1.grandma",
            "layer_scale2.lambda1": "ls2.grandma",
        }.items():
            place = place.replace(ours, source)
        weights[name] = given.get(f"{TOWER}.{place}")
        if weights[name] is None and "layer_scale" in name:
            assert not any("grandma" in of_source for of_source in given), name
            # A tower without LayerScale: what multiplies by 1 changes nothing.
            weights[name] = torch.ones_like(tensor)
        if weights[name] is None and name == "summary_idxs":
            # A checkpoint need not carry this buffer: the teachers' `use_summary` says the same.
            weights[name] = torch.tensor([0, 1, 2])
    return weights


def test_a_part_in_another_dtype_loads_in_it(tmp_path: Path):
    for part in CLASSES:
        model = load(part, convert(SHAPES, part, tmp_path / part, "--dtype", "float32"))
        assert model.dtype == torch.float32
