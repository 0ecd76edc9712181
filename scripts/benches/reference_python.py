"""The Python side of scripts/benches/reference: transformers' decoder and timm's tower, as one would write it.

reference_python.py WHOLE TEXT DTYPE THREADS PROMPT_TOKENS NEW_TOKENS RUNS
reference_python.py --first-token TEXT
"""

import json
import statistics
import sys
import time
from pathlib import Path


def main() -> None:
    """Measures what the arguments say, and prints it as JSON."""
    if sys.argv[1] == "--first-token":
        first_token(sys.argv[2])
        return
    whole, text, dtype = sys.argv[1:4]
    threads, prompt_tokens, new_tokens, runs = map(int, sys.argv[4:])
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    result = {"vision_secs": vision(Path(whole), getattr(torch, dtype), runs)}
    result |= decoder(text, getattr(torch, dtype), prompt_tokens, new_tokens, runs)
    print(json.dumps(result))


def vision(whole: Path, dtype, runs: int) -> float:
    """Seconds of timm's tower and the projector on one tile: times do not depend on the weights, so they have any."""
    import torch
    from timm.models.vision_transformer import VisionTransformer
    from torch import nn

    whole_config = json.loads((whole / "config.json").read_text())
    config = whole_config["vision_config"]
    tower = VisionTransformer(
        img_size=config["image_size"],
        patch_size=config["patch_size"],
        embed_dim=config["hidden_size"],
        depth=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        mlp_ratio=config["mlp_ratio"],
        reg_tokens=config["num_cls_tokens"] + config["num_registers"] - 1,
        num_classes=0,
    )
    tower = tower.to(dtype).eval()
    # Patches that become one token, and those of a side.
    merged = round(1 / whole_config["downsample_ratio"])
    side = config["image_size"] // config["patch_size"] // merged
    wide = config["hidden_size"] * merged**2
    middle, hidden = whole_config["projector_hidden_size"], whole_config["text_config"]["hidden_size"]
    projector = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, middle), nn.GELU(), nn.Linear(middle, hidden))
    projector = projector.to(dtype).eval()
    pixels = torch.rand(1, 3, config["image_size"], config["image_size"], dtype=dtype)

    def features() -> torch.Tensor:
        patches = tower.forward_features(pixels)[:, tower.num_prefix_tokens :]
        squares = patches.reshape(1, side, merged, side, merged, -1).transpose(2, 3)
        return projector(squares.reshape(1, side * side, wide))

    return timed(features, runs)


def decoder(text: str, dtype, prompt_tokens: int, new_tokens: int, runs: int) -> dict:
    """Seconds of the prompt, and of a decoded token after it."""
    import torch
    from transformers import DynamicCache, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(text, dtype=dtype).eval()
    ids = torch.zeros(1, prompt_tokens, dtype=torch.long)
    prefills, decodes = [], []
    for _ in range(runs + 1):
        cache = DynamicCache(config=model.config)
        start = time.perf_counter()
        token = model(ids, past_key_values=cache, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
        prefills.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(new_tokens):
            token = model(token, past_key_values=cache).logits[:, -1].argmax(-1, keepdim=True)
        decodes.append((time.perf_counter() - start) / new_tokens)
    return {
        "prefill_secs": statistics.median(prefills[1:]),
        "decode_secs_per_token": statistics.median(decodes[1:]),
    }


def timed(run, runs: int) -> float:
    """The median after one run that does not count."""
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def first_token(text: str) -> None:
    """Loads a tokenizer and a model, and makes one token."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(text)
    model = LlamaForCausalLM.from_pretrained(text, dtype="auto")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    print(tokenizer.decode(model.generate(**ids, max_new_tokens=1, do_sample=False)[0]))


if __name__ == "__main__":
    main()
