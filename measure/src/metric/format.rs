//! The floating-point formats: the value of an element, and its place among all values of its format.

use half::f16;

/// A floating-point format by its bits.
pub(super) trait FloatFormat {
    /// An unsigned integer of the format's width.
    type Bits: bytemuck::Pod + Eq;

    /// An unsigned integer that holds every distance, and no wider than need be: the narrower, the more at once.
    type Ulps: Copy + Ord + Default + Into<u64> + Send + Sync;

    /// The exact value.
    fn value(bits: Self::Bits) -> f64;

    /// The distance of two values in places of the format's values in ascending order.
    ///
    /// The sign and magnitude of the bits become a signed integer, so that neighbouring values differ by one,
    /// across zero too; both zeros have the same place. A format without a sign has an unsigned integer for its bits twice.
    fn distance(a: Self::Bits, b: Self::Bits) -> Self::Ulps;
}

macro_rules! formats {
    ($($name:ident: $bits:ty, $magnitude:ty, $place:ty, $ulps:ty, $value:expr;)*) => {$(
        pub(super) struct $name;

        impl FloatFormat for $name {
            type Bits = $bits;
            type Ulps = $ulps;

            #[inline(always)]
            fn value(bits: $bits) -> f64 {
                let value: fn($bits) -> f64 = $value;
                value(bits)
            }

            #[inline(always)]
            fn distance(a: $bits, b: $bits) -> $ulps {
                $name::place(a).abs_diff($name::place(b))
            }
        }

        impl $name {
            #[inline(always)]
            fn place(bits: $bits) -> $place {
                // All ones where the sign is set, which with the subtraction makes a number negative without a branch.
                let sign = <$place>::from(bits as $magnitude) >> (<$place>::BITS - 1);
                let magnitude = <$place>::from(bits as $magnitude & <$magnitude>::MAX);
                (magnitude ^ sign) - sign
            }
        }
    )*};
}

formats! {
    Float8E5M2: u8, i8, i32, u32, |bits| f64::from(golden::float8::e5m2_to_f32(bits));
    Float8E4M3Fn: u8, i8, i32, u32, |bits| f64::from(golden::float8::e4m3fn_to_f32(bits));
    Float8E8M0Fnu: u8, u8, i32, u32, |bits| f64::from(golden::float8::e8m0fnu_to_f32(bits));
    Float16: u16, i16, i32, u32, |bits| f16::from_bits(bits).to_f64();
    BFloat16: u16, i16, i32, u32, |bits| f64::from(f32::from_bits(u32::from(bits) << 16));
    Float32: u32, i32, i32, u32, |bits| f64::from(f32::from_bits(bits));
    Float64: u64, i64, i64, u64, f64::from_bits;
}

/// Evaluates a body with a type name standing for the format of a floating-point dtype.
macro_rules! with_format {
    ($dtype:expr, $format:ident => $body:expr) => {
        match $dtype {
            Dtype::Float8E5M2 => with_format!(@ $format, Float8E5M2, $body),
            Dtype::Float8E4M3Fn => with_format!(@ $format, Float8E4M3Fn, $body),
            Dtype::Float8E8M0Fnu => with_format!(@ $format, Float8E8M0Fnu, $body),
            Dtype::Float16 => with_format!(@ $format, Float16, $body),
            Dtype::BFloat16 => with_format!(@ $format, BFloat16, $body),
            Dtype::Float32 => with_format!(@ $format, Float32, $body),
            Dtype::Float64
            // Floating-point dtypes only get here. The others are listed so that the compiler names a new one.
            | Dtype::Bool | Dtype::UInt8 | Dtype::Int8 | Dtype::Int16 | Dtype::UInt16
            | Dtype::Int32 | Dtype::UInt32 | Dtype::Int64 | Dtype::UInt64 => {
                with_format!(@ $format, Float64, $body)
            }
        }
    };
    (@ $format:ident, $name:ident, $body:expr) => {{
        type $format = format::$name;
        $body
    }};
}
pub(super) use with_format;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bfloat16_has_its_value_and_its_place() {
        let mut ascending: Vec<u16> =
            (0..=u16::MAX).filter(|&bits| BFloat16::value(bits).is_finite()).collect();
        for &bits in &ascending {
            assert_eq!(BFloat16::value(bits), half::bf16::from_bits(bits).to_f64(), "{bits:#x}");
        }
        ascending.sort_by(|&a, &b| BFloat16::value(a).total_cmp(&BFloat16::value(b)));
        for pair in ascending.windows(2) {
            let step = BFloat16::place(pair[1]) - BFloat16::place(pair[0]);
            // The two zeros share a place.
            assert_eq!(step, i32::from(pair != [0x8000, 0x0000]), "{pair:x?}");
        }
    }

    #[test]
    fn every_format_of_eight_bits_has_its_places_in_the_order_of_its_values() {
        fn check<F: FloatFormat<Bits = u8>>() {
            let mut all: Vec<u8> = (0..=u8::MAX).filter(|&bits| F::value(bits).is_finite()).collect();
            all.sort_by(|&a, &b| F::value(a).total_cmp(&F::value(b)));
            for pair in all.windows(2) {
                let step: u64 = F::distance(pair[0], pair[1]).into();
                assert_eq!(step, u64::from(F::value(pair[0]) != F::value(pair[1])), "{pair:x?}");
            }
        }
        check::<Float8E5M2>();
        check::<Float8E4M3Fn>();
        check::<Float8E8M0Fnu>();
    }

    proptest! {
        #[test]
        fn places_are_ordered_as_values(a in any::<f32>(), b in any::<f32>()) {
            let place = |value: f32| Float32::place(value.to_bits());
            prop_assert_eq!(place(a).cmp(&place(b)), a.partial_cmp(&b).unwrap());
        }

        #[test]
        fn the_next_value_is_one_place_away(a in any::<f64>()) {
            prop_assume!(a.next_up().is_finite());
            prop_assert_eq!(Float64::place(a.next_up().to_bits()) - Float64::place(a.to_bits()), 1);
        }

        #[test]
        fn places_mirror_at_zero(bits in 0u16..0x7c00) {
            prop_assert_eq!(Float16::place(bits), -Float16::place(bits | 0x8000));
        }
    }
}
