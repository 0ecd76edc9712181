//! Numbers as people read them.

use measure::metric::Measurement;

/// A number of few digits: `0`, `1.2e-5`, `inf`, `nan`.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "inf" } else { "-inf" }.to_owned()
    } else {
        format!("{value:.1e}")
    }
}

/// A number that is there or not.
pub(super) fn short_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), short)
}

/// The relative L2 of a measurement in at most seven characters, with a tilde if it is an estimate.
pub(super) fn relative_l2(measurement: Option<&Measurement>) -> String {
    let Some((measurement, l2)) = measurement.and_then(|m| Some((m, m.relative_l2?))) else {
        return "-".to_owned();
    };
    match short(l2) {
        text if !measurement.estimated => text,
        text if text.len() < 7 => format!("~{text}"),
        _ => format!("~{l2:.0e}"),
    }
}

/// A count in at most seven characters.
pub(super) fn count(value: u64) -> String {
    if value < 10_000_000 { value.to_string() } else { format!("{:.1e}", value as f64) }
}

/// An element's value with all the digits that tell it from its neighbours.
pub(super) fn element(value: f64) -> String {
    let magnitude = value.abs();
    if value.fract() == 0.0 && magnitude < 1e15 || (1e-4..1e6).contains(&magnitude) || !value.is_finite() {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// A number of four significant digits, without zeros at its end.
pub(super) fn digits(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    if !(1e-4..1e9).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let decimals = (3.0 - magnitude.log10().floor()).max(0.0);
    let text = format!("{value:.*}", decimals as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A cosine, with four digits of what it lacks of one.
pub(super) fn close_to_one(cosine: f64) -> String {
    let lacking = 1.0 - cosine;
    if lacking <= 0.0 || lacking.is_nan() {
        return cosine.to_string();
    }
    let decimals = (3.0 - lacking.log10().floor()).clamp(4.0, 16.0);
    let text = format!("{cosine:.*}", decimals as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A shape or an index: `[1, 72, 96]`.
pub(super) fn list(values: &[usize]) -> String {
    format!("{values:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, -0.0, 1.0, 0.000012345, f64::INFINITY, f64::NAN].map(short);
        assert_eq!(numbers, ["0", "0", "1.0e0", "1.2e-5", "inf", "nan"]);
        assert_eq!([9_999_999, 10_000_000, u64::MAX].map(count), ["9999999", "1.0e7", "1.8e19"]);
        assert_eq!([334.0, -0.03125, 3e-9, 1e20].map(element), ["334", "-0.03125", "3e-9", "1e20"]);
        let numbers = [28.784794330596924, 0.125, -1234.56, 9.9999e-5, 12345.6, 0.0, f64::NAN].map(digits);
        assert_eq!(numbers, ["28.78", "0.125", "-1235", "1.000e-4", "12346", "0", "NaN"]);
        let cosines = [0.9999992234123, 0.99, -0.5123456, 1.0, 1.0 - f64::EPSILON].map(close_to_one);
        assert_eq!(cosines, ["0.9999992234", "0.99", "-0.5123", "1", "0.9999999999999998"]);
    }
}
