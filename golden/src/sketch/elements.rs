//! Elements of every dtype as `f64`, a block at a time.

use super::sizes::BLOCK;

/// Fills the beginning of a block with the values of some bytes, which are those of [`BLOCK`] elements at most.
pub(super) trait Load: Copy + Send + Sync {
    fn load(&self, bytes: &[u8], values: &mut [f64; BLOCK]);
}

/// Elements of a fixed width, each with its value.
#[derive(Clone, Copy)]
pub(super) struct Fixed<const WIDTH: usize, V>(pub(super) V);

impl<const WIDTH: usize, V: Fn([u8; WIDTH]) -> f64 + Copy + Send + Sync> Load for Fixed<WIDTH, V> {
    #[inline(always)]
    fn load(&self, bytes: &[u8], values: &mut [f64; BLOCK]) {
        for (value, &element) in values.iter_mut().zip(bytes.as_chunks::<WIDTH>().0) {
            *value = (self.0)(element);
        }
    }
}
