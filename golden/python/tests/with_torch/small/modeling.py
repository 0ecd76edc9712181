"""The small checkpoint's model: it answers about pictures, and takes CUDA, bfloat16 and a process group for granted."""

import torch
import torch.distributed
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedModel

from .configuration import SmallVlConfig
from .tower import Tower


class SmallVl(PreTrainedModel):
    """A tower, a projector and a Llama."""

    config_class = SmallVlConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        width, hidden = config.vision_width, config.llm_config.hidden_size
        self.vision_model = Tower(width, config.patch_size)
        self.mlp1 = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden))
        self.language_model = LlamaForCausalLM(config.llm_config)
        self.post_init()

    def extract_feature(self, pixel_values):
        """The language model's view of the pictures."""
        if torch.distributed.get_rank() > 0:
            raise RuntimeError("only the first process looks at pictures")
        features = self.vision_model(pixel_values).features
        return self.mlp1(features.to(torch.bfloat16))

    @torch.no_grad()
    def generate(self, pixel_values=None, input_ids=None, attention_mask=None, **generation):
        """Merges pictures and text, and lets the language model go on."""
        inputs_embeds = self.language_model.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            features = self.extract_feature(pixel_values)
            chosen = input_ids == self.config.image_token_id
            inputs_embeds[chosen] = features.reshape(-1, features.shape[-1])
        return self.language_model.generate(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **generation)

    def chat(
        self,
        tokenizer,
        pixel_values,
        question,
        generation_config,
        history=None,
        return_history=False,
        num_patches_list=None,
        system_prompt=None,
    ):
        """Answers a question."""
        if history is None and pixel_values is not None and "<image>" not in question:
            question = "<image>\n" * len(num_patches_list) + question
        messages = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
        for user, assistant in history or []:
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        messages.append({"role": "user", "content": question})
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        tokens = (self.config.image_size // self.config.patch_size) ** 2
        parts = text.split("<image>")
        counts = list(num_patches_list or [])
        if len(parts) != len(counts) + 1:
            raise ValueError(f"expected {len(counts)} image tags, found {len(parts) - 1}")
        text = parts[0] + "".join("<image>" * (tokens * n) + part for n, part in zip(counts, parts[1:], strict=True))
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        ids = self.generate(
            pixel_values=None if pixel_values is None else pixel_values.cuda(),
            input_ids=inputs["input_ids"].cuda(),
            attention_mask=inputs["attention_mask"].cuda(),
            **generation_config,
        )
        answer = tokenizer.batch_decode(ids, skip_special_tokens=True)[0].strip()
        return (answer, [*(history or []), (question, answer)]) if return_history else answer
