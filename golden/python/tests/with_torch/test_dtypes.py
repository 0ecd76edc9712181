"""A run is in the dtype that was asked for, whatever a checkpoint's code makes its modules in."""

import json
from contextlib import nullcontext
from pathlib import Path

import nvl_golden
import pytest
import torch
from conftest import SQUARE, copy_checkpoint, read_back
from nvl_golden.huggingface import chat, checkpoint, hazards, source
from nvl_golden.huggingface.dtypes import move_back
from nvl_golden.huggingface.weights import Stored, fill_in
from safetensors.torch import load_file, save_file
from torch import nn

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
CONDITIONER = "vision_model.radio_model.input_conditioner"


def stored(folder) -> dict[str, torch.Tensor]:
    return {name: tensor for file in Path(folder).glob("*.safetensors") for name, tensor in load_file(file).items()}


def load(folder, dtype, deviations=None, *, aside=True):
    """A checkpoint as `nvl-golden record` loads it; with `aside` the hazards are set aside."""
    deviations = [] if deviations is None else deviations
    context = hazards.neutralised("cpu", dtype, deviations) if aside else nullcontext()
    with context:
        return checkpoint.load(source.find_source(str(folder)), dtype, "cpu", "eager", True, deviations)


def edited(tmp_path, **args) -> Path:
    """The stand-in with other training arguments of its tower."""
    folder = copy_checkpoint(tmp_path / "edited")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["args"] |= args
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def precise(tmp_path_factory) -> Path:
    """The stand-in with weights that bfloat16 cannot hold."""
    folder = copy_checkpoint(tmp_path_factory.mktemp("checkpoints") / "precise")
    tensors = stored(folder)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    torch.manual_seed(5)
    exact = {
        name: tensor.float() + 1e-4 * torch.randn(tensor.shape) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    save_file(exact, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_part_is_in_the_dtype_that_was_asked_for_and_answers(dtype, stand_in, tmp_path):
    deviations = []
    loaded = load(stand_in, dtype, deviations)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {dtype}
    conditioner = loaded.model.get_submodule(CONDITIONER)
    assert conditioner.dtype == dtype
    # The buffers are what is stored, which was rounded to bfloat16, and compute in no less than float32.
    assert torch.equal(
        conditioner.norm_mean, stored(stand_in)[f"{CONDITIONER}.norm_mean"].to(conditioner.norm_mean.dtype)
    )
    assert conditioner.norm_mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    name = str(dtype).removeprefix("torch.")
    told = "\n".join(deviations)
    if dtype == torch.bfloat16:
        assert deviations == [], "the code's own dtype was called a deviation"
    else:
        assert f"`{CONDITIONER}.dtype`, which is bfloat16, is {name}" in told
        assert "the cast to bfloat16 in `hf_model.py`, line " in told and f"is a cast to {name}" in told
    names = {"RADIOModel": (None, "")}
    recorder = nvl_golden.record(loaded.model, tmp_path / "dump", output_names=names)
    with recorder, hazards.neutralised("cpu", dtype, deviations):
        chat.ask(loaded, chat.Request("Describe this image.", [SQUARE], max_new_tokens=4), recorder)
    dump = read_back(tmp_path / "dump")
    assert dump.manifest["text"].startswith("a purple square")
    producer = dump.manifest["producer"]
    assert producer["dtypes"] == dict.fromkeys(("language_model", "vision_model", "mlp1"), name)
    assert producer["pixel_values_dtype"] == "float32"
    computed = {entry.dtype for entry in dump if entry.name.startswith(("vision_model", "mlp1", "language_model"))}
    assert computed == {name}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_tower_that_is_more_precise_than_asked_is_as_its_code_wants_it(dtype, tmp_path):
    deviations = []
    model = load(edited(tmp_path, dtype="float32"), dtype, deviations).model
    assert {parameter.dtype for parameter in model.vision_model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in model.language_model.parameters()} == {dtype}
    assert model.get_submodule(CONDITIONER).dtype == torch.float32
    assert not [sentence for sentence in deviations if "tower" in sentence or "radio" in sentence]


@pytest.mark.parametrize("aside", [True, False], ids=["while it is made", "afterwards"])
def test_weights_are_those_of_the_checkpoint_and_not_what_they_were_rounded_to(aside, precise):
    deviations = []
    model = load(precise, torch.float32, deviations, aside=aside).model
    tensors = stored(precise)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, tensors[name]), name
    for name in ("norm_mean", "norm_std"):
        assert torch.equal(model.get_buffer(f"{CONDITIONER}.{name}"), tensors[f"{CONDITIONER}.{name}"])
    if not aside:
        assert "`language_model` is moved from bfloat16 to float32" in deviations


class Part(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.linear = nn.Linear(3, 3, dtype=dtype)
        self.register_buffer("table", torch.ones(3, dtype=dtype))
        self.computes_in = dtype


def test_what_is_moved_is_told_module_by_module(tmp_path):
    model = nn.Module()
    model.low, model.high = Part(torch.bfloat16), Part(torch.float32)
    model.mixed = nn.Module()
    model.mixed.a, model.mixed.b = nn.Linear(2, 2, dtype=torch.float16), nn.Linear(2, 2)
    model.shared = model.low.linear
    model.bare = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    exact = torch.randn(3, 3)
    save_file({"low.linear.weight": exact}, tmp_path / "model.safetensors")
    deviations = []
    move_back(model, torch.float32, Stored(tmp_path), deviations)
    assert deviations == [
        "`bare` is moved from bfloat16 to float32",
        "`low` is moved from bfloat16 to float32",
        "`mixed.a` is moved from float16 to float32",
        "`low.computes_in`, which is bfloat16, is float32",
    ]
    assert {tensor.dtype for tensor in (*model.parameters(), *model.buffers())} == {torch.float32}
    assert torch.equal(model.low.linear.weight, exact) and model.shared.weight is model.low.linear.weight
    assert model.low.computes_in is torch.float32
    again = []
    move_back(model, torch.bfloat16, Stored(tmp_path), again)
    assert again == [] and model.low.linear.weight.dtype == torch.float32, "a run in bfloat16 was touched"


def test_what_was_left_without_memory_gets_what_is_stored(tmp_path):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2, dtype=torch.bfloat16), nn.Linear(2, 2))
    weights = {
        f"{index}.{name}": torch.randn(2, 2)[:size].squeeze(0)
        for index in (0, 1)
        for name, size in (("weight", 2), ("bias", 1))
    }
    save_file(weights, tmp_path / "model.safetensors")
    deviations = []
    fill_in(model, Stored(tmp_path), deviations)
    assert torch.equal(model[1].weight, weights["1.weight"]) and torch.equal(
        model[0].bias, weights["0.bias"].bfloat16()
    )
    assert len(deviations) == 1 and "`0.weight` and 3 more, which transformers" in deviations[0]
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(nvl_golden.GoldenError, match=r"`2\.weight`: expected values after loading, found none"):
        fill_in(model, Stored(tmp_path), [])


def test_casts_to_less_are_none_and_casts_to_more_are_the_codes_own():
    x = torch.tensor([1.2345678])
    with hazards.neutralised("cpu", torch.float32, deviations := []):
        for kept in (
            x.half(),
            x.bfloat16(),
            x.to(torch.float16),
            x.type("torch.HalfTensor"),
            x.type_as(x.double().half()),
        ):
            assert kept.dtype == torch.float32
        assert x.to(torch.float64).dtype == torch.float64 and x.to(torch.int8).dtype == torch.int8
        torch.set_default_dtype(torch.bfloat16)
        assert torch.get_default_dtype() == torch.float32
    assert any("makes in bfloat16 is made in float32" in sentence for sentence in deviations)
    half = x.half()
    with hazards.neutralised("cpu", torch.bfloat16, deviations := []):
        assert half.bfloat16().dtype == torch.bfloat16 and x.bfloat16().half().dtype == torch.float16
    assert deviations == []
    with hazards.neutralised("cpu", torch.float16, []):
        assert half.to(torch.bfloat16).dtype == torch.float16 and x.to(torch.bfloat16).dtype == torch.bfloat16
    assert x.half().dtype == torch.float16
