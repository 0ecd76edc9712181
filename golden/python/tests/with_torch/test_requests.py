"""`nvl-golden record --requests`: a file of requests, with one load of the checkpoint."""

import json

import nvl_golden
import pytest
from conftest import IMAGES, read_back
from nvl_golden import cli
from nvl_golden.huggingface import checkpoint
from nvl_golden.requests import dump_name, read_requests

SQUARE, WIDE = "purple-square.png", "green-triangle-left-of-yellow-circle.png"
TURNS = [
    {"user": "<image>\nDescribe this image.", "assistant": "a green triangle left of a yellow circle"},
    {"user": "<image>\nWhat color is the square?"},
]
ROWS = [
    {"id": "text", "prompt": "How many shapes are there?", "system": "Answer in one word.", "temperature": 0},
    {"id": "history", "turns": TURNS, "images": [WIDE, SQUARE], "max_new_tokens": 3},
    {"id": "a/picture", "prompt": "Describe this image.", "images": [str(IMAGES / SQUARE)]},
]


@pytest.fixture
def requests_file(tmp_path):
    """Writes rows beside links to the pictures; the file."""
    for name in (SQUARE, WIDE):
        (tmp_path / name).symlink_to(IMAGES / name)

    def write(rows):
        path = tmp_path / "requests.jsonl"
        path.write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        return path

    return write


def record(stand_in, out, *arguments):
    given = ["record", "--model", stand_in, "--out", out, "--dtype", "float32", "--threads", "1", "--trust-remote-code"]
    return cli.main([str(argument) for argument in (*given, *arguments)])


def essence(path, *, without=()):
    """What a dump says, without what is different each time."""
    manifest = read_back(path).manifest
    entries = [(entry["name"], entry["role"], entry["shape"], entry["sha256"]) for entry in manifest["entries"]]
    fields = ("producer", "checkpoint", "request", "prompt", "generated_ids", "text", "remote_code")
    return entries, {name: manifest.get(name) for name in fields if name not in without}


def test_each_request_is_recorded_as_it_would_be_alone_with_one_load(
    stand_in, requests_file, tmp_path, monkeypatch, capfd
):
    loads = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda *args, **kwargs: loads.append(1) or load(*args, **kwargs))
    out = tmp_path / "dumps"
    assert record(stand_in, out, "--requests", requests_file(ROWS), "--max-new-tokens", "2") == 0
    captured = capfd.readouterr()
    assert len(loads) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a_picture", "history", "text"]
    answers = [json.loads(line) for line in captured.out.splitlines()]
    assert [(answer["id"], answer["dump"]) for answer in answers] == [
        ("text", "text"),
        ("history", "history"),
        ("a/picture", "a_picture"),
    ]
    assert [answer["text"] for answer in answers] == [
        nvl_golden.Dump(out / answer["dump"]).manifest["text"] for answer in answers
    ]
    assert "recording a/picture (3 of 3)" in captured.err

    # Alone, in the reverse order: nothing of one request is left for the next.
    history = tmp_path / "history.json"
    history.write_text(json.dumps(TURNS[:1]))
    alone = {
        "a_picture": ["--image", IMAGES / SQUARE, "--prompt", "Describe this image.", "--max-new-tokens", "2"],
        "history": [
            *("--image", IMAGES / WIDE, "--image", IMAGES / SQUARE, "--history", history),
            *("--prompt", TURNS[1]["user"], "--max-new-tokens", "3"),
        ],
        "text": ["--prompt", ROWS[0]["prompt"], "--system", "Answer in one word.", "--max-new-tokens", "2"],
    }
    for name, arguments in alone.items():
        assert record(stand_in, tmp_path / "alone" / name, *arguments) == 0
        # A text alone loads no image processor.
        without = ("remote_code",) if name == "text" else ()
        assert essence(out / name, without=without) == essence(tmp_path / "alone" / name, without=without), name


def test_what_was_recorded_before_a_failure_stays(stand_in, requests_file, tmp_path, capfd):
    bad = {"id": "bad", "prompt": "<image><image> what?", "images": [SQUARE]}
    path = requests_file([ROWS[0], bad, ROWS[2]])
    out = tmp_path / "dumps"
    assert record(stand_in, out, "--requests", path, "--max-new-tokens", "2") == 2
    captured = capfd.readouterr()
    assert "recording bad (2 of 3)\nerror: ValueError: expected 1 image tags, found 2" in captured.err
    assert [path.name for path in out.iterdir()] == ["text"]
    read_back(out / "text")
    # And is not recorded again by mistake.
    assert record(stand_in, out, "--requests", path) == 2
    assert f"`{out / 'text'}`: expected no file and no folder with content, found one" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a request a line, found none"),
        ("{", "line 1: expected a request as a JSON object, found something else"),
        ("[]", "line 1: expected a request as a JSON object, found another kind of value"),
        ('{"prompt": "a", "prompt": "b"}', "found something else: `prompt` twice"),
        ('{"id": 7, "prompt": "a"}', "line 1: `id`: expected a text, found `7`"),
        ('{"prompt": "a"}\n\n{"promt": "b"}', "line 3: expected one of the fields `id`, `system`, `prompt`"),
        ('{"prompt": "a", "temperature": 0.7}', "`temperature`: expected what changes nothing in a recording, found `0.7`"),
        ('{"prompt": "a", "videos": ["b.mp4"]}', "`videos`: expected what changes nothing in a recording"),
        ("{}", "expected `prompt` or `turns`, found neither"),
        ('{"prompt": "a", "turns": [{"user": "b"}]}', "expected `prompt` or `turns`, found both"),
        ('{"turns": [{"user": "a", "assistant": "b"}]}', "`turns`: expected `user` alone at index 0"),
        ('{"turns": [{"user": "a"}, {"user": "b"}]}', "`turns`: expected `user` and `assistant` at index 0"),
        ('{"prompt": "a", "images": "b.png"}', '`images`: expected a list of files, found `"b.png"`'),
        ('{"prompt": "a", "images": ["b.png"]}', "b.png`: expected a picture, found no file"),
        ('{"prompt": "a", "max_new_tokens": 0}', "`max_new_tokens`: expected a number from 1 on, found `0`"),
        ('{"id": "a/b", "prompt": "a"}\n{"id": "a_b", "prompt": "a"}', "found the name of line 1: `a_b`"),
        (b'{"prompt": "caf\xe9"}', "found the byte 0xe9, which is not UTF-8"),
        ('{"prompt": "\\ud800"}', "`prompt`: expected a text in Unicode, found half of a character"),
    ],
)  # fmt: skip
def test_a_bad_file_of_requests_is_refused_before_anything_is_loaded(text, message, tmp_path, capfd):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert record(tmp_path, tmp_path / "dumps", "--requests", path) == 2
    captured = capfd.readouterr()
    assert message in captured.err and "loading" not in captured.err
    assert not (tmp_path / "dumps").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected `--prompt`, or `--requests` with a file of several, found neither"),
        (["--requests", "x", "--prompt", "a"], "expected `--prompt` or `--requests`, found both"),
        (["--requests", "x", "--image", "a.png"], "expected `--image` or `--requests`, found both"),
        (["--requests", "missing.jsonl"], "`missing.jsonl`: expected a file of requests, found no file"),
    ],
    ids=str,
)
def test_one_request_or_a_file_of_them(arguments, message, tmp_path, capfd):
    assert record(tmp_path, tmp_path / "dumps", *arguments) == 2
    assert message in capfd.readouterr().err


def test_a_dump_is_not_hidden_and_not_outside():
    assert [dump_name(id) for id in ("..", "../x", "a b", "é", "x" * 200)] == ["_.", "_._x", "a_b", "_", "x" * 100]


def test_rows_of_a_run_are_read_as_they_are(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text('{"prompt": "a", "images": ["b.png"], "stop": [], "top_p": 1.0, "seed": 0, "logprobs": null}\n')
    (request,) = read_requests(path, 7)
    assert (request.id, request.images, request.max_new_tokens) == ("1", [tmp_path / "b.png"], 7)
