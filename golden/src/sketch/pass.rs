//! One pass over a tensor: all sums of a sketch.
//!
//! The order of every addition is fixed by the format, not by the number of threads or the processor's vectors.

use rayon::prelude::*;
use store::dtype::Visit;

use super::elements::{Fixed, Load};
use super::sizes::{BLOCK, PART};
use super::words::word;
use crate::TensorView;

/// The sums of a block are kept in as many lanes: element `i` of the tensor is added to lane `i mod 8`.
const LANES: usize = 8;

/// The groups of eight elements of a block.
const GROUPS: usize = BLOCK / LANES;

/// Word `3b + 2` has the place of block `b` in its upper bits.
const PLACE_SHIFT: u32 = u64::BITS - BLOCK.ilog2();

/// The sign bits of four lanes, by four bits of a word.
const SIGNS: [[u64; 4]; 16] = {
    let mut signs = [[0; 4]; 16];
    let mut bits = 0;
    while bits < 16 {
        let mut lane = 0;
        while lane < 4 {
            signs[bits][lane] = (bits as u64 >> lane & 1) << 63;
            lane += 1;
        }
        bits += 1;
    }
    signs
};

/// What is known of some consecutive parts.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    pub(super) nan: u64,
    pub(super) inf: u64,
    /// The sum of the words of the places of NaN and infinities.
    pub(super) places: u64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    pub(super) squares: f64,
    pub(super) projection: [f64; BLOCK],
}

impl Sums {
    fn new() -> Self {
        Sums {
            nan: 0,
            inf: 0,
            places: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            squares: 0.0,
            projection: [0.0; BLOCK],
        }
    }

    /// Appends the part that follows.
    fn append(mut self, next: &Sums) -> Self {
        self.nan += next.nan;
        self.inf += next.inf;
        self.places = self.places.wrapping_add(next.places);
        self.min = lesser(self.min, next.min);
        self.max = greater(self.max, next.max);
        self.sum += next.sum;
        self.squares += next.squares;
        for (sum, next) in self.projection.iter_mut().zip(next.projection) {
            *sum += next;
        }
        self
    }
}

/// The sums of a tensor, on all threads; each element is multiplied by `scale` before anything else is done with it.
pub(super) fn sums(tensor: &TensorView<'_>, seed: u64, scale: Option<f64>) -> Sums {
    struct Parts<'a>(TensorView<'a>, u64, Option<f64>);
    impl Visit for Parts<'_> {
        type Output = Sums;

        fn visit<const BYTES: usize>(self, read: impl Fn([u8; BYTES]) -> f64 + Copy + Send + Sync) -> Sums {
            let Parts(tensor, seed, scale) = self;
            let loader = Fixed(read);
            let width = tensor.dtype().size_bytes();
            let parts = tensor.data().par_chunks(PART * width).enumerate();
            let parts: Vec<Sums> = parts
                .map(|(index, bytes)| match scale {
                    None => part(bytes, width, index, seed, loader),
                    Some(scale) => part(bytes, width, index, seed, Scaled(loader, scale)),
                })
                .collect();
            parts.iter().fold(Sums::new(), Sums::append)
        }
    }
    tensor.dtype().visit(Parts(*tensor, seed, scale))
}

#[derive(Clone, Copy)]
struct Scaled<L>(L, f64);

impl<L: Load> Load for Scaled<L> {
    #[inline(always)]
    fn load(&self, bytes: &[u8], values: &mut [f64; BLOCK]) {
        self.0.load(bytes, values);
        values.iter_mut().for_each(|value| *value *= self.1);
    }
}

/// The sums of a part, NaN and infinities left out and counted.
fn part<L: Load>(bytes: &[u8], width: usize, index: usize, seed: u64, loader: L) -> Sums {
    let sums = pass(bytes, width, index, seed, &loader, &mut |_, _| ());
    // Nothing that is not finite can hide in a sum of squares.
    if sums.squares.is_finite() {
        return sums;
    }
    let (mut nan, mut inf, mut places) = (0, 0, 0_u64);
    let mut leave_out = |start: usize, values: &mut [f64]| {
        for (place, value) in (start..).zip(values.iter_mut()) {
            let kind = match *value {
                value if value.is_finite() => continue,
                value if value.is_nan() => 1,
                value if value > 0.0 => 2,
                _ => 3,
            };
            if kind == 1 {
                nan += 1
            } else {
                inf += 1
            }
            places = places.wrapping_add(word(0, 4 * place as u64 + kind));
            *value = 0.0;
        }
    };
    let mut sums = pass(bytes, width, index, seed, &loader, &mut leave_out);
    // The zeros that stand for them are no elements.
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut values = [0.0; BLOCK];
    for block in bytes.chunks(BLOCK * width) {
        loader.load(block, &mut values);
        for &value in values[..block.len() / width].iter().filter(|value| value.is_finite()) {
            (min, max) = (lesser(min, value), greater(max, value));
        }
    }
    (sums.nan, sums.inf, sums.places, sums.min, sums.max) = (nan, inf, places, min, max);
    sums
}

/// Adds the blocks of a part; `prepare` may change the values of each, which begin at the index it is given.
fn pass<L: Load>(
    bytes: &[u8],
    width: usize,
    index: usize,
    seed: u64,
    loader: &L,
    prepare: &mut impl FnMut(usize, &mut [f64]),
) -> Sums {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function needs, as was just asked.
        return unsafe { pass_avx2(bytes, width, index, seed, loader, prepare) };
    }
    blocks(bytes, width, index, seed, loader, prepare)
}

/// The same with wider vectors: the same additions in the same order, hence the same bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn pass_avx2<L: Load>(
    bytes: &[u8],
    width: usize,
    index: usize,
    seed: u64,
    loader: &L,
    prepare: &mut impl FnMut(usize, &mut [f64]),
) -> Sums {
    blocks(bytes, width, index, seed, loader, prepare)
}

#[inline(always)]
fn blocks<L: Load>(
    bytes: &[u8],
    width: usize,
    index: usize,
    seed: u64,
    loader: &L,
    prepare: &mut impl FnMut(usize, &mut [f64]),
) -> Sums {
    let mut lanes = Lanes::new();
    let mut values = [0.0; BLOCK];
    let first = index * (PART / BLOCK);
    let blocks = bytes.chunks_exact(BLOCK * width);
    let rest = blocks.remainder();
    let full = blocks.len();
    for (block, bytes) in (first..).zip(blocks) {
        loader.load(bytes, &mut values);
        prepare(block * BLOCK, &mut values);
        lanes.project(&values, seed, block as u64);
        lanes.add(&values);
    }
    if !rest.is_empty() {
        let (block, len) = (first + full, rest.len() / width);
        values = [0.0; BLOCK];
        loader.load(rest, &mut values);
        prepare(block * BLOCK, &mut values[..len]);
        // Adding the zeros behind the end changes no sum.
        lanes.project(&values, seed, block as u64);
        for group in values[..len].chunks(LANES) {
            for (lane, &value) in group.iter().enumerate() {
                lanes.add_to(lane, value);
            }
        }
    }
    lanes.sums()
}

struct Lanes {
    min: [f64; LANES],
    max: [f64; LANES],
    sum: [f64; LANES],
    squares: [f64; LANES],
    /// The sums of the projection, by the lower three bits of a block's place. A block's elements go to places that
    /// differ from their own by these bits and by whole groups: the groups are found at once, the bits at the end.
    places: [[f64; BLOCK]; LANES],
}

impl Lanes {
    #[inline(always)]
    fn new() -> Self {
        Lanes {
            min: [f64::INFINITY; LANES],
            max: [f64::NEG_INFINITY; LANES],
            sum: [0.0; LANES],
            squares: [0.0; LANES],
            places: [[0.0; BLOCK]; LANES],
        }
    }

    #[inline(always)]
    fn project(&mut self, values: &[f64; BLOCK], seed: u64, block: u64) {
        let n = block.wrapping_mul(3);
        let signs = [word(seed, n), word(seed, n.wrapping_add(1))];
        let place = (word(seed, n.wrapping_add(2)) >> PLACE_SHIFT) as usize;
        let places = &mut self.places[place % LANES];
        let group_mask = (place / LANES) % GROUPS;
        for group in 0..GROUPS {
            let to = (group ^ group_mask) * LANES;
            let signs = signs[group / LANES] >> (LANES * (group % LANES));
            for half in 0..2 {
                let signs = &SIGNS[(signs >> (4 * half)) as usize % 16];
                for lane in 0..4 {
                    let value = values[group * LANES + 4 * half + lane];
                    places[to + 4 * half + lane] += f64::from_bits(value.to_bits() ^ signs[lane]);
                }
            }
        }
    }

    #[inline(always)]
    fn add(&mut self, values: &[f64; BLOCK]) {
        for group in values.as_chunks::<LANES>().0 {
            for (lane, &value) in group.iter().enumerate() {
                self.add_to(lane, value);
            }
        }
    }

    #[inline(always)]
    fn add_to(&mut self, lane: usize, value: f64) {
        self.min[lane] = lesser(self.min[lane], value);
        self.max[lane] = greater(self.max[lane], value);
        self.sum[lane] += value;
        self.squares[lane] += value * value;
    }

    #[inline(always)]
    fn sums(&self) -> Sums {
        let mut sums = Sums::new();
        for lane in 0..LANES {
            sums.min = lesser(sums.min, self.min[lane]);
            sums.max = greater(sums.max, self.max[lane]);
            sums.sum += self.sum[lane];
            sums.squares += self.squares[lane];
        }
        for (low, places) in self.places.iter().enumerate() {
            for (place, sum) in places.iter().enumerate() {
                sums.projection[place ^ low] += sum;
            }
        }
        sums
    }
}

/// The lesser of two numbers in one instruction, which [`f64::min`] is not.
#[inline(always)]
fn lesser(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

#[inline(always)]
fn greater(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}
