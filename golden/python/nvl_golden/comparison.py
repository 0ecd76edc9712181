"""The validator's own comparison, for tests in Python."""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from . import _core
from ._core import EXTENSIONS, NOISE_FACTOR, PRESETS, GoldenError
from .dump import Dump
from .past_key_values import NAME as CACHE

if TYPE_CHECKING:
    import torch

PathLike: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found: whether the candidate passes, and the reports that were asked for, by format."""

    passes: bool
    reports: dict[str, str]

    def write(self, folder: PathLike) -> None:
        """Writes each report to `report.*` in a folder, under the names that `nvl-validate diff --out` gives them."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in self.reports.items():
            path = Path(folder) / f"report.{EXTENSIONS[name]}"
            if path.is_symlink() or path.exists():
                _check_is_report(path)
            _core.replace_file(path, text.encode())


def _check_is_report(path: Path) -> None:
    """Refuses to replace what is no earlier report."""
    head = ""
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    if not _core.is_report(path.suffix.removeprefix("."), head):
        error = GoldenError(f"`{path}`: expected nothing or an earlier report in its place, found another file")
        error.hint = "move it away, or give another folder"
        raise error


def compare(
    golden: PathLike,
    candidate: PathLike,
    *,
    policy: PathLike | None = None,
    names: PathLike | None = None,
    relation: str | None = None,
    noise: PathLike | Sequence[PathLike] = (),
    noise_factor: float = NOISE_FACTOR,
    ignore_unpaired: bool = False,
    formats: Sequence[str] = ("table",),
    verify: bool = True,
) -> Comparison:
    """Compares two dumps as `nvl-validate diff` does, with the same numbers and verdicts.

    - `policy`: the name of a preset, such as `exact`, or a policy file (`docs/tolerances.md`); the built-in limits without one.
    - `names`: a map of the candidate's names and layouts: a file, or a ready-made one (`docs/names.md`).
    - `relation`: how two runs of one engine belong together, the plain one first: `same`, `chunked`, `batched` or `prefix-cache`
      (`docs/relations.md`).
    - `noise`: dumps of other right runs, whose noise gives the limits.
    - `ignore_unpaired`: whether entries that only one side has are listed without being judged.
    - `formats`: those of `--format` (`docs/diff-report.md`).

    # Errors
    `GoldenError` if the question cannot be answered: an unreadable or changed dump, a policy that makes no sense.
    """
    preset = policy if isinstance(policy, str) and policy in PRESETS else None
    runs = [noise] if isinstance(noise, str | os.PathLike) else list(noise)
    passes, reports = _core.compare(
        os.fspath(golden),
        os.fspath(candidate),
        policy=os.fspath(policy) if policy is not None and preset is None else None,
        preset=preset,
        names=os.fspath(names) if names is not None else None,
        relation=relation,
        noise=[os.fspath(run) for run in runs],
        noise_factor=noise_factor,
        ignore_unpaired=ignore_unpaired,
        formats=list(formats),
        verify=verify,
    )
    return Comparison(passes, reports)


def assert_matches(
    golden: PathLike,
    candidate: PathLike | Dump | torch.nn.Module,
    *,
    policy: PathLike | None = None,
    names: PathLike | None = None,
    noise: PathLike | Sequence[PathLike] = (),
    noise_factor: float = NOISE_FACTOR,
    run: Callable[[Any], Any] | None = None,
    prefix: str = "",
    ignore_unpaired: bool | None = None,
    out: PathLike | None = None,
) -> Comparison:
    """Fails, with the validator's table, unless a candidate computes what a golden dump has.

    The candidate is a dump, or a model. A model is recorded at the golden's own sites while `run(model)` calls it; without
    `run` it is called with the golden's `input_ids` and, where there are any, `pixel_values` and other inputs that its `forward`
    names. What it does not compute is then not judged, unless `ignore_unpaired` says otherwise. With `names` all of its sites are
    recorded, under its own names.

    - `policy`, `names`, `noise`, `noise_factor`: as in `compare`.
    - `prefix`: what stands in front of the model's module paths in the golden (`language_model`).
    - `out`: a folder for the reports in every format, and for a model's own dump, `candidate`.

    # Errors
    `AssertionError` with the table if the candidate does not pass, or has none of the golden's sites; `GoldenError` if they could not be compared.
    """
    __tracebackhide__ = True
    formats = ("table",) if out is None else tuple(EXTENSIONS)
    scratch = None
    try:
        if isinstance(candidate, Dump):
            candidate = candidate.path
        if not isinstance(candidate, str | os.PathLike):
            scratch = Path(tempfile.mkdtemp(prefix="nvl-golden-")) if out is None else None
            folder = (scratch or Path(out or ".")) / "candidate"
            candidate = _recorded(Dump(golden), candidate, folder, run, prefix, mapped=names is not None)
            ignore_unpaired = True if ignore_unpaired is None else ignore_unpaired
        comparison = compare(
            golden,
            candidate,
            policy=policy,
            names=names,
            noise=noise,
            noise_factor=noise_factor,
            ignore_unpaired=bool(ignore_unpaired),
            formats=formats,
        )
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    if out is not None:
        comparison.write(out)
    if not comparison.passes:
        raise AssertionError(comparison.reports["table"])
    return comparison


def _recorded(
    golden: Dump, model: Any, folder: Path, run: Callable[[Any], Any] | None, prefix: str, *, mapped: bool
) -> Path:
    """Records a model at a golden's sites, or at all of its own where a map gives their names; the dump's folder."""
    import torch

    from .recording import record

    if not isinstance(model, torch.nn.Module):
        raise GoldenError(f"expected a dump or a `torch.nn.Module` to judge, found `{type(model).__name__}`")
    tokens = next((entry.extra["rows"]["kept"] for entry in golden if "rows" in entry.extra), None)
    given = _given(golden, model)
    only = None if mapped else golden.names()
    steps = sorted({entry.step for entry in golden})
    options: dict[str, Any] = {"prefix": prefix, "tokens": tokens, "overwrite": True, "only": only}
    options["steps"] = steps if any(steps) else None
    options["kv"] = any(entry.name.startswith(f"{CACHE}.") for entry in golden)
    with record(model, folder, **options) as recorder:
        # Of the prompt and the pictures the golden's are taken for granted; an answer there is none.
        recorder.request = {"turns": [], **golden.manifest.get("request", {}), "max_new_tokens": 0}
        recorder.prompt = golden.manifest.get("prompt")
        if run is not None:
            run(model)
        else:
            if not given:
                raise GoldenError(
                    f"`{golden.path}`: expected an entry `input_ids` or `pixel_values` to run, found neither"
                )
            device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
            with torch.inference_mode():
                model(**{name: tensor.to(device) for name, tensor in given.items()})
        sites = recorder.bytes_recorded
    if not sites:
        found = f"none of its {len(golden)} sites in the model"
        raise AssertionError(f"`{golden.path}`: expected a model that has some of the golden's sites, found {found}")
    return folder


def _given(golden: Dump, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a model is called with: the golden's inputs that it takes, pixels in the dtype in which they reached the tower."""
    import torch

    takes = {"input_ids", "pixel_values", *inspect.signature(model.forward).parameters}
    # A module's own inputs, where they were recorded, have its class.
    names = [entry.name for entry in golden if entry.role == "input" and not entry.module and entry.name in takes]
    given = {name: golden.tensor(name) for name in names}
    dtype = golden.manifest.get("producer", {}).get("pixel_values_dtype")
    if "pixel_values" in given and dtype is not None:
        given["pixel_values"] = given["pixel_values"].to(getattr(torch, dtype))
    return given
