"""Configuration of the small checkpoint that the recorder's tests run."""

from transformers import LlamaConfig, PretrainedConfig


class SmallVlConfig(PretrainedConfig):
    """A tower's width and a language model's configuration."""

    model_type = "small_vl"

    def __init__(self, llm_config=None, vision_width=24, image_size=32, patch_size=8, image_token_id=494, **options):
        self.llm_config = LlamaConfig(**(llm_config or {}))
        self.vision_width = vision_width
        self.image_size = image_size
        self.patch_size = patch_size
        self.image_token_id = image_token_id
        super().__init__(**options)
