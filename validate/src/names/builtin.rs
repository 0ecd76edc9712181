//! The maps that come with the program.

/// A ready-made map.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// The map as a file has it.
    pub text: &'static str,
}

/// All ready-made maps.
pub const BUILTIN: [Builtin; 6] = [
    Builtin {
        name: "transformers-radio",
        about: "transformers' `RadioModel`: the vision tower alone",
        text: include_str!("../../maps/transformers-radio.toml"),
    },
    Builtin {
        name: "transformers-llama",
        about: "transformers' `LlamaForCausalLM`: the language model alone",
        text: include_str!("../../maps/transformers-llama.toml"),
    },
    Builtin {
        name: "transformers-nemotron",
        about: "both under `vision_tower.` and `language_model.`, with a projector",
        text: include_str!("../../maps/transformers-nemotron.toml"),
    },
    Builtin {
        name: "vllm-radio",
        about: "vLLM's `RadioModel`: the vision tower alone",
        text: include_str!("../../maps/vllm-radio.toml"),
    },
    Builtin {
        name: "vllm-llama",
        about: "vLLM's `LlamaForCausalLM`: the language model alone",
        text: include_str!("../../maps/vllm-llama.toml"),
    },
    Builtin {
        name: "vllm-nemotron",
        about: "vLLM's `LlamaNemotronVLChatModel`: the whole model",
        text: include_str!("../../maps/vllm-nemotron.toml"),
    },
];

/// The names of all ready-made maps.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|map| map.name)
}

/// The ready-made map of a name, as a file has it.
pub fn text(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|map| map.name == name).map(|map| map.text)
}
