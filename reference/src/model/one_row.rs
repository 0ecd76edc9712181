//! The product of one row with a matrix of weights, as a decoded token needs it: what is waited for is memory.
//!
//! libtorch gives it to oneDNN where the processor has bfloat16 instructions, which reads the weights at less than half the
//! speed of this loop, and in float32 to MKL, at two thirds. See `docs/benchmarks.md`.

use half::bf16;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Partial sums of a row, so many that the processor's units are busy.
const LANES: usize = 32;
/// Bytes of weights below which waking another thread takes longer than the product.
const BYTES_PER_TASK: usize = 1 << 18;

/// `x Wᵀ + b` for one row `x`, in float32 and rounded once; none where that is not what the tensors are.
///
/// # Shapes
/// input [.., in] of one row, weight [out, in], bias [out] → [.., out]
///
/// # Dtype
/// float32 or bfloat16, all the same
pub(super) fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    match weight.kind() {
        Kind::Float => linear_of::<f32>(input, weight, bias),
        Kind::BFloat16 => linear_of::<bf16>(input, weight, bias),
        _ => Ok(None),
    }
}

fn linear_of<E: Element>(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let [out, width] = weight.size()[..] else { return Ok(None) };
    let mut shape = input.size();
    let (Some(last), Some(row), Some(matrix)) =
        (shape.last_mut(), elements::<E>(input), elements::<E>(weight))
    else {
        return Ok(None);
    };
    let width = width as usize;
    let bias = match bias {
        Some(bias) => match elements::<E>(bias) {
            Some(bias) if bias.len() == out as usize => Some(bias),
            _ => return Ok(None),
        },
        None => None,
    };
    if width == 0 || row.len() != width {
        return Ok(None);
    }
    *last = out;
    let row: Vec<f32> = row.iter().map(|element| element.widen()).collect();
    let mut output = vec![E::narrow(0.0); out as usize];
    let rows_per_task = (BYTES_PER_TASK / (width * size_of::<E>())).max(1);
    output.par_chunks_mut(rows_per_task).enumerate().for_each(|(task, output)| {
        let first = task * rows_per_task;
        let weights = &matrix[first * width..][..output.len() * width];
        let bias = bias.map(|bias| &bias[first..][..output.len()]);
        products(&row, weights, bias, output);
    });
    Ok(Some(Tensor::f_from_data_size(bytemuck::cast_slice(&output), &shape, E::KIND)?))
}

/// Of a contiguous tensor on the CPU that has this dtype.
fn elements<E: Element>(tensor: &Tensor) -> Option<&[E]> {
    let start = tensor.data_ptr().cast::<E>();
    let is_plain = tensor.device() == Device::Cpu && tensor.kind() == E::KIND && tensor.is_contiguous();
    // SAFETY: a contiguous tensor of this dtype has so many elements from its address on, which is aligned; they stay in
    // place while the tensor is borrowed, and nothing writes to weights, or to the input of a layer.
    (is_plain && start.is_aligned() && !start.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(start, tensor.numel()) })
}

/// The products of `row` with each row of `weights`, on the best instructions there are.
fn products<E: Element>(row: &[f32], weights: &[E], bias: Option<&[E]>, output: &mut [E]) {
    #[cfg(target_arch = "x86_64")]
    let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    for (index, (weights, output)) in weights.chunks_exact(row.len()).zip(output).enumerate() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        let sum = if has_avx2 { unsafe { avx2::dot(weights, row) } } else { dot(weights, row) };
        #[cfg(not(target_arch = "x86_64"))]
        let sum = dot(weights, row);
        *output = E::narrow(sum + bias.map_or(0.0, |bias| bias[index].widen()));
    }
}

/// The product of two rows of one length.
fn dot<E: Element>(weights: &[E], row: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = weights.as_chunks::<LANES>();
    let (row_blocks, row_rest) = row.as_chunks::<LANES>();
    for (weights, row) in blocks.iter().zip(row_blocks) {
        for ((lane, weight), value) in lanes.iter_mut().zip(weights).zip(row) {
            *lane += weight.widen() * value;
        }
    }
    let rest = rest.iter().zip(row_rest).map(|(weight, value)| weight.widen() * value);
    lanes.iter().copied().chain(rest).sum()
}

/// What the compiler does not find by itself.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::Element;

    /// Elements in a register, and registers of sums: as many as keep the two units busy for the four cycles of a sum.
    const WIDTH: usize = 8;
    const SUMS: usize = 8;

    /// The product of two rows of one length.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dot<E: Element>(weights: &[E], row: &[f32]) -> f32 {
        let mut sums = [_mm256_setzero_ps(); SUMS];
        let (blocks, _) = weights.as_chunks::<WIDTH>().0.as_chunks::<SUMS>();
        let (row_blocks, _) = row.as_chunks::<WIDTH>().0.as_chunks::<SUMS>();
        for (weights, row) in blocks.iter().zip(row_blocks) {
            // By number, which the compiler unrolls, so that the sums stay in registers.
            for sum in 0..SUMS {
                // SAFETY: this function is for processors with AVX2.
                let weights = unsafe { E::widen_avx2(&weights[sum]) };
                sums[sum] = _mm256_fmadd_ps(weights, load(&row[sum]), sums[sum]);
            }
        }
        let rest = blocks.len() * SUMS * WIDTH..;
        let mut count = SUMS;
        while count > 1 {
            count /= 2;
            for sum in 0..count {
                sums[sum] = _mm256_add_ps(sums[sum], sums[sum + count]);
            }
        }
        let mut lanes = [0.0; WIDTH];
        // SAFETY: there is room for eight.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums[0]) };
        let rest = weights[rest.clone()].iter().zip(&row[rest]).map(|(weight, value)| weight.widen() * value);
        lanes.iter().copied().chain(rest).sum()
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn load(elements: &[f32; WIDTH]) -> __m256 {
        // SAFETY: there are eight.
        unsafe { _mm256_loadu_ps(elements.as_ptr()) }
    }
}

/// An element of a tensor, and what it is in float32.
trait Element: bytemuck::Pod + Send + Sync {
    /// tch has one of its own, which takes bfloat16 for float16.
    const KIND: Kind;

    fn widen(self) -> f32;
    fn narrow(value: f32) -> Self;

    /// # Safety
    /// The processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    unsafe fn widen_avx2(elements: &[Self; 8]) -> std::arch::x86_64::__m256;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn widen_avx2(elements: &[Self; 8]) -> std::arch::x86_64::__m256 {
        avx2::load(elements)
    }
}

impl Element for bf16 {
    const KIND: Kind = Kind::BFloat16;

    #[inline(always)]
    fn widen(self) -> f32 {
        // `to_f32` looks for NaN first, which keeps the compiler from vectors.
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn widen_avx2(elements: &[Self; 8]) -> std::arch::x86_64::__m256 {
        use std::arch::x86_64::{
            _mm_loadu_si128, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_slli_epi32,
        };
        // SAFETY: there are eight, of two bytes each.
        let bits = unsafe { _mm_loadu_si128(elements.as_ptr().cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row and weights of `kind`, no width a multiple of the lanes, and more than one task.
    fn made(kind: Kind) -> (Tensor, Tensor, Tensor) {
        tch::manual_seed(3);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind);
        (random(&[1, 1, 1037]), random(&[300, 1037]), random(&[300]))
    }

    #[test]
    fn is_the_product_rounded_once() {
        // Half of the distance to the next number, relative.
        for (kind, rounding) in [(Kind::Float, 2f64.powi(-24)), (Kind::BFloat16, 2f64.powi(-8))] {
            let (input, weight, bias) = made(kind);
            for bias in [None, Some(&bias)] {
                let output = linear(&input, &weight, bias).unwrap().unwrap();
                assert_eq!((output.kind(), output.size()), (kind, vec![1, 1, 300]));
                let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
                let truth = double(&input).linear(&double(&weight), bias.map(double));
                let terms =
                    double(&input).abs().linear(&double(&weight).abs(), bias.map(|bias| double(bias).abs()));
                let limit = truth.abs() * rounding + terms * 1e-7;
                let worst = ((double(&output) - &truth).abs() / limit).max().double_value(&[]);
                assert!(worst < 1.0, "{kind:?}: {worst}");
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (input, weight, _) = made(Kind::BFloat16);
        let in_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            // A tensor may go to another thread, and not be in two.
            let (input, weight) = (input.shallow_clone(), weight.shallow_clone());
            let output = pool.install(move || linear(&input, &weight, None).unwrap().unwrap());
            Vec::<f32>::try_from(output.view(-1).to_kind(Kind::Float)).unwrap()
        };
        assert_eq!(in_threads(1), in_threads(4));
    }

    #[test]
    fn what_it_does_not_know_is_left_to_libtorch() {
        let (input, weight, _) = made(Kind::Float);
        let two_rows = Tensor::cat(&[&input, &input], 1);
        assert!(linear(&two_rows, &weight, None).unwrap().is_none());
        assert!(
            linear(&input, &weight.transpose(0, 1).contiguous().transpose(0, 1), None).unwrap().is_none()
        );
        assert!(linear(&input.to_kind(Kind::Half), &weight.to_kind(Kind::Half), None).unwrap().is_none());
        assert!(linear(&input.to_kind(Kind::BFloat16), &weight, None).unwrap().is_none());
    }
}
