//! Files that somebody put beside a normalized checkpoint.

use std::collections::BTreeSet;
use std::path::Path;

use crate::Error;
use crate::convert::ADAPTER_FILE;
use crate::families::FAMILIES;
use crate::ledger::{LEDGER_FILE, Ledger, read_ledger};
use crate::normalized::CONFIG_FILE;
use crate::source::{
    CHAT_TEMPLATE_FILE, GENERATION_CONFIG_FILE, PREPROCESSOR_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE,
};
use crate::weights::{Folder, INDEX_FILE};

/// Files beside weights that a program uses which loads the folder: this project's own or, of a part, transformers.
const USED_BESIDE: [&str; 14] = [
    CONFIG_FILE,
    INDEX_FILE,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    CHAT_TEMPLATE_FILE,
    GENERATION_CONFIG_FILE,
    ADAPTER_FILE,
    "added_tokens.json",
    "additional_chat_templates",
    "chat_template.json",
    PREPROCESSOR_FILE,
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
];

/// Files of the folder that a program would use which loads it, and that its ledger does not have.
pub(crate) fn added_files(folder: &Folder, ledger: &Ledger) -> Result<Vec<String>, Error> {
    let listed: BTreeSet<&str> = ledger.files.iter().map(|file| file.name.as_str()).collect();
    let mut names = folder.names()?;
    names.retain(|name| {
        let is_used = name.ends_with(".safetensors")
            || USED_BESIDE.contains(&name.as_str())
            || FAMILIES.iter().any(|family| family.parts.whole_config_file == name);
        is_used && !listed.contains(name.as_str())
    });
    Ok(names)
}

/// Files beside the normalized checkpoint in `dir` that a program uses which loads it, and that its conversion did not write:
/// somebody put them there. None where the checkpoint has no ledger.
///
/// # Errors
/// Where the ledger can't be read.
pub fn files_not_in_ledger(dir: &Path) -> Result<Vec<String>, Error> {
    let folder = Folder::open(dir)?;
    if !folder.has(LEDGER_FILE) {
        return Ok(Vec::new());
    }
    let ledger = read_ledger(&folder)?;
    added_files(&folder, &ledger)
}
