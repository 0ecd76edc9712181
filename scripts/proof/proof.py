"""A proof, step by step."""

import argparse
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import asked
import page
from children import run
from compare import compare, dump_bytes, manifest_sha256
from environment import find_environment
from needs import say_needs
from source import ask_for_trust, find_source, inspect, signature_of
from steps import Steps, said_of, write
from talk import CannotTellError, duration, say, size

_DTYPES = {"both": ["bfloat16", "float32"]}
_ATTENTIONS = {"both": ["eager", "sdpa"]}


class Proof:
    """One checkpoint, several requests, in several ways to compute."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        given = arguments.source
        name = Path(given).resolve().name if Path(given).is_dir() else given.partition("@")[0]
        self._folder = (arguments.work or Path("proof-" + re.sub(r"[^A-Za-z0-9._-]", "-", name))).absolute()
        self._differences: list[str] = []

    def run(self) -> int:
        """Takes every step that is left, and writes what was found. The exit status.

        # Errors
        `CannotTellError` if neither equality nor a difference can be told.
        """
        begun = time.monotonic()
        arguments = self._arguments
        self._rows = asked.requests(arguments.requests, arguments.only, arguments.max_new_tokens)
        say(f"proving {arguments.source} in {_shown(self._folder)}")
        self._environment = find_environment(arguments.python, arguments.bin, arguments.device)
        self._steps = Steps(self._folder, begun)
        inspected = inspect(self._environment, arguments.source)
        self._configurations = self._chosen(inspected)
        if inspected["is_local"]:
            self._source = find_source(self._environment, arguments.source)
            needs = self._say_needs(inspected)
        else:
            # The user sees the needs before gigabytes are fetched. Which steps are done is known only after that, so all count.
            needs = self._say_needs(inspected)
            say(f"fetching {arguments.source}")
            self._source = find_source(self._environment, arguments.source)
        goldens = [(name, row) for name, _ in self._names() for row in self._rows]
        self._steps.total = len(self._configurations) + 2 + len(goldens) + 1
        self._record()
        conversion = self._convert()
        results = [self._replay(name, row) for name, row in goldens]
        proof = self._assemble(inspected, needs, conversion, results, time.monotonic() - begun)
        return self._write(proof)

    def _names(self) -> list[tuple[str, tuple[str, str]]]:
        return [(f"{dtype}-{attention}", (dtype, attention)) for dtype, attention in self._configurations]

    def _chosen(self, inspected: dict[str, Any]) -> list[tuple[str, str]]:
        dtype = self._arguments.dtype or inspected["config"]["torch_dtype"]
        attention = self._arguments.attention
        return [(d, a) for d in _DTYPES.get(dtype, [dtype]) for a in _ATTENTIONS.get(attention, [attention])]

    def _say_needs(self, inspected: dict[str, Any]) -> dict[str, float]:
        is_known = inspected["is_local"]
        left = [
            row
            for name, _ in self._names()
            for row in self._rows
            if not (is_known and self._steps.is_done(*self._golden(name, row)))
        ]
        to_convert = not (is_known and self._steps.is_done(*self._conversion()))
        full = self._arguments.full
        return say_needs(inspected, self._rows, self._configurations, full, to_convert, len(left), self._folder)

    def _golden(self, name: str, row: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
        """The step that records a golden: its name, what it depends on, and whether what it made is as it was."""
        arguments, described = self._arguments, self._environment.described
        dtype, attention = dict(self._names())[name]
        depends = {
            "source": self._source.signature,
            "code": self._source.code_files(),
            "python": described["python"],
            "packages": described["packages"],
            "recorder": described["recorder"],
            "machine": {key: described["machine"][key] for key in ("cpu", "cores", "settings")}
            | {"device": described["device"]},
            "request": {field: value for field, value in row.items() if field != "images"},
            "options": {
                "dtype": dtype,
                "attention": attention,
                "device": arguments.device,
                "threads": arguments.threads,
                "full": arguments.full,
            },
        }
        path = self._dump("goldens", name, row)
        return (
            f"record-{name}-{row['name']}",
            depends,
            lambda result: manifest_sha256(path) == result["manifest_sha256"],
        )

    def _dump(self, kind: str, name: str, row: dict[str, Any]) -> Path:
        return self._folder / kind / name / row["name"]

    def _record(self) -> None:
        arguments, steps = self._arguments, self._steps
        trusted = False
        for name, (dtype, attention) in self._names():
            steps.begin(f"record {name}")
            left = [row for row in self._rows if steps.done(*self._golden(name, row)) is None]
            if not left:
                say(f"        done before: {len(self._rows)} requests")
                continue
            if not trusted:
                ask_for_trust(self._source, arguments.trust_remote_code)
                trusted = True
            requests = self._folder / "requests" / f"{name}.jsonl"
            write(requests, "".join(f"{asked.as_row(row)}\n" for row in left))
            command = [self._environment.python, "-m", "nvl_golden.cli", "record", "--model", self._source.given]
            command += ["--requests", requests, "--out", self._folder / "goldens" / name, "--dtype", dtype, "--force"]
            command += ["--device", arguments.device, "--trust-code", self._source.code["sha256"]]
            command += [] if attention == "natural" else ["--attention", attention]
            command += [] if arguments.threads is None else ["--threads", str(arguments.threads)]
            command += [] if arguments.full else ["--sketch"]
            since = [time.monotonic()]
            given = [str(part) for part in command]

            def recorded(
                line: str, peak: int, name: str = name, left: list = left, since: list = since, given: list = given
            ) -> None:
                row = _answered(line, left)
                if row is None:
                    return
                now = time.monotonic()
                digest = manifest_sha256(self._dump("goldens", name, row))
                # At once: what was recorded is not lost if the next request is not.
                cost = {"command": given, "seconds": round(now - since[0], 2), "peak_bytes": peak}
                steps.keep(*self._golden(name, row)[:2], {"manifest_sha256": digest} | cost)
                since[0] = now

            ran = run(command, steps.log(f"record-{name}"), recorded, lambda line: line.startswith("record"))
            if ran.status:
                raise ran.failed(f"recording {name}")
            say(f"        {said_of(ran.measured())}")

    def _conversion(self) -> tuple[str, dict[str, Any], Any]:
        described = self._environment.described
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self._options().items()]
        depends = {
            "source": self._source.signature,
            "code": self._source.code_files(),
            "program": described["programs"]["nvl-convert"],
            "options": options,
        }
        ledger = self._folder / "converted/conversion.json"
        # What somebody did to the conversion since is for `verify` and the replays to find, not to be undone in silence.
        return "convert", depends, lambda result: ledger.is_file()

    def _options(self) -> dict[str, str]:
        chosen = {name: getattr(self._arguments, name) for name in ("align_corners", "upscale_factor")}
        return {name: value for name, value in chosen.items() if value is not None}

    def _convert(self) -> dict[str, Any]:
        steps, program, out = self._steps, self._environment.programs["nvl-convert"], self._folder / "converted"
        steps.begin("convert")
        name, depends, intact = self._conversion()
        result = steps.done(name, depends, intact)
        if result is None:
            ran = run([program, "convert", self._source.given, out, "--force", *depends["options"]], steps.log(name))
            if ran.status:
                raise ran.failed("converting")
            result = ran.measured()
            steps.keep(name, depends, result)
        say(f"        {said_of(result)}")
        steps.begin("verify the conversion")
        depends = {"converted": signature_of(out), "program": self._environment.described["programs"]["nvl-convert"]}
        verified = steps.done("verify", depends)
        if verified is None:
            ran = run([program, "verify", out], steps.log("verify"))
            if ran.status not in (0, 1):
                raise ran.failed("verifying the conversion")
            verified = ran.measured() | {"equal": ran.status == 0, "said": ran.stdout.strip().splitlines() + ran.said}
            steps.keep("verify", depends, verified)
        say(f"        {said_of(verified)}")
        ledger = json.loads((out / "conversion.json").read_text(encoding="utf-8"))
        if not verified["equal"]:
            self._differ("the converted checkpoint is not what its ledger says: " + " / ".join(verified["said"][:2]))
        self._check_code(ledger)
        return {"convert": result, "verify": verified, "ledger": ledger}

    def _check_code(self, ledger: dict[str, Any]) -> None:
        """That the code which the conversion was made by is the code that ran."""
        ran = {(file["repository"], file["name"]): file["sha256"] for file in self._source.code["files"]}
        for file in ledger["source"].get("code", []):
            if ran.get((file["repository"], file["file"]), file["sha256"]) != file["sha256"]:
                found = f"`{file['file']}` of `{file['repository']}` at {file['revision']}"
                raise CannotTellError(f"expected nvl-convert to read the code that was recorded, found {found}")

    def _replay(self, name: str, row: dict[str, Any]) -> dict[str, Any]:
        steps, described, arguments = self._steps, self._environment.described, self._arguments
        golden, replay = self._dump("goldens", name, row), self._dump("replays", name, row)
        steps.begin(f"replay and compare {name}/{row['id']}")
        step = f"replay-{name}-{row['name']}"
        depends = {
            "golden": manifest_sha256(golden),
            "converted": signature_of(self._folder / "converted"),
            "program": described["programs"]["nvl-reference"],
            "options": {"device": arguments.device, "full": arguments.full},
        }
        result = steps.done(step, depends, lambda result: manifest_sha256(replay) == result["manifest_sha256"])
        if result is None:
            command = [
                self._environment.programs["nvl-reference"],
                "replay",
                "--model",
                self._folder / "converted",
                golden,
            ]
            command += ["--record", replay, "--force", "--native-kernels", "--device", arguments.device]
            command += [] if arguments.full else ["--sketch"]
            command += [part for image in row.get("images", []) for part in ("--image", image)]
            ran = run(command, steps.log(step))
            digest = manifest_sha256(replay)
            if ran.status not in (0, 1) or digest is None:
                raise ran.failed(f"replaying {name}/{row['id']}")
            result = ran.measured() | {"manifest_sha256": digest, "bytes": dump_bytes(replay)}
            steps.keep(step, depends, result)
        compared = self._compare(name, row, golden, replay, depends["golden"], result["manifest_sha256"])
        recorded = steps.done(*self._golden(name, row)) or {}
        say(f"        {compared['bit_equal']} of {compared['entries']} entries are equal; {said_of(result)}")
        if not compared["equal"]:
            why = f" ({compared['reason']})" if compared["reason"] else ""
            self._differ(f"{name}/{row['id']}: first `{compared['first']}`{why}")
        return {
            "configuration": name,
            "id": row["id"],
            "asked": row,
            "golden": recorded | {"bytes": dump_bytes(golden)},
            "replay": result,
        } | compared

    def _compare(
        self, name: str, row: dict[str, Any], golden: Path, replay: Path, before: Any, after: Any
    ) -> dict[str, Any]:
        step = f"compare-{name}-{row['name']}"
        depends = {
            "golden": before,
            "replay": after,
            "program": self._environment.described["programs"]["nvl-validate"],
        }
        result = self._steps.done(step, depends)
        if result is None:
            command = [self._environment.programs["nvl-validate"], "diff", golden, replay, "--preset", "exact"]
            ran = run([*command, "--format", "json"], self._steps.log(step))
            result = compare(golden, replay, ran) | {"command": ran.command}
            self._steps.keep(step, depends, result)
        return result

    def _differ(self, sentence: str) -> None:
        self._differences.append(sentence)
        say(f"        DIFFERENCE: {sentence}")

    def _assemble(
        self,
        inspected: dict[str, Any],
        needs: dict[str, float],
        conversion: dict[str, Any],
        results: list[dict[str, Any]],
        seconds: float,
    ) -> dict[str, Any]:
        ledger = conversion["ledger"]
        return {
            "format": "nemotron-vl-proof",
            "format_version": 1,
            "verdict": "difference" if self._differences else "proved",
            "differences": self._differences,
            "source": {
                "name": self._source.code["name"],
                "revision": self._source.code["revision"],
                "parameters": inspected["parameters"],
                "bytes": inspected["bytes"],
                "files": [
                    {key: file[key] for key in ("name", "bytes", "sha256")} for file in ledger["source"]["files"]
                ],
                "tensors": [
                    {key: row[key] for key in ("source", "dtype", "shape", "sha256")} for row in ledger["tensors"]
                ],
                "code": self._source.code["files"],
                "code_sha256": self._source.code["sha256"],
            },
            "converted": {
                "ledger_sha256": ledger["ledger_sha256"],
                "files": ledger["files"],
                "behaviours": ledger["behaviours"],
                "warnings": ledger["warnings"],
                "convert": conversion["convert"],
                "verify": conversion["verify"],
            },
            "environment": self._environment.described,
            "needs": needs,
            "requests": results,
            "seconds": round(seconds, 1),
        }

    def _write(self, proof: dict[str, Any]) -> int:
        self._steps.begin("write the proof")
        write(self._folder / "proof.json", json.dumps(proof, indent=1) + "\n")
        write(self._folder / "proof.html", page.render(proof))
        rows = proof["requests"]
        goldens = size(sum(row["golden"]["bytes"] for row in rows))
        say(f"        {duration(proof['seconds'])} in all; {goldens} of goldens")
        say(f"        {_shown(self._folder)}/proof.html, {_shown(self._folder)}/proof.json")
        entries = sum(row["entries"] for row in rows)
        if self._differences:
            say(f"NOT EQUAL: {len(self._differences)} differences")
            for difference in self._differences:
                say(f"  {difference}")
            return 1
        say(
            f"PROVED: {len(rows)} requests, {entries:,} entries, every one equal to the last bit, none missing, none extra"
        )
        return 0


def _shown(folder: Path) -> str:
    """A folder as a person would name it."""
    relative = os.path.relpath(folder)
    return str(folder) if relative.startswith("..") else relative


def _answered(line: str, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The request that a line of the recorder's output answers; `None` for what the checkpoint's own code prints."""
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    id = answer.get("id") if isinstance(answer, dict) and "dump" in answer else None
    return next((row for row in rows if row["id"] == id), None)
