"""A small part of docs/any-model.md: mistakes in models of other families are found at the module that makes them.

Runs in `.venv-transformers` (`scripts/setup --recorder`).
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "any_model"))

from experiment import experiment
from small_models import FAMILIES


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["mixtral", "mamba", "t5", "mllama"])
def test_each_mistake_is_found_where_it_is_and_no_right_run_is_blamed(family: str, dtype: str, tmp_path: Path):
    result = experiment(family, dtype, mistakes=5, seed=1, work=tmp_path)
    assert (result.named, result.alarms) == (5, 0), result.wrong
    assert result.mistakes == result.reruns == 5


def test_there_are_families_of_every_kind():
    assert len(FAMILIES) >= 8
