//! Sentences and tables for people; numbers for programs.

mod inspection;
mod inspection_text;
mod plan_text;
mod verification_text;

pub use inspection::{BufferValue, FileSummary, Inspection, PartSummary};
pub use plan_text::plan_text;
pub use verification_text::verification_text;

/// A number with its digits in groups of three: `8 726 000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1 tensor`, `2 tensors`.
fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number as u64), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_digits_and_counts() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(8_726_512), "8 726 512");
        assert_eq!(counted(1, "tensor"), "1 tensor");
        assert_eq!(counted(1000, "tensor"), "1 000 tensors");
    }
}
