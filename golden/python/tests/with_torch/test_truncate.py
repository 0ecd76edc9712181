"""`nvl-golden truncate`: a small sister of a checkpoint, which loads and computes what the first layers of the large one do."""

import json
import os
import re
import shutil
import struct
from pathlib import Path

import families
import nvl_golden
import pytest
from conftest import SHAPES, SQUARE, read_back
from nvl_golden import cli
from safetensors import safe_open

PICTURES = {"shapes", *families.OF_PICTURES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, stand_in):
    """A checkpoint and the dump of it, once each."""
    folder, done = tmp_path_factory.mktemp("whole"), {}

    def get(name):
        if name not in done:
            checkpoint = stand_in if name == "shapes" else families.FAMILIES[name](folder / name)
            done[name] = checkpoint, record(checkpoint, folder / f"{name}-dump", name)
        return done[name]

    return get


def record(checkpoint, out, name) -> nvl_golden.Dump:
    given = ["--model", checkpoint, "--out", out, "--dtype", "float32", "--threads", 1, "--max-new-tokens", 1]
    given += ["--image", SQUARE] if name in PICTURES else []
    assert cli.main(["record", *map(str, given), "--prompt", "What is it?", "--trust-remote-code"]) == 0
    return read_back(out)


def truncate(*arguments) -> int:
    return cli.main(["truncate", *map(str, arguments)])


def tensors(folder) -> dict:
    """What the files of a checkpoint have: dtype, shape and bytes of each tensor."""
    found = {}
    for path in Path(folder).glob("*.safetensors"):
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        assert (8 + length) % 8 == 0
        for name, entry in header.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = entry["dtype"], entry["shape"], content[begin:end]
    return found


def assert_same_until(first, whole_dump, dump):
    """Every entry before the first one that matches is in both dumps, with the same bits."""
    before = []
    for entry in whole_dump:
        if re.search(first, entry.name):
            break
        before.append(entry.name)
    else:
        raise AssertionError(f"no entry of the whole checkpoint matches `{first}`")
    assert [name for name in before if re.search(r"\.1(\.|$)", name)]
    different = [
        name for name in before if name not in dump or dump.entry(name).sha256 != whole_dump.entry(name).sha256
    ]
    assert different == []


@pytest.mark.parametrize("name", ["shapes", *families.FAMILIES])
def test_the_first_layers_compute_the_same(name, whole, tmp_path, capfd):
    checkpoint, whole_dump = whole(name)
    small = tmp_path / "small"
    assert truncate(checkpoint, small, "--layers", 2) == 0, capfd.readouterr().err
    dump = record(small, tmp_path / "dump", name)
    numbered = r"^(?!.*vi(sion|sual)).*\.(layers|block|blocks)\."
    # The first part of an encoder-decoder is the encoder.
    assert_same_until(numbered + r"2(\.|$)", whole_dump, dump)
    assert not [entry.name for entry in dump if re.search(numbered + r"[2-9](\.|$)", entry.name)]
    before, after = tensors(checkpoint), tensors(small)
    assert after == {key: before[key] for key in after} and len(after) < len(before)
    with safe_open(next(small.glob("*.safetensors")), framework="pt") as file:
        assert file.keys()


@pytest.mark.parametrize("name", ["shapes", *families.OF_PICTURES])
def test_the_first_layers_of_a_tower_compute_the_same(name, whole, tmp_path, capfd):
    checkpoint, whole_dump = whole(name)
    small = tmp_path / "small"
    assert truncate(checkpoint, small, "--layers", 2, "--vision-layers", 2) == 0, capfd.readouterr().err
    dump = record(small, tmp_path / "dump", name)
    assert_same_until(r"vi(sion|sual).*\.(layers|blocks)\.2(\.|$)", whole_dump, dump)
    assert not [entry.name for entry in dump if re.search(r"\.(layers|blocks)\.[2-9](\.|$)", entry.name)]


def test_the_new_checkpoint_has_everything_but_layers_and_says_so(stand_in, tmp_path, capfd):
    out = tmp_path / "small"
    extra = tmp_path / "source"
    shutil.copytree(stand_in, extra)
    for name in (
        "pytorch_model.bin",
        ".hidden",
        "custom_generate/generate.py",
        ".cache/x",
        "original/consolidated.00.pth",
    ):
        (extra / name).parent.mkdir(exist_ok=True)
        (extra / name).write_text("x")
    assert truncate(extra, out, "--layers", 1, "--vision-layers", 2) == 0
    assert capfd.readouterr().err.splitlines() == [
        "kept 1 of 4 layers of language_model.model.layers",
        "kept 2 of 3 layers of vision_model.radio_model.model.blocks",
        "config.json: llm_config.num_hidden_layers is 1, and was 4",
        "config.json: vision_config.args.model_kwargs.depth is 2, and was 3",
        f"wrote {len(tensors(out))} of {len(tensors(stand_in))} tensors, "
        f"{sum(len(data) for *_, data in tensors(out).values()) / 1e6:,.1f} MB, to {out}",
    ]
    copied = {path.name for path in stand_in.iterdir() if path.is_file() and "safetensors" not in path.name}
    assert copied > {"modeling.py", "tokenizer.json", "chat_template.jinja", "preprocessor_config.json"}
    shards = {path.name for path in out.glob("model-*.safetensors")}
    expected = copied | shards | {"custom_generate", "model.safetensors.index.json", "truncation.json"}
    assert {path.name for path in out.iterdir()} == expected
    for name in copied - {"config.json"}:
        assert (out / name).read_bytes() == (stand_in / name).read_bytes()
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(tensors(out)) and set(index["weight_map"].values()) == shards
    assert index["metadata"]["total_size"] == sum(len(data) for *_, data in tensors(out).values())
    config, before = (json.loads((folder / "config.json").read_text()) for folder in (out, stand_in))
    before["llm_config"]["num_hidden_layers"], before["vision_config"]["args"]["model_kwargs"]["depth"] = 1, 2
    assert config == before and list(config) == list(before)
    manifest = json.loads((out / "truncation.json").read_text())
    assert manifest["format"] == "nvl-truncated-checkpoint" and manifest["source"] == {"name": "source"}
    assert manifest["layers"][0] == {"of": "language_model.model.layers", "before": 4, "after": 1}


def test_a_number_that_the_configuration_leaves_to_its_class_is_known(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(families.VISION, "num_hidden_layers", 12)
    checkpoint, small = families.llava(tmp_path / "checkpoint"), tmp_path / "small"
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    # As the published checkpoints of LLaVA 1.5 have it.
    del config["vision_config"]["num_hidden_layers"]
    path.write_text(json.dumps(config))
    assert truncate(checkpoint, small, "--vision-layers", 3) == 0, capfd.readouterr().err
    config["vision_config"]["num_hidden_layers"] = 3
    assert json.loads((small / "config.json").read_text()) == config
    dump = record(small, tmp_path / "dump", "llava")
    assert [name for name in dump.names() if name.endswith("vision_tower.encoder.layers.2")]
    assert not [name for name in dump.names() if "vision_tower.encoder.layers.3" in name]


def test_of_a_checkpoint_on_the_hub_only_files_with_something_to_keep_are_needed(tmp_path, capfd):
    repository = Path(os.environ["HF_HUB_CACHE"]) / "models--someone--large"
    snapshot = repository / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("1" * 40)
    for path in SHAPES.iterdir():
        shutil.copy(path, snapshot)
    last = "model-00003-of-00003.safetensors"
    index = json.loads((snapshot / "model.safetensors.index.json").read_text())
    layers = {name for name in index["weight_map"] if ".layers.3." in name}
    kept = {name: place for name, place in index["weight_map"].items() if name not in layers and place != last}
    index["weight_map"] = kept | dict.fromkeys(sorted(layers), last)
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / last).unlink()
    assert truncate("someone/large", tmp_path / "small", "--layers", 2) == 0, capfd.readouterr().err
    manifest = json.loads((tmp_path / "small/truncation.json").read_text())
    assert manifest["source"] == {"name": "someone/large", "revision": "1" * 40}
    assert truncate("someone/large", tmp_path / "whole", "--layers", 4) == 2
    assert f"`{last}`" in capfd.readouterr().err and os.listdir(tmp_path) == ["small"]


def test_only_what_it_wrote_is_replaced(stand_in, tmp_path, capfd):
    out = tmp_path / "small"
    assert truncate(stand_in, out, "--layers", 1) == 0
    assert truncate(stand_in, out, "--layers", 2) == 2
    assert f"error: `{out}`: expected nothing, found a file or folder\nhint: " in capfd.readouterr().err
    assert truncate(stand_in, out, "--layers", 2, "--force") == 0
    assert json.loads((out / "truncation.json").read_text())["layers"][0]["after"] == 2
    (out / "notes.txt").write_text("mine")
    assert truncate(stand_in, out, "--layers", 1, "--force") == 2
    found = "expected a folder that is empty or that `truncate` wrote, found"
    assert f"{found} `notes.txt` in it" in capfd.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    assert truncate(stand_in, other, "--layers", 1, "--force") == 2
    assert f"{found} one without a `truncation.json`" in capfd.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["other", "small"]
    assert (out / "notes.txt").read_text() == "mine" and os.listdir(other) == ["thesis.tex"]


def test_an_interruption_leaves_what_was_there(stand_in, tmp_path, monkeypatch, capfd):
    from nvl_golden import truncate_command

    out = tmp_path / "small"
    assert truncate(stand_in, out, "--layers", 1) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    write = truncate_command.write_weights

    def interrupted(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(truncate_command, "write_weights", interrupted)
    assert truncate(stand_in, out, "--layers", 2, "--force") == 130
    assert capfd.readouterr().err.endswith("error: interrupted: nothing was written\n")
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert os.listdir(tmp_path) == ["small"]


def broken(folder, what):
    """Breaks a checkpoint."""
    shard = folder / "model-00001-of-00003.safetensors"
    content = shard.read_bytes()
    if what == "missing":
        shard.unlink()
    elif what == "short":
        shard.write_bytes(content[:-1])
    elif what == "no header":
        shard.write_bytes(b"\xff" * 64)
    elif what == "another tensor":
        shard.write_bytes(content.replace(b"embed_tokens", b"embed_tokenz", 1))
    elif what == "no weights":
        for path in folder.glob("*safetensors*"):
            path.unlink()
    elif what == "index":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b.safetensors"}}')
    elif what == "config":
        (folder / "config.json").write_text("[]")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "`model-00001-of-00003.safetensors`: expected the file that the index names, found none"),
        ("short", "expected a safetensors file, found `"),
        ("no header", "expected a safetensors file, found a header that is longer than the file or the format allows"),
        (
            "another tensor",
            "expected the tensor `language_model.model.embed_tokens.weight` that the index has in it, found none",
        ),
        ("no weights", "expected `model.safetensors` or `model.safetensors.index.json`, found neither\nhint: "),
        ("index", "`weight_map`: expected a file's name for each tensor, found others"),
        ("config", "config.json`: expected a JSON object, found another kind of value"),
    ],
)
def test_a_broken_checkpoint_is_refused_and_nothing_is_left(what, message, tmp_path, capfd):
    folder = tmp_path / "source"
    shutil.copytree(SHAPES, folder)
    broken(folder, what)
    assert truncate(folder, tmp_path / "small", "--layers", 1) == 2
    assert message in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([SHAPES, "small"], "expected `--layers`, `--vision-layers` or both, found neither"),
        ([SHAPES, "small", "--layers", 5], "--layers: expected at most the 4 layers of `language_model.model.layers`, found 5"),
        ([SHAPES, "small", "--layers", 0], "argument --layers: expected a number from 1 on, found `0`"),
        ([SHAPES, "missing/small", "--layers", 1], "`missing`: expected a folder to write `small` in, found none"),
        (["source", "source/small", "--layers", 1], "expected a folder apart from the checkpoint `source`, found one inside"),
        (["missing", "small", "--layers", 1], "`missing`: expected a folder or a hub id `owner/name`, found neither"),
    ],
    ids=["neither", "too-many", "none", "no-parent", "inside", "no-source"],
)  # fmt: skip
def test_wrong_usage_exits_with_2_and_writes_nothing(arguments, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SHAPES, "source")
    try:
        status = truncate(*arguments)
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    assert message in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["source"] and not (tmp_path / "source/small").exists()
