"""Small models of many families: transformers' own classes with random weights, and an input for each."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
import transformers
from transformers.models.mllama import MllamaTextConfig, MllamaVisionConfig

#: Calls a model with its input; the same one whenever the seed is the same.
Run = Callable[[torch.nn.Module], Any]

VOCABULARY = 500
IMAGE_TOKEN = 3
DECODER = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
}
ENCODER_DECODER = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
}


def ids(tokens: int = 24, batch: int = 2) -> torch.Tensor:
    """A prompt of random tokens: [batch, tokens]."""
    return torch.randint(5, VOCABULARY, (batch, tokens))


def text(model: torch.nn.Module) -> Any:
    """Runs a decoder on a prompt."""
    return model(input_ids=ids(), use_cache=False)


def translate(model: torch.nn.Module) -> Any:
    """Runs an encoder and a decoder, each on a prompt of its own."""
    return model(input_ids=ids(), decoder_input_ids=ids(10), use_cache=False)


def llama() -> tuple[torch.nn.Module, Run]:
    """A dense decoder."""
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER)), text


def gemma2() -> tuple[torch.nn.Module, Run]:
    """A dense decoder with sliding windows, norms behind its branches, and soft-capped scores."""
    config = transformers.Gemma2Config(**DECODER, head_dim=16, sliding_window=8)
    return transformers.Gemma2ForCausalLM(config), text


def mixtral() -> tuple[torch.nn.Module, Run]:
    """A mixture of experts."""
    config = transformers.MixtralConfig(**DECODER, num_local_experts=4, num_experts_per_tok=2)
    return transformers.MixtralForCausalLM(config), text


def qwen2_moe() -> tuple[torch.nn.Module, Run]:
    """A mixture of experts with one that all tokens share."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    config = transformers.Qwen2MoeConfig(**DECODER, **experts, shared_expert_intermediate_size=96)
    return transformers.Qwen2MoeForCausalLM(config), text


def mamba() -> tuple[torch.nn.Module, Run]:
    """A state-space model."""
    config = transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=64, state_size=8, num_hidden_layers=3)
    return transformers.MambaForCausalLM(config), text


def t5() -> tuple[torch.nn.Module, Run]:
    """An encoder and a decoder with relative positions."""
    sizes = {"vocab_size": VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4}
    config = transformers.T5Config(**sizes, num_layers=2, num_decoder_layers=2, feed_forward_proj="gated-gelu")
    return transformers.T5ForConditionalGeneration(config), translate


def bart() -> tuple[torch.nn.Module, Run]:
    """An encoder and a decoder with learned positions."""
    config = transformers.BartConfig(**ENCODER_DECODER, max_position_embeddings=128)
    return transformers.BartForConditionalGeneration(config), translate


def whisper() -> tuple[torch.nn.Module, Run]:
    """An encoder of sounds, with convolutions, and a decoder."""
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    sounds = {"num_mel_bins": 20, "max_source_positions": 50, "max_target_positions": 60}
    config = transformers.WhisperConfig(**ENCODER_DECODER, **tokens, **sounds)

    def run(model: Any) -> Any:
        features = torch.randn(2, 20, 100).to(model.dtype)
        return model(input_features=features, decoder_input_ids=ids(10), use_cache=False)

    return transformers.WhisperForConditionalGeneration(config), run


def llava() -> tuple[torch.nn.Module, Run]:
    """A vision tower, a projector and a decoder: features in place of image tokens."""
    tower = transformers.CLIPVisionConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8
    )
    decoder = transformers.LlamaConfig(**DECODER)
    config = transformers.LlavaConfig(vision_config=tower, text_config=decoder, image_token_index=IMAGE_TOKEN)

    def run(model: Any) -> Any:
        prompt = ids(40)
        prompt[:, 2:18] = IMAGE_TOKEN
        pixels = torch.randn(2, 3, 32, 32).to(model.dtype)
        return model(input_ids=prompt, pixel_values=pixels, use_cache=False)

    return transformers.LlavaForConditionalGeneration(config), run


def qwen2_vl() -> tuple[torch.nn.Module, Run]:
    """A vision tower of packed patches with merged neighbours, and a decoder with positions in three dimensions."""
    tower = {
        "depth": 3,
        "embed_dim": 48,
        "hidden_size": 64,
        "num_heads": 4,
        "patch_size": 8,
        "mlp_ratio": 2,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "in_channels": 3,
    }
    decoder = {**DECODER, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
    config = transformers.Qwen2VLConfig(
        text_config=decoder, vision_config=tower, image_token_id=IMAGE_TOKEN, video_token_id=4, vision_start_token_id=1
    )

    def run(model: Any) -> Any:
        prompt = ids(40, batch=1)
        prompt[:, 2:6] = IMAGE_TOKEN
        kinds = (prompt == IMAGE_TOKEN).long()
        patches = torch.randn(16, 3 * 2 * 8 * 8).to(model.dtype)
        grid = torch.tensor([[1, 4, 4]])
        return model(
            input_ids=prompt, mm_token_type_ids=kinds, pixel_values=patches, image_grid_thw=grid, use_cache=False
        )

    return transformers.Qwen2VLForConditionalGeneration(config), run


def mllama() -> tuple[torch.nn.Module, Run]:
    """A vision tower that a decoder looks at by cross-attention."""
    decoder = MllamaTextConfig(
        **{**DECODER, "num_hidden_layers": 4},
        cross_attention_layers=[1, 3],
        rope_scaling={"rope_type": "default"},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    tower = MllamaVisionConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_global_layers=1,
        attention_heads=4,
        intermediate_size=96,
        vision_output_dim=96,
        image_size=32,
        patch_size=8,
        max_num_tiles=1,
        supported_aspect_ratios=[[1, 1]],
        intermediate_layers_indices=[0],
    )
    config = transformers.MllamaConfig(vision_config=tower, text_config=decoder, image_token_index=IMAGE_TOKEN)

    def run(model: Any) -> Any:
        return model(
            input_ids=ids(),
            pixel_values=torch.randn(2, 1, 1, 3, 32, 32).to(model.dtype),
            aspect_ratio_ids=torch.ones(2, 1, dtype=torch.long),
            aspect_ratio_mask=torch.ones(2, 1, 1, dtype=torch.long),
            cross_attention_mask=torch.ones(2, 24, 1, 1, dtype=torch.long),
            use_cache=False,
        )

    return transformers.MllamaForConditionalGeneration(config), run


FAMILIES = {
    make.__name__: make
    for make in (llama, gemma2, mixtral, qwen2_moe, mamba, t5, bart, whisper, llava, qwen2_vl, mllama)
}


def build(family: str, dtype: torch.dtype, attention: str = "eager") -> tuple[torch.nn.Module, Run]:
    """A model of a family, always with the same weights, and what runs it."""
    torch.manual_seed(0)
    model, run = FAMILIES[family]()
    model.to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # A norm of ones and a bias of zeros would hide mistakes.
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape).to(dtype) / 10)
    # One that has no attention, or only its own, keeps that.
    with suppress(ValueError):
        model.set_attn_implementation(attention)
    return model, run
