"""The checkpoint's image processor: doubled pictures, cut into tiles, with a thumbnail behind several."""

import torch
from PIL import Image
from torchvision.transforms.v2 import functional
from transformers import BaseImageProcessor, BatchFeature


class LlamaNemotronNanoVLImageProcessor(BaseImageProcessor):
    """Tiles with values from 0 to 1, in float32."""

    model_input_names = ("pixel_values",)

    def __init__(self, image_size=512, max_num_tiles=12, use_thumbnail=True, rescale_factor=1 / 255, **options):
        super().__init__(**options)
        self.image_size = image_size
        self.max_num_tiles = max_num_tiles
        self.use_thumbnail = use_thumbnail
        self.rescale_factor = rescale_factor

    def __call__(self, images, **_options):
        """The tiles of some pictures, and how many each has."""
        tiles = [self.tiles(image) for image in images]
        pixel_values = (
            torch.stack([tile for of_one in tiles for tile in of_one]).to(torch.float32) * self.rescale_factor
        )
        return BatchFeature({"pixel_values": pixel_values, "num_patches": [len(of_one) for of_one in tiles]})

    def tiles(self, image):
        """The tiles of a picture, row by row, as bytes."""
        image = image.convert("RGB")
        image = image.resize((2 * image.width, 2 * image.height), Image.BILINEAR)
        columns, rows = self.grid(image.width, image.height)
        pixels, side = functional.pil_to_tensor(image), self.image_size
        resized = functional.resize(pixels, [rows * side, columns * side], antialias=True)
        tiles = [tile for row in resized.split(side, 1) for tile in row.split(side, 2)]
        if self.use_thumbnail and len(tiles) > 1:
            tiles.append(functional.resize(pixels, [side, side], antialias=True))
        return tiles

    def grid(self, width, height):
        """The columns and rows whose shape and size suit a picture best."""
        most = range(1, self.max_num_tiles + 1)
        grids = {(columns, rows) for n in most for columns in most[:n] for rows in most[:n]}
        grids = sorted((grid for grid in grids if grid[0] * grid[1] <= self.max_num_tiles), key=lambda g: g[0] * g[1])

        def suits(grid):
            columns, rows = grid
            wanted, has = columns / rows, width / height
            size = min(columns * rows * self.image_size**2 / (width * height), 0.6)
            return size * min(wanted / has, has / wanted)

        return max(grids, key=suits)
