"""The vision tower of the small checkpoint."""

from typing import NamedTuple

import torch
from torch import nn


class TowerOutput(NamedTuple):
    """What the tower gives: one vector for the picture, and one for each patch."""

    summary: torch.Tensor
    features: torch.Tensor


class PatchMixer(nn.Module):
    """A residual block that works in place, as fused kernels do."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, width)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.1)

    def forward(self, hidden_states):
        return hidden_states.add_(self.drop(self.act(self.fc(self.norm(hidden_states)))))


class Tower(nn.Module):
    """Patches, and blocks over them."""

    def __init__(self, width, patch_size):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch_size, patch_size)
        self.blocks = nn.Sequential(PatchMixer(width), PatchMixer(width))

    def forward(self, pixel_values):
        features = self.patches(pixel_values.to(self.patches.weight.dtype)).flatten(2).transpose(1, 2)
        features = self.blocks(features.contiguous())
        return TowerOutput(features.mean(1), features)
