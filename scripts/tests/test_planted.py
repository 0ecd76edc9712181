"""Teeth: a mistake in the checkpoint makes `nvl-validate` exit 1 and name the first module that it reaches.

Runs the programs as a user does, on the folder that the demo leaves behind.
"""

import functools
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
CONVERTED = ROOT / "target/demo/shapes"
GOLDENS = ROOT / "golden/fixtures/goldens"

TOWER = "vision_model.radio_model.model"
LLAMA = "language_model.model"

# A weight of each kind, and the first site that it feeds.
WEIGHTS = {
    "vision_model.embeddings.patch_projection.weight": f"{TOWER}.patch_generator.embedder",
    "vision_model.embeddings.cls_register_token": f"{TOWER}.patch_generator.cls_token",
    "vision_model.embeddings.position_embedding": f"{TOWER}.patch_generator.cls_token",
    "vision_model.encoder.layer.0.norm1.weight": f"{TOWER}.blocks.0.norm1",
    "vision_model.encoder.layer.1.attention.q_proj.weight": f"{TOWER}.blocks.1.attn.qkv",
    "vision_model.encoder.layer.1.attention.k_proj.weight": f"{TOWER}.blocks.1.attn.qkv",
    "vision_model.encoder.layer.1.attention.v_proj.bias": f"{TOWER}.blocks.1.attn.qkv",
    "vision_model.encoder.layer.1.attention.o_proj.weight": f"{TOWER}.blocks.1.attn.proj",
    "vision_model.encoder.layer.2.mlp.fc1.bias": f"{TOWER}.blocks.2.mlp.fc1",
    "vision_model.encoder.layer.2.mlp.fc2.weight": f"{TOWER}.blocks.2.mlp.fc2",
    "multi_modal_projector.layer_norm.bias": "mlp1.0",
    "multi_modal_projector.linear_1.weight": "mlp1.1",
    "multi_modal_projector.linear_2.bias": "mlp1.3",
    "language_model.model.embed_tokens.weight": f"{LLAMA}.embed_tokens",
    "language_model.model.layers.0.input_layernorm.weight": f"{LLAMA}.layers.0.input_layernorm",
    "language_model.model.layers.1.self_attn.k_proj.weight": f"{LLAMA}.layers.1.self_attn.k_proj",
    "language_model.model.layers.2.self_attn.o_proj.weight": f"{LLAMA}.layers.2.self_attn.o_proj",
    "language_model.model.layers.3.mlp.up_proj.weight": f"{LLAMA}.layers.3.mlp.up_proj",
    "language_model.model.norm.weight": f"{LLAMA}.norm",
    "language_model.lm_head.weight": "language_model.lm_head",
}

# This bias is so small beside the layer's output that 1.5 times of it moves that by 2.7e-3: as far as an engine is off
# that rounds the product to bfloat16 before it adds the bias, which is no mistake.
FACTORS = {("multi_modal_projector.linear_2.bias", "shapes-describe-bfloat16"): 2.0}


def run(program: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([PROGRAMS / program, *map(str, arguments)], capture_output=True, text=True, check=False)


def first_divergence(model: Path, golden: Path, out: Path) -> dict:
    """Replays a golden on a model, and tells where they part first; the exit status must say that they do."""
    replay = run("nvl-reference", "replay", "--model", model, golden, "--record", out)
    assert replay.returncode in (0, 1), replay.stderr
    diff = run("nvl-validate", "diff", golden, out, "--format", "json")
    assert diff.returncode == 1, diff.stderr
    return json.loads(diff.stdout)["first_divergence"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A golden in full: what is bundled as sketches is computed again, and each tensor has the hash that the golden says."""

    @functools.cache
    def made(golden: str) -> Path:
        entries = json.loads((GOLDENS / golden / "manifest.json").read_text())["entries"]
        if not any("sketch" in entry for entry in entries):
            return GOLDENS / golden
        out = tmp_path_factory.mktemp("whole") / golden
        replay = run("nvl-reference", "replay", "--json", "--model", CONVERTED, GOLDENS / golden, "--record", out)
        assert replay.returncode == 0, replay.stderr
        assert json.loads(replay.stdout)["bit_equal"] == len(entries)
        return out

    return made


def perturb(file: Path, name: str, factor: float) -> None:
    """Multiplies every number of a bfloat16 tensor by a factor, in place."""
    data = file.read_bytes()
    (header_bytes,) = struct.unpack("<Q", data[:8])
    tensor = json.loads(data[8 : 8 + header_bytes])[name]
    assert tensor["dtype"] == "BF16"
    begin, end = (8 + header_bytes + offset for offset in tensor["data_offsets"])
    values = np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << 16
    changed = (values.view(np.float32) * np.float32(factor)).view(np.uint32) >> 16
    with file.open("r+b") as stream:
        stream.seek(begin)
        stream.write(changed.astype("<u2").tobytes())


@pytest.mark.parametrize("golden", ["shapes-describe-float32", "shapes-describe-bfloat16"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_perturbed_weight_is_found_at_the_first_module_it_feeds(name: str, golden: str, tmp_path: Path):
    model = tmp_path / "model"
    shutil.copytree(CONVERTED, model)
    perturb(model / "model.safetensors", name, FACTORS.get((name, golden), 1.5))
    divergence = first_divergence(model, GOLDENS / golden, tmp_path / "replay")
    assert divergence["name"] == WEIGHTS[name]
    diagnoses = [diagnosis["mistake"] for diagnosis in divergence["diagnoses"]]
    if (name, golden) in FACTORS:
        # Rounding hides what there is of a pattern.
        assert set(diagnoses) <= {"bias"}
    elif name.endswith(".bias"):
        assert diagnoses[0] == "bias"
    else:
        # A weight beside a bias makes no one mistake of the output.
        assert set(diagnoses) <= {"scale", "row_scale"}


@pytest.mark.parametrize(
    "golden",
    ["shapes-describe-float32", "shapes-describe-bfloat16", "shapes-history-bfloat16", "shapes-wide-bfloat16"],
)
def test_the_wrong_align_corners_is_found_where_positions_are_added(
    golden: str, whole: Callable[[str], Path], tmp_path: Path
):
    model = tmp_path / "model"
    source = ROOT / "golden/fixtures/checkpoints/shapes"
    convert = run("nvl-convert", "convert", source, model, "--align-corners", "false")
    assert convert.returncode == 0, convert.stderr
    divergence = first_divergence(model, whole(golden), tmp_path / "replay")
    assert divergence["name"] == f"{TOWER}.patch_generator.cls_token"
    assert [diagnosis["mistake"] for diagnosis in divergence["diagnoses"]] == ["align_corners"]


@pytest.mark.parametrize(
    "options", [[], ["--math", "fast"], ["--native-kernels"], ["--math", "fast", "--threads", "2"]]
)
@pytest.mark.parametrize("golden", ["shapes-describe-float32", "shapes-history-bfloat16", "shapes-wide-bfloat16"])
def test_a_checkpoint_without_a_mistake_passes_however_it_is_computed(
    golden: str, options: list[str], whole: Callable[[str], Path], tmp_path: Path
):
    out = tmp_path / "replay"
    replay = run("nvl-reference", "replay", "--model", CONVERTED, whole(golden), "--record", out, *options)
    assert replay.returncode == 0, replay.stderr
    diff = run("nvl-validate", "diff", whole(golden), out, "--format", "json")
    assert diff.returncode == 0, diff.stderr
    report = json.loads(diff.stdout)
    assert report["first_divergence"] is None
    assert report["summary"]["fresh"] == 0
