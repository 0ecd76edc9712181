//! Integration tests of the converter: a module per subject, one binary.

#[cfg(test)]
mod changed;
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
mod force;
#[cfg(test)]
mod hand_made;
#[cfg(test)]
mod hand_made_source;
#[cfg(test)]
mod hub;
#[cfg(test)]
mod hub_cache;
#[cfg(test)]
mod hub_errors;
#[cfg(test)]
mod hub_hostile;
#[cfg(test)]
mod hub_ranges;
#[cfg(test)]
mod hub_server;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod output;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod resolution;
#[cfg(test)]
mod safety;
#[cfg(test)]
mod several_inputs;
#[cfg(test)]
mod several_inputs_faults;
#[cfg(test)]
mod sisters;
#[cfg(test)]
mod verification;
