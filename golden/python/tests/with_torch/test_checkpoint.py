"""`nvl-golden record` on the project's own remote-code checkpoint, which has the habits of public ones."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nvl_golden
import pytest
import torch
from conftest import ROOT, read_back

IMAGES = ROOT / "golden/fixtures/goldens/images"
SQUARE = IMAGES / "purple-square.png"
SHAPES = IMAGES / "red-circle-above-blue-square.png"


def command(*arguments, **options) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "nvl_golden.cli", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)


@pytest.fixture(scope="module")
def described(small_vl, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A recording of a picture, in float32 on a CPU."""
    out = tmp_path_factory.mktemp("dumps") / "described"
    result = command(
        *("record", "--model", small_vl, "--image", SQUARE, "--prompt", "Describe this image.", "--out", out),
        *("--dtype", "float32", "--max-new-tokens", 5, "--threads", 1, "--trust-remote-code"),
    )
    assert result.returncode == 0, result.stderr
    return out, result


def test_the_checkpoints_own_chat_is_recorded(described, small_vl):
    out, result = described
    dump = read_back(out)
    manifest = dump.manifest
    assert result.stdout == manifest["text"] + "\n"
    assert manifest["checkpoint"] == {"name": "small-vl"}
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
    code = {name: hashlib.sha256((small_vl / name).read_bytes()).hexdigest() for name in manifest["remote_code"]}
    assert manifest["remote_code"] == code
    assert set(code) == {"configuration.py", "modeling.py", "tower.py", "image_processing.py"}
    for name, digest in code.items():
        assert name in result.stderr and digest in result.stderr


def test_the_sites_are_those_of_the_prefill_in_order_of_execution(described):
    dump = nvl_golden.Dump(described[0])
    names = dump.names()
    assert names[:3] == ["pixel_values", "input_ids", "language_model.model.embed_tokens"]
    assert names[-1] == "step_logits"
    before = ["vision_model.patches", "vision_model.blocks.1.fc", "vision_model.summary", "mlp1.1", "inputs_embeds"]
    after = ["language_model.model.rotary_emb.cos", "language_model.model.layers.1.mlp", "language_model.lm_head"]
    places = [names.index(name) for name in before + after]
    assert places == sorted(places)
    assert not [name for name in names if "#" in name], "a decoding step was recorded"
    assert "vision_model.blocks.0.drop" not in names, "a dropout that does nothing was recorded"
    tokens = dump.entry("input_ids").shape[1]
    assert dump.entry("inputs_embeds").shape == (1, tokens, 32)
    assert dump.entry("language_model.model.layers.0").shape == (1, tokens, 32)
    assert {entry.dtype for entry in dump} == {"float32", "int64"}
    assert [entry.role for entry in dump if entry.role != "activation"] == ["input", "input", "output"]


def test_the_logits_are_those_that_chose_each_token(described):
    dump = nvl_golden.Dump(described[0])
    logits, ids = dump.tensor("step_logits"), dump.manifest["generated_ids"]
    assert logits.shape == (len(ids), 512) and dump.entry("step_logits").dtype == "float32"
    assert logits.argmax(-1).tolist() == ids
    assert torch.equal(logits[0], dump.tensor("language_model")[0, -1])


def test_tensors_are_recorded_before_the_blocks_change_them_in_place(described):
    dump = nvl_golden.Dump(described[0])
    patches = dump.tensor("vision_model.patches").flatten(2).transpose(1, 2)
    first = patches + torch.relu(dump.tensor("vision_model.blocks.0.fc"))
    assert (dump.tensor("vision_model.blocks.0.fc") < 0).any()
    assert torch.equal(first, dump.tensor("vision_model.blocks.0"))
    second = first + torch.relu(dump.tensor("vision_model.blocks.1.fc"))
    assert torch.equal(second, dump.tensor("vision_model.blocks.1"))


def test_the_three_hazards_are_set_aside_and_told(described):
    producer = nvl_golden.Dump(described[0]).manifest["producer"]
    told = "\n".join(producer["deviations"])
    assert "inputs are not moved to CUDA (`modeling.py`, line " in told
    assert "the cast to bfloat16 in `modeling.py`, line " in told and "is a cast to float32" in told
    assert "the rank of torch.distributed is 0 in `modeling.py`, line " in told
    assert "attention is eager, since the checkpoint's flash_attention_2 needs CUDA" in told
    assert producer["dtype"] == "float32" and producer["device"] == "cpu" and producer["threads"] == 1
    assert producer["attention"]["text"] == "eager"
    assert producer["torch"] == torch.__version__ and producer["cpu_capability"]


def test_recording_does_not_change_the_answer_and_leaves_no_trace(small_vl):
    from nvl_golden.huggingface import chat, checkpoint, hazards

    loaded = checkpoint.load(checkpoint.find_source(str(small_vl)), torch.float32, "cpu", "eager", True, [])
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
    out = small_vl.parent / "unchanged"
    with nvl_golden.record(loaded.model, out) as recorder, hazards.neutralised("cpu", torch.float32, []):
        recorded = chat.ask(loaded, request, recorder)
    assert before == recorded == answer()
    assert type(loaded.tokenizer) is kind
    assert [getattr(torch.Tensor, name) for name in ("cuda", "to", "bfloat16", "type")] == methods
    assert "cuda" not in vars(torch.Tensor) and torch.distributed.get_rank is rank
    for module in loaded.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and "generate" not in vars(module)


def test_a_history_a_system_prompt_and_two_pictures(small_vl, tmp_path):
    history = tmp_path / "history.json"
    history.write_text(json.dumps([{"user": "<image>\nDescribe this image.", "assistant": "a purple square"}]))
    out = tmp_path / "dump"
    result = command(
        *("record", "--model", small_vl, "--image", SQUARE, "--image", SHAPES, "--history", history),
        *("--system", "Answer in one word.", "--prompt", "<image>\nWhat color is the circle?", "--out", out),
        *("--max-new-tokens", 2, "--sites", "vision_model.*", "--sites", "*.mlp", "--tokens", "last:3", "--inputs"),
        "--trust-remote-code",
    )
    assert result.returncode == 0, result.stderr
    dump = read_back(out)
    request = dump.manifest["request"]
    assert request["system"] == "Answer in one word."
    assert [image["file"] for image in request["images"]] == [SQUARE.name, SHAPES.name]
    assert [turn["user"] for turn in request["turns"]] == [
        "<image>\nDescribe this image.",
        "<image>\nWhat color is the circle?",
    ]
    assert request["turns"][0]["assistant"] == "a purple square"
    assert dump.manifest["prompt"].startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nAnswer")
    assert {name.split(".")[0] for name in dump.names()} == {"vision_model", "language_model"}
    assert dump.entry("language_model.model.layers.0.mlp").shape == (1, 3, 32)
    assert dump.entry("language_model.model.layers.0.mlp.input").role == "input"
    assert dump.entry("language_model.model.layers.0.mlp").extra["rows"]["kept"] == "last:3"
    # In bfloat16 the cast is the code's own, and no deviation.
    deviations = dump.manifest["producer"]["deviations"]
    assert not [deviation for deviation in deviations if "bfloat16" in deviation]
    assert dump.entry("vision_model.patches").dtype == "bfloat16"


def test_code_is_not_run_without_consent(small_vl, tmp_path):
    marker = tmp_path / "ran"
    folder = tmp_path / "hostile"
    folder.mkdir()
    for path in small_vl.iterdir():
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


def test_code_that_fails_leaves_no_dump(small_vl, tmp_path):
    out = tmp_path / "dumps/one"
    # Two tags for one picture: the checkpoint's own code refuses it.
    arguments = ("--image", SQUARE, "--prompt", "<image><image> what?", "--out", out, "--trust-remote-code")
    result = command("record", "--model", small_vl, *arguments)
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
