"""The checkpoint's model: it answers about pictures, and takes CUDA, bfloat16 and a process group for granted.

It was written from a description of what the published code does, to have its habits.
"""

import torch
import torch.distributed
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from .configuration import Llama_Nemotron_Nano_VL_Config


class Llama_Nemotron_Nano_VL(PreTrainedModel):  # noqa: N801
    """A tower, a projector and a Llama."""

    config_class = Llama_Nemotron_Nano_VL_Config
    _supports_sdpa = True
    _supports_flash_attn_2 = True

    def __init__(self, config):
        super().__init__(config)
        self.language_model = AutoModelForCausalLM.from_config(config.llm_config, torch_dtype=torch.bfloat16)
        self.vision_model = AutoModel.from_config(config.vision_config, trust_remote_code=True)
        width, hidden = round(config.vit_hidden_size / config.downsample_ratio**2), config.llm_config.hidden_size
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.projector_hidden_size),
            nn.GELU(),
            nn.Linear(config.projector_hidden_size, hidden),
        )
        self.mlp1 = self.mlp1.to(self.language_model.config.torch_dtype)
        self.tile_tokens = round((config.force_image_size / config.patch_size * config.downsample_ratio) ** 2)
        self.image_token_id = None
        self.post_init()

    def extract_feature(self, pixel_values):
        """The language model's view of the pictures: `[tiles, tokens, hidden]`."""
        if torch.distributed.get_rank() > 0:
            raise RuntimeError("only the first process looks at pictures")
        features = self.vision_model(pixel_values).features.to(torch.bfloat16)
        return self.mlp1(self.shuffled(features))

    def shuffled(self, features):
        """Four neighbouring patches in one; `v1` leaves the picture transposed."""
        tiles, tokens, width = features.shape
        side, step = round(tokens**0.5), round(1 / self.config.downsample_ratio)
        rows = features.reshape(tiles, side, side // step, step * width).transpose(1, 2)
        blocks = rows.reshape(tiles, side // step, side // step, step * step * width)
        if getattr(self.config, "ps_version", "v1") != "v1":
            blocks = blocks.transpose(1, 2)
        return blocks.reshape(tiles, -1, step * step * width)

    @torch.no_grad()
    def generate(self, pixel_values=None, input_ids=None, attention_mask=None, **generation):
        """Merges pictures and text, and lets the language model go on."""
        features = None if pixel_values is None else self.extract_feature(pixel_values)
        inputs_embeds = self.language_model.get_input_embeddings()(input_ids)
        if features is not None:
            inputs_embeds[input_ids == self.image_token_id] = features.reshape(-1, features.shape[-1])
        return self.language_model.generate(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **generation)

    def with_image_tokens(self, text, counts):
        """A text with the tokens of each picture in the place of its tag."""
        parts = text.split("<image>")
        if len(parts) != len(counts) + 1:
            raise ValueError(f"expected {len(counts)} image tags, found {len(parts) - 1}")
        for index, count in enumerate(counts):
            tile = "<image>" * self.tile_tokens
            if self.config.image_tag_type == "nvlm":
                tags = [f"<tile_{number}>" for number in range(1, count)] + ["<tile_global_thumbnail>"]
                parts[index] += "<Image>" + "".join(tag + tile for tag in tags) + "</Image>"
            else:
                parts[index] += "<img>" + tile * count + "</img>"
        return "".join(parts)

    def chat(
        self,
        tokenizer,
        pixel_values,
        question,
        generation_config,
        history=None,
        return_history=False,
        num_patches=None,
        system_prompt=None,
    ):
        """Answers a question."""
        counts = [] if pixel_values is None else list(num_patches or [len(pixel_values)])
        if history is None and "<image>" not in question:
            question = "<image>\n" * len(counts) + question
        messages = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
        for user, assistant in history or []:
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        messages.append({"role": "user", "content": question})
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(self.with_image_tokens(text, counts), return_tensors="pt", add_special_tokens=False)
        self.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
        generation_config["eos_token_id"] = tokenizer.eos_token_id
        ids = self.generate(
            pixel_values=pixel_values,
            input_ids=inputs["input_ids"].cuda(),
            attention_mask=inputs["attention_mask"].cuda(),
            **generation_config,
        )
        answer = tokenizer.batch_decode(ids)[0].split(tokenizer.eos_token)[0].strip()
        return (answer, [*(history or []), (question, answer)]) if return_history else answer
