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

/// The map in the file that has its name.
macro_rules! builtin {
    ($name:literal, $about:literal) => {
        Builtin { name: $name, about: $about, text: include_str!(concat!("../../maps/", $name, ".toml")) }
    };
}

/// All ready-made maps.
pub const BUILTIN: [Builtin; 6] = [
    builtin!("transformers-radio", "transformers' `RadioModel`: the vision tower alone"),
    builtin!("transformers-llama", "transformers' `LlamaForCausalLM`: the language model alone"),
    builtin!("transformers-nemotron", "both under `vision_tower.` and `language_model.`, with a projector"),
    builtin!("vllm-radio", "vLLM's `RadioModel`: the vision tower alone"),
    builtin!("vllm-llama", "vLLM's `LlamaForCausalLM`: the language model alone"),
    builtin!("vllm-nemotron", "vLLM's `LlamaNemotronVLChatModel`: the whole model"),
];

/// The names of all ready-made maps.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|map| map.name)
}

/// The ready-made map of a name, as a file has it.
pub fn text(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|map| map.name == name).map(|map| map.text)
}
