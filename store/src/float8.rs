//! The 8-bit floating-point formats of torch.

use half::f16;

/// The value of a `float8_e5m2`, which is the upper half of a `float16`.
pub fn e5m2_to_f32(bits: u8) -> f32 {
    f16::from_bits(u16::from(bits) << 8).to_f32()
}

/// The value of a `float8_e4m3fn`: exponent bias 7, no infinities, NaN where all bits but the sign are set.
pub fn e4m3fn_to_f32(bits: u8) -> f32 {
    const MANTISSA_BITS: u32 = 3;
    const BIAS_DIFFERENCE: u32 = 127 - 7;
    let exponent = u32::from(bits >> MANTISSA_BITS) & 0xf;
    let mantissa = u32::from(bits & 0x7);
    let magnitude = match (exponent, mantissa) {
        (0xf, 0x7) => f32::NAN,
        // Subnormal: multiples of 2⁻⁹.
        (0, _) => mantissa as f32 / 512.0,
        _ => f32::from_bits((exponent + BIAS_DIFFERENCE) << 23 | mantissa << (23 - MANTISSA_BITS)),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The value of a `float8_e8m0fnu`, a power of two from 2⁻¹²⁷ to 2¹²⁷: no sign, no zero, no infinity, NaN where all bits are
/// set. Blocks of MXFP4 and MXFP8 have their scales in it.
pub fn e8m0fnu_to_f32(bits: u8) -> f32 {
    match bits {
        // Subnormal as a `float32`.
        0 => f32::from_bits(1 << 22),
        u8::MAX => f32::NAN,
        exponent => f32::from_bits(u32::from(exponent) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_formats() {
        // The largest finite value, the smallest normal, the smallest subnormal, one, minus one.
        for (bits, value) in [(0x7e, 448.0), (0x08, 0.015625), (0x01, 0.001953125), (0x38, 1.0), (0xb8, -1.0)]
        {
            assert_eq!(e4m3fn_to_f32(bits), value, "{bits:#x}");
        }
        for (bits, value) in [(0x7b, 57344.0), (0x04, 2f32.powi(-14)), (0x01, 2f32.powi(-16)), (0x3c, 1.0)] {
            assert_eq!(e5m2_to_f32(bits), value, "{bits:#x}");
        }
        assert!(e4m3fn_to_f32(0x7f).is_nan() && e4m3fn_to_f32(0xff).is_nan());
        assert!(e5m2_to_f32(0xfc) == f32::NEG_INFINITY && e5m2_to_f32(0x7d).is_nan());
        assert!(e4m3fn_to_f32(0x80).is_sign_negative());
    }

    #[test]
    fn scales_are_powers_of_two() {
        for bits in 0..u8::MAX {
            assert_eq!(f64::from(e8m0fnu_to_f32(bits)), 2f64.powi(i32::from(bits) - 127), "{bits:#x}");
        }
        assert!(e8m0fnu_to_f32(u8::MAX).is_nan());
    }

    #[test]
    fn values_grow_with_their_bits() {
        for bits in 0..0x7e {
            assert!(e4m3fn_to_f32(bits) < e4m3fn_to_f32(bits + 1), "{bits:#x}");
            assert_eq!(e4m3fn_to_f32(bits | 0x80), -e4m3fn_to_f32(bits));
        }
    }
}
