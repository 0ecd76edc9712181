"""`nvl-golden record` on checkpoints without a `chat`: transformers' own classes, processors and chat templates."""

import json
import shutil

import families
import nvl_golden
import pytest
import torch
import transformers
from conftest import SQUARE, WIDE, read_back
from nvl_golden import cli
from PIL import Image

QUESTION = "What is <it>?"


@pytest.fixture(scope="session")
def family(tmp_path_factory):
    """The checkpoint of a family, written once."""
    folder, written = tmp_path_factory.mktemp("families"), {}

    def get(name):
        if name not in written:
            written[name] = families.FAMILIES[name](folder / name)
        return written[name]

    return get


def record(model, out, *arguments, dtype="float32"):
    given = ["record", "--model", model, "--out", out, "--dtype", dtype, "--threads", 1, "--max-new-tokens", 3]
    return cli.main([str(argument) for argument in (*given, *arguments)])


def ask_directly(folder, pictures):
    """What transformers' documentation says to do: the inputs, and the generated ids."""
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = getattr(transformers, config.architectures[0])
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    name = folder.name
    asked = (
        transformers.AutoProcessor if name in families.OF_PICTURES else transformers.AutoTokenizer
    ).from_pretrained(folder)
    images = [Image.open(path) for path in pictures]
    if asked.chat_template is None:
        inputs = asked(text=QUESTION, **({"images": images} if images else {}), return_tensors="pt")
    else:
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": QUESTION}]
        messages = [{"role": "user", "content": content if name in families.OF_PICTURES else QUESTION}]
        options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
        inputs = asked.apply_chat_template(messages, **options)
    inputs.pop("labels", None)
    with torch.inference_mode():
        model.generation_config.forced_eos_token_id = None
        ids = model.generate(**inputs, max_new_tokens=3, do_sample=False)[0]
    start = 1 if config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return inputs, ids[start:].tolist()


@pytest.mark.parametrize("name", families.FAMILIES)
def test_any_family_is_asked_as_transformers_asks_it(name, family, tmp_path, capfd):
    folder, pictures = family(name), [SQUARE] if name in families.OF_PICTURES else []
    out = tmp_path / "dump"
    arguments = [argument for picture in pictures for argument in ("--image", picture)]
    assert record(folder, out, "--prompt", QUESTION, *arguments) == 0, capfd.readouterr().err
    dump = read_back(out)
    manifest = dump.manifest
    inputs, ids = ask_directly(folder, pictures)
    recorded = {entry.name: dump.tensor(entry.name) for entry in dump if entry.role == "input"}
    assert recorded.keys() == inputs.keys()
    for key, tensor in inputs.items():
        assert torch.equal(recorded[key], tensor) and recorded[key].dtype == tensor.dtype, key
    assert manifest["generated_ids"] == ids
    assert dump.tensor("step_logits").argmax(-1).tolist() == ids
    assert QUESTION in manifest["prompt"]
    assert capfd.readouterr().out == manifest["text"] + "\n"
    assert manifest["request"]["turns"] == [{"user": QUESTION}]
    assert [image["file"] for image in manifest["request"]["images"]] == [picture.name for picture in pictures]
    assert "remote_code" not in manifest and not [
        entry for entry in dump if "#" in entry.name and "experts" in entry.name
    ]
    # The prefill and no step after it: an entry has the width of the prompt, and the last one of the model chose the first token.
    vocabulary = families.TEXT["vocab_size"]
    logits = [entry for entry in dump if entry.role == "activation" and entry.shape[-1] == vocabulary][-1]
    assert torch.equal(dump.tensor(logits.name)[0, -1], dump.tensor("step_logits")[0])


def test_pictures_are_where_their_tags_are(family, tmp_path):
    history = tmp_path / "history.json"
    history.write_text(json.dumps([{"user": "First <image> here", "assistant": "A square."}]))
    out = tmp_path / "dump"
    arguments = ["--image", SQUARE, "--image", WIDE, "--history", history, "--system", "Be brief."]
    assert record(family("llava"), out, "--prompt", "And <image>now?", *arguments) == 0
    dump = read_back(out)
    picture = "<image>" * 16
    assert dump.manifest["prompt"].split("\n") == [
        f"<bos>[system] Be brief.[user] First {picture}",
        f" here[assistant] A square.[user] And {picture}",
        "now?[assistant] ",
    ]
    assert dump.entry("pixel_values").shape == (2, 3, 32, 32)


def test_pictures_without_tags_come_before_the_question(family, tmp_path):
    out = tmp_path / "dump"
    arguments = ["--image", SQUARE, "--image", WIDE, "--sketch", "--sites", "pixel_values"]
    assert record(family("qwen2_5_vl"), out, "--prompt", QUESTION, *arguments) == 0
    prompt = nvl_golden.Dump(out).manifest["prompt"]
    assert prompt.count("<|vision_start|>") == 2
    assert prompt.startswith("<bos>[user] <|vision_start|>") and prompt.endswith(
        f"<|vision_end|>{QUESTION}[assistant] "
    )


def test_a_template_of_texts_gets_the_token_of_a_picture(family, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(family("llava"), folder)
    (folder / "chat_template.jinja").write_text(families.TEXTS)
    assert record(folder, tmp_path / "dump", "--prompt", QUESTION, "--image", SQUARE) == 0
    prompt = nvl_golden.Dump(tmp_path / "dump").manifest["prompt"]
    assert prompt == "<bos>[user] " + "<image>" * 16 + f"\n{QUESTION}\n[assistant] "


def test_in_half_precision_pixels_are_recorded_as_the_processor_gives_them(family, tmp_path):
    out = tmp_path / "dump"
    assert record(family("llava"), out, "--prompt", QUESTION, "--image", SQUARE, dtype="bfloat16") == 0
    dump = read_back(out)
    assert dump.entry("pixel_values").dtype == "float32"
    activations = {entry.dtype for entry in dump if entry.role == "activation" and "rotary" not in entry.name}
    assert activations <= {"bfloat16", "int64", "bool"} and "bfloat16" in activations


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_judged_by_such_a_golden_with_every_input_that_it_takes(family, dtype, tmp_path):
    folder, out = family("qwen2_5_vl"), tmp_path / "dump"
    # `generate` computes the last row of the logits alone.
    sites = ("--sites", "model.*", "--sites", "{input_ids,*_mask,*_type_ids,pixel_values,image_grid_thw}")
    assert record(folder, out, "--prompt", QUESTION, "--image", SQUARE, *sites, dtype=dtype) == 0
    kind = transformers.Qwen2_5_VLForConditionalGeneration
    model = kind.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    nvl_golden.assert_matches(out, model, policy="exact", out=tmp_path / "report")
    torch.set_num_threads(threads)
    candidate = nvl_golden.Dump(tmp_path / "report/candidate")
    assert "model.visual.blocks.0" in candidate and "model.language_model.layers.3" in candidate


def test_an_attention_that_is_asked_for_runs_in_tower_and_language_model(family, tmp_path):
    out = tmp_path / "dump"
    assert record(family("llava"), out, "--prompt", QUESTION, "--image", SQUARE, "--attention", "eager") == 0
    dump = nvl_golden.Dump(out)
    assert dump.manifest["producer"]["attention"] == {"vision": "eager", "text": "eager"}
    assert [name for name in dump.names() if name.endswith("layers.0.self_attn.attn_weights")]


def test_the_most_likely_token_is_taken_whatever_the_generation_configuration_says(family, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(family("mixtral"), folder)
    path = folder / "generation_config.json"
    changes = {"do_sample": True, "temperature": 0.6, "num_beams": 4, "repetition_penalty": 3.5}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    for model, out in ((family("mixtral"), "plain"), (folder, "changed")):
        assert record(model, tmp_path / out, "--prompt", QUESTION) == 0
    plain, changed = (nvl_golden.Dump(tmp_path / out) for out in ("plain", "changed"))
    assert changed.manifest["generated_ids"] == plain.manifest["generated_ids"]
    assert "deviations" not in plain.manifest["producer"]
    told = "the checkpoint's generation configuration has"
    assert changed.manifest["producer"]["deviations"] == [
        f"{told} `num_beams` 4, which is not applied",
        f"{told} `repetition_penalty` 3.5, which is not applied",
    ]


def test_each_request_of_a_file_is_asked(family, tmp_path, capfd):
    rows = [{"id": "a", "prompt": QUESTION, "images": [str(SQUARE)]}, {"id": "b", "prompt": "How many?"}]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert record(family("idefics3"), tmp_path / "dumps", "--requests", path) == 0
    answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [answer["id"] for answer in answers] == ["a", "b"]
    assert "pixel_values" in nvl_golden.Dump(tmp_path / "dumps/a")
    assert "pixel_values" not in nvl_golden.Dump(tmp_path / "dumps/b")


def test_code_without_a_chat_is_asked_the_same_way(family, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(family("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.OwnLlama"}
    (folder / "config.json").write_text(json.dumps(config))
    code = "from transformers import LlamaForCausalLM\n\n\nclass OwnLlama(LlamaForCausalLM):\n    pass\n"
    (folder / "modeling.py").write_text(code)
    arguments = ("--prompt", QUESTION, "--system", "Be brief.", "--trust-remote-code")
    assert record(folder, tmp_path / "dump", *arguments) == 0
    manifest = nvl_golden.Dump(tmp_path / "dump").manifest
    assert manifest["producer"]["model"] == "OwnLlama" and list(manifest["remote_code"]) == ["modeling.py"]
    assert manifest["prompt"] == f"<bos>[system] Be brief.\n[user] {QUESTION}\n[assistant] "


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "`BertForMaskedLM`"),
        ({"model_type": "llama", "architectures": ["LlamaModel"]}, "`LlamaModel`"),
        (
            {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]},
            "`WhisperForConditionalGener",
        ),
        ({"model_type": "wav2vec2"}, "`Wav2Vec2Config`"),
        ({"model_type": "clip", "architectures": ["CLIPModel"]}, "`CLIPModel`"),
        (
            {"model_type": "pix2struct", "architectures": ["Pix2StructForConditionalGeneration"]},
            "`Pix2StructForConditionalGeneration`, which is given `flattened_patches` and no `input_ids`",
        ),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_a_model_that_cannot_be_asked_is_refused_before_it_is_loaded(config, found, tmp_path, capfd):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    assert record(folder, tmp_path / "dump", "--prompt", QUESTION) == 2
    said = capfd.readouterr().err
    assert f"error: `{folder}`: expected a model that is asked in text and answers in text, found {found}" in said
    assert "hint: `record` asks what transformers loads as AutoModelForImageTextToText" in said
    assert not (tmp_path / "dump").exists()


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (
            {"model_type": "model_of_tomorrow"},
            "found `model_of_tomorrow`\nhint: it may be a model of a newer transformers",
        ),
        ({}, "found none\nhint: "),
    ],
    ids=str,
)
def test_a_model_that_transformers_does_not_know_is_refused(config, found, tmp_path, capfd):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    assert record(folder, tmp_path / "dump", "--prompt", QUESTION) == 2
    said = capfd.readouterr().err
    assert (
        f"`{folder / 'config.json'}`: `model_type`: expected one that transformers {transformers.__version__} knows"
        in said
    )
    assert found in said


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("llama", ["--image", SQUARE], "expected a checkpoint whose processor takes pictures, found `"),
        (
            "llava",
            ["--image", SQUARE, "--prompt", "<image><image>?"],
            "prompt: expected as many tags `<image>` as pictures (1), or none, found 2",
        ),
        (
            "llava",
            ["--prompt", "<image>?"],
            "prompt: expected as many tags `<image>` as pictures (0), or none, found 1",
        ),
        ("mamba", ["--system", "Be brief."], "expected a chat template for a system prompt or a history, found none"),
        ("paligemma", [], "expected a request that `PaliGemmaProcessor` takes, found: `images` are expected"),
    ],
    ids=str,
)
def test_a_request_that_does_not_fit_is_refused(name, arguments, expected, family, tmp_path, capfd):
    assert record(family(name), tmp_path / "dump", "--prompt", QUESTION, *arguments) == 2
    assert expected in capfd.readouterr().err
    assert not (tmp_path / "dump").exists()


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ raise_exception('no system prompts') }}", "no system prompts"),
        ("{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}", "Be brief."),
        ("Hello!", f"a text without `{QUESTION}`"),
    ],
    ids=["refuses", "leaves-out-the-system-prompt", "leaves-out-the-question"],
)
def test_a_template_that_leaves_something_out_is_refused(template, found, family, tmp_path, capfd):
    folder = tmp_path / "checkpoint"
    shutil.copytree(family("llama"), folder)
    (folder / "chat_template.jinja").write_text(template)
    assert record(folder, tmp_path / "dump", "--prompt", QUESTION, "--system", "Be brief.") == 2
    said = capfd.readouterr().err
    assert "error: chat template: expected a text with what was asked, found: " in said and found in said


def test_a_checkpoint_without_a_tokenizer_is_refused(family, tmp_path, capfd):
    folder = tmp_path / "checkpoint"
    shutil.copytree(family("llama"), folder, ignore=shutil.ignore_patterns("tokenizer*"))
    assert record(folder, tmp_path / "dump", "--prompt", QUESTION) == 2
    assert f"`{folder}`: expected a tokenizer, found none that transformers loads: " in capfd.readouterr().err
