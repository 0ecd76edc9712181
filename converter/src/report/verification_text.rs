//! `verify` for people.

use std::fmt::Write;

use cli::escape::terminal;

use super::counted;
use crate::Verification;

/// What was compared, and each difference on a line of its own.
pub fn verification_text(verification: &Verification) -> String {
    let mut text = String::new();
    for difference in &verification.differences {
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "differs: {}", terminal(&difference.to_string()));
    }
    let mut compared = vec![counted(verification.files, "file"), counted(verification.tensors, "tensor")];
    if verification.source_tensors > 0 {
        compared.push(counted(verification.source_tensors, "source tensor"));
    }
    let verdict = match verification.differences.len() {
        0 => "nothing differs".to_string(),
        count => counted(count, "difference"),
    };
    let _ = writeln!(text, "{} compared: {verdict}", compared.join(", "));
    text
}
