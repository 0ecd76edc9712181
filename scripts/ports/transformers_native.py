"""A port of the model to transformers' native classes, under test: RadioModel and LlamaForCausalLM, glued by the projector.

    transformers_native.py --vision DIR --text DIR --golden DUMP --out DUMP

DIR are the parts that `nvl-convert convert --part vision|text` writes. The port answers the golden's own request, from its
pixel_values and input_ids, and records what each of its modules computes under its own names. Compare with
`nvl-validate diff GOLDEN DUMP --names transformers-nemotron`.

It stands for the engine that you are writing: see docs/porting.md. Needs torch, transformers 5.13.0 and nvl-golden.
"""

import argparse
import json
from pathlib import Path

import nvl_golden
import torch
import transformers
from safetensors.torch import load_file
from torch import nn


class Projector(nn.Module):
    """From the tower's width, four patches side by side, to that of the language model."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        """A projector of the widths that the weights have."""
        super().__init__()
        hidden, wide = weights["linear_1.weight"].shape
        self.layer_norm = nn.LayerNorm(wide)
        self.linear_1 = nn.Linear(wide, hidden)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(hidden, weights["linear_2.weight"].shape[0])
        self.load_state_dict(weights)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[tiles, patches, width] to [tiles, patches, language model's width]."""
        return self.linear_2(self.act(self.linear_1(self.layer_norm(features))))


class Port(nn.Module):
    """The whole model."""

    def __init__(self, vision: Path, text: Path, dtype: torch.dtype) -> None:
        """Loads the two parts, and the projector that lies beside the tower."""
        super().__init__()
        config = json.loads((vision / "nemotron_vl_config.json").read_text())
        self.image_token_id = config["image_token_id"]
        self.vision_tower = transformers.RadioModel.from_pretrained(vision, dtype=dtype, attn_implementation="sdpa")
        self.language_model = transformers.LlamaForCausalLM.from_pretrained(
            text, dtype=dtype, attn_implementation="eager"
        )
        tensors = load_file(vision / "multi_modal_projector.safetensors")
        self.multi_modal_projector = Projector(
            {name.removeprefix("multi_modal_projector."): tensor for name, tensor in tensors.items()}
        ).to(dtype)
        self.eval()

    def image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[tiles, channels, side, side] to [tiles, image tokens, width]."""
        features = self.vision_tower(pixel_values.to(self.vision_tower.dtype)).features
        return self.multi_modal_projector(pixel_shuffle(features))

    def embed(self, input_ids: torch.Tensor, pixel_values: torch.Tensor | None) -> torch.Tensor:
        """[1, s] to [1, s, width]: the image tokens' places are taken by the image's features."""
        embeds = self.language_model.get_input_embeddings()(input_ids)
        if pixel_values is None:
            return embeds
        embeds = embeds.clone()
        embeds[input_ids == self.image_token_id] = self.image_features(pixel_values).flatten(0, 1)
        return embeds


def pixel_shuffle(features: torch.Tensor) -> torch.Tensor:
    """Four patches of a square become one of four times the width: [t, h·w, c] to [t, h·w / 4, 4·c]."""
    tiles, patches, width = features.shape
    half = int(patches**0.5) // 2
    squares = features.reshape(tiles, half, 2, half, 2, width).transpose(2, 3)
    return squares.reshape(tiles, half * half, 4 * width)


@torch.no_grad()
def answer(
    port: Port, recorder: nvl_golden.Recorder, inputs: dict[str, torch.Tensor], steps: int, eos: int
) -> list[int]:
    """Greedy ids; the prefill's activations and every step's logits are recorded."""
    for name, tensor in inputs.items():
        recorder.add(name, tensor, role="input")
    embeds = port.embed(inputs["input_ids"], inputs.get("pixel_values"))
    recorder.add("inputs_embeds", embeds)
    cache = transformers.DynamicCache(config=port.language_model.config)
    output = port.language_model(inputs_embeds=embeds, past_key_values=cache, logits_to_keep=1)
    ids, logits = [], []
    with recorder.paused():
        while True:
            logits.append(output.logits[:, -1].float())
            ids.append(int(logits[-1].argmax()))
            if ids[-1] == eos or len(ids) == steps:
                break
            output = port.language_model(torch.tensor([[ids[-1]]]), past_key_values=cache)
    recorder.add("step_logits", torch.cat(logits), role="output")
    return ids


def main() -> None:
    """Records the port's answer to a golden's request."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for option in ("--vision", "--text", "--golden", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1, help="the golden's own, for equal bits")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    golden = nvl_golden.Dump(arguments.golden)
    manifest = golden.manifest
    names = set(golden.names())
    inputs = {name: golden.tensor(name) for name in ("pixel_values", "input_ids") if name in names}
    port = Port(arguments.vision, arguments.text, getattr(torch, manifest["producer"]["dtype"]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.text)
    with nvl_golden.record(port, arguments.out) as recorder:
        steps = manifest["request"]["max_new_tokens"]
        recorder.generated_ids = answer(port, recorder, inputs, steps, tokenizer.eos_token_id)
        recorder.request, recorder.prompt = manifest["request"], manifest["prompt"]
        recorder.text = tokenizer.decode(recorder.generated_ids, skip_special_tokens=True).strip()
    print(recorder.text)


if __name__ == "__main__":
    main()
