//! Integration tests of the converter: a module per subject, one binary.

#[cfg(test)]
mod checkpoint;
#[cfg(test)]
mod hand_made;
