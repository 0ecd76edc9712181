"""What the recorder's tests share: a place for checkpoints' code, and the project's small remote-code checkpoint."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

# Before transformers is imported: it copies the code of a checkpoint here, and never asks the hub for anything.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="nvl-golden-modules-")
os.environ["HF_HUB_OFFLINE"] = "1"

import jsonschema
import nvl_golden
import pytest
import torch

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
SHAPES = ROOT / "golden/fixtures/checkpoints/shapes"
SCHEMA = json.loads((ROOT / "docs/activation-dump.schema.json").read_text())
LLAMA = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 489,
    "eos_token_id": 493,
    "max_position_embeddings": 512,
}


def read_back(path) -> nvl_golden.Dump:
    """A dump with every hash checked, by Rust and by hashlib, and its manifest held to the schema."""
    dump = nvl_golden.Dump(path)
    dump.verify()
    manifest = json.loads((Path(path) / "manifest.json").read_text())
    jsonschema.validate(manifest, SCHEMA)
    for entry in dump:
        assert hashlib.sha256(dump.bytes(entry.name)).hexdigest() == entry.sha256, entry.name
    assert [entry.order for entry in dump] == list(range(len(dump)))
    return dump


def copy_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        shutil.copy(SHAPES / name, folder)


@pytest.fixture(scope="session")
def small_vl(tmp_path_factory) -> Path:
    """A checkpoint whose model, configuration and image processor are Python files of its own; random weights."""
    import transformers
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("checkpoints") / "small-vl"
    shutil.copytree(HERE / "checkpoint", folder, ignore=shutil.ignore_patterns("__pycache__"))
    copy_tokenizer(folder)
    config = {
        "architectures": ["SmallVl"],
        "model_type": "small_vl",
        "auto_map": {"AutoConfig": "configuration.SmallVlConfig", "AutoModel": "modeling.SmallVl"},
        "llm_config": LLAMA | {"model_type": "llama"},
        "attn_implementation": "flash_attention_2",
        "torch_dtype": "bfloat16",
    }
    processor = {"auto_map": {"AutoImageProcessor": "image_processing.SmallVlImageProcessor"}, "image_size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    plain = config | {"attn_implementation": "eager"}
    (folder / "config.json").write_text(json.dumps(plain))
    torch.manual_seed(7)
    loaded = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = transformers.AutoModel.from_config(loaded, trust_remote_code=True).to(torch.bfloat16)
    # Wider than the usual beginning, so that its answers differ.
    state = {
        name: (8 * tensor).contiguous() if tensor.ndim > 1 else tensor for name, tensor in model.state_dict().items()
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def small_llama(tmp_path_factory) -> Path:
    """A text-only checkpoint without code of its own."""
    import transformers

    folder = tmp_path_factory.mktemp("checkpoints") / "small-llama"
    torch.manual_seed(8)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA, initializer_range=0.3))
    model.save_pretrained(folder)
    copy_tokenizer(folder)
    return folder
