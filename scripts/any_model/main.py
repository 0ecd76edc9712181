"""The measuring half of scripts/any-model, which calls it."""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from experiment import Result, experiment
from small_models import FAMILIES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benches"))

from machine import machine


def main() -> int:
    """Runs every family and prints the table."""
    parser = argparse.ArgumentParser(prog="any-model")
    parser.add_argument("--family", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--mistakes", type=int, default=10, help="how many in each family and dtype")
    parser.add_argument("--seed", type=int, default=0, help="chooses the modules")
    parser.add_argument("--json", type=Path, help="where all results go, with each wrong answer")
    arguments = parser.parse_args()
    results = []
    for family in arguments.family:
        for dtype in arguments.dtype:
            with tempfile.TemporaryDirectory() as work:
                result = experiment(family, dtype, arguments.mistakes, arguments.seed, Path(work))
            for what, where, found in result.wrong:
                print(f"{family}, {dtype}: {what} in `{where}`, found `{found}`", file=sys.stderr)
            results.append(result)
    if arguments.json:
        arguments.json.write_text(json.dumps([dataclasses.asdict(result) for result in results], indent=1) + "\n")
    print(table(results))
    return 0


def table(results: list[Result]) -> str:
    """The results as Markdown, and on what they were measured."""
    lines = ["| family | dtype | sites | named at the right module | false alarms |", "|---|---|---|---|---|"]
    for one in results:
        shares = f"{one.named} of {one.mistakes} | {one.alarms} of {one.reruns}"
        lines.append(f"| {one.family} | {one.dtype} | {one.sites} | {shares} |")
    named, mistakes, alarms, reruns = (
        sum(getattr(one, name) for one in results) for name in ("named", "mistakes", "alarms", "reruns")
    )
    lines.append(f"| all | | | {named} of {mistakes} | {alarms} of {reruns} |")
    return "\n".join([*lines, "", machine()])


if __name__ == "__main__":
    sys.exit(main())
