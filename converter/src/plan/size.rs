//! The largest file, as the command line writes it: `5GB`, `500MB`, `2GiB`.

use std::fmt::{self, Display};
use std::str::FromStr;

/// A size in bytes that is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSize(u64);

/// Decimal units as Hugging Face uses them, and binary ones; the longer names first.
const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

impl ShardSize {
    /// `5GB`.
    pub const DEFAULT: Self = Self(5_000_000_000);

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for ShardSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for ShardSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected a size like `5GB`, `500MB` or `2GiB`, found `{}`", text.escape_debug());
        let (number, factor) = UNITS
            .iter()
            .find_map(|&(unit, factor)| {
                let split = text.len().checked_sub(unit.len())?;
                let (number, end) = (text.get(..split)?, text.get(split..)?);
                end.eq_ignore_ascii_case(unit).then_some((number.trim_end(), factor))
            })
            .ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || !digits(whole)
            || !digits(fraction)
            || number.ends_with('.')
            || fraction.len() > 12
        {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let scale = 10u128.pow(fraction.len() as u32);
        let part = fraction.parse::<u128>().unwrap_or(0) * u128::from(factor) / scale;
        let bytes = whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(part as u64));
        match bytes {
            Some(0) => Err("expected a size above 0, found `0`".into()),
            Some(bytes) => Ok(Self(bytes)),
            None => Err(wrong()),
        }
    }
}

impl Display for ShardSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&human_bytes(self.0))
    }
}

/// A size with a decimal unit, as in `16.07 GB`.
pub fn human_bytes(bytes: u64) -> String {
    let units = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.iter().find(|&&(_, factor)| bytes >= factor) {
        Some(&(unit, factor)) if bytes.is_multiple_of(factor) => format!("{} {unit}", bytes / factor),
        Some(&(unit, factor)) => format!("{:.2} {unit}", bytes as f64 / factor as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, bytes) in [
            ("5GB", 5_000_000_000),
            ("500MB", 500_000_000),
            ("2GiB", 2 << 30),
            ("1MiB", 1 << 20),
            ("1.5GB", 1_500_000_000),
            ("300 KB", 300_000),
            ("64kib", 65_536),
            ("1TB", 1_000_000_000_000),
            ("10B", 10),
            ("123456", 123_456),
        ] {
            assert_eq!(text.parse::<ShardSize>().unwrap().bytes(), bytes, "{text}");
        }
        assert_eq!(ShardSize::default(), "5GB".parse().unwrap());
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in [
            "",
            "GB",
            "-5GB",
            "5XB",
            "5 G",
            "0",
            "0GB",
            "0.0MB",
            "1.GB",
            ".5GB",
            "1e3",
            "99999999999999TB",
            "5GB5",
        ] {
            assert!(text.parse::<ShardSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn shows_sizes_for_people() {
        assert_eq!(ShardSize::default().to_string(), "5 GB");
        assert_eq!(human_bytes(17_386_000_000), "17.39 GB");
        assert_eq!(human_bytes(999), "999 B");
    }
}
