"""Which code is listed: what `auto_map` refers to and what that imports, and nothing out of the checkpoint."""

import json
import os

import nvl_golden
import pytest
from conftest import sha256


def listed(folder, origin="here"):
    from nvl_golden.huggingface.private import PrivateCopy

    with PrivateCopy(folder, origin) as copy:
        return copy.code


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "video_preprocessor_config.json"])
@pytest.mark.parametrize(
    "reference",
    [
        ".tmp.x.Cls",
        "/tmp/x.Cls",
        "../x.Cls",
        "a/../../x.Cls",
        "./x.Cls",
        "a//x.Cls",
        "x.py.Cls",
        "modeling",
        "modeling.",
        "mod eling.Cls",
        "modeling.Cls ",
        "mod\x1b[2K.Cls",
        "mod\u202eeling.Cls",
        "mod\0.Cls",
        "\n.Cls",
        "/tmp--x.Cls",
        "../other--x.Cls",
        "./other--x.Cls",
        "them/..--x.Cls",
        "a/b/c--x.Cls",
        "a--b--x.Cls",
        "--x.Cls",
    ],
    ids=ascii,
)
def test_a_reference_that_leads_out_of_the_checkpoint_is_refused_by_name(reference, file, tmp_path):
    folder = tmp_path / "a/checkpoint"
    folder.mkdir(parents=True)
    for path in (tmp_path / "x.py", tmp_path / "a/x.py", folder / "x.py", folder / "modeling.py"):
        path.write_text("class Cls: pass\n")
    (folder / file).write_text(json.dumps({"vision_config": {"auto_map": {"AutoModel": reference}}}))
    with pytest.raises(nvl_golden.GoldenError) as error:
        listed(folder)
    expected = "expected `module.Class` or `owner/name--module.Class`"
    assert str(error.value) == f"`{folder / file}`: auto_map: {expected}, found `{reference}`"


def test_imports_are_followed_as_far_as_the_checkpoint_goes(tmp_path):
    folder = tmp_path / "checkpoint"
    (folder / "parts").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Cls", "Other": None}}))
    files = {
        "modeling.py": "def f():\n    from .parts.tower import T\ntry:\n    from .absent import A\nexcept ImportError: pass",
        "parts/tower.py": "from . import blocks, T\nfrom ..shared import S\nfrom ...outside import O",
        "parts/blocks.py": "import os",
        "shared.py": "from .modeling import Cls",
        "unused.py": "",
        "../outside.py": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    found = {file.name: file for file in listed(folder)}
    assert list(found) == ["modeling.py", "parts/tower.py", "parts/blocks.py", "shared.py"]
    assert found["parts/tower.py"].module == "transformers_modules.checkpoint.parts.tower"
    assert found["modeling.py"].sha256 == sha256(folder / "modeling.py")


def test_code_that_is_missing_broken_or_no_file_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Cls"}}))
    code = tmp_path / "modeling.py"
    with pytest.raises(
        nvl_golden.GoldenError, match=r"`modeling.py` of `.*`: expected the code that the `auto_map` names"
    ):
        listed(tmp_path)
    os.mkfifo(code)
    with pytest.raises(nvl_golden.GoldenError, match="found none"):
        listed(tmp_path)
    code.unlink()
    for text in (b"class", b"\0", b"(" * 100_000, b"\xff", b"-" * 1_000_000 + b"1"):
        code.write_bytes(text)
        with pytest.raises(nvl_golden.GoldenError, match=r"`modeling.py` of `here`: expected Python code, found: "):
            listed(tmp_path)
    code.write_bytes(b"#" * (8 << 20) + b"#")
    with pytest.raises(nvl_golden.GoldenError, match="expected Python code of at most 8388608 bytes, found more"):
        listed(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(nvl_golden.GoldenError, match=r"config.json`: expected JSON, found: "):
        listed(tmp_path)


def test_a_link_out_of_the_checkpoint_is_listed_as_what_it_leads_to(tmp_path):
    folder, elsewhere = tmp_path / "checkpoint", tmp_path / "elsewhere"
    folder.mkdir(), elsewhere.mkdir()
    (elsewhere / "x.py").write_text("")
    (elsewhere / "y.py").write_text("")
    (folder / "own.py").write_text("")
    (folder / "linked.py").symlink_to(elsewhere / "x.py")
    (folder / "inside.py").symlink_to("own.py")
    (folder / "way").symlink_to(elsewhere)
    maps = {"A": "own.A", "B": "linked.B", "C": "inside.C", "D": "way/y.D"}
    (folder / "config.json").write_text(json.dumps({"auto_map": maps}))
    assert [file.origin for file in listed(folder)] == [
        "here",
        str(elsewhere / "x.py"),
        "here",
        str(elsewhere / "y.py"),
    ]
    # In the hub's cache, a snapshot has nothing but links.
    snapshot = tmp_path / "models--a--b/snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "blobs").mkdir()
    (snapshot.parents[1] / "blobs/1").write_text("")
    (snapshot / "own.py").symlink_to("../../blobs/1")
    (snapshot / "config.json").write_text(json.dumps({"auto_map": {"A": "own.A"}}))
    assert [file.origin for file in listed(snapshot, "a/b@main")] == ["a/b@main"]


def test_names_that_are_no_ascii_are_shown_as_what_they_are():
    from nvl_golden.huggingface.code import CodeFile, describe_code

    # The second letter is Cyrillic.
    file = CodeFile("m\u043edeling.py", "m", b"", "0" * 64, "h\xe4user/\u202e", None, None)
    assert describe_code([file]).splitlines()[1] == rf"  m\u043edeling.py  {'0' * 64}  häuser/\u{{202e}}"
