"""`nvl-golden record` on a checkpoint whose code is the project's own, with the habits of the published code."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nvl_golden
import pytest
import torch
from conftest import HERE, IMAGES, SQUARE, WIDE, read_back

SHAPES = IMAGES / "red-circle-above-blue-square.png"


def command(*arguments, **options) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "nvl_golden.cli", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)


@pytest.fixture(scope="module")
def described(stand_in, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A recording of a picture, in float32 on a CPU."""
    out = tmp_path_factory.mktemp("dumps") / "described"
    result = command(
        *("record", "--model", stand_in, "--image", SQUARE, "--prompt", "Describe this image.", "--out", out),
        *("--dtype", "float32", "--max-new-tokens", 5, "--threads", 1, "--trust-remote-code"),
    )
    assert result.returncode == 0, result.stderr
    return out, result


def test_the_checkpoints_own_chat_is_recorded(described, stand_in):
    out, result = described
    dump = read_back(out)
    manifest = dump.manifest
    assert result.stdout == manifest["text"] + "\n"
    assert manifest["checkpoint"] == {"name": "stand-in"}
    assert manifest["request"] == {
        "system": None,
        "turns": [{"user": "Describe this image."}],
        "images": [
            {
                "file": "purple-square.png",
                "width": 64,
                "height": 64,
                "sha256": hashlib.sha256(SQUARE.read_bytes()).hexdigest(),
                "tiles": 1,
            }
        ],
        "max_new_tokens": 5,
        "do_sample": False,
    }
    assert manifest["prompt"].count("<image>") == 16
    assert manifest["prompt"].endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
    files = {name: stand_in / name for name in ("configuration.py", "modeling.py", "image_processing.py")}
    files |= {name: HERE / "tower" / name for name in ("hf_model.py", "patches.py")}
    code = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert manifest["remote_code"] == code
    for name, digest in code.items():
        assert name in result.stderr and digest in result.stderr


def test_the_sites_are_those_of_the_prefill_in_order_of_execution(described):
    dump = nvl_golden.Dump(described[0])
    names = dump.names()
    tower = "vision_model.radio_model"
    assert names[:3] == ["pixel_values", "input_ids", f"{tower}.input_conditioner"]
    assert names[-1] == "step_logits"
    before = [
        f"{tower}.model.patch_generator",
        f"{tower}.model.blocks.1.attn",
        "vision_model",
        "mlp1.1",
        "inputs_embeds",
    ]
    after = ["language_model.model.rotary_emb.cos", "language_model.model.layers.1.mlp", "language_model.lm_head"]
    places = [names.index(name) for name in before + after]
    assert places == sorted(places)
    assert not [name for name in names if "#" in name], "a decoding step was recorded"
    assert not [name for name in names if "drop" in name], "a dropout that does nothing was recorded"
    tokens = dump.entry("input_ids").shape[1]
    assert dump.entry("inputs_embeds").shape == (1, tokens, 128)
    assert dump.entry("language_model.model.layers.0").shape == (1, tokens, 128)
    assert {entry.dtype for entry in dump} == {"float32", "int64"}
    assert [entry.role for entry in dump if entry.role != "activation"] == ["input", "input", "output"]


def test_steps_and_the_cache_are_recorded_if_they_are_asked_for(described, stand_in, tmp_path):
    out = tmp_path / "dump"
    result = command(
        *("record", "--model", stand_in, "--image", SQUARE, "--prompt", "Describe this image.", "--out", out),
        *("--dtype", "float32", "--max-new-tokens", 5, "--threads", 1, "--trust-remote-code", "--steps", "0:3", "--kv"),
    )
    assert result.returncode == 0, result.stderr
    prefill, dump = nvl_golden.Dump(described[0]), read_back(out)
    assert {entry.step for entry in dump} == {0, 1, 2} and len(dump.manifest["generated_ids"]) > 3
    cached = [f"past_key_values.{layer}.{kind}" for layer in range(4) for kind in ("keys", "values")]
    # The prefill is what it is without steps, and the cache behind it.
    first = [entry.name for entry in dump if entry.step == 0 and entry.name not in cached]
    assert first == prefill.names()
    assert all(dump.entry(name).sha256 == prefill.entry(name).sha256 for name in first)
    decoder = {name for name in first if name.startswith("language_model")}
    tokens = dump.entry("input_ids").shape[1]
    for step in (1, 2):
        names = [entry.name for entry in dump if entry.step == step]
        assert set(names) == decoder | set(cached) and names[-len(cached) :] == cached
        assert torch.equal(dump.tensor(f"language_model@{step}")[0, -1], dump.tensor("step_logits")[step])
        keys = dump.tensor(f"{cached[0]}@{step}")
        assert keys.shape[2] == tokens + step and torch.equal(keys[:, :, :tokens], dump.tensor(cached[0]))
    assert dump.manifest["producer"]["attention"] == prefill.manifest["producer"]["attention"]


def test_the_logits_are_those_that_chose_each_token(described):
    dump = nvl_golden.Dump(described[0])
    logits, ids = dump.tensor("step_logits"), dump.manifest["generated_ids"]
    assert logits.shape == (len(ids), 512) and dump.entry("step_logits").dtype == "float32"
    assert logits.argmax(-1).tolist() == ids
    assert torch.equal(logits[0], dump.tensor("language_model")[0, -1])


def test_the_three_hazards_are_set_aside_and_told(described):
    producer = nvl_golden.Dump(described[0]).manifest["producer"]
    told = "\n".join(producer["deviations"])
    assert "inputs are not moved to CUDA (`modeling.py`, line " in told
    assert "the cast to bfloat16 in `modeling.py`, line " in told and "is a cast to float32" in told
    assert "the rank of torch.distributed is 0 in `modeling.py`, line " in told
    assert "attention is eager, because the checkpoint's flash_attention_2 needs CUDA" in told
    assert producer["dtype"] == "float32" and producer["device"] == "cpu" and producer["threads"] == 1
    assert producer["attention"] == {"vision": "sdpa", "text": "eager"}
    assert producer["torch"] == torch.__version__ and producer["cpu_capability"]
    vendors = re.findall(r"^vendor_id\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    assert producer.get("cpu_vendor") == next(iter(vendors), None)
    assert producer.get("mkl_cbwr") == os.environ.get("MKL_CBWR")


def test_recording_does_not_change_the_answer_and_leaves_no_trace(stand_in):
    from nvl_golden.huggingface import chat, checkpoint, hazards, source

    loaded = checkpoint.load(source.find_source(str(stand_in)), torch.float32, "cpu", "eager", True, [])
    request = chat.Request("What is it?", [SQUARE], max_new_tokens=4)
    features = loaded.image_processor([__import__("PIL.Image").Image.open(SQUARE)])
    methods = [getattr(torch.Tensor, name) for name in ("cuda", "to", "bfloat16", "type")]
    rank = torch.distributed.get_rank

    def answer():
        with hazards.neutralised("cpu", torch.float32, []):
            return loaded.model.chat(
                loaded.tokenizer,
                question=request.prompt,
                generation_config={"max_new_tokens": 4, "do_sample": False},
                **features,
            )

    before = answer()
    kind = type(loaded.tokenizer)
    out = stand_in.parent / "unchanged"
    with nvl_golden.record(loaded.model, out) as recorder, hazards.neutralised("cpu", torch.float32, []):
        recorded = chat.ask(loaded, request, recorder)
    assert before == recorded == answer()
    assert type(loaded.tokenizer) is kind
    assert [getattr(torch.Tensor, name) for name in ("cuda", "to", "bfloat16", "type")] == methods
    assert "cuda" not in vars(torch.Tensor) and torch.distributed.get_rank is rank
    for module in loaded.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and "generate" not in vars(module)


def test_a_history_a_system_prompt_and_two_pictures(stand_in, tmp_path):
    history = tmp_path / "history.json"
    history.write_text(json.dumps([{"user": "<image>\nDescribe this image.", "assistant": "a purple square"}]))
    out = tmp_path / "dump"
    result = command(
        *("record", "--model", stand_in, "--image", SQUARE, "--image", SHAPES, "--history", history),
        *("--system", "Answer in one word.", "--prompt", "<image>\nWhat color is the circle?", "--out", out),
        *("--max-new-tokens", 2, "--sites", "vision_model.*", "--sites", "*.mlp", "--tokens", "last:3", "--inputs"),
        "--trust-remote-code",
    )
    assert result.returncode == 0, result.stderr
    dump = read_back(out)
    request = dump.manifest["request"]
    assert request["system"] == "Answer in one word."
    assert [image["file"] for image in request["images"]] == [SQUARE.name, SHAPES.name]
    assert [image["tiles"] for image in request["images"]] == [1, 1]
    assert [turn["user"] for turn in request["turns"]] == [
        "<image>\nDescribe this image.",
        "<image>\nWhat color is the circle?",
    ]
    assert request["turns"][0]["assistant"] == "a purple square"
    assert dump.manifest["prompt"].startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nAnswer")
    assert {name.split(".")[0] for name in dump.names()} == {"vision_model", "language_model"}
    assert dump.entry("language_model.model.layers.0.mlp").shape == (1, 3, 128)
    assert dump.entry("language_model.model.layers.0.mlp.input").role == "input"
    assert dump.entry("language_model.model.layers.0.mlp").extra["rows"]["kept"] == "last:3"
    # In bfloat16 the cast is the code's own, and no deviation.
    deviations = dump.manifest["producer"]["deviations"]
    assert not [deviation for deviation in deviations if "bfloat16" in deviation]
    assert dump.entry("vision_model.radio_model.model.blocks").dtype == "bfloat16"


def test_code_is_not_run_without_consent(stand_in, tmp_path):
    marker = tmp_path / "ran"
    folder = tmp_path / "hostile"
    folder.mkdir()
    for path in stand_in.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    code = folder / "configuration.py"
    code.write_text(code.read_text() + f"\nopen({str(marker)!r}, 'w').close()\n")
    out = tmp_path / "dump"
    result = command("record", "--model", folder, "--prompt", "What?", "--out", out)
    assert result.returncode == 2
    assert hashlib.sha256(code.read_bytes()).hexdigest() in result.stderr
    assert "error: expected your consent to run the checkpoint's code, found none\nhint: " in result.stderr
    assert not marker.exists() and not out.exists() and result.stdout == ""


def test_code_that_fails_leaves_no_dump(stand_in, tmp_path):
    out = tmp_path / "dumps/one"
    # Two tags for one picture: the checkpoint's own code refuses it.
    arguments = ("--image", SQUARE, "--prompt", "<image><image> what?", "--out", out, "--trust-remote-code")
    result = command("record", "--model", stand_in, *arguments)
    assert result.returncode == 2
    assert "error: ValueError: expected 1 image tags, found 2" in result.stderr
    assert list(out.parent.iterdir()) == []


def test_a_text_only_model_generates(small_llama, tmp_path):
    out = tmp_path / "dump"
    arguments = ("--prompt", "How many shapes are there?", "--out", out, "--max-new-tokens", 3, "--dtype", "float32")
    result = command("record", "--model", small_llama, *arguments)
    assert result.returncode == 0, result.stderr
    dump = read_back(out)
    assert dump.manifest["prompt"].startswith("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHow many")
    ids = dump.manifest["generated_ids"]
    assert dump.tensor("step_logits").argmax(-1).tolist() == ids
    assert "remote_code" not in dump.manifest and "deviations" not in dump.manifest["producer"]
    assert "runs with your rights" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "missing.png"], "`missing.png`: expected a picture, found no file"),
        (["--tokens", "most"], "tokens: expected `last:N`, `first:N`, `every:N` or a list of indices, found `most`"),
        (["--steps", "most"], "steps: expected `START:STOP`, `every:N` or a list of numbers from 0 on, found `most`"),
        (["--sites", "{"], "sites: expected a glob, found `{`"),
        (["--max-shard-size", "huge"], "expected a size such as `5GB`"),
        (["--history", "missing.json"], "`missing.json`: expected a JSON list of objects with `user` and `assistant`"),
        (["--max-new-tokens", "0"], "argument --max-new-tokens: expected a number from 1 on, found `0`"),
        (["--device", "abacus"], "device: expected `cpu` or `cuda:N`, found `abacus`"),
        (["--model", "missing"], "`missing`: expected a folder or a hub id `owner/name`, found neither"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2_and_says_what_was_expected(arguments, message, tmp_path, capfd):
    from nvl_golden.cli import main

    out = tmp_path / "dump"
    given = ["record", "--model", str(tmp_path), "--prompt", "What?", "--out", str(out), *arguments]
    try:
        status = main(given)
    except SystemExit as exit_:
        status = exit_.code
    captured = capfd.readouterr()
    assert status == 2
    assert f"error: {message}" in captured.err or message in captured.err
    assert captured.out == "" and not out.exists()


def test_a_folder_with_content_is_not_overwritten(tmp_path, capfd):
    from nvl_golden.cli import main

    (tmp_path / "kept").write_text("mine")
    assert main(["record", "--model", str(tmp_path), "--prompt", "What?", "--out", str(tmp_path)]) == 2
    assert "expected no file and no folder with content, found one\nhint: " in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize(
    ("features", "tiles"),
    [
        ({"num_patches": [3, 1]}, [3, 1]),
        ({"num_patches_list": torch.tensor([1, 3])}, [1, 3]),
        ({"image_flags": [1, 1], "num_patches": [3, 1]}, [3, 1]),
        ({"num_patches": [4]}, []),
        ({"num_patches": [2, 1]}, []),
        ({"num_patches": [2.5, 1.5]}, []),
        ({"sizes": [3, 1]}, []),
    ],
    ids=str,
)
def test_tiles_are_what_chat_is_given_a_number_of_for_each_picture(features, tiles):
    from nvl_golden.huggingface.chat import _tiles

    def a_chat(pixel_values, image_flags=None, num_patches=None, num_patches_list=None):
        pass

    pixel_values = torch.zeros(4, 3, 8, 8)
    assert _tiles(a_chat, {"pixel_values": pixel_values, **features}, 2) == tiles
    assert _tiles(a_chat, {"pixel_values": pixel_values, "sizes": [3, 1]}, 1) == [4]


def test_the_tiles_of_several_pictures_are_told(stand_in, tmp_path):
    out = tmp_path / "dump"
    arguments = ("--image", WIDE, "--image", SQUARE, "--prompt", "Describe this image.", "--max-new-tokens", 1)
    result = command("record", "--model", stand_in, *arguments, "--out", out, "--trust-remote-code", "--sketch")
    assert result.returncode == 0, result.stderr
    dump = read_back(out, sketched=True)
    assert [image["tiles"] for image in dump.manifest["request"]["images"]] == [3, 1]
    # What a run can be repeated from is there in full.
    assert dump.tensor("pixel_values").shape == (4, 3, 128, 128)
    assert dump.tensor("input_ids").shape == dump.entry("input_ids").shape


def test_an_attention_that_was_asked_for_and_did_not_run_is_told(stand_in, tmp_path, monkeypatch, capfd):
    from nvl_golden import cli
    from nvl_golden.huggingface import checkpoint

    choose = checkpoint._choose_attention

    def another(config, device, attention, *rest):
        choose(config, device, "sdpa", *rest)

    monkeypatch.setattr(checkpoint, "_choose_attention", another)
    arguments = ["--prompt", "What?", "--attention", "eager", "--max-new-tokens", "1", "--trust-remote-code"]
    assert cli.main(["record", "--model", str(stand_in), "--out", str(tmp_path / "dump"), *arguments]) == 0
    told = "eager attention was asked for, and the language model ran sdpa"
    assert told in nvl_golden.Dump(tmp_path / "dump").manifest["producer"]["deviations"]


def test_a_processor_for_another_version_of_transformers_is_refused_before_it_is_used(stand_in, tmp_path):
    folder = tmp_path / "older"
    shutil.copytree(stand_in, folder)
    code = folder / "image_processing.py"
    hook = "\n    def _process_image(self, image):\n        return super()._process_image(image)\n"
    code.write_text(code.read_text() + hook)
    config = json.loads((folder / "config.json").read_text()) | {"transformers_version": "4.53.0"}
    (folder / "config.json").write_text(json.dumps(config))
    arguments = ("--prompt", "What?", "--max-new-tokens", 1, "--trust-remote-code", "--out", tmp_path / "dump")
    result = command("record", "--model", folder, "--image", SQUARE, *arguments)
    assert result.returncode == 2
    assert (
        "`LlamaNemotronNanoVLImageProcessor`: expected to override what `BaseImageProcessor` of transformers"
        in result.stderr
    )
    assert "found `_process_image`, which it has not\nhint: " in result.stderr
    assert "`config.json` says 4.53.0" in result.stderr
    # Without pictures it is not needed.
    assert command("record", "--model", folder, *arguments).returncode == 0


def test_code_that_misses_something_of_transformers_gets_a_hint_about_versions(stand_in, tmp_path):
    folder = tmp_path / "newer"
    shutil.copytree(stand_in, folder)
    code = folder / "modeling.py"
    code.write_text("from transformers import ClassOfAnotherVersion\n" + code.read_text())
    arguments = ("--prompt", "What?", "--trust-remote-code", "--out", tmp_path / "dump")
    result = command("record", "--model", folder, *arguments)
    assert result.returncode == 2
    assert "ClassOfAnotherVersion" in result.stderr
    assert "hint: the code may be for another version than transformers" in result.stderr
