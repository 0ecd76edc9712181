"""Small checkpoints with random weights, of families of models that differ in kind, as transformers itself writes them."""

from collections.abc import Callable
from pathlib import Path

import tokenizers
import torch
import transformers

#: The widths of the language models.
TEXT = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
#: The widths of the towers: 16 patches of 8 x 8 pixels.
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
IMAGE = 259
SPECIAL = [
    *("<bos>", "<eos>", "<pad>", "<image>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
    *("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<start_of_image>", "<end_of_image>"),
    *("<image_soft_token>", "<|image|>", "<unk>"),
]
IDS = {token: 256 + index for index, token in enumerate(SPECIAL)}
SIDE = {"height": 32, "width": 32}

#: A template that takes texts.
TEXTS = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def parts(image: str) -> str:
    """A template that takes lists of parts, and has this in the place of a picture."""
    return (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )


def tokenizer(**options):
    """A tokenizer of bytes."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[])
    plain = tokenizers.Tokenizer(model)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    plain.add_special_tokens(SPECIAL)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", **options
    )


def write(folder: Path, kind, config, processor) -> Path:
    """A checkpoint with random weights."""
    torch.manual_seed(6)
    model = kind(config).eval()
    for parameter in model.parameters():
        # Larger than they are initialised, so that each layer matters.
        parameter.data.mul_(3)
    model.generation_config.eos_token_id = IDS["<eos>"]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def llama(folder: Path) -> Path:
    """A dense decoder whose template takes texts."""
    config = transformers.LlamaConfig(**TEXT)
    return write(folder, transformers.LlamaForCausalLM, config, tokenizer(chat_template=TEXTS))


def mixtral(folder: Path) -> Path:
    """A mixture of experts, four in each layer: as many as there are layers."""
    config = transformers.MixtralConfig(**TEXT, num_local_experts=4)
    return write(folder, transformers.MixtralForCausalLM, config, tokenizer(chat_template=TEXTS))


def mamba(folder: Path) -> Path:
    """A state-space model without a chat template."""
    config = transformers.MambaConfig(
        vocab_size=300, hidden_size=32, state_size=4, num_hidden_layers=4, eos_token_id=257, pad_token_id=258
    )
    return write(folder, transformers.MambaForCausalLM, config, tokenizer())


def t5(folder: Path) -> Path:
    """An encoder and a decoder, of different depths."""
    config = transformers.T5Config(
        vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=4, num_decoder_layers=3, num_heads=4,
        eos_token_id=257, pad_token_id=258, decoder_start_token_id=258,
    )  # fmt: skip
    return write(folder, transformers.T5ForConditionalGeneration, config, tokenizer())


def bart(folder: Path) -> Path:
    """An encoder and a decoder, whose configuration asks for an end in any case."""
    config = transformers.BartConfig(
        vocab_size=300, d_model=32, encoder_layers=3, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=512, bos_token_id=256, eos_token_id=257,
        pad_token_id=258, decoder_start_token_id=257, forced_eos_token_id=257,
    )  # fmt: skip
    return write(folder, transformers.BartForConditionalGeneration, config, tokenizer())


def llava(folder: Path) -> Path:
    """A tower of CLIP, of which the layer before the last is used, and a Llama."""
    vision = transformers.CLIPVisionConfig(**VISION)
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=transformers.LlamaConfig(**TEXT), image_token_index=IMAGE
    )
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIDE)
    processor = transformers.LlavaProcessor(
        images, tokenizer(), patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>", chat_template=parts("<image>\n"),
    )  # fmt: skip
    return write(folder, transformers.LlavaForConditionalGeneration, config, processor)


def qwen2_5_vl(folder: Path) -> Path:
    """A tower that takes pictures of any size, with windows in some layers, and positions in three directions."""
    vision = {
        "depth": 3, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8, "out_hidden_size": 32,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 32, "fullatt_block_indexes": [0, 2],
    }  # fmt: skip
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = transformers.Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": rope, "rope_scaling": rope}, vision_config=vision,
        image_token_id=IDS["<|image_pad|>"], video_token_id=IDS["<|video_pad|>"],
        vision_start_token_id=IDS["<|vision_start|>"], vision_end_token_id=IDS["<|vision_end|>"],
    )  # fmt: skip
    sizes = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    bounds = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    images = transformers.Qwen2VLImageProcessor(**sizes, size=bounds)
    videos = transformers.Qwen2VLVideoProcessor(**sizes, size=bounds)
    template = parts("<|vision_start|><|image_pad|><|vision_end|>")
    processor = transformers.Qwen2_5_VLProcessor(images, tokenizer(), videos, chat_template=template)
    return write(folder, transformers.Qwen2_5_VLForConditionalGeneration, config, processor)


def idefics3(folder: Path) -> Path:
    """A picture in tiles, and a shuffle of pixels before the language model."""
    config = transformers.Idefics3Config(
        vision_config={**VISION, "max_image_size": SIDE}, text_config=transformers.LlamaConfig(**TEXT),
        image_token_id=IMAGE, scale_factor=2, pad_token_id=258,
    )  # fmt: skip
    images = transformers.Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = transformers.Idefics3Processor(images, tokenizer(), image_seq_len=4, chat_template=parts("<image>"))
    return write(folder, transformers.Idefics3ForConditionalGeneration, config, processor)


def gemma3(folder: Path) -> Path:
    """Windows in most of the layers, and attention in both directions between the tokens of a picture."""
    layers = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    config = transformers.Gemma3Config(
        text_config={**TEXT, "sliding_window": 16, "layer_types": layers, "query_pre_attn_scalar": 8},
        vision_config=VISION, mm_tokens_per_image=4, image_token_index=IDS["<image_soft_token>"],
        boi_token_index=IDS["<start_of_image>"], eoi_token_index=IDS["<end_of_image>"],
    )  # fmt: skip
    images = transformers.Gemma3ImageProcessor(size=SIDE)
    tokens = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    text = tokenizer(extra_special_tokens=tokens)
    processor = transformers.Gemma3Processor(images, text, image_seq_length=4, chat_template=parts("<start_of_image>"))
    return write(folder, transformers.Gemma3ForConditionalGeneration, config, processor)


def paligemma(folder: Path) -> Path:
    """Pictures in front of a prompt, without a chat template."""
    config = transformers.PaliGemmaConfig(
        vision_config={**VISION, "model_type": "siglip_vision_model", "projection_dim": 32, "vision_use_head": False},
        text_config={**TEXT, "model_type": "gemma"}, image_token_index=IMAGE, projection_dim=32, hidden_size=32,
    )  # fmt: skip
    images = transformers.SiglipImageProcessor(size=SIDE)
    images.image_seq_length = 16
    processor = transformers.PaliGemmaProcessor(images, tokenizer())
    return write(folder, transformers.PaliGemmaForConditionalGeneration, config, processor)


def mllama(folder: Path) -> Path:
    """Pictures in tiles, which some layers of the language model look at."""
    text = {
        **TEXT,
        "cross_attention_layers": [1, 3],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    vision = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_global_layers": 2, "attention_heads": 2,
        "image_size": 32, "patch_size": 8, "max_num_tiles": 4, "intermediate_layers_indices": [0, 2],
        "vision_output_dim": 48, "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    }  # fmt: skip
    config = transformers.MllamaConfig(vision_config=vision, text_config=text, image_token_index=IDS["<|image|>"])
    images = transformers.MllamaImageProcessor(size=SIDE, max_image_tiles=4)
    processor = transformers.MllamaProcessor(images, tokenizer(), chat_template=parts("<|image|>"))
    return write(folder, transformers.MllamaForConditionalGeneration, config, processor)


def qwen3_vl(folder: Path) -> Path:
    """A tower of which several layers go into the language model."""
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {
        "depth": 3, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8, "out_hidden_size": 32,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "deepstack_visual_indexes": [0, 1, 2],
        "num_position_embeddings": 16,
    }  # fmt: skip
    config = transformers.Qwen3VLConfig(
        text_config={**TEXT, "rope_parameters": rope}, vision_config=vision,
        image_token_id=IDS["<|image_pad|>"], video_token_id=IDS["<|video_pad|>"],
        vision_start_token_id=IDS["<|vision_start|>"], vision_end_token_id=IDS["<|vision_end|>"],
    )  # fmt: skip
    sizes = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    bounds = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    images = transformers.Qwen2VLImageProcessor(**sizes, size=bounds)
    videos = transformers.Qwen3VLVideoProcessor(**sizes, size=bounds)
    template = parts("<|vision_start|><|image_pad|><|vision_end|>")
    processor = transformers.Qwen3VLProcessor(images, tokenizer(), videos, chat_template=template)
    return write(folder, transformers.Qwen3VLForConditionalGeneration, config, processor)


def blip2(folder: Path) -> Path:
    """Pictures through queries of their own, as many layers as the language model has, which generates inside `generate`."""
    queries = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2,
        "encoder_hidden_size": 16, "vocab_size": 300,
    }  # fmt: skip
    text = {
        "model_type": "opt", "vocab_size": 300, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 4,
        "num_attention_heads": 4, "word_embed_proj_dim": 32, "max_position_embeddings": 512, "eos_token_id": 257,
        "pad_token_id": 258,
    }  # fmt: skip
    config = transformers.Blip2Config(
        vision_config=VISION, qformer_config=queries, text_config=text, num_query_tokens=4, image_token_index=IMAGE
    )
    images = transformers.BlipImageProcessor(size=SIDE)
    processor = transformers.Blip2Processor(images, tokenizer(), num_query_tokens=4)
    return write(folder, transformers.Blip2ForConditionalGeneration, config, processor)


#: Those that are asked in text alone, and those that take pictures.
OF_TEXT: dict[str, Callable[[Path], Path]] = {kind.__name__: kind for kind in (llama, mixtral, mamba, t5, bart)}
OF_PICTURES: dict[str, Callable[[Path], Path]] = {
    kind.__name__: kind for kind in (llava, qwen2_5_vl, qwen3_vl, idefics3, gemma3, paligemma, mllama, blip2)
}
FAMILIES = OF_TEXT | OF_PICTURES
