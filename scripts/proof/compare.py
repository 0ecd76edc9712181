"""A golden and its replay: every entry, none missing, none extra."""

import hashlib
import json
from pathlib import Path
from typing import Any

from children import Ran

#: What of a run both sides must have observed alike.
_RAN = ("dtype", "attention", "pixel_values_dtype", "dtypes")


def manifest_sha256(dump: Path) -> str | None:
    """The SHA-256 of a dump's manifest, which has that of each tensor; `None` if there is none."""
    try:
        return hashlib.sha256((dump / "manifest.json").read_bytes()).hexdigest()
    except OSError:
        return None


def dump_bytes(dump: Path) -> int:
    """What a dump takes on the disk."""
    return sum(path.stat().st_size for path in dump.iterdir())


def compare(golden: Path, replay: Path, diff: Ran) -> dict[str, Any]:
    """What the manifests of both say of each entry, beside what `nvl-validate diff --preset exact` made of them.

    # Errors
    `CannotTellError` if the diff could not be made.
    """
    if diff.status not in (0, 1):
        raise diff.failed("nvl-validate diff")
    report = json.loads(diff.stdout)
    before, after = (json.loads((dump / "manifest.json").read_text()) for dump in (golden, replay))
    expected, found = ({entry["name"]: entry for entry in manifest["entries"]} for manifest in (before, after))
    entries = [_entry(expected.get(name), found.get(name)) for name in [*expected, *(set(found) - set(expected))]]
    verdicts = [entry["verdict"] for entry in entries]
    differing = [entry["name"] for entry in entries if entry["verdict"] != "equal"]
    differing += [field for field in ("generated_ids", "text", "prompt") if before.get(field) != after.get(field)]
    producers = before["producer"], after["producer"]
    differing += [f"producer.{field}" for field in _RAN if producers[0].get(field) != producers[1].get(field)]
    if report["verdict"] != "pass" and not differing:
        divergence = report["first_divergence"] or {}
        differing.append(divergence.get("name") or divergence.get("kind") or "the diff")
    return {
        "equal": not differing,
        "first": differing[0] if differing else None,
        "reason": (report["first_divergence"] or {}).get("reason") if differing else None,
        "entries": len(entries),
        "bit_equal": verdicts.count("equal"),
        "different": verdicts.count("different"),
        "missing": verdicts.count("missing"),
        "extra": verdicts.count("extra"),
        "diff_verdict": report["verdict"],
        "hashes_verified": report["hashes_verified"],
        "producers": {"golden": producers[0], "replay": producers[1]},
        "request": before.get("request"),
        "prompt_sha256": hashlib.sha256((before.get("prompt") or "").encode()).hexdigest(),
        "text": before.get("text"),
        "generated_ids": {"golden": before.get("generated_ids"), "replay": after.get("generated_ids")},
        "remote_code": before.get("remote_code"),
        "rows": entries,
    }


def _entry(expected: dict[str, Any] | None, found: dict[str, Any] | None) -> dict[str, Any]:
    one = expected or found
    assert one is not None
    verdict = "missing" if found is None else "extra" if expected is None else "different"
    if expected and found and all(expected[field] == found[field] for field in ("dtype", "shape", "sha256", "role")):
        verdict = "equal"
    return {
        "name": one["name"],
        "dtype": one["dtype"],
        "shape": one["shape"],
        "verdict": verdict,
        "golden": expected and expected["sha256"],
        "replay": found and found["sha256"],
    }
