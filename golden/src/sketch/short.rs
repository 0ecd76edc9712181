//! Short projections: pairs of the sums of a whole one, each of them with fewer digits.

use super::sizes::BLOCK;
use super::words::word;

/// The numbers of a short projection.
pub(super) const SHORT: usize = BLOCK / 2;

/// The bytes of each number: those of an `f64` without the lowest.
pub(super) const SHORT_BYTES: usize = 5;

/// The bits that are left out.
const DROPPED: u32 = u64::BITS - 8 * SHORT_BYTES as u32;

/// What is added to the seed for the order of the places, so that it is none of a tensor's.
const ORDER: u64 = 1 << 63;

/// The sums of two places each of a whole projection.
///
/// Which two the seed says: if they were the same for all seeds, two elements of a block could meet in all of them.
pub(super) fn folded(whole: &[f64], seed: u64) -> Vec<f64> {
    let mut places: Vec<usize> = (0..whole.len()).collect();
    places.sort_by_key(|&place| word(seed.wrapping_add(ORDER), place as u64));
    let (pairs, _) = places.as_chunks::<2>();
    pairs.iter().map(|&[first, second]| rounded(whole[first] + whole[second])).collect()
}

/// The nearest number that has zeros in the lower bytes; of two, the one whose last bit is even.
fn rounded(value: f64) -> f64 {
    let bits = value.to_bits();
    let half = if value.is_finite() { (1 << (DROPPED - 1)) - 1 + (bits >> DROPPED & 1) } else { 0 };
    f64::from_bits((bits + half) >> DROPPED << DROPPED)
}

/// The number of which these are the upper bytes.
pub(super) fn from_upper(upper: [u8; SHORT_BYTES]) -> f64 {
    let mut bytes = [0; size_of::<f64>()];
    bytes[size_of::<f64>() - SHORT_BYTES..].copy_from_slice(&upper);
    f64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        let unit = 2_f64.powi(-28);
        for (value, expected) in [
            (1.0, 1.0),
            (1.0 + 0.49 * unit, 1.0),
            (1.0 + 0.5 * unit, 1.0),
            (1.0 + 1.5 * unit, 1.0 + 2.0 * unit),
            (-1.0 - 0.51 * unit, -1.0 - unit),
            (2.0 - 0.1 * unit, 2.0),
            (0.0, 0.0),
            (f64::NEG_INFINITY, f64::NEG_INFINITY),
            (f64::MAX, f64::INFINITY),
        ] {
            assert_eq!(rounded(value), expected, "{value}");
            let bytes = rounded(value).to_le_bytes();
            assert_eq!(from_upper([bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]), expected);
        }
        assert!(rounded(f64::NAN).is_nan());
    }

    #[test]
    fn every_place_is_in_one_pair() {
        let whole: Vec<f64> = (0..BLOCK).map(|place| 3_f64.powi(place as i32 % 20) * place as f64).collect();
        for seed in 0..20 {
            let (short, other) = (folded(&whole, seed), folded(&whole, seed + 1));
            assert_eq!(short.len(), SHORT);
            assert_ne!(short, other, "the pairs of another seed are others");
            let sum: f64 = short.iter().sum();
            assert!((sum / whole.iter().sum::<f64>() - 1.0).abs() < 1e-7, "{seed}");
        }
    }
}
