"""The small checkpoint's image processor."""

import numpy as np
import torch
from transformers import BaseImageProcessor


class SmallVlImageProcessor(BaseImageProcessor):
    """One tile a picture, with values from 0 to 1."""

    model_input_names = ("pixel_values",)

    def __init__(self, image_size=32, **options):
        super().__init__(**options)
        self.image_size = image_size

    def __call__(self, images, **options):
        """The tiles of some pictures, and how many each has."""
        side = (self.image_size, self.image_size)
        tiles = [np.asarray(image.convert("RGB").resize(side), dtype=np.float32) / 255 for image in images]
        pixel_values = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2)
        return {"pixel_values": pixel_values, "num_patches_list": [1] * len(tiles)}
