//! The product of one row with a matrix of weights, as a decoded token needs it: what is waited for is memory.
//!
//! libtorch gives it to oneDNN where the processor has bfloat16 instructions, which reads the weights at less than half the
//! speed of this loop, and in float32 to MKL, at two thirds. See `docs/benchmarks.md`.

use half::bf16;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Partial sums of a row, so many that the processor's units are busy; their number and order are the same everywhere.
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
    let mut output = vec![E::ZERO; out as usize];
    let rows_per_task = (BYTES_PER_TASK / (width * size_of::<E>())).max(1);
    output.par_chunks_mut(rows_per_task).enumerate().for_each(|(task, output)| {
        let first = task * rows_per_task;
        let weights = &matrix[first * width..][..output.len() * width];
        let bias = bias.map(|bias| &bias[first..][..output.len()]);
        products(&row, weights, bias, output);
    });
    Ok(Some(Tensor::f_from_slice(&output)?.f_view(shape.as_slice())?))
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
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has them.
        return unsafe { products_avx2(row, weights, bias, output) };
    }
    products_with(row, weights, bias, output, |sum, a, b| sum + a * b);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn products_avx2<E: Element>(row: &[f32], weights: &[E], bias: Option<&[E]>, output: &mut [E]) {
    products_with(row, weights, bias, output, |sum, a, b| a.mul_add(b, sum));
}

#[inline(always)]
fn products_with<E: Element>(
    row: &[f32],
    weights: &[E],
    bias: Option<&[E]>,
    output: &mut [E],
    add: impl Fn(f32, f32, f32) -> f32,
) {
    for (index, (weights, output)) in weights.chunks_exact(row.len()).zip(output).enumerate() {
        let mut lanes = [0.0; LANES];
        let (blocks, row_blocks) = (weights.chunks_exact(LANES), row.chunks_exact(LANES));
        let rest = blocks.remainder().iter().zip(row_blocks.remainder());
        for (weights, row) in blocks.zip(row_blocks) {
            for lane in 0..LANES {
                lanes[lane] = add(lanes[lane], weights[lane].widen(), row[lane]);
            }
        }
        // Halves onto each other: pairs that are far apart, as sums of like size should be.
        let mut count = LANES;
        while count > 1 {
            count /= 2;
            for lane in 0..count {
                lanes[lane] += lanes[lane + count];
            }
        }
        let sum = rest.fold(lanes[0], |sum, (weight, &value)| add(sum, weight.widen(), value));
        *output = E::narrow(sum + bias.map_or(0.0, |bias| bias[index].widen()));
    }
}

/// An element of a tensor, and what it is in float32.
trait Element: tch::kind::Element + Copy + Send + Sync {
    fn widen(self) -> f32;
    fn narrow(value: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        // `to_f32` looks for NaN first, which keeps the compiler from vectors.
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
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
        for (kind, tolerance) in [(Kind::Float, 1e-6), (Kind::BFloat16, 1.0 / 256.0)] {
            let (input, weight, bias) = made(kind);
            for bias in [None, Some(&bias)] {
                let output = linear(&input, &weight, bias).unwrap().unwrap();
                assert_eq!((output.kind(), output.size()), (kind, vec![1, 1, 300]));
                let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
                let truth = double(&input).linear(&double(&weight), bias.map(double));
                let worst = ((double(&output) - &truth) / (truth.abs() + 1.0)).abs().max();
                assert!(worst.double_value(&[]) < tolerance, "{kind:?}: {worst:?}");
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (input, weight, _) = made(Kind::BFloat16);
        let in_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                Vec::<bf16>::try_from(linear(&input, &weight, None).unwrap().unwrap().view(-1)).unwrap()
            })
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
