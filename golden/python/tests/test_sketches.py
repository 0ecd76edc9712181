"""Sketches as a reader in another language makes them, against what the Rust core is tested with."""

import base64
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import sketches

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs/activation-dump.schema.json").read_text())
CASES = json.loads((Path(__file__).resolve().parents[2] / "fixtures/sketches.json").read_text())
NAMES = [f"{case['kind']}-{case['dtype']}-{'x'.join(map(str, case['shape']))}" for case in CASES]


@pytest.mark.parametrize("index", range(len(CASES)), ids=NAMES)
def test_the_sketches_that_the_core_is_tested_with_are_those_of_the_specification(index: int):
    case = CASES[index]
    values = sketches.generated(case["kind"], case["dtype"], int(np.prod(case["shape"], dtype=int)))
    found = sketches.sketch(values, case["seed"], scaled=case["dtype"] == "float64")
    # As JSON, so that every digit counts and negative zeros are told from positive ones.
    assert json.dumps(found) == json.dumps(case["sketch"])
    projection = np.frombuffer(base64.b64decode(found["projection"]), dtype="<f8")
    assert base64.b64encode(sketches.short(projection, case["seed"]).tobytes()).decode() == case["short"]


def test_the_words_are_those_of_splitmix64():
    # The published test vector of the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert sketches.words(1234567, np.arange(4)).tolist() == expected


def manifest(sketch: dict) -> dict:
    entry = {"order": 0, "name": "x", "role": "activation", "module": "", "dtype": "float32", "shape": [1]}
    entry |= {"sha256": "0" * 64, "sketch": sketch}
    return {
        "format": "activation-dump",
        "version": 1,
        "producer": {"name": "a test", "dtype": "float32"},
        "entries": [entry],
    }


def test_the_schema_takes_sketches_and_no_other():
    for case in CASES:
        jsonschema.validate(manifest(case["sketch"]), SCHEMA)
        short = {"algorithm": "signed-places-64", "projection": case["short"]}
        jsonschema.validate(manifest(case["sketch"] | short), SCHEMA)
        for alone in short:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(manifest(case["sketch"] | {alone: short[alone]}), SCHEMA)
    good = CASES[0]["sketch"]
    for change in ({"projection": good["projection"][4:]}, {"seed": 2**53}, {"algorithm": "another"}, {"min": "0"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(manifest(good | change), SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest({key: value for key, value in good.items() if key != "count"}), SCHEMA)
