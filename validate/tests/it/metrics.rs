//! The metrics, against a naive implementation on ndarray.

use approx::assert_relative_eq;
use golden::{Dtype, TensorView};
use half::{bf16, f16};
use ndarray::{Array2, ArrayView2, Axis};
use proptest::prelude::*;
use validate::metric::{Measurement, measure, statistics};

fn bytes<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

fn of<T: bytemuck::NoUninit>(dtype: Dtype, shape: &[usize], golden: &[T], candidate: &[T]) -> Measurement {
    let (golden, candidate) = (bytes(golden), bytes(candidate));
    let view = |data| TensorView::new(dtype, shape, data).unwrap();
    measure(&view(&golden), &view(&candidate)).unwrap()
}

/// ‖a‖
fn length(values: &ArrayView2<'_, f64>) -> f64 {
    values.mapv(|value| value * value).sum().sqrt()
}

struct Naive {
    relative_l2: f64,
    row_relative_l2: f64,
    cosine: f64,
    max_abs: f64,
}

fn naive(golden: &Array2<f64>, candidate: &Array2<f64>) -> Naive {
    let difference = candidate - golden;
    let row = |values: &Array2<f64>, row: usize| length(&values.slice(ndarray::s![row..=row, ..]));
    let mut lengths: Vec<f64> =
        (0..golden.nrows()).map(|index| row(golden, index)).filter(|&l| l > 0.0).collect();
    lengths.sort_by(f64::total_cmp);
    let median = lengths[lengths.len() / 2];
    let rows = (0..golden.nrows())
        .map(|index| row(&difference, index) / row(golden, index).max(median))
        .fold(0.0, f64::max);
    Naive {
        relative_l2: length(&difference.view()) / length(&golden.view()),
        row_relative_l2: rows,
        cosine: (golden * candidate).sum() / (length(&golden.view()) * length(&candidate.view())),
        max_abs: difference.iter().fold(0.0, |max, value| value.abs().max(max)),
    }
}

fn matrix() -> impl Strategy<Value = (usize, usize, Vec<(f32, f32)>)> {
    (1usize..40, 1usize..40).prop_flat_map(|(rows, columns)| {
        let value = prop_oneof![-1e3f32..1e3, -1e-3f32..1e-3, Just(0.0)];
        let pair = (value, -1.0f32..1.0).prop_map(|(g, d)| (g, g + d));
        proptest::collection::vec(pair, rows * columns).prop_map(move |pairs| (rows, columns, pairs))
    })
}

proptest! {
    #[test]
    fn float32_metrics_are_the_naive_ones((rows, columns, pairs) in matrix()) {
        let (golden, candidate): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let array = |values: &[f32]| {
            Array2::from_shape_vec((rows, columns), values.iter().map(|&value| f64::from(value)).collect()).unwrap()
        };
        let (g, c) = (array(&golden), array(&candidate));
        prop_assume!(length(&g.view()) > 0.0 && length(&c.view()) > 0.0 && g != c);
        let expected = naive(&g, &c);
        let found = of(Dtype::Float32, &[rows, columns], &golden, &candidate);
        assert_relative_eq!(found.relative_l2.unwrap(), expected.relative_l2, max_relative = 1e-12);
        assert_relative_eq!(found.row_relative_l2.unwrap(), expected.row_relative_l2, max_relative = 1e-12);
        assert_relative_eq!(found.cosine.unwrap(), expected.cosine, max_relative = 1e-12, epsilon = 1e-12);
        let largest = found.largest.unwrap();
        prop_assert_eq!(largest.magnitude(), expected.max_abs);
        prop_assert_eq!((c[[largest.index[0], largest.index[1]]] - g[[largest.index[0], largest.index[1]]]).abs(), expected.max_abs);
        prop_assert_eq!(found.differing, Some(golden.iter().zip(&candidate).filter(|(g, c)| g.to_bits() != c.to_bits()).count()));
    }

    #[test]
    fn ulps_count_the_steps_between_two_values(start in any::<f32>(), steps in 0u64..300) {
        let mut end = start;
        for _ in 0..steps {
            end = end.next_up();
        }
        prop_assume!(start.is_finite() && end.is_finite());
        let ulps = |a: f32, b: f32| of(Dtype::Float32, &[1], &[a], &[b]).max_ulps.unwrap();
        prop_assert_eq!(ulps(start, end), steps);
        prop_assert_eq!(ulps(end, start), steps);
    }

    #[test]
    fn bfloat16_ulps_are_steps_of_bfloat16(bits in 0u16..0x7f00, steps in 0u16..0x7f) {
        let (a, b) = (bf16::from_bits(bits), bf16::from_bits(bits + steps));
        prop_assert_eq!(of(Dtype::BFloat16, &[1], &[a], &[b]).max_ulps, Some(u64::from(steps)));
        prop_assert_eq!(of(Dtype::BFloat16, &[1], &[-a], &[-b]).max_ulps, Some(u64::from(steps)));
        // Through zero: the way there and the way on.
        let through = u64::from(bits) + u64::from(bits + steps);
        prop_assert_eq!(of(Dtype::BFloat16, &[1], &[-a], &[b]).max_ulps, Some(through));
    }

    #[test]
    fn statistics_are_the_naive_ones(values in proptest::collection::vec(-1e3f32..1e3, 1..500)) {
        let data = bytes(&values);
        let found = statistics(&TensorView::new(Dtype::Float32, &[values.len()], &data).unwrap());
        let wide = ndarray::Array1::from_iter(values.iter().map(|&value| f64::from(value)));
        assert_relative_eq!(found.mean().unwrap(), wide.mean().unwrap(), max_relative = 1e-9, epsilon = 1e-9);
        assert_relative_eq!(found.l2(), wide.mapv(|value| value * value).sum().sqrt(), max_relative = 1e-12);
        prop_assert_eq!(found.min.unwrap(), wide.iter().copied().fold(f64::INFINITY, f64::min));
        prop_assert_eq!(found.max.unwrap(), wide.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    }

    #[test]
    fn one_difference_is_found_wherever_it_is(columns in 1usize..3000, rows in 100usize..300, at in any::<proptest::sample::Index>()) {
        let mut candidate = vec![0u8; rows * columns];
        let golden = candidate.clone();
        let flat = at.index(candidate.len());
        candidate[flat] = 1;
        let index = vec![flat / columns, flat % columns];
        for dtype in [Dtype::UInt8, Dtype::Float8E5M2] {
            let found = of(dtype, &[rows, columns], &golden, &candidate);
            prop_assert_eq!(&found.first.unwrap().index, &index);
            prop_assert_eq!(&found.largest.unwrap().index, &index);
            prop_assert_eq!(found.differing, Some(1));
        }
    }
}

#[test]
fn the_two_zeros_differ_in_their_bits_alone() {
    let found = of(Dtype::Float32, &[2], &[0.0f32, 1.0], &[-0.0, 1.0]);
    assert!(!found.bit_equal);
    assert_eq!((found.differing, found.max_ulps, found.relative_l2), (Some(1), Some(0), Some(0.0)));
    assert_eq!(found.largest, None);
}

#[test]
fn zero_tensors_have_defined_metrics() {
    let metrics = |golden: [f32; 2], candidate: [f32; 2]| {
        let found = of(Dtype::Float32, &[2], &golden, &candidate);
        (found.relative_l2.unwrap(), found.row_relative_l2.unwrap(), found.cosine.unwrap())
    };
    assert_eq!(metrics([0.0, 0.0], [0.0, 0.0]), (0.0, 0.0, 1.0));
    assert_eq!(metrics([0.0, 0.0], [0.0, 1.0]), (f64::INFINITY, f64::INFINITY, 0.0));
    assert_eq!(metrics([0.0, 1.0], [0.0, 0.0]), (1.0, 1.0, 0.0));
    assert_eq!(metrics([0.0, 1.0], [0.0, -1.0]), (2.0, 2.0, -1.0));
}

#[test]
fn an_empty_tensor_equals_itself() {
    let found = of::<f32>(Dtype::Float32, &[3, 0], &[], &[]);
    assert!(found.bit_equal);
    assert_eq!((found.elements, found.relative_l2, found.cosine), (0, Some(0.0), Some(1.0)));
}

#[test]
fn what_is_not_finite_is_counted_and_left_out_of_the_sums() {
    let golden = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY, 1.0, 3.0, f32::NAN];
    let candidate = [-f32::NAN, f32::INFINITY, f32::INFINITY, 2.0, f32::NAN, 3.5, f32::NAN];
    let found = of(Dtype::Float32, &[7], &golden, &candidate);
    assert_eq!((found.golden.nan, found.golden.inf), (2, 3));
    assert_eq!((found.candidate.nan, found.candidate.inf), (3, 2));
    // Infinities of other signs, infinity for a number, NaN for a number; NaN of another sign is still NaN.
    assert_eq!(found.non_finite_mismatches, 3);
    assert_eq!(found.first_non_finite_mismatch.unwrap().index, [2]);
    assert_relative_eq!(found.relative_l2.unwrap(), 0.5 / 3.0);
    assert_eq!(found.largest.unwrap().index, [5]);
}

#[test]
fn float64_beyond_the_range_of_its_squares_is_measured() {
    for scale in [1e-320, 1e-250, 1e-160, 1e160, 1e300] {
        let found = of(Dtype::Float64, &[2], &[3.0 * scale, 4.0 * scale], &[3.0 * scale, 4.5 * scale]);
        assert_relative_eq!(found.relative_l2.unwrap(), 0.1, max_relative = 1e-3);
        assert!((0.99..1.0).contains(&found.cosine.unwrap()), "{scale}");
    }
    let zero = of(Dtype::Float64, &[1], &[0.0], &[1e-200]);
    assert_eq!(zero.relative_l2, Some(f64::INFINITY));
    let opposite = of(Dtype::Float64, &[1], &[f64::MAX], &[f64::MIN]);
    assert_relative_eq!(opposite.relative_l2.unwrap(), 2.0);
}

#[test]
fn every_floating_point_dtype_is_measured_by_its_values() {
    let golden = [1.0f32, -2.0, 0.5, 4.0];
    let candidate = [1.0f32, -2.0, 0.5, 3.5];
    let expected = of(Dtype::Float32, &[4], &golden, &candidate);
    let halves = |values: [f32; 4]| values.map(f16::from_f32);
    let brains = |values: [f32; 4]| values.map(bf16::from_f32);
    let eights = |values: [f32; 4]| values.map(|value| (f16::from_f32(value).to_bits() >> 8) as u8);
    for found in [
        of(Dtype::Float16, &[4], &halves(golden), &halves(candidate)),
        of(Dtype::BFloat16, &[4], &brains(golden), &brains(candidate)),
        of(Dtype::Float8E5M2, &[4], &eights(golden), &eights(candidate)),
        of(Dtype::Float64, &[4], &golden.map(f64::from), &candidate.map(f64::from)),
    ] {
        assert_eq!(
            (found.relative_l2, found.cosine, found.largest),
            (expected.relative_l2, expected.cosine, expected.largest.clone())
        );
    }
    // 1.0 and 1.125 in float8_e4m3fn.
    let found = of(Dtype::Float8E4M3Fn, &[1], &[0x38u8], &[0x39]);
    assert_eq!((found.max_ulps, found.relative_l2), (Some(1), Some(0.125)));
}

#[test]
fn two_floating_point_dtypes_are_compared_by_value() {
    let golden = bytes(&[bf16::from_f32(1.0), bf16::from_f32(2.0), bf16::NAN]);
    let candidate = bytes(&[1.0f32, 2.5, f32::NAN]);
    let golden = TensorView::new(Dtype::BFloat16, &[3], &golden).unwrap();
    let candidate = TensorView::new(Dtype::Float32, &[3], &candidate).unwrap();
    let found = measure(&golden, &candidate).unwrap();
    assert_eq!((found.differing, found.max_ulps, found.bit_equal), (Some(1), None, false));
    assert_relative_eq!(found.relative_l2.unwrap(), 0.5 / 5f64.sqrt());
    let ids = bytes(&[1i64, 2, 3]);
    let ids = TensorView::new(Dtype::Int64, &[3], &ids).unwrap();
    assert_eq!(measure(&golden, &ids), None);
}

#[test]
fn integers_have_no_relative_metrics() {
    let found = of(Dtype::Int64, &[2, 2], &[1i64, 2, 3, i64::MIN], &[1, 2, 5, i64::MAX]);
    assert_eq!(
        (found.differing, found.relative_l2, found.cosine, found.max_ulps),
        (Some(2), None, None, None)
    );
    assert_eq!(found.first.unwrap().index, [1, 0]);
    assert_eq!(found.largest.unwrap().index, [1, 1]);
}

#[test]
fn another_shape_is_not_measured() {
    let data = bytes(&[0.0f32; 6]);
    let view = |shape| TensorView::new(Dtype::Float32, shape, &data).unwrap();
    assert_eq!(measure(&view(&[2, 3]), &view(&[3, 2])), None);
}

#[test]
fn sums_over_many_chunks_keep_their_digits() {
    // 3 Mi elements of one value: a float32 sum would be off in its fourth digit.
    let golden = vec![0.1f32; 3 << 20];
    let mut candidate = golden.clone();
    candidate[(2 << 20) + 5] = 0.2;
    let found = of(Dtype::Float32, &[3 << 10, 1 << 10], &golden, &candidate);
    let value = f64::from(0.1f32);
    let expected = (f64::from(0.2f32) - value) / (value * (golden.len() as f64).sqrt());
    assert_relative_eq!(found.relative_l2.unwrap(), expected, max_relative = 1e-12);
    let wide = Array2::from_elem((3 << 10, 1 << 10), value);
    assert_relative_eq!(wide.sum_axis(Axis(0)).sum(), value * golden.len() as f64, max_relative = 1e-9);
}
