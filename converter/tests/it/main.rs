//! Integration tests of the converter: a module per subject, one binary.

#[cfg(test)]
mod checkpoint;
#[cfg(test)]
mod code;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod conversion;
#[cfg(test)]
mod export;
#[cfg(test)]
mod hand_made;
#[cfg(test)]
mod hand_made_source;
#[cfg(test)]
mod hub;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod resolution;
#[cfg(test)]
mod safety;
#[cfg(test)]
mod sisters;
#[cfg(test)]
mod verification;
