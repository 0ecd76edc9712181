//! `inspect` for people.

use std::fmt::{self, Display};

use cli::escape::terminal;

use super::{Inspection, counted, grouped};
use crate::plan::human_bytes;
use crate::source::Evidence;

impl Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.model(f)?;
        self.tensors(f)?;
        self.behaviours(f)?;
        self.rest(f)
    }
}

/// Width of the words at the left.
const LABEL: usize = 15;

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "{label:LABEL$} {}", terminal(&text.to_string()))
}

impl Inspection {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "checkpoint", &self.name)?;
        if let Some(repository) = &self.repository {
            let revision = self.revision.as_deref().unwrap_or("an unknown revision");
            line(f, "repository", format_args!("{repository} at {revision}"))?;
        }
        line(f, "model", &self.config.model_type)?;
        let tensors = self.parts.iter().map(|part| part.tensors).sum();
        let (parameters, bytes) = (grouped(self.parameters), human_bytes(self.bytes));
        line(f, "weights", format_args!("{parameters} parameters, {}, {bytes}", counted(tensors, "tensor")))?;
        writeln!(f)
    }

    fn model(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, text) in &self.model {
            line(f, label, text)?;
        }
        writeln!(f)
    }

    fn tensors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24} {:>8} {:>16} {:>10}  dtype", "tensors", "count", "parameters", "size")?;
        for part in &self.parts {
            let dtypes: Vec<String> = match part.dtypes.len() {
                1 => part.dtypes.keys().cloned().collect(),
                _ => part.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect(),
            };
            writeln!(
                f,
                "  {:22} {:>8} {:>16} {:>10}  {}",
                part.name,
                part.tensors,
                grouped(part.parameters),
                human_bytes(part.bytes),
                dtypes.join(", ")
            )?;
        }
        let actions: Vec<String> =
            self.actions.iter().map(|(action, count)| format!("{count} {action}")).collect();
        writeln!(f, "  of the source's tensors: {}", actions.join(", "))?;
        writeln!(f)?;
        writeln!(f, "{:40} {:>8} {:>10}", "files", "tensors", "size")?;
        for file in &self.files {
            writeln!(f, "  {:38} {:>8} {:>10}", terminal(&file.name), file.tensors, human_bytes(file.bytes))?;
        }
        if !self.buffers.is_empty() {
            writeln!(f)?;
            writeln!(f, "not weights")?;
            for buffer in &self.buffers {
                let use_of = match (&buffer.field, &buffer.value) {
                    (Some(field), Some(value)) => format!("{field} = {value}"),
                    _ => "not needed".to_string(),
                };
                let text = format!("{} {} {:?}: {use_of}", buffer.name, buffer.dtype, buffer.shape);
                writeln!(f, "  {}", terminal(&text))?;
            }
        }
        writeln!(f)
    }

    fn behaviours(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "behaviours that come from Python code")?;
        for behaviour in &self.behaviours {
            let evidence = match &behaviour.evidence {
                Evidence::SourceFile { file, detail, line, repository, .. } => {
                    let repository = repository.iter().map(|repository| format!("{repository}, "));
                    let line = line.iter().map(|line| format!("line {line}: "));
                    format!(
                        "{}`{file}`, {}{detail}",
                        repository.collect::<String>(),
                        line.collect::<String>()
                    )
                }
                Evidence::CommandLine { flag } => format!("given as `{flag}`"),
                Evidence::Assumed { reason, settled_by } => {
                    format!("assumed, since {reason}; {settled_by} settles it")
                }
            };
            let text = format!("{} = {}: {evidence}", behaviour.name, behaviour.value);
            writeln!(f, "  {}", terminal(&text))?;
        }
        Ok(())
    }

    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.defaults.is_empty() {
            writeln!(f)?;
            writeln!(f, "defaults made explicit")?;
            for default in &self.defaults {
                let text = format!("{} = {} ({})", default.field, default.value, default.default_of);
                writeln!(f, "  {}", terminal(&text))?;
            }
        }
        let known = self.ignored_fields.iter().filter(|field| field.known).count();
        if known > 0 {
            writeln!(f)?;
            writeln!(f, "{} of the source without influence on inference", counted(known, "field"))?;
        }
        if !self.warnings.is_empty() {
            writeln!(f)?;
            writeln!(f, "warnings")?;
            for warning in &self.warnings {
                writeln!(f, "  {}", terminal(warning))?;
            }
        }
        Ok(())
    }
}
