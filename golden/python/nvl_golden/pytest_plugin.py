"""A fixture for tests that hold an engine to a golden dump; pytest finds it by itself where this package is installed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ._core import PRESETS
from .comparison import Comparison, assert_matches


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of this plugin."""
    group = parser.getgroup("nvl-golden", "comparisons with golden dumps")
    presets = ", ".join(f"`{name}`" for name in PRESETS)
    group.addoption("--nvl-golden-policy", metavar="POLICY", help=f"{presets} or a policy file")
    group.addoption(
        "--nvl-golden-reports",
        metavar="DIR",
        help="write the reports of each comparison (JUnit, HTML, …) to a folder in DIR",
    )


@pytest.fixture
def assert_golden(request: pytest.FixtureRequest) -> Callable[..., Comparison]:
    """`nvl_golden.assert_matches` with the command line's policy, and reports in a folder of the test's name."""
    policy = request.config.getoption("--nvl-golden-policy")
    reports = request.config.getoption("--nvl-golden-reports")
    count = 0

    def matches(golden: Any, candidate: Any, **options: Any) -> Comparison:
        __tracebackhide__ = True
        nonlocal count
        count += 1
        if policy is not None:
            options.setdefault("policy", policy)
        if reports is not None and "out" not in options:
            name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.nodeid).strip("-")
            options["out"] = Path(reports) / (name if count == 1 else f"{name}-{count}")
        return assert_matches(golden, candidate, **options)

    return matches
