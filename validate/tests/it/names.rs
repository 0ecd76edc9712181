//! Candidates with names and layouts of their own, and the maps that translate them.

mod counterparts;
mod layouts;
mod proposals;
mod ready_made;
mod refusals;

use golden::{Dump, DumpWriter};
use validate::{DiffOptions, DiffReport, NameMap, Policy};

use crate::dumps::{Candidate, Tensor, bundled};

const NAME: &str = "shapes-describe-float32";

const BLOCKS: &str = "vision_model.radio_model.model.blocks";

const LAYERS: &str = "language_model.model.layers";

/// A bundled dump written anew: each tensor as those that an engine would have recorded instead.
fn engine(name: &str, mut record: impl FnMut(Tensor) -> Vec<Tensor>) -> Candidate {
    let folder = tempfile::tempdir().unwrap();
    let dump = Dump::open(bundled(name)).unwrap();
    let mut writer = DumpWriter::create(folder.path().join("candidate")).unwrap();
    for (entry, view) in dump.tensors() {
        let tensor = Tensor {
            name: entry.name.clone(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            data: view.data().to_vec(),
        };
        for Tensor { name, dtype, shape, data } in record(tensor) {
            writer.push(&name, entry.role, &entry.module, dtype, &shape, &data).unwrap();
        }
    }
    writer.finish(dump.manifest().head()).unwrap();
    Candidate { folder }
}

fn compare(name: &str, candidate: &Candidate, map: &str) -> validate::Result<DiffReport> {
    let golden = Dump::open(bundled(name)).unwrap();
    let candidate = Dump::open(candidate.path()).unwrap();
    let map = NameMap::parse("map.toml", map)?;
    validate::diff(
        &golden,
        &candidate,
        &DiffOptions { names: Some(&map), ..DiffOptions::new(&Policy::default()) },
    )
}

fn renamed(mut tensor: Tensor, name: &str) -> Tensor {
    tensor.name = name.to_owned();
    tensor
}

/// The parts of the last dimension, with these names and sizes.
fn split(tensor: &Tensor, parts: &[(&str, usize)]) -> Vec<Tensor> {
    let (row, size) = (tensor.row_len(), tensor.dtype.size_bytes());
    let mut start = 0;
    let part = |&(name, len): &(&str, usize)| {
        let rows = tensor.data.chunks_exact(row * size);
        let data = rows.flat_map(|row| &row[start * size..(start + len) * size]).copied().collect();
        start += len;
        let mut shape = tensor.shape.clone();
        *shape.last_mut().unwrap() = len;
        Tensor { name: name.to_owned(), dtype: tensor.dtype, shape, data }
    };
    parts.iter().map(part).collect()
}

/// The elements in the order of permuted dimensions.
fn permuted(tensor: &Tensor, shape: &[usize], order: &[usize]) -> Tensor {
    let size = tensor.dtype.size_bytes();
    let steps: Vec<usize> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
    let to: Vec<usize> = order.iter().map(|&at| shape[at]).collect();
    let mut data = Vec::new();
    for flat in 0..tensor.len() {
        let (mut left, mut from) = (flat, 0);
        for (&len, &at) in to.iter().zip(order).rev() {
            from += left % len * steps[at];
            left /= len;
        }
        data.extend_from_slice(&tensor.data[from * size..(from + 1) * size]);
    }
    Tensor { name: tensor.name.clone(), dtype: tensor.dtype, shape: to, data }
}

fn index(name: &str, prefix: &str) -> Option<(String, String)> {
    let (number, site) = name.strip_prefix(prefix)?.strip_prefix('.')?.split_once('.')?;
    Some((number.to_owned(), site.to_owned()))
}

/// A dump whose only other name is that of one site.
fn one(name: &'static str, site: &'static str, as_recorded: impl Fn(Tensor) -> Vec<Tensor>) -> Candidate {
    engine(name, |tensor| if tensor.name == site { as_recorded(tensor) } else { vec![tensor] })
}

fn rule(rest: &str) -> String {
    format!("version = 1\n[[rules]]\n{rest}")
}
