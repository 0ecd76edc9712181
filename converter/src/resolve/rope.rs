//! Rotary positions: three spellings of one thing.

use super::fields::{Fields, show};
use crate::Error;
use crate::normalized::RopeScaling;

/// Base of the frequencies and their stretch.
#[derive(Debug, PartialEq)]
pub(super) struct Rope {
    pub(super) theta: Option<f64>,
    pub(super) scaling: Option<RopeScaling>,
}

/// Reads `rope_theta`, `rope_scaling` (with `rope_type` or the older `type`) and `rope_parameters`, the one object that
/// transformers 5 writes in place of both.
pub(super) fn rope(fields: &Fields<'_>) -> Result<Rope, Error> {
    let theta = fields.number("rope_theta")?;
    let old = fields.child("rope_scaling")?.map(|child| scaling(&child)).transpose()?;
    let new = match fields.child("rope_parameters")? {
        None => None,
        Some(child) => {
            let new_theta = child.number("rope_theta")?;
            if let (Some(theta), Some(new_theta)) = (theta, new_theta)
                && theta != new_theta
            {
                let expected = format!("`{theta}`, as in `{}`", fields.name("rope_theta"));
                return Err(child.wrong("rope_theta", expected, format!("`{new_theta}`")));
            }
            Some((new_theta, scaling(&child)?))
        }
    };
    let Some((new_theta, new)) = new else { return Ok(Rope { theta, scaling: old.flatten() }) };
    if let Some(old) = old
        && old != new
    {
        return Err(fields.wrong(
            "rope_parameters",
            format!("the same scaling as in `{}`", fields.name("rope_scaling")),
            "another",
        ));
    }
    Ok(Rope { theta: theta.or(new_theta), scaling: new })
}

fn scaling(fields: &Fields<'_>) -> Result<Option<RopeScaling>, Error> {
    let (rope_type, old_type) = (fields.text("rope_type")?, fields.text("type")?);
    if let (Some(rope_type), Some(old_type)) = (rope_type, old_type)
        && rope_type != old_type
    {
        return Err(fields.wrong(
            "type",
            format!("{}, as in `rope_type`", show(&rope_type.into())),
            show(&old_type.into()),
        ));
    }
    let rope_type = rope_type.or(old_type);
    let rope_type = fields.required("rope_type", "a text", rope_type)?;
    let one = [serde_json::json!(1.0), serde_json::json!(1)];
    fields.refuse("partial_rotary_factor", &one, "rotating part of a head is not supported")?;

    let positive = |name: &str| match fields.number(name)? {
        Some(number) if !(number.is_finite() && number > 0.0) => {
            Err(fields.wrong(name, "a number above 0", format!("`{number}`")))
        }
        number => Ok(number),
    };
    let needed = |name: &str| fields.required(name, "a number", positive(name)?);
    let original = fields.size("original_max_position_embeddings")?;
    let scaling = match rope_type {
        "default" => None,
        "linear" => Some(RopeScaling::Linear { factor: needed("factor")? }),
        "dynamic" => Some(RopeScaling::Dynamic {
            factor: needed("factor")?,
            original_max_position_embeddings: original,
        }),
        "llama3" => {
            let low_freq_factor = needed("low_freq_factor")?;
            let high_freq_factor = needed("high_freq_factor")?;
            if high_freq_factor <= low_freq_factor {
                // The ramp between the two divides by their difference.
                let expected = format!("a number above `low_freq_factor`, {low_freq_factor}");
                return Err(fields.wrong("high_freq_factor", expected, format!("`{high_freq_factor}`")));
            }
            Some(RopeScaling::Llama3 {
                factor: needed("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: fields.required(
                    "original_max_position_embeddings",
                    "a whole number",
                    original,
                )?,
            })
        }
        "yarn" => Some(RopeScaling::Yarn {
            factor: needed("factor")?,
            original_max_position_embeddings: original,
            attention_factor: positive("attention_factor")?,
            beta_fast: positive("beta_fast")?,
            beta_slow: positive("beta_slow")?,
            mscale: fields.number("mscale")?,
            mscale_all_dim: fields.number("mscale_all_dim")?,
            truncate: fields.flag("truncate")?,
        }),
        other => {
            let expected = "`default`, `linear`, `dynamic`, `llama3` or `yarn`";
            let found = show(&other.into());
            return Err(Error::unsupported(
                fields.path(),
                fields.name("rope_type"),
                expected,
                found,
                "this stretch of the rotary frequencies is not supported",
            ));
        }
    };
    // Every field here changes the frequencies; one that we do not know must not pass.
    match fields.unasked().first() {
        Some(unknown) if scaling.is_some() => Err(fields.unsupported(
            unknown,
            "no such field",
            "an unknown field would change the rotary frequencies",
        )),
        _ => Ok(scaling),
    }
}
