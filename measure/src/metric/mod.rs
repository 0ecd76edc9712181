//! Measures how far one tensor is from another. Nothing here decides whether that is too far.
//!
//! Both tensors are read once, in chunks of whole rows that the threads share. A chunk's size depends on the shape
//! alone and the chunks are put together in their order, so that the numbers do not depend on the number of threads.
//! Sums are in `f64`.

mod float;
mod format;
mod integer;
mod measurement;
mod row;
mod sketch;
mod statistics;
mod tensor;
mod value;

pub use measurement::{Difference, Measurement, NonFinite, RowError};
pub use sketch::{measure_entry, measure_tensor};
pub use statistics::{Statistics, statistics};
pub use tensor::measure;
pub use value::{integer as integer_value, value_at};
