#!/usr/bin/env python3
"""Makes `converter/tests/fixtures/dtype-conversions.json`: SHA-256 of what PyTorch's `.to()` gives.

All 65,536 bfloat16 and float16 numbers, and 3,145,728 float32 numbers: every upper half with every lower half that is
a tie, or beside one, for either of the narrow dtypes. PyTorch gives a NaN other bits on a processor without AVX2, and
on a GPU; this is what it gives with AVX2 and AVX-512. Needs torch: `.venv-transformers/bin/python`.
"""

import hashlib
import json
from pathlib import Path

import torch

FIXTURE = Path(__file__).resolve().parent.parent / "converter/tests/fixtures/dtype-conversions.json"
# Bits that float16 drops: nothing, just above it, around the tie, all.
TAILS = [0x0000, 0x0001, 0x0FFF, 0x1000, 0x1001, 0x1FFF]


def halves(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype)


def floats() -> torch.Tensor:
    upper = torch.arange(1 << 16, dtype=torch.int64) << 16
    lower = torch.tensor([(bits << 13) | tail for bits in range(8) for tail in TAILS])
    return (upper[:, None] | lower).flatten().to(torch.int32).view(torch.float32)


def digest(tensor: torch.Tensor) -> str:
    bits = tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)
    return hashlib.sha256(bits.numpy().tobytes()).hexdigest()


def main() -> None:
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in ("AVX2", "AVX512"):
        raise SystemExit(f"make-dtype-fixture: expected a processor with AVX2, found `{capability}`")
    sources = {
        "float32": floats(),
        "bfloat16": halves(torch.bfloat16),
        "float16": halves(torch.float16),
    }
    conversions = [
        {"from": source, "to": target, "sha256": digest(values.to(getattr(torch, target)))}
        for source, values in sources.items()
        for target in sources
        if source != target
    ]
    fixture = {"torch": torch.__version__.split("+")[0], "tails": TAILS, "conversions": conversions}
    FIXTURE.parent.mkdir(exist_ok=True)
    FIXTURE.write_text(json.dumps(fixture, indent=1) + "\n")


if __name__ == "__main__":
    main()
