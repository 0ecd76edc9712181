//! Whether a configuration has layers that the tensors do not have.

use std::path::Path;

use crate::Error;
use crate::architecture::{LayerNames, RepeatedLayers};

/// So many layers are listed at once, whatever the tensors are: each that is missing is told by its name then.
const FEW: usize = 256;

/// Refuses more layers than there are tensors, before every tensor of each is listed. `names` are those of the tensors, and
/// `names_of` says where these have the layers.
///
/// # Errors
/// [`Error::Field`], which names the field of the file at `path`.
pub(crate) fn check_layers<'a>(
    path: &Path,
    layers: &[RepeatedLayers],
    names_of: fn(&RepeatedLayers) -> LayerNames,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Error> {
    let most = names.clone().count().max(FEW);
    let Some(layers) = layers.iter().find(|layers| layers.configured > most) else { return Ok(()) };
    let LayerNames { field, prefix } = names_of(layers);
    let number = |name: &str| {
        let digits = name.strip_prefix(prefix)?.split('.').next()?;
        digits.parse::<usize>().ok()
    };
    let found = names.filter_map(number).max().map_or(0, |last| last.saturating_add(1));
    let expected = format!("`{found}`, the layers that the tensors' names have");
    Err(Error::field(path, field, expected, format!("`{}`", layers.configured)))
}
