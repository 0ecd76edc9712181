"""From pixels to what the blocks are given."""

import torch
from torch import nn


class InputConditioner(nn.Module):
    """Normalises pixels in the dtype of its buffers and rounds once, to the dtype that it is told."""

    def __init__(self, mean, std, dtype=None):
        super().__init__()
        self.dtype = dtype
        self.register_buffer("norm_mean", torch.tensor(mean, dtype=torch.float32).reshape(3, 1, 1))
        self.register_buffer("norm_std", torch.tensor(std, dtype=torch.float32).reshape(3, 1, 1))

    def forward(self, pixel_values):
        normalized = (pixel_values - self.norm_mean) / self.norm_std
        return normalized if self.dtype is None else normalized.to(self.dtype)


class Im2Patches(nn.Module):
    """Cuts pictures into flat patches, row by row."""

    def __init__(self, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def forward(self, pixels):
        size = self.patch_size
        tiles, channels, height, width = pixels.shape
        cut = pixels.reshape(tiles, channels, height // size, size, width // size, size)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(tiles, -1, channels * size * size)


class ViTPatchLinear(nn.Linear):
    """A projection of patches."""


class ClsToken(nn.Module):
    """Class tokens and registers, put in front."""

    def __init__(self, width, num_tokens):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(num_tokens, width))

    def forward(self, patches):
        return torch.cat([self.token.expand(len(patches), -1, -1), patches], dim=1)


class ViTPatchGenerator(nn.Module):
    """Patches with their positions, behind the class tokens and registers."""

    def __init__(self, width, patch_size, max_size, num_classes, num_registers, register_multiple):
        super().__init__()
        registers = num_registers or (register_multiple - num_classes % register_multiple if register_multiple else 0)
        self.num_classes, self.num_prefix = num_classes, num_classes + registers
        self.side = round(max_size / patch_size)
        self.patch_size = patch_size
        self.im_to_patches = Im2Patches(patch_size)
        self.embedder = ViTPatchLinear(3 * patch_size**2, width, bias=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.side**2, width))
        self.cls_token = ClsToken(width, self.num_prefix)

    def positions(self, rows, columns):
        """The table, resized to a square that holds the grid, and cut to it."""
        if (rows, columns) == (self.side, self.side):
            return self.pos_embed
        side = max(rows, columns)
        table = self.pos_embed.reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        resized = nn.functional.interpolate(table.float(), (side, side), mode="bilinear", align_corners=True)
        return resized.to(table.dtype)[..., :rows, :columns].flatten(2).permute(0, 2, 1)

    def forward(self, pixels):
        rows, columns = (size // self.patch_size for size in pixels.shape[-2:])
        patches = self.embedder(self.im_to_patches(pixels))
        return self.cls_token(patches + self.positions(rows, columns))
