"""Sketches as a reader in another language makes them, against what the Rust core is tested with."""

import json
from pathlib import Path

import numpy as np
import pytest
import sketches

CASES = json.loads((Path(__file__).resolve().parents[2] / "fixtures/sketches.json").read_text())
NAMES = [f"{case['kind']}-{case['dtype']}-{'x'.join(map(str, case['shape']))}" for case in CASES]


@pytest.mark.parametrize("index", range(len(CASES)), ids=NAMES)
def test_the_sketches_that_the_core_is_tested_with_are_those_of_the_specification(index: int):
    case = CASES[index]
    values = sketches.generated(case["kind"], case["dtype"], int(np.prod(case["shape"], dtype=int)))
    found = sketches.sketch(values, case["seed"], scaled=case["dtype"] == "float64")
    # As JSON, so that every digit counts and negative zeros are told from positive ones.
    assert json.dumps(found) == json.dumps(case["sketch"])


def test_the_words_are_those_of_splitmix64():
    # The published test vector of the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert sketches.words(1234567, np.arange(4)).tolist() == expected
