"""Configuration of the checkpoint that the recorder's tests run, in the layout of the published one.

It was written from a description of what the published code does, to have its habits: the tower's configuration class is
found in another repository while the configuration is read.
"""

from transformers import LlamaConfig, PretrainedConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module


class Llama_Nemotron_Nano_VL_Config(PretrainedConfig):  # noqa: N801
    """A tower, a language model, and what stands between."""

    model_type = "Llama_Nemotron_Nano_VL"

    def __init__(self, vision_config=None, llm_config=None, attn_implementation="flash_attention_2", **options):
        super().__init__(**options)
        if vision_config is None:
            self.vision_config = PretrainedConfig()
        else:
            reference = vision_config["auto_map"]["AutoConfig"]
            repository, _, class_name = reference.partition("--")
            self.vision_config = get_class_from_dynamic_module(class_name, repository)(**vision_config)
        self.llm_config = LlamaConfig(**(llm_config or {}))
        self._attn_implementation = attn_implementation
        self.llm_config._attn_implementation = attn_implementation
