//! The dump format, from outside the crate.

// In tests a failed `unwrap` is the assertion; clippy knows only the functions marked `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod background;
mod bundled;
mod changed;
mod flow;
mod folders;
mod fuzz;
mod leftovers;
mod mutation;
mod refusals;
mod round_trip;
mod sketch_estimates;
mod sketch_size;
mod sketches;
