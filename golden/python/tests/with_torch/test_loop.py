"""The loop that the toolkit exists for: recorded, converted, replayed, equal to the last bit.

`nvl-golden record` runs a checkpoint whose code is the project's own, with the habits of the published code; `nvl-convert`
converts the same folder; `nvl-reference replay` runs the request again; nothing differs. Needs the programs built.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SQUARE, WIDE, copy_checkpoint
from nvl_golden import Dump, cli

PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
LARGE = ROOT / "golden/fixtures/preprocess/images/rgb-640x480.png"
HISTORY = [{"user": "<image>\nDescribe this image.", "assistant": "a green triangle left of a yellow circle"}]
REQUESTS = {
    "text": ["--prompt", "How many shapes are there?"],
    "system": ["--prompt", "How many shapes are there?", "--system", "Answer in one word."],
    "picture": ["--prompt", "Describe this image.", "--image", WIDE],
    "pictures": ["--prompt", "Describe this image.", "--image", WIDE, "--image", SQUARE],
    "history": [
        *("--prompt", "<image>\nWhat color is the square?", "--system", "Be brief.", "--history", "HISTORY"),
        *("--image", WIDE, "--image", SQUARE),
    ],
    "large": ["--prompt", "Describe this image.", "--image", LARGE],
}
# Arguments of scripts/random-checkpoint: two checkpoints that differ from the bundled one, and from each other, in every dimension.
RANDOM = {
    "one class token, v1, nvlm": [
        *("--seed", "1", "--one-cls-token", "--teachers", "clip,sam", "--ps-version", "v1", "--image-tag-type", "nvlm"),
    ],
    "a float32 tower, tied embeddings": [
        *("--seed", "2", "--vision-dtype", "float32", "--tie-word-embeddings", "--attention-bias", "--mlp-bias"),
        *(
            "--registers",
            "3",
            "--model-norm",
            "--float32-buffers",
            "--hidden-size",
            "72",
            "--layers",
            "2",
            "--heads",
            "6",
        ),
        *("--kv-heads", "3", "--head-dim", "20", "--intermediate-size", "112", "--vocab-size", "544"),
        *(
            "--vision-width",
            "64",
            "--vision-layers",
            "3",
            "--vision-heads",
            "4",
            "--tile",
            "96",
            "--max-img-size",
            "256",
        ),
        *("--projector", "88"),
    ],
}


def run(program, *arguments) -> subprocess.CompletedProcess:
    result = subprocess.run([PROGRAMS / program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Makes a checkpoint by its name, once, and its normalized form."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("loop")
            if name == "bundled":
                copy_checkpoint(folder / "source")
            else:
                generator = [sys.executable, ROOT / "scripts/random-checkpoint", folder / "weights", *RANDOM[name]]
                subprocess.run(generator, check=True)
                copy_checkpoint(folder / "source", weights=folder / "weights")
            # The stand-in's way; of the published code nvl-convert knows it by the revision.
            run("nvl-convert", "convert", folder / "source", folder / "normalized", "--align-corners", "true")
            made[name] = folder / "source", folder / "normalized"
        return made[name]

    return make


def loop(source, normalized, request, dtype, attention, folder, more=(), images=()):
    """The recording with more arguments, and the replay with what it is given besides."""
    (folder / "history.json").write_text(json.dumps(HISTORY))
    asked = [str(folder / "history.json") if argument == "HISTORY" else str(argument) for argument in request]
    golden, replayed = folder / "golden", folder / "replayed"
    arguments = ["--dtype", dtype, "--attention", attention, "--max-new-tokens", "5", "--threads", "1"]
    arguments += more
    # In bfloat16, the last bits of oneDNN's product of one row depend on where in memory it lies, which following moves.
    arguments += ["--no-flow"] if request is REQUESTS["large"] else []
    model = ["--model", str(source), "--trust-remote-code", "--out", str(golden)]
    assert cli.main(["record", *model, *asked, *arguments]) == 0
    run("nvl-reference", "replay", "--model", normalized, golden, "--record", replayed, "--device", "cpu", *images)
    return golden, replayed


def entries(dump) -> dict[str, tuple]:
    """What each entry of a dump is, by its key, in the order of the entries."""
    return {entry.key: (entry.role, entry.dtype, entry.shape, entry.sha256) for entry in Dump(dump)}


def flows(dump) -> dict[str, tuple]:
    """What each entry of a dump was computed from, by its key."""
    key = {entry.order: entry.key for entry in Dump(dump)}

    def flow(entry):
        if entry.inputs is None:
            return None
        inputs = [key[order] for order in entry.inputs]
        # Whether `generate` asks for `any` end of a sequence depends on the version of transformers.
        operations = {name: count for name, count in entry.operations.items() if name != "aten.any"}
        return dict(zip(inputs, entry.input_rows, strict=True)), operations

    return {entry.key: flow(entry) for entry in Dump(dump)}


def assert_equal(golden, replayed):
    expected, found = entries(golden), entries(replayed)
    assert list(expected) == list(found), "entries are missing, extra, or in another order"
    assert [name for name in expected if expected[name] != found[name]] == []
    expected, found = flows(golden), flows(replayed)
    if not any(expected.values()):
        found = expected
    assert {name: (expected[name], found[name]) for name in expected if expected[name] != found[name]} == {}
    table = run("nvl-validate", "diff", golden, replayed, "--preset", "exact").stdout
    assert table.endswith("verdict: pass\n"), table
    producers = [json.loads((dump / "manifest.json").read_text())["producer"] for dump in (golden, replayed)]
    for field in ("attention", "pixel_values_dtype", "dtypes", "dtype"):
        assert producers[0].get(field) == producers[1].get(field), field
    return producers[0]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("request_", REQUESTS)
def test_the_loop_closes(request_, dtype, attention, checkpoints, tmp_path):
    source, normalized = checkpoints("bundled")
    producer = assert_equal(*loop(source, normalized, REQUESTS[request_], dtype, attention, tmp_path))
    seen = request_ not in ("text", "system")
    assert producer["attention"] == ({"vision": "sdpa"} if seen else {}) | {"text": attention}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", RANDOM)
def test_the_loop_closes_in_every_dimension(name, dtype, attention, checkpoints, tmp_path):
    source, normalized = checkpoints(name)
    producer = assert_equal(*loop(source, normalized, REQUESTS["history"], dtype, attention, tmp_path))
    assert producer["dtypes"]["vision_model"] == ("float32" if "float32" in name else dtype)


@pytest.mark.parametrize("request_", ["pictures", "large"])
def test_a_golden_of_sketches_is_replayed_from_its_pictures(request_, checkpoints, tmp_path):
    source, normalized = checkpoints("bundled")
    images = ["--image", LARGE] if request_ == "large" else []
    request = REQUESTS[request_]
    golden, replayed = loop(source, normalized, request, "bfloat16", "sdpa", tmp_path, more=["--sketch"], images=images)
    assert_equal(golden, replayed)
    manifest = json.loads((golden / "manifest.json").read_text())
    sketched = {entry["name"] for entry in manifest["entries"] if "sketch" in entry}
    # Thirteen tiles are too large to keep.
    assert ("pixel_values" in sketched) == (request_ == "large") and "input_ids" not in sketched


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("request_", ["text", "history"])
def test_the_loop_closes_in_every_step(request_, dtype, attention, checkpoints, tmp_path):
    source, normalized = checkpoints("bundled")
    more = ["--steps", "0:4", "--kv"]
    golden, replayed = loop(source, normalized, REQUESTS[request_], dtype, attention, tmp_path, more=more)
    assert_equal(golden, replayed)
    steps = {entry.step for entry in Dump(golden) if entry.name == "past_key_values.0.keys"}
    assert len(steps) > 1 and steps == set(range(len(steps)))
