//! Whether a configuration has layers that the tensors do not have.

use std::path::Path;

use crate::Error;

/// The layers of one part of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers {
    /// How many the configuration has.
    pub(crate) configured: usize,
    /// The field that says so.
    pub(crate) field: &'static str,
    /// What the names of their tensors begin with, in front of a layer's number.
    pub(crate) prefix: &'static str,
}

/// So many layers are listed at once, whatever the tensors are: each that is missing is told by its name then.
const FEW: usize = 256;

/// Refuses more layers than there are tensors, before every tensor of each is listed; `names` are the tensors'.
///
/// # Errors
/// [`Error::Field`], which names the field of the file at `path`.
pub(crate) fn check_layers<'a>(
    path: &Path,
    parts: &[Layers],
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Error> {
    let most = names.clone().count().max(FEW);
    let Some(Layers { configured, field, prefix }) = parts.iter().find(|part| part.configured > most) else {
        return Ok(());
    };
    let number = |name: &str| {
        let digits = name.strip_prefix(prefix)?.split('.').next()?;
        digits.parse::<usize>().ok()
    };
    let layers = names.filter_map(number).max().map_or(0, |last| last.saturating_add(1));
    let expected = format!("`{layers}`, the layers that the tensors' names have");
    Err(Error::field(path, *field, expected, format!("`{configured}`")))
}
