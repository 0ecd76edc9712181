"""Mistakes at random modules of one model, and right runs of it, each compared with the first run."""

import json
import random
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import nvl_golden
import torch
from mistakes import plant
from reruns import RERUNS, precise_products
from small_models import Run, build


@dataclass
class Result:
    """How many mistakes were named at the right module, and how many right runs were found fault with."""

    family: str
    dtype: str
    sites: int = 0
    mistakes: int = 0
    named: int = 0
    reruns: int = 0
    alarms: int = 0
    #: What was planted, where, and which module was named.
    wrong: list[tuple[str, str, str | None]] = field(default_factory=list)


def experiment(family: str, dtype: str, mistakes: int, seed: int, work: Path) -> Result:
    """Does it for a family in a dtype; the dumps are in `work` meanwhile."""
    torch.set_num_threads(1)
    model, run = build(family, getattr(torch, dtype))
    golden = record(model, run, work / "golden")
    result = Result(family, dtype, sites=len(golden))
    for what, name, found in planted(model, run, golden, mistakes, random.Random(f"{family} {dtype} {seed}"), work):
        result.mistakes += 1
        if found == name:
            result.named += 1
        else:
            result.wrong.append((what, name, found))
    for label, rerun in RERUNS.items():
        other, run = build(family, getattr(torch, dtype), rerun.attention)
        torch.set_num_threads(rerun.threads)
        with precise_products(other) if rerun.precise else nullcontext():
            record(other, run, work / "candidate")
        torch.set_num_threads(1)
        result.reruns += 1
        _, found = answer(work)
        if found is not None:
            result.alarms += 1
            result.wrong.append((label, "nothing", found))
    return result


def planted(
    model: torch.nn.Module, run: Run, golden: nvl_golden.Dump, count: int, choice: random.Random, work: Path
) -> Iterator[tuple[str, str, str | None]]:
    """Each mistake: its kind, the module that it is in, and the module that the comparison names."""
    sites = {module_of(entry.name) for entry in golden if entry.role == "activation" and "float" in entry.dtype}
    modules = {name: module for name, module in model.named_modules() if name in sites}
    number = 0
    while number < count:
        name = choice.choice(sorted(modules))
        mistake = plant(number, modules[name], choice)
        if mistake is None:
            continue
        with mistake:
            record(model, run, work / "candidate")
        is_equal, found = answer(work)
        # One that changes nothing, such as in rows that nobody asks for, is none.
        if not is_equal:
            kind = mistake.gen.__qualname__  # type: ignore[attr-defined]
            yield kind, name, found
            number += 1


def record(model: torch.nn.Module, run: Run, out: Path) -> nvl_golden.Dump:
    """Records a run."""
    with torch.inference_mode(), nvl_golden.record(model, out, overwrite=True):
        torch.manual_seed(1)
        run(model)
    return nvl_golden.Dump(out)


def answer(work: Path) -> tuple[bool, str | None]:
    """Whether all entries are equal to the bit, and the module of the first divergence."""
    comparison = nvl_golden.compare(work / "golden", work / "candidate", formats=("json",), verify=False)
    report = json.loads(comparison.reports["json"])
    measured = [entry["measurement"] for entry in report["entries"] if entry["measurement"]]
    first = report["first_divergence"]
    return all(one["bit_equal"] for one in measured), first and module_of(first["name"])


def module_of(name: str) -> str:
    """An entry's name without the number of the call."""
    return name.partition("#")[0]
