"""The ready-made name maps for transformers, on transformers' own classes.

`RadioModel` and `LlamaForCausalLM`, alone and in the port of scripts/ports/transformers_native.py, load the parts of the
bundled checkpoint, run on a golden's own inputs, and are recorded by plain forward hooks under their own names.
`nvl-validate diff --names` must find every site, and every site right: but for the resize of positions, which transformers
does without aligned corners, and which must be named as what it is.
Runs in `.venv-transformers` (`scripts/setup --recorder`).
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts/benches"))

from machine import GOLDEN_KERNELS  # noqa: E402

PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
SHAPES = ROOT / "golden/fixtures/checkpoints/shapes"
GOLDENS = ROOT / "golden/fixtures/goldens"
PORTS = ROOT / "scripts/ports"
TOWER = "vision_model.radio_model.model"


def program(name: str, *arguments: object, status: int = 0) -> str:
    command = [str(PROGRAMS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def record(engine: str, parts: Path, golden: Path, out: Path) -> Path:
    """Runs an engine on a golden's inputs in a process of its own, and writes a dump."""
    command = [sys.executable, __file__, engine, str(parts), str(golden), str(out)]
    environment = os.environ | GOLDEN_KERNELS | {"PYTHONPATH": str(PORTS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def diff(golden: Path, candidate: Path, names: str, status: int = 0) -> dict:
    report = json.loads(
        program("nvl-validate", "diff", golden, candidate, "--names", names, "--format", "json", status=status)
    )
    assert report["names"] == names
    return report


def verdicts(report: dict, verdict: str) -> list[str]:
    return [entry["name"] for entry in report["entries"] if entry["verdict"] == verdict]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    for part in ("text", "vision"):
        program("nvl-convert", "convert", SHAPES, folder / part, "--part", part)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_site_of_llama_is_right(dtype: str, parts: Path, tmp_path: Path):
    # Of a prompt without a picture there is no golden run in bfloat16: the other's embeddings are given instead.
    golden = GOLDENS / {"float32": "shapes-text-float32", "bfloat16": "shapes-describe-bfloat16"}[dtype]
    report = diff(golden, record("llama", parts, golden, tmp_path / "run"), "transformers-llama")
    assert report["verdict"] == "pass" and report["notes"] == [] and report["not_recorded"] == []
    compared = [entry for entry in report["entries"] if entry["measurement"]]
    # Four layers of 13 sites, and cosines, sines, the final norm, the model, and the logits as they leave both modules.
    assert len(compared) >= 4 * 13 + 6
    unequal = [entry["name"] for entry in compared if not entry["measurement"]["bit_equal"]]
    # Where the logits of all tokens are computed at once, those of the last one differ in the last bits.
    assert unequal == (["language_model.lm_head", "language_model"] if dtype == "float32" else [])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_tower_differs_where_positions_are_resized_and_nowhere_else(dtype: str, parts: Path, tmp_path: Path):
    golden = GOLDENS / f"shapes-describe-{dtype}"
    report = diff(golden, record("radio", parts, golden, tmp_path / "run"), "transformers-radio", status=1)
    fresh = [entry["name"] for entry in report["entries"] if entry["origin"]["kind"] == "fresh"]
    assert fresh == [f"{TOWER}.patch_generator.cls_token"]
    first = report["first_divergence"]
    assert first["name"] == fresh[0]
    assert [diagnosis["mistake"] for diagnosis in first["diagnoses"]] == ["align_corners"]
    assert report["not_recorded"] == []
    before = ["vision_model.radio_model.input_conditioner", f"{TOWER}.patch_generator.embedder", "pixel_values"]
    assert set(before) <= {e["name"] for e in report["entries"] if e["measurement"] and e["measurement"]["bit_equal"]}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_site_of_the_tower_is_equal_where_the_golden_run_resizes_alike(dtype: str, parts: Path, tmp_path: Path):
    """A golden run of the reference runtime, told not to align corners."""
    program("nvl-convert", "convert", SHAPES, tmp_path / "model", "--align-corners", "false")
    source = GOLDENS / f"shapes-describe-{dtype}"
    golden = tmp_path / "golden"
    program("nvl-reference", "replay", "--model", tmp_path / "model", source, "--record", golden)
    report = diff(golden, record("radio", parts, golden, tmp_path / "run"), "transformers-radio")
    assert report["verdict"] == "pass" and report["notes"] == []
    compared = verdicts(report, "pass")
    assert len(compared) == 37, compared
    assert report["summary"]["bit_equal"] == 37


def test_a_port_of_both_is_equal_but_for_positions(parts: Path, tmp_path: Path):
    # The port rounds pixels first. The bundled golden does not, and is of sketches in part: the run that does comes of it.
    bundled, golden = GOLDENS / "shapes-wide-bfloat16", tmp_path / "golden"
    program("nvl-convert", "convert", SHAPES, tmp_path / "model", "--align-corners", "true")
    rounded = ("--pixel-values-dtype", "model")
    program("nvl-reference", "replay", "--model", tmp_path / "model", bundled, "--record", golden, *rounded)
    report = diff(golden, record("nemotron", parts, golden, tmp_path / "run"), "transformers-nemotron", status=1)
    fresh = [entry["name"] for entry in report["entries"] if entry["origin"]["kind"] == "fresh"]
    assert fresh == [f"{TOWER}.patch_generator.cls_token"]
    assert report["not_recorded"] == []
    # It embeds the text before it looks at the picture, and nothing else is to be noted.
    order = "the candidate recorded `language_model.model.embed_tokens` in another order; entries are paired by name"
    assert report["notes"] == [order]
    # All but the patches, which have no module of their own, and the logits of an answer that was not asked for.
    ignored = [name for name in verdicts(report, "ignored") if not name.endswith(".attn_weights")]
    assert ignored[:2] == [f"{TOWER}.patch_generator.im_to_patches", "step_logits"]
    of = {entry["name"]: entry for entry in report["entries"]}
    assert of[f"{TOWER}.blocks.1.attn.qkv"]["counterpart"]["tensors"] == [
        f"vision_tower.encoder.layer.1.attention.attention.{part}" for part in ("query", "key", "value")
    ]


def main(engine: str, parts: Path, golden: Path, out: Path) -> None:
    """Runs one engine under hooks; what a porter's own recording may look like."""
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    from transformers_native import Port

    torch.set_num_threads(1)
    manifest = json.loads((golden / "manifest.json").read_text())
    dtype = getattr(torch, manifest["producer"]["dtype"])
    given = load_file(golden / "tensors.safetensors")
    inputs = {name: given[name] for name in ("pixel_values", "input_ids") if name in given}

    port = Port(parts / "vision", parts / "text", dtype)
    recorded: list[tuple[str, str, torch.Tensor]] = []

    def keep(name: str, module: str, output: object) -> None:
        if isinstance(output, torch.Tensor):
            # A module that runs again gets the number of the call; a copy, since a later module may work in place.
            call = sum(other.split("#")[0] == name for other, _, _ in recorded)
            name = f"{name}#{call}" if call else name
            recorded.append((name, module, output.detach().clone().contiguous()))
        elif isinstance(output, (tuple, list, dict)):
            parts = output.items() if isinstance(output, dict) else enumerate(output)
            for part, value in parts:
                keep(f"{name}.{part}".lstrip("."), module, value)

    model = {"radio": port.vision_tower, "llama": port.language_model, "nemotron": port}[engine]
    for path, module in model.named_modules():
        module.register_forward_hook(lambda module, _, output, path=path: keep(path, type(module).__name__, output))
    for name, tensor in inputs.items():
        if (name == "pixel_values" and engine != "llama") or (name == "input_ids" and engine != "radio"):
            keep(name, "", tensor)
    with torch.no_grad():
        if engine == "radio":
            model(inputs["pixel_values"].to(dtype))
        elif engine == "llama" and "pixel_values" in inputs:
            model(inputs_embeds=given["inputs_embeds"], logits_to_keep=1)
        elif engine == "llama":
            model(input_ids=inputs["input_ids"])
        else:
            embeds = port.embed(**inputs)
            keep("inputs_embeds", "", embeds)
            port.language_model(inputs_embeds=embeds, logits_to_keep=1)

    out.mkdir()
    tensors = {name: tensor for name, _, tensor in recorded}
    assert len(tensors) == len(recorded)
    save_file(tensors, out / "tensors.safetensors")
    entries = [
        {
            "order": order,
            "name": name,
            "role": "input" if name in inputs else "activation",
            "module": module,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "sha256": hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest(),
        }
        for order, (name, module, tensor) in enumerate(recorded)
    ]
    producer = {"name": "transformers", "version": transformers.__version__, "dtype": manifest["producer"]["dtype"]}
    request = manifest["request"] | {"max_new_tokens": 0}
    head = {"format": "activation-dump", "version": 1, "producer": producer, "request": request}
    (out / "manifest.json").write_text(json.dumps(head | {"prompt": manifest["prompt"], "entries": entries}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
