"""Whose code runs: what was listed, as it was when it was listed, and nothing else."""

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nvl_golden
import pytest
import safetensors.torch
import torch
from conftest import HERE, IGNORED, LLAMA, SQUARE, copy_tokenizer, read_back, sha256

#: A line of code that leaves a trace.
TRACE = "\nopen({!r}, 'a').close()\n"

REVISION = "a" * 40


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


class Lab:
    """A copy of the small checkpoint, a place for temporary files, and the command."""

    def __init__(self, original, folder):
        self.root = folder
        self.checkpoint = folder / "checkpoint"
        shutil.copytree(original, self.checkpoint, ignore=IGNORED)
        self.temporary, self.hub = folder / "tmp", folder / "hub"
        self.temporary.mkdir()
        self.out, self.trace = folder / "dumps/dump", folder / "trace"

    def program(self, *arguments, model=None):
        basics = ("--prompt", "What?", "--dtype", "float32", "--max-new-tokens", "2", "--threads", "1")
        command = [sys.executable, "-m", "nvl_golden.cli", "record", "--model", model or self.checkpoint]
        return [*command, "--out", self.out, *basics, *arguments]

    @property
    def environment(self):
        return os.environ | {"TMPDIR": str(self.temporary), "HF_HUB_CACHE": str(self.hub)}

    def run(self, *arguments, **options):
        program = self.program(*arguments, **options)
        capture = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
        return subprocess.run(program, check=False, env=self.environment, **capture)

    def asked(self, meanwhile, answer="y\n"):
        """Runs the command on a terminal; does something while the question stands, and answers. Status and standard error."""
        terminal, theirs = pty.openpty()
        process = subprocess.Popen(
            self.program(), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment
        )
        os.close(theirs)
        said = b""
        while not said.endswith(b"run it? [y/N] "):
            more = os.read(process.stderr.fileno(), 4096)
            assert more, said.decode()
            said += more
        meanwhile()
        os.write(terminal, answer.encode())
        _, rest = process.communicate(timeout=300)
        os.close(terminal)
        return process.returncode, (said + rest).decode()

    def add_tower(self):
        """Lets the configuration take a class from a repository in the hub's cache, as RADIO's is taken."""
        snapshot = self.hub / "models--them--tower-code/snapshots" / REVISION
        snapshot.mkdir(parents=True)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs/main").write_text(REVISION)
        (snapshot / "names.py").write_text("from .more import NAME\n\n\nclass Name:\n    value = NAME\n")
        (snapshot / "more.py").write_text("NAME = 'theirs'\n")
        code = self.checkpoint / "configuration.py"
        code.write_text(
            "from transformers.dynamic_module_utils import get_class_from_dynamic_module\n"
            + code.read_text()
            + "\nassert get_class_from_dynamic_module('names.Name', 'them/tower-code').value == 'theirs'\n"
        )
        inner = {"auto_map": {"AutoConfig": "them/tower-code--names.Name"}}
        edit(self.checkpoint / "config.json", lambda config: config.update(vision_config=inner))
        return snapshot


@pytest.fixture(scope="module")
def small_vl(tmp_path_factory):
    """A small checkpoint whose code is all beside it, the tower's too; random weights."""
    import transformers

    folder = tmp_path_factory.mktemp("checkpoints") / "small-vl"
    shutil.copytree(HERE / "small", folder, ignore=IGNORED)
    copy_tokenizer(folder)
    config = {
        "architectures": ["SmallVl"],
        "model_type": "small_vl",
        "auto_map": {"AutoConfig": "configuration.SmallVlConfig", "AutoModel": "modeling.SmallVl"},
        "llm_config": LLAMA | {"model_type": "llama"},
        "attn_implementation": "eager",
        "torch_dtype": "bfloat16",
    }
    processor = {"auto_map": {"AutoImageProcessor": "image_processing.SmallVlImageProcessor"}, "image_size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(7)
    loaded = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = transformers.AutoModel.from_config(loaded, trust_remote_code=True).to(torch.bfloat16)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def lab(small_vl, tmp_path):
    return Lab(small_vl, tmp_path)


def test_what_is_changed_while_the_question_stands_does_not_run(lab):
    snapshot = lab.add_tower()
    files = [lab.checkpoint / name for name in ("configuration.py", "modeling.py", "tower.py")]
    files += [snapshot / "names.py", snapshot / "more.py"]
    listed = {path.name: sha256(path) for path in files}

    def meanwhile():
        for path in files:
            # It would even restore itself, so that the file has the listed hash again afterwards.
            restore = f"\nopen(__file__, 'wb').write({path.read_bytes()!r})\n"
            path.write_text(TRACE.format(str(lab.trace)) + path.read_text() + restore)
        # Code that was not listed: for the tokenizer, which had none, and from another repository.
        (lab.checkpoint / "added.py").write_text(TRACE.format(str(lab.trace)))
        for name in ("config.json", "tokenizer_config.json"):
            added = {"AutoConfig": "added.A", "AutoModel": "added.A", "AutoTokenizer": ["added.A", "added.A"]}
            edit(lab.checkpoint / name, lambda config, added=added: config.update(auto_map=added))
        (snapshot.parents[1] / "refs/main").write_text("b" * 40)
        shutil.copytree(snapshot, snapshot.with_name("b" * 40))

    status, said = lab.asked(meanwhile)
    assert status == 0, said
    assert not lab.trace.exists()
    dump = read_back(lab.out)
    assert dump.manifest["remote_code"] == listed
    for name, digest in listed.items():
        assert f"{name} " in said and digest in said
    assert said.count(f"them/tower-code@{REVISION}") == 2
    assert os.listdir(lab.temporary) == []


def test_the_copies_are_there_to_be_read_while_the_question_stands_and_no_means_no(lab):
    (lab.checkpoint / "configuration.py").write_text(
        TRACE.format(str(lab.trace)) + (lab.checkpoint / "configuration.py").read_text()
    )
    copies = {}

    def meanwhile():
        for path in lab.temporary.rglob("code/**/*.py"):
            copies[path.name] = sha256(path)
            assert next(lab.temporary.iterdir()).stat().st_mode & 0o077 == 0

    status, said = lab.asked(meanwhile, answer="n\n")
    assert status == 2 and "expected your consent to run the checkpoint's code, found none" in said
    assert set(copies) == {"configuration.py", "modeling.py", "tower.py", "image_processing.py"}
    assert all(digest == sha256(lab.checkpoint / name) for name, digest in copies.items())
    assert f"runs as it was copied: {lab.temporary}/" in said
    assert not lab.trace.exists() and not lab.out.exists() and os.listdir(lab.temporary) == []


def test_code_that_runs_cannot_change_the_code_that_runs_after_it(lab):
    code = lab.checkpoint / "configuration.py"
    evil = TRACE.format(str(lab.trace))
    code.write_text(
        code.read_text()
        + "\nimport pathlib\n"
        + f"for there in (pathlib.Path(__file__).parent, pathlib.Path({str(lab.checkpoint)!r})):\n"
        + "    for name in ('modeling.py', 'tower.py'):\n"
        + f"        (there / name).write_text({evil!r})\n"
    )
    # No picture is asked about.
    listed = {path.name: sha256(path) for path in lab.checkpoint.glob("*.py") if path.name != "image_processing.py"}
    result = lab.run("--trust-remote-code")
    assert result.returncode == 0, result.stderr
    assert (lab.checkpoint / "modeling.py").read_text() == evil and not lab.trace.exists()
    assert nvl_golden.Dump(lab.out).manifest["remote_code"] == listed


@pytest.mark.parametrize(
    "call",
    [
        "get_class_from_dynamic_module('other.Other', {folder!r})",
        "get_class_from_dynamic_module('other.Other', config_folder)",
        "get_class_from_dynamic_module('them/tower-code--other.Other', 'me/mine')",
        "__import__('importlib').import_module('.other', __package__)",
    ],
    ids=["the original", "the copy", "the hub", "import"],
)
def test_code_that_was_not_listed_is_refused_before_it_runs(call, lab):
    snapshot = lab.add_tower()
    for folder in (lab.checkpoint, snapshot):
        (folder / "other.py").write_text(TRACE.format(str(lab.trace)) + "\nclass Other: pass\n")
    code = lab.checkpoint / "modeling.py"
    code.write_text(
        "from transformers.dynamic_module_utils import get_class_from_dynamic_module\n"
        + code.read_text().replace(
            "        super().__init__(config)\n",
            "        super().__init__(config)\n        config_folder = config._name_or_path\n        "
            + call.format(folder=str(lab.checkpoint))
            + "\n",
        )
    )
    result = lab.run("--trust-remote-code")
    assert result.returncode == 2
    assert "other" in result.stderr and "expected code that was listed before, found other code" in result.stderr
    assert not lab.trace.exists() and list(lab.out.parent.glob("*")) == []


def test_there_is_no_dump_of_code_that_got_in_by_another_way(lab):
    other = lab.root / "other.py"
    other.write_text(TRACE.format(str(lab.trace)))
    code = lab.checkpoint / "modeling.py"
    code.write_text(
        code.read_text()
        + "\nimport importlib.util, sys\n"
        + f"_spec = importlib.util.spec_from_file_location('transformers_modules.other', {str(other)!r})\n"
        + "sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)\n"
        + "_spec.loader.exec_module(sys.modules[_spec.name])\n"
    )
    result = lab.run("--trust-remote-code")
    assert result.returncode == 2 and lab.trace.exists()
    assert f"`{other}`: expected code that was listed before, found other code" in result.stderr
    assert os.listdir(lab.out.parent) == []


def test_a_function_that_generates_is_listed(lab):
    # transformers runs this file of a checkpoint without being told by any configuration.
    folder = lab.checkpoint / "custom_generate"
    folder.mkdir()
    (folder / "generate.py").write_text(TRACE.format(str(lab.trace)) + "from .parts import generate\n")
    (folder / "parts.py").write_text(
        "def generate(model, *args, **kwargs):\n    return type(model).generate(model, *args, **kwargs)\n"
    )
    result = lab.run()
    assert result.returncode == 2 and not lab.trace.exists()
    for name in ("generate.py", "parts.py"):
        assert f"custom_generate/{name}" in result.stderr and sha256(folder / name) in result.stderr
    result = lab.run("--trust-remote-code")
    assert result.returncode == 0, result.stderr
    assert lab.trace.exists() and {"generate.py", "parts.py"} < set(nvl_golden.Dump(lab.out).manifest["remote_code"])


def test_transformers_is_as_before_afterwards(lab):
    from nvl_golden.huggingface.listed import ListedCode
    from nvl_golden.huggingface.private import PrivateCopy
    from transformers import AutoConfig, dynamic_module_utils
    from transformers.generation import utils

    names = ("get_cached_module_file", "get_class_in_module")
    before = [getattr(module, name) for module in (dynamic_module_utils, utils) for name in names]
    outside = AutoConfig.from_pretrained(lab.checkpoint, trust_remote_code=True)
    loaded = {name: module for name, module in sys.modules.items() if name.startswith("transformers_modules")}
    with PrivateCopy(lab.checkpoint, "here") as copy:
        code = ListedCode(copy.code, copy.checkpoint, copy.code_folder)
        code.write()
        with code.alone():
            inside = AutoConfig.from_pretrained(copy.checkpoint, trust_remote_code=True)
            assert type(inside) is not type(outside) and type(inside).__name__ == "SmallVlConfig"
            assert set(code.ran()) == {"configuration.py"}
            kept = dynamic_module_utils.get_cached_module_file
    assert before == [getattr(module, name) for module in (dynamic_module_utils, utils) for name in names]
    assert loaded == {name: module for name, module in sys.modules.items() if name.startswith("transformers_modules")}
    # What was imported meanwhile, and kept, has the original again.
    assert Path(kept(str(lab.checkpoint), "configuration.py")).name == "configuration.py"


def test_nothing_in_a_name_can_hide_a_row(lab):
    sly = lab.root / "ckpt\x1b[2K\x1b[1A\r\u202e\u200b\x9b\udcff\n  modeling.py"
    lab.checkpoint.rename(sly)
    result = lab.run(model=sly)
    assert result.returncode == 2
    assert not set("\x1b\r\u202e\u200b\x9b") & set(result.stderr)
    shown = r"ckpt\u{1b}[2K\u{1b}[1A\r\u{202e}\u{200b}\u{9b}\xff\n  modeling.py"
    rows = [line for line in result.stderr.splitlines() if line.endswith(shown)]
    assert len(rows) == 4 and all(sha256(sly / row.split()[0]) == row.split()[1] for row in rows)


def test_attention_that_is_code_of_the_hub_is_refused_unless_asked_for(lab):
    from nvl_golden.huggingface.code import refuse_kernels

    for key in ("attn_implementation", "_attn_implementation"):
        for value in ("them/kernel", {"text": "eager", "vision": "them/kernel@v1:name"}):
            configuration = json.dumps({"parts": [{"vision_config": {key: value}}]}).encode()
            with pytest.raises(nvl_golden.GoldenError, match=r"/a/config.json`: .*, found `them/kernel"):
                refuse_kernels(Path("/a"), {"config.json": configuration})
            refuse_kernels(Path("/a"), {"config.json": configuration.replace(b"them/", b"")})
    edit(lab.checkpoint / "config.json", lambda config: config["llm_config"].update(attn_implementation="them/kernel"))
    result = lab.run("--trust-remote-code")
    assert result.returncode == 2 and os.listdir(lab.temporary) == []
    assert (
        "expected attention of torch or transformers, found `them/kernel`\nhint: that is compiled code" in result.stderr
    )


def test_a_termination_leaves_nothing_and_what_a_kill_leaves_the_next_one_clears(lab):
    code = lab.checkpoint / "modeling.py"
    original = code.read_text()
    code.write_text(original + f"\nopen({str(lab.trace)!r}, 'a').close()\nimport time\ntime.sleep(300)\n")
    for number, left in ((signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGKILL, 1)):
        # Under `nohup` a child would ignore a hang-up.
        process = subprocess.Popen(
            lab.program("--trust-remote-code"),
            env=lab.environment,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        while not lab.trace.exists():
            assert process.poll() is None
            time.sleep(0.05)
        lab.trace.unlink()
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        assert len(os.listdir(lab.temporary)) == left
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number and said.endswith(b"error: terminated: nothing was recorded\n")
    (dead,) = lab.temporary.iterdir()
    # One that is young may be about to be locked.
    listed_now = os.environ | {"TMPDIR": str(lab.temporary)}
    look = "import sys, pathlib; from nvl_golden.huggingface.private import PrivateCopy as P; P(pathlib.Path(sys.argv[1]), '').remove()"
    program = [sys.executable, "-c", look, str(lab.checkpoint)]
    subprocess.run(program, check=True, env=listed_now)
    assert list(lab.temporary.iterdir()) == [dead]
    foreign = lab.temporary / "nvl-golden-mine.checkpoint"
    foreign.mkdir()
    (foreign / "work").write_text("mine")
    for path in (dead, foreign):
        os.utime(path, (1, 1))
    subprocess.run(program, check=True, env=listed_now)
    assert list(lab.temporary.iterdir()) == [foreign]


@pytest.mark.parametrize(
    "option", ["--prompt", "--system", "--sites", "--tokens", "--attention", "--device", "--dtype"]
)
def test_an_argument_that_is_no_text_is_one_clear_sentence(option, tmp_path, capfd):
    from nvl_golden.cli import main

    (tmp_path / "config.json").write_text("{}")
    arguments = ["--model", str(tmp_path), "--out", str(tmp_path / "dump"), "--prompt", "What?", option, "caf\udce9"]
    try:
        status = main(["record", *arguments])
    except SystemExit as exit_:
        status = exit_.code
    said = capfd.readouterr().err
    assert status == 2
    if option == "--dtype":
        assert r"argument --dtype: invalid choice: " in said
    else:
        assert (
            said == rf"error: {option}: expected text in UTF-8, found another byte at character 3 of `caf\xe9`" + "\n"
        )


def test_paths_may_be_any_bytes(lab):
    bad = os.fsdecode(b"\xff\xfe")
    model, image = lab.root / f"model{bad}", lab.root / f"picture{bad}.png"
    lab.checkpoint.rename(model)
    shutil.copy(SQUARE, image)
    lab.out = lab.root / f"dumps{bad}" / f"dump{bad}"
    result = lab.run("--image", image, "--trust-remote-code", model=model)
    assert result.returncode == 0, result.stderr
    dump = nvl_golden.Dump(lab.out)
    dump.verify()
    assert dump.manifest["checkpoint"] == {"name": "model\ufffd\ufffd"}
    assert dump.manifest["request"]["images"][0]["file"] == "picture\ufffd\ufffd.png"
    assert r"dump\xff\xfe" in result.stderr


def test_a_list_of_code_can_be_agreed_to_and_no_other(stand_in, tmp_path, capfd):
    from nvl_golden.cli import main

    folder = tmp_path / "checkpoint"
    shutil.copytree(stand_in, folder)
    assert main(["code", "--model", str(folder), "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert {file["name"] for file in listed["files"]} > {"modeling.py", "hf_model.py"}
    code = folder / "modeling.py"
    (row,) = [file for file in listed["files"] if file["name"] == "modeling.py"]
    assert row["sha256"] == hashlib.sha256(code.read_bytes()).hexdigest() and row["bytes"] == code.stat().st_size
    assert main(["code", "--model", str(folder)]) == 0
    assert listed["sha256"] in capfd.readouterr().out

    def record(digest, name):
        arguments = ["--prompt", "What?", "--max-new-tokens", "1", "--out", str(tmp_path / name)]
        return main(["record", "--model", str(folder), *arguments, "--trust-code", digest])

    assert record(listed["sha256"], "agreed") == 0
    marker = tmp_path / "ran"
    code.write_text(code.read_text() + f"\nopen({str(marker)!r}, 'w').close()\n")
    assert record(listed["sha256"], "other") == 2
    assert f"--trust-code: expected the code of the list `{listed['sha256']}`, found `" in capfd.readouterr().err
    assert not marker.exists() and not (tmp_path / "other").exists()
