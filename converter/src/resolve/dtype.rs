//! Dtypes as configurations spell them.

use super::fields::{Fields, show};
use crate::Error;
use crate::normalized::TorchDtype;

/// The dtype under the first of `names` that is written: `bfloat16` or `torch.bfloat16`.
pub(super) fn dtype(fields: &Fields<'_>, names: &[&str]) -> Result<Option<TorchDtype>, Error> {
    let mut found: Option<(TorchDtype, &str)> = None;
    for &name in names {
        let Some(text) = fields.text(name)? else { continue };
        let Some(dtype) = TorchDtype::named(text.strip_prefix("torch.").unwrap_or(text)) else {
            return Err(fields.wrong(name, TorchDtype::NAMES, show(&serde_json::Value::from(text))));
        };
        match found {
            Some((other, first)) if other != dtype => {
                let expected = format!("`{other}`, as in `{}`", fields.name(first));
                return Err(fields.wrong(name, expected, format!("`{dtype}`")));
            }
            _ => found = Some((dtype, name)),
        }
    }
    Ok(found.map(|(dtype, _)| dtype))
}
