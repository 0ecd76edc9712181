//! What stands for a tensor that is not kept: its size and range, and a random projection.
//!
//! From the projections of two tensors the length of their difference can be estimated: within 25 % in 95 % of cases
//! and better (the estimate of ten thousand independent ones has a standard deviation of 6 %, and of 9 % from short sketches).
//! The tensors themselves are a thousand times as large and more. `docs/activation-dump.md` specifies every bit.

mod elements;
mod estimate;
mod pass;
mod projection;
mod short;
mod sizes;
mod words;

use serde::{Deserialize, Serialize};

pub use projection::Projection;
pub use sizes::BLOCK;
pub use words::word;

use crate::{Dtype, TensorView};

/// The name of the way of sketching that keeps all of a projection.
pub const ALGORITHM: &str = "signed-places-1";

/// The name of the way that keeps half as many numbers, with fewer digits: of the steps behind the prefill, which are many.
pub const SHORT_ALGORITHM: &str = "signed-places-64";

/// The seed where none is asked for.
pub const DEFAULT_SEED: u64 = 0;

/// Seeds are below this, so that every JSON reader keeps them.
pub const SEED_LIMIT: u64 = 1 << 53;

/// Whole numbers are kept as they are in a dump of sketches if they are no more bytes than this; what the model is given, always.
pub const WHOLE_INTEGER_BYTES: usize = 1 << 16;

/// What the model is given (`pixel_values`) is kept as it is in a dump of sketches if it is no more bytes than this.
pub const WHOLE_INPUT_BYTES: usize = 1 << 20;

/// What is known of a tensor that is not kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// [`ALGORITHM`] or [`SHORT_ALGORITHM`].
    pub algorithm: String,
    /// What signs and places were drawn from. Only sketches of one seed can be compared.
    pub seed: u64,
    /// The number of finite elements.
    pub count: u64,
    /// The number of NaN.
    pub nan: u64,
    /// The number of infinities of either sign.
    pub inf: u64,
    /// Where the NaN and infinities are, as a hash of 16 hexadecimal digits; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_finite: Option<String>,
    /// The smallest finite element; `None` if there is none.
    pub min: Option<f64>,
    /// The largest finite element.
    pub max: Option<f64>,
    /// The arithmetic mean of the finite elements; `None` too if their sum leaves the range of `f64`.
    pub mean: Option<f64>,
    /// The Euclidean length of the finite elements; `None` if it leaves the range of `f64`.
    pub l2: Option<f64>,
    /// The random projection of the finite elements.
    pub projection: Projection,
}

impl Sketch {
    /// Sketches a tensor of any dtype, on all threads.
    pub fn of(tensor: &TensorView<'_>, seed: u64) -> Self {
        let sums = pass::sums(tensor, seed, None);
        let count = tensor.len_elems() as u64 - sums.nan - sums.inf;
        let some = |value: f64| (count > 0).then_some(value + 0.0);
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        Sketch {
            algorithm: ALGORITHM.to_owned(),
            seed,
            count,
            nan: sums.nan,
            inf: sums.inf,
            non_finite: (sums.nan + sums.inf > 0).then(|| format!("{:016x}", sums.places)),
            // Adding zero makes a negative zero positive: which of both zeros is smaller is nobody's business.
            min: some(sums.min),
            max: some(sums.max),
            mean: some(sums.sum / count as f64).and_then(finite),
            l2: finite(length(tensor, seed, &sums)),
            projection: Projection(sums.projection.to_vec()),
        }
    }

    /// The short sketch of the same tensor.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        if self.algorithm == ALGORITHM {
            SHORT_ALGORITHM.clone_into(&mut self.algorithm);
            self.projection = Projection(short::folded(&self.projection.0, self.seed));
        }
        self
    }

    /// Sketches another tensor as this sketch was made.
    pub fn like(&self, tensor: &TensorView<'_>) -> Self {
        let sketch = Sketch::of(tensor, self.seed);
        if self.algorithm == SHORT_ALGORITHM { sketch.shortened() } else { sketch }
    }

    /// The elements of the tensor, whether they are finite or not.
    pub fn len_elems(&self) -> u64 {
        self.count.saturating_add(self.nan).saturating_add(self.inf)
    }

    /// What contradicts the entry that the sketch is of, in words; `None` if nothing does.
    pub(crate) fn contradiction(&self, shape: &[usize]) -> Option<String> {
        let elements = shape.iter().map(|&n| n as u128);
        let elements = if shape.contains(&0) { 0 } else { elements.fold(1, u128::saturating_mul) };
        let counted = u128::from(self.count) + u128::from(self.nan) + u128::from(self.inf);
        let hash = self.non_finite.as_deref();
        let is_hash = |hash: &str| {
            hash.len() == 16 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let places = match self.algorithm.as_str() {
            ALGORITHM => BLOCK,
            SHORT_ALGORITHM => short::SHORT,
            found => {
                let expected = format!("expected `{ALGORITHM}` or `{SHORT_ALGORITHM}`");
                return Some(format!("`algorithm`: {expected}, found `{found}`"));
            }
        };
        if self.projection.0.len() != places {
            let found = self.projection.0.len();
            return Some(format!(
                "`projection`: expected {places} numbers of `{}`, found {found}",
                self.algorithm
            ));
        }
        if self.seed >= SEED_LIMIT {
            return Some(format!("`seed`: expected a number below 2^53, found {}", self.seed));
        }
        if counted != elements {
            return Some(format!(
                "`count`, `nan` and `inf`: expected {elements} elements for the shape, found {counted}"
            ));
        }
        if (self.nan > 0 || self.inf > 0) != hash.is_some_and(is_hash) {
            let found = hash.map_or_else(|| "none".to_owned(), |hash| format!("`{hash}`"));
            let expected =
                if self.nan > 0 || self.inf > 0 { "16 lower-case hexadecimal digits" } else { "none" };
            return Some(format!("`non_finite`: expected {expected}, found {found}"));
        }
        if (self.count > 0) != self.min.is_some() || self.min.is_some() != self.max.is_some() {
            return Some(format!(
                "`min` and `max`: expected of {} finite elements, found {:?} and {:?}",
                self.count, self.min, self.max
            ));
        }
        None
    }
}

/// The length of a tensor. Squares of very small or very large `float64` leave the range of `f64`: they are summed
/// again, scaled into the middle of it by a power of two.
fn length(tensor: &TensorView<'_>, seed: u64, sums: &pass::Sums) -> f64 {
    let largest = sums.max.max(-sums.min);
    let in_range = (1e-200..1e200).contains(&sums.squares);
    // Comparing so leaves out a tensor without finite elements, too.
    if tensor.dtype() != Dtype::Float64 || in_range || !(largest > 0.0 && largest.is_finite()) {
        return sums.squares.sqrt();
    }
    let exponent = ((largest.to_bits() >> 52) as i32 - 1023).clamp(-1022, 1022);
    let scaled = pass::sums(tensor, seed, Some(2_f64.powi(-exponent)));
    scaled.squares.sqrt() * 2_f64.powi(exponent)
}
