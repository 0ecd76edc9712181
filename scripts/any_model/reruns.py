"""Right runs that round otherwise than the first: in none of them is there a mistake to be found."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch


class Rerun(NamedTuple):
    """How a right run differs from the first one."""

    attention: str = "eager"
    threads: int = 1
    #: Sums of products are rounded once, from a larger dtype.
    precise: bool = False


RERUNS = {
    "sdpa": Rerun(attention="sdpa"),
    "two threads": Rerun(threads=2),
    "sdpa, two threads": Rerun(attention="sdpa", threads=2),
    "precise products": Rerun(precise=True),
    "precise products, sdpa": Rerun(attention="sdpa", precise=True),
}


@contextmanager
def precise_products(model: torch.nn.Module) -> Iterator[None]:
    """Inside, each `Linear` multiplies in float64 or, for what is smaller than float32, in float32."""
    layers = [module for module in model.modules() if type(module) is torch.nn.Linear]
    for layer in layers:
        layer.forward = _precise(layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _precise(layer: torch.nn.Linear):  # type: ignore[no-untyped-def]
    def forward(given: torch.Tensor) -> torch.Tensor:
        larger = torch.float64 if given.dtype == torch.float32 else torch.float32
        bias = None if layer.bias is None else layer.bias.to(larger)
        return torch.nn.functional.linear(given.to(larger), layer.weight.to(larger), bias).to(given.dtype)

    return forward
