//! Changes of dtype: round to nearest, ties to even, and a count of what became infinite.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::normalized::TorchDtype;

/// What PyTorch makes of every NaN on the way to bfloat16, by the dtype before; on a processor with AVX2 or AVX-512, since
/// elsewhere it gives others.
const NAN_OF_FLOAT32: bf16 = bf16::from_bits(0xffff);
/// Likewise.
const NAN_OF_FLOAT16: bf16 = bf16::from_bits(0x7fc0);

/// Converts little-endian elements chunk by chunk, reusing its buffers.
#[derive(Debug)]
pub struct Converter {
    from: TorchDtype,
    to: TorchDtype,
    values: Vec<f32>,
    bytes: Vec<u8>,
    overflows: u64,
}

impl Converter {
    /// A converter between two dtypes.
    pub fn new(from: TorchDtype, to: TorchDtype) -> Self {
        Self { from, to, values: Vec::new(), bytes: Vec::new(), overflows: 0 }
    }

    /// Finite elements that became infinite so far.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Converts a whole number of elements.
    ///
    /// # Dtype
    /// Every conversion goes through float32, which holds each value of the other two exactly: one rounding at most.
    pub fn convert(&mut self, source: &[u8]) -> &[u8] {
        self.values.clear();
        match self.from {
            TorchDtype::Float32 => {
                let elems = source.as_chunks::<4>().0;
                self.values.extend(elems.iter().map(|&elem| f32::from_le_bytes(elem)));
            }
            TorchDtype::Bfloat16 => {
                let elems = source.as_chunks::<2>().0;
                // The upper half as it is: a signalling NaN stays one, as in PyTorch.
                let widen = |&elem: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(elem)) << 16);
                self.values.extend(elems.iter().map(widen));
            }
            TorchDtype::Float16 => {
                let halves: Vec<f16> =
                    source.as_chunks::<2>().0.iter().map(|&elem| f16::from_le_bytes(elem)).collect();
                self.values.resize(halves.len(), 0.0);
                halves.convert_to_f32_slice(&mut self.values);
            }
        }
        self.bytes.clear();
        match self.to {
            TorchDtype::Float32 => {
                self.bytes.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
            }
            TorchDtype::Bfloat16 => {
                let nan = if self.from == TorchDtype::Float32 { NAN_OF_FLOAT32 } else { NAN_OF_FLOAT16 };
                for &value in &self.values {
                    let half = if value.is_nan() { nan } else { bf16::from_f32(value) };
                    self.overflows += u64::from(half.is_infinite() && value.is_finite());
                    self.bytes.extend(half.to_le_bytes());
                }
            }
            TorchDtype::Float16 => {
                let mut halves = vec![f16::ZERO; self.values.len()];
                halves.convert_from_f32_slice(&self.values);
                for (half, value) in halves.iter().zip(&self.values) {
                    self.overflows += u64::from(half.is_infinite() && value.is_finite());
                    self.bytes.extend(half.to_le_bytes());
                }
            }
        }
        &self.bytes
    }
}

/// Undoes a conversion to float32.
#[derive(Debug)]
pub struct Narrower {
    converter: Converter,
    bytes: Vec<u8>,
}

impl Narrower {
    /// A narrower back to `to`.
    pub fn new(to: TorchDtype) -> Self {
        Self { converter: Converter::new(TorchDtype::Float32, to), bytes: Vec::new() }
    }

    /// Gives the elements back that became `source`, a whole number of float32 elements.
    ///
    /// # Dtype
    /// Of bfloat16 every bit comes back, NaN included; of float16 all but that a signalling NaN has become a quiet one.
    pub fn narrow(&mut self, source: &[u8]) -> &[u8] {
        if self.converter.to != TorchDtype::Bfloat16 {
            return self.converter.convert(source);
        }
        self.bytes.clear();
        self.bytes.extend(source.as_chunks::<4>().0.iter().flat_map(|&[_, _, low, high]| [low, high]));
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [TorchDtype; 3] = TorchDtype::ALL;

    fn narrow(value: f32, to: TorchDtype) -> (u16, u64) {
        let mut converter = Converter::new(TorchDtype::Float32, to);
        let bytes = converter.convert(&value.to_le_bytes()).to_vec();
        (u16::from_le_bytes([bytes[0], bytes[1]]), converter.overflows())
    }

    #[test]
    fn rounds_ties_to_even() {
        // Half a unit in the last place above 1: down to the even 1; above 1 + one unit: up to the even 1 + two.
        assert_eq!(narrow(1.0 + 2f32.powi(-8), TorchDtype::Bfloat16).0, 0x3f80);
        assert_eq!(narrow(1.0 + 3.0 * 2f32.powi(-8), TorchDtype::Bfloat16).0, 0x3f82);
        assert_eq!(narrow(1.0 + 2f32.powi(-8) + 2f32.powi(-20), TorchDtype::Bfloat16).0, 0x3f81);
        assert_eq!(narrow(1.0 + 2f32.powi(-11), TorchDtype::Float16).0, 0x3c00);
        assert_eq!(narrow(1.0 + 3.0 * 2f32.powi(-11), TorchDtype::Float16).0, 0x3c02);
    }

    #[test]
    fn keeps_subnormals_signs_infinities_and_nan() {
        assert_eq!(narrow(2f32.powi(-24), TorchDtype::Float16).0, 1);
        assert_eq!(narrow(2f32.powi(-25), TorchDtype::Float16).0, 0);
        assert_eq!(narrow(3.0 * 2f32.powi(-26), TorchDtype::Float16).0, 1);
        assert_eq!(narrow(f32::from_bits(0x0001_0000), TorchDtype::Bfloat16).0, 1);
        assert_eq!(narrow(-0.0, TorchDtype::Float16).0, 0x8000);
        assert_eq!(narrow(f32::NEG_INFINITY, TorchDtype::Float16), (0xfc00, 0));
        assert_eq!(narrow(f32::INFINITY, TorchDtype::Bfloat16), (0x7f80, 0));
        for to in [TorchDtype::Bfloat16, TorchDtype::Float16] {
            // A NaN whose payload is only in the bits that are cut off must not become an infinity.
            let (bits, overflows) = narrow(f32::from_bits(0x7f80_0001), to);
            let (exponent, fraction) =
                if to == TorchDtype::Float16 { (0x7c00, 0x03ff) } else { (0x7f80, 0x007f) };
            assert_eq!(bits & exponent, exponent);
            assert_ne!(bits & fraction, 0);
            assert_eq!(overflows, 0);
        }
    }

    #[test]
    fn counts_what_became_infinite() {
        assert_eq!(narrow(65504.0, TorchDtype::Float16), (0x7bff, 0));
        assert_eq!(narrow(65519.0, TorchDtype::Float16), (0x7bff, 0));
        assert_eq!(narrow(65520.0, TorchDtype::Float16), (0x7c00, 1));
        assert_eq!(narrow(f32::MAX, TorchDtype::Bfloat16), (0x7f80, 1));
        assert_eq!(narrow(-70000.0, TorchDtype::Float16), (0xfc00, 1));
    }

    #[test]
    fn every_half_survives_the_way_to_float32_and_back() {
        for dtype in [TorchDtype::Bfloat16, TorchDtype::Float16] {
            let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let mut widen = Converter::new(dtype, TorchDtype::Float32);
            let wide = widen.convert(&all).to_vec();
            let mut narrow = Converter::new(TorchDtype::Float32, dtype);
            let back = narrow.convert(&wide);
            for (before, after) in all.as_chunks::<2>().0.iter().zip(back.as_chunks::<2>().0) {
                let (before, after) = (u16::from_le_bytes(*before), u16::from_le_bytes(*after));
                let quiet = if dtype == TorchDtype::Float16 { 0x0200 } else { 0x0040 };
                let exponent = if dtype == TorchDtype::Float16 { 0x7c00 } else { 0x7f80 };
                let nan = before & exponent == exponent && before & (quiet * 2 - 1) != 0;
                // A NaN comes back as PyTorch has it; everything else bit by bit.
                let expected = match (nan, dtype) {
                    (false, _) => before,
                    (true, TorchDtype::Float16) => before | quiet,
                    (true, _) => 0xffff,
                };
                assert_eq!(after, expected, "{before:#06x}");
            }
            assert_eq!(narrow.overflows(), 0);
        }
    }

    #[test]
    fn a_conversion_to_float32_is_undone() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for dtype in [TorchDtype::Bfloat16, TorchDtype::Float16] {
            let wide = Converter::new(dtype, TorchDtype::Float32).convert(&all).to_vec();
            let mut narrower = Narrower::new(dtype);
            for (before, after) in
                all.as_chunks::<2>().0.iter().zip(narrower.narrow(&wide).as_chunks::<2>().0)
            {
                let before = u16::from_le_bytes(*before);
                let is_nan = dtype == TorchDtype::Float16 && f16::from_bits(before).is_nan();
                let expected = if is_nan { before | 0x0200 } else { before };
                assert_eq!(u16::from_le_bytes(*after), expected);
            }
        }
    }

    /// SHA-256 of what PyTorch gives, by `scripts/make-dtype-fixture.py`.
    const FIXTURE: &str = include_str!("../tests/fixtures/dtype-conversions.json");

    #[derive(serde::Deserialize)]
    struct Fixture {
        tails: Vec<u32>,
        conversions: Vec<Conversion>,
    }

    #[derive(serde::Deserialize)]
    struct Conversion {
        from: TorchDtype,
        to: TorchDtype,
        sha256: String,
    }

    #[test]
    fn every_half_and_every_tie_become_what_pytorch_makes_of_them() {
        let fixture: Fixture = serde_json::from_str(FIXTURE).unwrap();
        let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let lower: Vec<u32> =
            (0..8).flat_map(|bits| fixture.tails.iter().map(move |tail| bits << 13 | tail)).collect();
        let floats: Vec<u8> = (0..=u32::from(u16::MAX))
            .flat_map(|upper| lower.iter().map(move |lower| upper << 16 | lower))
            .flat_map(u32::to_le_bytes)
            .collect();
        assert_eq!((fixture.conversions.len(), floats.len()), (6, 4 * 3_145_728));
        for Conversion { from, to, sha256 } in fixture.conversions {
            let source = if from == TorchDtype::Float32 { &floats } else { &halves };
            let mut converter = Converter::new(from, to);
            let found = store::hash::sha256(converter.convert(source));
            assert_eq!(found, sha256, "{from} to {to}");
        }
    }

    /// The nearest value by a search over all candidates, without any rounding trick.
    fn nearest(value: f32, to: TorchDtype) -> u16 {
        let widen = |bits: u16| match to {
            TorchDtype::Float16 => f64::from(f16::from_bits(bits).to_f32()),
            _ => f64::from(bf16::from_bits(bits).to_f32()),
        };
        let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
        let infinity = if to == TorchDtype::Float16 { 0x7c00u16 } else { 0x7f80 };
        let value = f64::from(value.abs());
        let above = (0..infinity).collect::<Vec<_>>().partition_point(|&bits| widen(bits) < value) as u16;
        // The first value beyond the largest stands where an infinity is.
        let beyond = 2.0 * widen(infinity - 1) - widen(infinity - 2);
        let at = |bits: u16| if bits >= infinity { beyond } else { widen(bits) };
        let below = above.saturating_sub(1);
        let (down, up) = (value - at(below), at(above) - value);
        let pick = if down < up || (down == up && below.is_multiple_of(2)) { below } else { above };
        pick | sign
    }

    proptest! {
        #[test]
        fn agrees_with_a_search_for_the_nearest(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            for to in [TorchDtype::Bfloat16, TorchDtype::Float16] {
                let beyond = if to == TorchDtype::Float16 { 65536.0 } else { f32::INFINITY };
                if value.abs() < beyond {
                    prop_assert_eq!(narrow(value, to).0, nearest(value, to), "{} to {}", value, to);
                } else {
                    prop_assert_eq!(narrow(value, to).0 & 0x7fff, 0x7c00);
                }
            }
        }

        #[test]
        fn chunks_give_what_the_whole_gives(data in proptest::collection::vec(any::<u32>(), 1..40), cut in 0usize..40) {
            let whole: Vec<u8> = data.iter().flat_map(|elem| elem.to_le_bytes()).collect();
            let cut = (cut % data.len()) * 4;
            for from in ALL {
                for to in ALL {
                    let mut once = Converter::new(from, to);
                    let mut twice = Converter::new(from, to);
                    let mut parts = twice.convert(&whole[..cut]).to_vec();
                    parts.extend(twice.convert(&whole[cut..]));
                    prop_assert_eq!(once.convert(&whole), &parts[..]);
                    prop_assert_eq!(once.overflows(), twice.overflows());
                }
            }
        }
    }
}
