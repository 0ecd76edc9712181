"""A vision tower of the project's own, under the names of the repository that the checkpoint's `auto_map` leads to.

It was written from a description of what the published tower does, to have its habits: it reads its arguments through a
named tuple, has timm's blocks, moves itself to `args.dtype` while it is made, and calls some of its modules past
their hooks.
"""

from collections import namedtuple
from typing import NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from .patches import InputConditioner, ViTPatchGenerator

#: What `args.model` stands for, and `args.model_kwargs` changes.
MODELS = {"vit_huge_patch16_224": {"patch_size": 16, "embed_dim": 1280, "depth": 32, "num_heads": 16}}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class RADIOConfig(PretrainedConfig):
    """The arguments that the tower was trained with, and what else its checkpoint says."""

    def __init__(self, args=None, patch_size=16, max_resolution=2048, **options):
        self.args = args
        self.patch_size = patch_size
        self.max_resolution = max_resolution
        super().__init__(**options)


class TowerOutput(NamedTuple):
    """One vector for the picture, and one for each patch."""

    summary: torch.Tensor
    features: torch.Tensor


class Tower(nn.Module):
    """The conditioner and the transformer."""

    def __init__(self, model, input_conditioner, summary_idxs):
        super().__init__()
        self.model = model
        self.input_conditioner = input_conditioner
        self.register_buffer("summary_idxs", summary_idxs)

    def forward(self, pixel_values):
        hidden_states = self.input_conditioner(pixel_values)
        generator = self.model.patch_generator
        hidden_states = self.model.norm(self.model.blocks(generator(hidden_states)))
        classes, patches = hidden_states[:, : generator.num_classes], hidden_states[:, generator.num_prefix :]
        return TowerOutput(classes[:, self.summary_idxs].flatten(1), patches)


class RADIOModel(PreTrainedModel):
    """The tower as transformers loads it."""

    config_class = RADIOConfig

    def __init__(self, config):
        super().__init__(config)
        args = namedtuple("Arguments", config.args)(**config.args)
        if args.pretrained or args.initial_checkpoint:
            raise ValueError("the weights are the checkpoint's")
        model = VisionTransformer(
            **(MODELS[args.model] | args.model_kwargs),
            num_classes=args.num_classes or 0,
            drop_rate=args.drop,
            drop_path_rate=args.drop_path or 0.0,
            weight_init="skip",
        )
        if not getattr(args, "model_norm", False):
            model.norm = nn.Identity()
        teachers = [teacher["name"] for teacher in args.teachers]
        model.patch_generator = ViTPatchGenerator(
            model.embed_dim,
            config.patch_size,
            args.cpe_max_size,
            num_classes=len(set(teachers)) if args.cls_token_per_teacher else 1,
            num_registers=getattr(args, "cpe_num_registers", None),
            register_multiple=getattr(args, "register_multiple", None),
        )
        model.patch_embed = model.cls_token = model.pos_embed = model.head = None
        conditioner = InputConditioner(MEAN, STD)
        dtype = getattr(torch, args.dtype)
        model.to(dtype)
        conditioner.dtype = dtype
        chosen = [index for index, teacher in enumerate(args.teachers) if teacher.get("use_summary", True)]
        self.radio_model = Tower(model, conditioner, torch.tensor(chosen))
        self.post_init()

    @property
    def model(self):
        """The transformer inside."""
        return self.radio_model.model

    def forward(self, pixel_values):
        return self.radio_model.forward(pixel_values)
