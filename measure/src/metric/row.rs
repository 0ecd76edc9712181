//! The inner loop: one row of two floating-point tensors whose elements are all finite.

use super::format::FloatFormat;

/// The sums are kept in as many parts, so that the processor can add several elements at once. The number is fixed,
/// and with it the order of every addition.
const LANES: usize = 8;

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct RowSums {
    pub(super) golden_squares: f64,
    pub(super) candidate_squares: f64,
    pub(super) difference_squares: f64,
    pub(super) products: f64,
    pub(super) golden_magnitudes: f64,
    pub(super) difference_magnitudes: f64,
    pub(super) largest: f64,
    pub(super) max_ulps: u64,
    pub(super) differing: usize,
}

/// The longest row whose differing elements the lanes can count.
pub(super) const MAX_ELEMS: usize = u32::MAX as usize;

#[derive(Default)]
struct Lanes<U> {
    golden_squares: [f64; LANES],
    candidate_squares: [f64; LANES],
    difference_squares: [f64; LANES],
    products: [f64; LANES],
    golden_magnitudes: [f64; LANES],
    difference_magnitudes: [f64; LANES],
    largest: [f64; LANES],
    max_ulps: [U; LANES],
    differing: [u32; LANES],
}

impl<U: Copy + Ord> Lanes<U> {
    #[inline(always)]
    fn add(
        &mut self,
        lane: usize,
        golden: f64,
        candidate: f64,
        scale: Option<f64>,
        (differs, ulps): (bool, U),
    ) {
        let magnitude = (candidate - golden).abs();
        // Unlike `f64::max`, one instruction; a NaN does not matter here, since the row is then measured otherwise.
        self.largest[lane] = if magnitude > self.largest[lane] { magnitude } else { self.largest[lane] };
        self.max_ulps[lane] = self.max_ulps[lane].max(ulps);
        self.differing[lane] += u32::from(differs);
        let (golden, candidate) = match scale {
            Some(scale) => (golden * scale, candidate * scale),
            None => (golden, candidate),
        };
        let difference = candidate - golden;
        self.golden_squares[lane] += golden * golden;
        self.candidate_squares[lane] += candidate * candidate;
        self.difference_squares[lane] += difference * difference;
        self.products[lane] += golden * candidate;
        self.golden_magnitudes[lane] += golden.abs();
        self.difference_magnitudes[lane] += difference.abs();
    }
}

/// The sums of a row; `None` if an element, or a sum, is not finite.
#[inline(always)]
pub(super) fn sums<G: FloatFormat, C: FloatFormat, U: Copy + Ord + Default + Into<u64>>(
    golden: &[u8],
    candidate: &[u8],
    scale: Option<f64>,
    compare: &impl Fn(G::Bits, C::Bits) -> (bool, U),
) -> Option<RowSums> {
    let mut lanes = Lanes::<U>::default();
    let mut golden_blocks = golden.chunks_exact(LANES * size_of::<G::Bits>());
    let mut candidate_blocks = candidate.chunks_exact(LANES * size_of::<C::Bits>());
    for (golden, candidate) in golden_blocks.by_ref().zip(candidate_blocks.by_ref()) {
        let golden: [G::Bits; LANES] = block::<G>(golden);
        let candidate: [C::Bits; LANES] = block::<C>(candidate);
        for lane in 0..LANES {
            let compared = compare(golden[lane], candidate[lane]);
            lanes.add(lane, G::value(golden[lane]), C::value(candidate[lane]), scale, compared);
        }
    }
    let golden_rest = golden_blocks.remainder().chunks_exact(size_of::<G::Bits>());
    let candidate_rest = candidate_blocks.remainder().chunks_exact(size_of::<C::Bits>());
    for (lane, (golden, candidate)) in golden_rest.zip(candidate_rest).enumerate() {
        let golden: G::Bits = bytemuck::pod_read_unaligned(golden);
        let candidate: C::Bits = bytemuck::pod_read_unaligned(candidate);
        lanes.add(lane, G::value(golden), C::value(candidate), scale, compare(golden, candidate));
    }
    let sums = RowSums {
        golden_squares: lanes.golden_squares.iter().sum(),
        candidate_squares: lanes.candidate_squares.iter().sum(),
        difference_squares: lanes.difference_squares.iter().sum(),
        products: lanes.products.iter().sum(),
        golden_magnitudes: lanes.golden_magnitudes.iter().sum(),
        difference_magnitudes: lanes.difference_magnitudes.iter().sum(),
        largest: lanes.largest.iter().copied().fold(0.0, f64::max),
        max_ulps: lanes.max_ulps.iter().copied().max().unwrap_or_default().into(),
        differing: lanes.differing.iter().map(|&count| count as usize).sum(),
    };
    (sums.golden_squares.is_finite() && sums.candidate_squares.is_finite()).then_some(sums)
}

#[inline(always)]
fn block<F: FloatFormat>(bytes: &[u8]) -> [F::Bits; LANES] {
    bytemuck::pod_read_unaligned(bytes)
}
