//! Whether a configuration has layers that the tensors do not have.

use std::path::Path;

use crate::Error;
use crate::architecture::LayerNames;

/// So many layers are listed at once, whatever the tensors are: each that is missing is told by its name then.
const FEW: usize = 256;

/// Refuses more layers than there are tensors, before every tensor of each is listed; `names` are the tensors', and each of `layers` has as many as the
/// configuration has.
///
/// # Errors
/// [`Error::Field`], which names the field of the file at `path`.
pub(crate) fn check_layers<'a>(
    path: &Path,
    layers: &[(usize, LayerNames)],
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Error> {
    let most = names.clone().count().max(FEW);
    let Some((configured, LayerNames { field, prefix })) = layers.iter().find(|(count, _)| *count > most)
    else {
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
