"""Dumps as a reader in another language sees them: through safetensors, the published schema and hashlib.

The bundled goldens were written by Python, the demo's replays by Rust; both must be the same format.
"""

import hashlib
import json
import os
from pathlib import Path

import jsonschema
import pytest
import safetensors
import sketches

ROOT = Path(__file__).resolve().parents[3]
BUNDLED = sorted((ROOT / "golden/fixtures/goldens").glob("shapes-*"))
REPLAYS = sorted(Path(os.environ.get("NVL_DEMO_OUT", ROOT / "target/demo")).glob("replays/shapes-*"))
SCHEMA = json.loads((ROOT / "docs/activation-dump.schema.json").read_text())

TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "I64": "int64"}


def tensors_of(dump: Path) -> dict[str, dict]:
    tensors = {}
    for file in sorted(dump.glob("tensors*.safetensors")):
        for name, tensor in safetensors.deserialize(file.read_bytes()):
            assert name not in tensors
            tensors[name] = tensor
    return tensors


def test_the_demo_has_replayed_every_bundled_golden():
    assert len(BUNDLED) == 5
    assert [path.name for path in REPLAYS] == [path.name for path in BUNDLED]


@pytest.mark.parametrize("dump", BUNDLED + REPLAYS, ids=lambda dump: f"{dump.parent.name}/{dump.name}")
def test_a_dump_is_what_its_manifest_says(dump: Path):
    manifest = json.loads((dump / "manifest.json").read_text())
    jsonschema.validate(manifest, SCHEMA)
    tensors = tensors_of(dump)
    assert [entry["order"] for entry in manifest["entries"]] == list(range(len(manifest["entries"])))
    whole = [entry for entry in manifest["entries"] if "sketch" not in entry]
    assert {entry["name"] for entry in whole} == set(tensors)
    for entry in whole:
        tensor = tensors[entry["name"]]
        assert TORCH_NAMES[tensor["dtype"]] == entry["dtype"], entry["name"]
        assert tensor["shape"] == entry["shape"], entry["name"]
        assert hashlib.sha256(tensor["data"]).hexdigest() == entry["sha256"], entry["name"]


def test_a_sketch_is_that_of_the_tensor_that_was_computed_again():
    found = 0
    for golden, replay in zip(BUNDLED, REPLAYS, strict=True):
        entries = json.loads((golden / "manifest.json").read_text())["entries"]
        tensors = tensors_of(replay)
        assert len(tensors) == len(entries), "a replay is of tensors"
        for entry in entries:
            if "sketch" in entry:
                data, seed = tensors[entry["name"]]["data"], entry["sketch"]["seed"]
                assert sketches.sketch(sketches.values_of(data, entry["dtype"]), seed) == entry["sketch"], entry["name"]
                found += 1
    assert found == 178
