//! The sizes in which a sketch goes through a tensor; the format fixes both.

/// The numbers of a projection, and the elements of a block, which all go to different ones.
pub const BLOCK: usize = 128;

/// The elements whose sums begin at zero before they are added to the others'.
pub(super) const PART: usize = 1 << 16;
