"""scripts/prove on a checkpoint whose code is the project's own, with the habits of the published code."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts/proof"))

import asked  # noqa: E402

CODE = ROOT / "golden/python/tests/with_torch"
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
IGNORED = shutil.ignore_patterns("__pycache__")
REVISION = "0" * 40
ARGUMENTS = ["--python", sys.executable, "--bin", PROGRAMS, "--align-corners", "true", "--threads", "1"]
ARGUMENTS += ["--only", "text", "--only", "pictures", "--max-new-tokens", "3"]


class Lab:
    """A checkpoint, the hub's cache with the code of its tower, and a folder for the proof."""

    def __init__(self, folder):
        self.source, self.work, self.hub = folder / "stand-in", folder / "work", folder / "hub"
        self.environment = os.environ | {
            "HF_HUB_CACHE": str(self.hub),
            "HF_MODULES_CACHE": str(folder / "modules"),
            "HF_HUB_OFFLINE": "1",
        }

    def command(self, *arguments):
        return [
            str(part) for part in (ROOT / "scripts/prove", self.source, "--work", self.work, *ARGUMENTS, *arguments)
        ]

    def prove(self, *arguments):
        options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "check": False}
        return subprocess.run(self.command(*arguments), env=self.environment, **options)

    def proof(self):
        return json.loads((self.work / "proof.json").read_text())

    def copied(self, folder):
        """The same again, with all that was done, to be spoilt."""
        copy = Lab(folder)
        for name in ("source", "work", "hub"):
            shutil.copytree(getattr(self, name), getattr(copy, name), symlinks=True)
        return copy


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory):
    """A proof that was killed behind its first golden, and started again; what was said each time."""
    lab = Lab(tmp_path_factory.mktemp("proof"))
    shutil.copytree(ROOT / "golden/fixtures/checkpoints/shapes", lab.source)
    shutil.copytree(CODE / "checkpoint", lab.source, ignore=IGNORED, dirs_exist_ok=True)
    repository = lab.hub / "models--nvidia--C-RADIOv2-H"
    shutil.copytree(CODE / "tower", repository / "snapshots" / REVISION, ignore=IGNORED)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(REVISION)
    with (lab.work.parent / "said").open("w+") as said:
        process = subprocess.Popen(
            lab.command("--trust-remote-code"), env=lab.environment, stdin=subprocess.DEVNULL, stderr=said
        )
        try:
            deadline = time.monotonic() + 900
            while not (lab.work / "state/record-bfloat16-natural-text.json").exists():
                assert process.poll() is None and time.monotonic() < deadline, Path(said.name).read_text()
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        first = Path(said.name).read_text()
    # What was recorded by a program that outlived it would be there, too.
    assert not (lab.work / "proof.json").exists()
    return lab, first, lab.prove("--trust-remote-code")


def test_what_was_done_before_a_kill_is_not_done_again(killed_and_resumed):
    lab, first, resumed = killed_and_resumed
    assert resumed.returncode == 0, resumed.stderr
    assert "recording text (1 of 2)" in first
    assert "recording text" not in resumed.stderr and "recording pictures (1 of 1)" in resumed.stderr
    assert [line[:6] for line in resumed.stderr.splitlines() if line.startswith("[")] == [
        f"[ {n}/6]" for n in range(1, 7)
    ]
    again = lab.prove()
    # Nothing runs, so that nobody has to agree to anything.
    assert again.returncode == 0, again.stderr
    assert "done before: 2 requests" in again.stderr and "    recording " not in again.stderr
    assert "again, since" not in again.stderr


def test_a_proof_says_beforehand_what_it_needs_and_shows_the_code(killed_and_resumed):
    _, first, _ = killed_and_resumed
    assert first.index("disk: ") < first.index("memory: about ") < first.index("which runs with your rights")
    assert re.search(r"  modeling\.py +[0-9a-f]{64}  ", first)


def test_a_proof_has_every_hash(killed_and_resumed):
    lab, _, resumed = killed_and_resumed
    proof = lab.proof()
    assert (proof["format"], proof["verdict"], proof["differences"]) == ("nemotron-vl-proof", "proved", [])
    code = {file["name"]: file["sha256"] for file in proof["source"]["code"]}
    for name in ("modeling.py", "configuration.py", "image_processing.py"):
        assert code[name] == hashlib.sha256((lab.source / name).read_bytes()).hexdigest()
    weights = [path for path in lab.source.iterdir() if path.suffix == ".safetensors"]
    files = {file["name"]: file["sha256"] for file in proof["source"]["files"]}
    assert weights and all(files[path.name] == hashlib.sha256(path.read_bytes()).hexdigest() for path in weights)
    stored = {}
    for path in weights:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        for name, row in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in row["data_offsets"])
                stored[name] = hashlib.sha256(data[begin:end]).hexdigest()
    assert {row["source"]: row["sha256"] for row in proof["source"]["tensors"]} == stored
    assert [(row["configuration"], row["id"]) for row in proof["requests"]] == [
        ("bfloat16-natural", "text"),
        ("bfloat16-natural", "pictures"),
    ]
    for row in proof["requests"]:
        folder = Path("bfloat16-natural") / row["id"]
        manifests = [
            json.loads((lab.work / side / folder / "manifest.json").read_text()) for side in ("goldens", "replays")
        ]
        for side, manifest in zip(("golden", "replay"), manifests, strict=True):
            assert {entry["name"]: entry[side] for entry in row["rows"]} == {
                entry["name"]: entry["sha256"] for entry in manifest["entries"]
            }
            assert row["generated_ids"][side] == manifest["generated_ids"]
        assert row["bit_equal"] == row["entries"] == len(manifests[0]["entries"]) > 60
        assert (row["missing"], row["extra"], row["different"]) == (0, 0, 0)
        assert all("sketch" in entry for entry in manifests[1]["entries"] if entry["role"] == "activation")
    entries = sum(row["entries"] for row in proof["requests"])
    assert f"PROVED: 2 requests, {entries} entries, every one equal to the last bit" in resumed.stderr
    measured = [
        proof["converted"]["convert"],
        *(row[side] for row in proof["requests"] for side in ("golden", "replay")),
    ]
    assert all(one["seconds"] > 0 and one["peak_bytes"] > 0 and one["command"] for one in measured)


def test_the_page_needs_nothing_else_and_says_the_same(killed_and_resumed):
    lab, _, _ = killed_and_resumed
    page, proof = (lab.work / "proof.html").read_text(), lab.proof()
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|https?://", page)
    assert 'class="verdict good">Proved: 2 requests' in page
    for row in proof["requests"]:
        assert all(entry["golden"] in page and entry["name"] in page for entry in row["rows"])
    assert all(row["sha256"] in page for row in proof["source"]["tensors"] + proof["source"]["code"])


def test_one_weight_that_was_changed_is_found_and_named(killed_and_resumed, tmp_path):
    lab = killed_and_resumed[0].copied(tmp_path)
    path = lab.work / "converted/model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    name = "language_model.model.layers.2.mlp.up_proj.weight"
    begin, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    # The highest bit of an exponent that is small: a number of another size.
    data[8 + length + (begin + end) // 2 + 1] ^= 0x40
    path.write_bytes(data)
    result = lab.prove()
    assert result.returncode == 1, result.stderr
    assert "    recording " not in result.stderr
    assert "again, since `converted.model.safetensors` changed" in result.stderr
    proof = lab.proof()
    assert proof["verdict"] == "difference"
    first = "language_model.model.layers.2.mlp.up_proj"
    assert [row["first"] for row in proof["requests"]] == [first, first]
    assert "NOT EQUAL: 3 differences\n  the converted checkpoint is not what its ledger says" in result.stderr
    assert name in result.stderr.split("NOT EQUAL")[1]
    assert f"bfloat16-natural/text: first `{first}`" in result.stderr
    assert 'class="verdict bad">Not equal' in (lab.work / "proof.html").read_text()


def test_code_that_was_changed_is_recorded_again_and_found(killed_and_resumed, tmp_path):
    lab = killed_and_resumed[0].copied(tmp_path)
    code = lab.source / "modeling.py"
    text = code.read_text()
    changed = text.replace("self.vision_model(pixel_values)", "self.vision_model(pixel_values * 0.5)")
    assert changed != text
    code.write_text(changed)
    result = lab.prove()
    # Nobody has agreed to this code.
    assert result.returncode == 2, result.stderr
    assert "again, since `code.modeling.py` changed" in result.stderr
    assert "error: expected your consent to run the checkpoint's code, found none\nhint: " in result.stderr
    result = lab.prove("--trust-remote-code")
    assert result.returncode == 1, result.stderr
    first = "vision_model.radio_model.input_conditioner"
    assert f"NOT EQUAL: 1 differences\n  bfloat16-natural/pictures: first `{first}`" in result.stderr
    text_, pictures = lab.proof()["requests"]
    assert text_["equal"] and not pictures["equal"] and pictures["missing"] == pictures["extra"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--python", "nowhere"], "`nowhere`: expected the Python to record with, found none\nhint: "),
        (["--bin", "nowhere"], "`nowhere/nvl-convert`: expected a program of this project, found none"),
        (
            ["--only", "film"],
            "--only: expected one of `text`, `system`, `one-tile`, `many-tiles`, `pictures`, `history`",
        ),
        (["--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
        (["--requests", "nowhere.jsonl"], "`nowhere.jsonl`: expected a file of requests, found no file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2_before_anything_is_done(arguments, message, tmp_path):
    lab = Lab(tmp_path)
    lab.source.mkdir()
    result = lab.prove(*arguments)
    assert result.returncode == 2 and f"error: {message}" in result.stderr.replace(f"{Path.cwd()}/", ""), result.stderr
    assert not lab.work.exists() or os.listdir(lab.work) == ["lock"]


def test_what_is_no_checkpoint_is_refused(tmp_path):
    lab = Lab(tmp_path)
    lab.source.mkdir()
    result = lab.prove()
    assert result.returncode == 2 and f"error: `{lab.source}`: expected a checkpoint" in result.stderr, result.stderr


def test_a_golden_is_looked_for_where_the_recorder_puts_it(tmp_path):
    from nvl_golden.requests import dump_name

    ids = ["text", "..", "../x", "a b", "é", ".hidden", "x" * 200]
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps({"id": id, "prompt": "What?"}) + "\n" for id in ids))
    assert [row["name"] for row in asked.requests(path, [], 8)] == [dump_name(id) for id in ids]
