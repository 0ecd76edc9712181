"""What the recorder's tests share: a place for checkpoints' code, and a checkpoint whose code is the project's own."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

# Before transformers is imported: it copies the code of a checkpoint here, finds other repositories' code there, and never asks
# the hub for anything.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="nvl-golden-modules-")
os.environ["HF_HUB_CACHE"] = tempfile.mkdtemp(prefix="nvl-golden-hub-")
os.environ["HF_HUB_OFFLINE"] = "1"

import jsonschema
import nvl_golden
import pytest
import torch
from see_through import Model

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
SHAPES = ROOT / "golden/fixtures/checkpoints/shapes"
IMAGES = ROOT / "golden/fixtures/goldens/images"
SQUARE, WIDE = IMAGES / "purple-square.png", IMAGES / "green-triangle-left-of-yellow-circle.png"
IGNORED = shutil.ignore_patterns("__pycache__")
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


def read_back(path, sketched=False) -> nvl_golden.Dump:
    """A dump with every hash checked, by Rust and by hashlib, and its manifest held to the schema; of sketches there is none."""
    dump = nvl_golden.Dump(path)
    dump.verify()
    manifest = json.loads((Path(path) / "manifest.json").read_text())
    jsonschema.validate(manifest, SCHEMA)
    for entry in dump:
        if sketched and "sketch" in entry.extra:
            continue
        assert hashlib.sha256(dump.bytes(entry.key)).hexdigest() == entry.sha256, entry.key
    assert [entry.order for entry in dump] == list(range(len(dump)))
    return dump


def record(model, out, given, **options) -> nvl_golden.Dump:
    """The dump of one call of a model, read back."""
    with nvl_golden.record(model, out, **options):
        model(given)
    return read_back(out)


def sha256(path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def copy_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        shutil.copy(SHAPES / name, folder)


def publish_tower() -> None:
    """Puts the tower's code where the hub's client finds that of the repository that the checkpoint's `auto_map` names."""
    repository = Path(os.environ["HF_HUB_CACHE"]) / "models--nvidia--C-RADIOv2-H"
    revision = "0" * 40
    if not repository.exists():
        shutil.copytree(HERE / "tower", repository / "snapshots" / revision, ignore=IGNORED)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(revision)


def copy_checkpoint(folder: Path, weights: Path = SHAPES, **changes) -> Path:
    """A checkpoint in the published layout whose code is the project's own; `changes` are made in its `config.json`."""
    publish_tower()
    shutil.copytree(weights, folder)
    shutil.copytree(HERE / "checkpoint", folder, ignore=IGNORED, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory) -> Path:
    """The bundled checkpoint, with code that has the habits of the published code."""
    folder = tmp_path_factory.mktemp("checkpoints") / "stand-in"
    return copy_checkpoint(folder, attn_implementation="flash_attention_2")


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


@pytest.fixture
def model() -> Model:
    """A model with outputs of every kind; the same at each call."""
    torch.manual_seed(1)
    return Model().eval()


@pytest.fixture
def given() -> torch.Tensor:
    """What that model is called with."""
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
