//! `nvl-validate maps`.

use validate::{Result, names};

use super::output::print;

/// Runs the command.
pub(crate) fn run(name: Option<&str>) -> Result<bool> {
    let text: String = match name {
        Some(name) => names::builtin::text(name).unwrap_or_default().to_owned(),
        None => names::BUILTIN.iter().map(|map| format!("{:<22} {}\n", map.name, map.about)).collect(),
    };
    print(&text)?;
    Ok(true)
}
