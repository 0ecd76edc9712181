"""Modules that are easy to see through, for tests of the recorder."""

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import nn

Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Result:
    """An output as transformers has them."""

    logits: torch.Tensor
    cache: object = None
    hidden_states: tuple = ()


class Inner(nn.Module):
    def forward(self, x, scale=None):
        return Pair(x + 1, x * (2 if scale is None else scale))


class Model(nn.Module):
    """Every kind of output, an in-place kernel, and a module that runs twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.inner = Inner()
        self.rotary = RotaryEmbedding()

    def forward(self, x):
        x = self.drop(self.act(self.first(x)))
        x = self.first(x)
        pair = self.inner(x, scale=torch.tensor(3.0))
        cos, sin = self.rotary(pair.left)
        return Result(cos + sin, cache=object(), hidden_states=(pair.left, {"deep": pair.right.mT}))


class RotaryEmbedding(nn.Module):
    def forward(self, x):
        return x.cos(), x.sin()
