//! Rotary positions: three spellings of one thing.

use super::fields::{Fields, show};
use super::findings::Findings;
use crate::Error;
use crate::normalized::RopeScaling;
use crate::source::CONFIG_FILE;

/// Base of the frequencies and their stretch.
#[derive(Debug, PartialEq)]
pub(super) struct Rope {
    pub(super) theta: Option<f64>,
    pub(super) scaling: Option<RopeScaling>,
}

/// Reads `rope_theta`, `rope_scaling` (with `rope_type` or the older `type`) and `rope_parameters`, the one object that
/// transformers 5 writes in place of both. It takes `rope_theta` from inside either object, too.
pub(super) fn rope(fields: &Fields<'_>, findings: &mut Findings) -> Result<Rope, Error> {
    let mut theta = Theta(None);
    theta.read(fields)?;
    let mut read = |name: &str| match fields.child(name)? {
        None => Ok(None),
        Some(child) => {
            theta.read(&child)?;
            scaling(&child, findings).map(Some)
        }
    };
    let old = read("rope_scaling")?;
    let new = read("rope_parameters")?;
    if let (Some(old), Some(new)) = (&old, &new)
        && old != new
    {
        return Err(fields.wrong(
            "rope_parameters",
            format!("the same scaling as in `{}`", fields.name("rope_scaling")),
            "another",
        ));
    }
    Ok(Rope { theta: theta.0.map(|(theta, _)| theta), scaling: new.or(old).flatten() })
}

/// The base, and the field that gave it first.
struct Theta(Option<(f64, String)>);

impl Theta {
    fn read(&mut self, fields: &Fields<'_>) -> Result<(), Error> {
        const NAME: &str = "rope_theta";
        let Some(theta) = fields.number(NAME)? else { return Ok(()) };
        match &self.0 {
            Some((first, name)) if *first != theta => {
                let expected = format!("`{first}`, as in `{name}`");
                return Err(fields.wrong(NAME, expected, format!("`{theta}`")));
            }
            Some(_) => {}
            None => self.0 = Some((theta, fields.name(NAME))),
        }
        Ok(())
    }
}

/// The type of scaling, under either name.
fn rope_type<'a>(fields: &Fields<'a>) -> Result<&'a str, Error> {
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
    fields.required("rope_type", "a text", rope_type.or(old_type))
}

fn scaling(fields: &Fields<'_>, findings: &mut Findings) -> Result<Option<RopeScaling>, Error> {
    let rope_type = rope_type(fields)?;
    fields.refuse("partial_rotary_factor", &[1.0.into()], "rotating part of a head is not supported")?;
    let needed = |name: &str| fields.required(name, "a number", fields.number(name)?);
    let original = || fields.size(ORIGINAL);
    let scaling = match rope_type {
        "default" => {
            // Nothing but the base counts.
            findings.ignore_rest(CONFIG_FILE, fields, NUMBERS);
            return Ok(None);
        }
        "linear" => {
            // Written by who thinks of other types; the stretch is the same from the first token on.
            fields.unused(ORIGINAL);
            RopeScaling::Linear { factor: needed("factor")? }
        }
        "dynamic" => {
            RopeScaling::Dynamic { factor: needed("factor")?, original_max_position_embeddings: original()? }
        }
        "llama3" => RopeScaling::Llama3 {
            factor: needed("factor")?,
            low_freq_factor: needed("low_freq_factor")?,
            high_freq_factor: needed("high_freq_factor")?,
            original_max_position_embeddings: fields.required(ORIGINAL, "a whole number", original()?)?,
        },
        "yarn" => RopeScaling::Yarn {
            factor: needed("factor")?,
            original_max_position_embeddings: original()?,
            attention_factor: fields.number("attention_factor")?,
            beta_fast: fields.number("beta_fast")?,
            beta_slow: fields.number("beta_slow")?,
            mscale: fields.number("mscale")?,
            mscale_all_dim: fields.number("mscale_all_dim")?,
            truncate: fields.flag("truncate")?,
        },
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
    scaling.check().map_err(|fault| fields.wrong(fault.field, fault.expected, fault.found))?;
    // Every field here changes the frequencies; one that we do not know must not pass.
    for field in fields.take_unasked() {
        if !field.is_unused {
            return Err(fields.unsupported(
                &field.name,
                "no such field",
                "an unknown field would change the rotary frequencies",
            ));
        }
        findings.ignore(CONFIG_FILE, field.path, true);
    }
    Ok(Some(scaling))
}

const ORIGINAL: &str = "original_max_position_embeddings";

/// Numbers of the types that stretch.
const NUMBERS: &[&str] = &[
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "high_freq_factor",
    "long_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    ORIGINAL,
    "short_factor",
    "truncate",
];
