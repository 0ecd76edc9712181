"""The parts of scripts/prove that need neither torch nor a checkpoint."""

import json
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/proof"))

import asked  # noqa: E402
import children  # noqa: E402
import compare  # noqa: E402
import needs  # noqa: E402
import page  # noqa: E402
from proof import _answered  # noqa: E402
from steps import Steps  # noqa: E402
from talk import CannotTellError, duration, say  # noqa: E402

INSPECTED = {
    "bytes": 17e9,
    "parameters": 8.5e9,
    "is_local": True,
    "config": {
        "image_seq_length": 256,
        "text_config": {
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
        },
        "vision_config": {
            **{"image_size": 512, "patch_size": 16, "num_cls_tokens": 3, "num_registers": 5},
            **{"hidden_size": 1280, "mlp_ratio": 4.0, "num_hidden_layers": 32},
        },
        "image_processor": {"max_num_tiles": 12},
    },
}
NATURAL = [("bfloat16", "natural")]


def disk(monkeypatch, free):
    usage = namedtuple("usage", "total used free")(100e9, 0, free)
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda path: usage)


def test_a_disk_that_clearly_has_too_little_room_is_refused_before_anything_begins(monkeypatch, tmp_path, capsys):
    disk(monkeypatch, 16e9)
    with pytest.raises(CannotTellError, match=r"expected room for 17\.0 GB, found 16\.0 GB") as refused:
        needs.say_needs(INSPECTED, asked.OWN, NATURAL, False, True, 6, tmp_path)
    assert "--work" in refused.value.hint
    said = capsys.readouterr().err
    assert "17.0 GB for the converted checkpoint, 24.0 MB for dumps; 16.0 GB are free" in said
    # What is there already needs no room.
    assert needs.say_needs(INSPECTED, asked.OWN, NATURAL, False, False, 0, tmp_path)["disk_bytes"] == 0


def test_a_checkpoint_that_must_be_fetched_needs_room_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    disk(monkeypatch, 30e9)
    with pytest.raises(CannotTellError, match=r"expected room for 34\.0 GB, found 30\.0 GB"):
        needs.say_needs(INSPECTED | {"is_local": False}, asked.OWN, NATURAL, False, True, 6, tmp_path)


def test_more_memory_than_there_is_is_said(monkeypatch, tmp_path, capsys):
    disk(monkeypatch, 90e9)
    monkeypatch.setattr(needs, "total_memory", lambda: 25e9)
    assert needs.say_needs(INSPECTED, asked.OWN[:1], NATURAL, False, True, 1, tmp_path)["memory_bytes"] < 20e9
    assert "more than it has" not in capsys.readouterr().err
    needs.say_needs(INSPECTED, asked.OWN[:1], [*NATURAL, ("float32", "natural")], False, True, 1, tmp_path)
    assert "more than it has" in capsys.readouterr().err


def test_tensors_in_full_need_more_room_than_sketches(monkeypatch, tmp_path):
    disk(monkeypatch, 900e9)
    ask = (INSPECTED, asked.OWN, NATURAL)
    full, sketched = (needs.say_needs(*ask, full, True, 6, tmp_path)["disk_bytes"] for full in (True, False))
    assert full > sketched + 10e9


def test_a_step_is_done_as_long_as_all_that_it_depends_on_is_as_it_was(tmp_path, capsys):
    steps = Steps(tmp_path / "work", time.monotonic())
    depends = {"source": {"a": 1, "b": 2}, "options": ["x"]}
    assert steps.done("a/step", depends) is None
    steps.keep("a/step", depends, {"n": 7})
    assert steps.done("a/step", depends) == {"n": 7} and steps.is_done("a/step", depends)
    assert capsys.readouterr().err == ""
    assert steps.done("a/step", depends | {"source": {"a": 1, "b": 3}}) is None
    assert "again, since `source.b` changed" in capsys.readouterr().err
    assert steps.done("a/step", {**depends, "more": 1}) is None
    assert steps.done("a/step", depends, lambda result: result["n"] == 8) is None
    assert "its output was changed" in capsys.readouterr().err
    (path,) = (tmp_path / "work/state").iterdir()
    path.write_text(path.read_text()[:-10])
    assert steps.done("a/step", depends) is None and not steps.is_done("a/step", depends)


def test_a_folder_has_one_proof_at_a_time(tmp_path):
    first = Steps(tmp_path, 0.0)
    with pytest.raises(CannotTellError, match="another proof that is running"):
        Steps(tmp_path, 0.0)
    del first
    Steps(tmp_path, 0.0)


def dump(folder, entries, **manifest):
    folder.mkdir()
    rows = [{"role": "activation", "dtype": "float32", "shape": [1]} | entry for entry in entries]
    head = {"producer": {"dtype": "float32"}, "prompt": "p", "generated_ids": [1], "text": "t", "entries": rows}
    (folder / "manifest.json").write_text(json.dumps(head | manifest))
    return folder


def ran(verdict="pass", status=0):
    report = {"verdict": verdict, "first_divergence": None, "hashes_verified": True}
    return children.Ran([], status, 0.0, 0, json.dumps(report), ["error: no"])


def test_entries_that_differ_are_missing_or_extra_are_told_apart(tmp_path):
    golden = dump(
        tmp_path / "golden", [{"name": "a", "sha256": "1"}, {"name": "b", "sha256": "2"}, {"name": "c", "sha256": "3"}]
    )
    replay = dump(
        tmp_path / "replay", [{"name": "a", "sha256": "1"}, {"name": "c", "sha256": "4"}, {"name": "d", "sha256": "5"}]
    )
    found = compare.compare(golden, replay, ran("fail", 1))
    assert [(row["name"], row["verdict"]) for row in found["rows"]] == [
        *(("a", "equal"), ("b", "missing"), ("c", "different"), ("d", "extra")),
    ]  # fmt: skip
    assert (found["equal"], found["first"], found["bit_equal"], found["entries"]) == (False, "b", 1, 4)
    assert compare.compare(golden, golden, ran())["equal"]


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"generated_ids": [2]}, "generated_ids"),
        ({"producer": {"dtype": "float32", "attention": {"text": "eager"}}}, "producer.attention"),
    ],
    ids=["ids", "attention"],
)
def test_equal_entries_are_not_enough(change, first, tmp_path):
    entries = [{"name": "a", "sha256": "1"}]
    golden, replay = dump(tmp_path / "golden", entries), dump(tmp_path / "replay", entries, **change)
    found = compare.compare(golden, replay, ran())
    assert (found["equal"], found["first"]) == (False, first)


def test_a_diff_that_fails_decides_and_one_that_could_not_be_made_tells_nothing(tmp_path):
    golden = dump(tmp_path / "golden", [{"name": "a", "sha256": "1"}])
    assert compare.compare(golden, golden, ran("fail", 1))["first"] == "the diff"
    with pytest.raises(CannotTellError, match="nvl-validate diff: exit status 2: error: no"):
        compare.compare(golden, golden, ran(status=2))


def test_what_a_program_took_is_measured_and_what_it_says_kept(tmp_path, capsys):
    code = "import sys, time; print('a', flush=True); time.sleep(1); x = bytearray(50_000_000); print('told', file=sys.stderr); print('not', file=sys.stderr)"
    lines = []
    log = tmp_path / "log"
    found = children.run(
        [sys.executable, "-c", code], log, lambda *seen: lines.append(seen), lambda line: line == "told"
    )
    assert (found.status, found.stdout, lines) == (0, "a\n", lines[:1])
    assert lines[0][0] == "a\n" and 0 < lines[0][1] <= found.peak_bytes
    assert found.peak_bytes > 50_000_000 and found.seconds > 0
    assert log.read_text() == "told\nnot\n" and capsys.readouterr().err.split() == ["told"]


def test_what_the_checkpoints_code_prints_is_no_answer():
    rows = [{"id": "1"}, {"id": "2"}]
    assert _answered('{"id": "2", "dump": "2", "text": ""}\n', rows) == rows[1]
    for line in ("FlashAttention is not installed.\n", '{"id": "2"}', "2", "[1]", '{"id": "3", "dump": "3"}'):
        assert _answered(line, rows) is None, line


def test_nothing_that_is_said_moves_the_terminals_cursor(capsys):
    say("a\x1b[2Jb\nc")
    assert capsys.readouterr().err == "a\\x1b[2Jb\\nc\n"
    assert [duration(seconds) for seconds in (3, 75, 3700)] == ["3.0 s", "1 min 15 s", "1 h 01 min"]


def test_what_a_checkpoint_says_is_text_in_the_page():
    table = page._environment(
        {
            "environment": {
                "machine": {"cores": 2, "cpu": "<b>", "memory_bytes": 1, "system": "s", "settings": {}},
                **{"device": "cpu", "cpu_capability": "AVX2", "python": "3", "programs": {}, "packages": {"<i>": "1"}},
                "recorder": {"version": "0", "sha256": "0"},
            }
        }
    )
    assert "<b>" not in table and "&lt;b&gt;" in table and "<i>" not in table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a request a line, found none"),
        ("[]", "line 1: expected a request as a JSON object, found something else"),
        ('{"id": 1}', "line 1: `id`: expected a unique text, found `1`"),
        ('{"prompt": "a"}\n{"id": "1", "prompt": "b"}', "line 2: `id`: expected a unique text"),
        ('{"prompt": "a", "images": ["b.png"]}', "b.png`: expected a picture, found no file"),
    ],
)
def test_a_bad_file_of_requests_is_refused(text, message, tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text(text)
    with pytest.raises(CannotTellError) as refused:
        asked.requests(path, [], 8)
    assert message in str(refused.value)


def test_the_requests_of_its_own_are_of_every_form_and_have_their_pictures():
    rows = asked.requests(None, [], 8)
    assert [row["id"] for row in rows] == ["text", "system", "one-tile", "many-tiles", "pictures", "history"]
    assert [len(row["image_sha256"]) for row in rows] == [0, 0, 1, 1, 2, 2]
    assert [row["id"] for row in asked.requests(None, ["history"], 8)] == ["history"]
    assert set(json.loads(asked.as_row(rows[5]))) == {"id", "system", "turns", "images", "max_new_tokens"}


def test_help_and_wrong_arguments():
    result = subprocess.run([ROOT / "scripts/prove", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "SOURCE" in result.stdout and "--trust-remote-code" in result.stdout
    result = subprocess.run([ROOT / "scripts/prove", "x", "--dtypes", "y"], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("error: ") and "\nhint: " in result.stderr
