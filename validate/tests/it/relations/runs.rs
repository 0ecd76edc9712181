//! Runs in memory, and what an engine would have recorded of the same request in pieces or in a batch.

use std::ops::Range;

use golden::manifest::ManifestHead;
use golden::{Dtype, Dump, DumpWriter, NewEntry, Role};
use tempfile::TempDir;

use crate::dumps::{Tensor, bundled};

/// The number of tokens of `shapes-text-float32`.
pub const TOKENS: usize = 24;

pub const LOGITS: &str = "language_model.lm_head";

/// A recorded entry.
pub struct Item {
    pub step: u64,
    pub role: Role,
    pub module: String,
    pub tensor: Tensor,
}

pub struct Run {
    pub head: ManifestHead,
    pub items: Vec<Item>,
}

/// A run that was written, in a folder of its own.
pub struct Written {
    pub folder: TempDir,
    pub dump: Dump,
}

impl Run {
    pub fn bundled(name: &str) -> Self {
        let dump = Dump::open(bundled(name)).unwrap();
        let items = dump.tensors().map(|(entry, view)| Item {
            step: 0,
            role: entry.role,
            module: entry.module.clone(),
            tensor: Tensor {
                name: entry.name.clone(),
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                data: view.data().to_vec(),
            },
        });
        Run { items: items.collect(), head: dump.manifest().head() }
    }

    /// The bundled text request, with a cache and one decoding step, whose numbers are those of other tokens.
    pub fn text() -> Self {
        let mut run = Run::bundled("shapes-text-float32");
        let keys = run.get("language_model.model.layers.0.self_attn.k_proj");
        let cache = Tensor { name: "past_key_values.0.keys".to_owned(), shape: vec![1, 2, 24, 32], ..keys };
        let mut decoded: Vec<Item> = run.items.iter().filter_map(Item::decoded).collect();
        let longer = cat(&[&cache, &slice(&cache, 2, 3..4)], 2);
        decoded.push(item(1, longer));
        run.items.insert(run.items.len() - 1, item(0, cache));
        run.items.extend(decoded);
        run
    }

    pub fn get(&self, name: &str) -> Tensor {
        copy(&self.items.iter().find(|item| item.tensor.name == name).unwrap().tensor)
    }

    pub fn change(&mut self, name: &str, step: u64, change: impl FnOnce(&mut Tensor)) {
        let found = self.items.iter_mut().find(|item| item.tensor.name == name && item.step == step);
        change(&mut found.unwrap().tensor);
    }

    /// Each entry as others, by the steps that these have.
    pub fn map(&self, mut to: impl FnMut(&Item) -> Vec<(u64, Tensor)>) -> Run {
        let mut items: Vec<Item> = Vec::new();
        for of in &self.items {
            let (role, module) = (of.role, &of.module);
            let made = to(of).into_iter();
            items.extend(made.map(|(step, tensor)| Item { step, role, module: module.clone(), tensor }));
        }
        items.sort_by_key(|item| item.step);
        Run { head: self.head.clone(), items }
    }

    pub fn write(&self) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut writer = DumpWriter::create(&path).unwrap();
        for Item { step, role, module, tensor } in &self.items {
            let entry = NewEntry { step: *step, ..NewEntry::new(&tensor.name, *role, module) };
            writer.push_entry(entry, tensor.dtype, &tensor.shape, &tensor.data, None).unwrap();
        }
        writer.finish(self.head.clone()).unwrap();
        Written { dump: Dump::open(path).unwrap(), folder }
    }

    /// The prompt in pieces, a step each.
    pub fn in_pieces(&self, sizes: &[usize]) -> Run {
        let ends: Vec<usize> = sizes
            .iter()
            .scan(0, |end, size| {
                *end += size;
                Some(*end)
            })
            .collect();
        let last = sizes.len() as u64 - 1;
        self.map(|item| {
            if item.step > 0 {
                return vec![(item.step + last, copy(&item.tensor))];
            }
            let Some(dim) = item.token_dim() else {
                // Each piece has the logits of its own last token.
                let others = (0..last).filter(|_| item.tensor.name == LOGITS);
                let mut pieces: Vec<(u64, Tensor)> =
                    others.map(|step| (step, garbage(&item.tensor, step as usize))).collect();
                pieces.push((last, copy(&item.tensor)));
                return pieces;
            };
            let pieces = sizes.iter().zip(&ends).enumerate().map(|(step, (size, &end))| {
                let is_cache = item.tensor.name.starts_with("past_key_values");
                let start = if is_cache { 0 } else { end - size };
                let mut piece = slice(&item.tensor, dim, start..end);
                if item.is_weights() {
                    piece = slice(&piece, dim + 1, 0..end);
                }
                (step as u64, piece)
            });
            pieces.collect()
        })
    }

    /// The request as one sequence of several, with padding before and behind it.
    pub fn padded(&self, row: usize, of: usize, [left, right]: [usize; 2]) -> Run {
        let mut number = 0;
        self.map(|item| {
            let mut tensor = copy(&item.tensor);
            if tensor.name == "step_logits" {
                return vec![(0, tensor)];
            }
            number += 1;
            let dim = item.token_dim();
            if let Some(dim) = dim.filter(|_| item.step == 0) {
                tensor = pad(&tensor, dim, [left, right], number);
                if item.is_weights() {
                    tensor = pad(&tensor, dim + 1, [left, right], number);
                }
            } else if item.is_weights() || tensor.name.starts_with("past_key_values") {
                let dim = if item.is_weights() { 3 } else { 2 };
                let [before, new] = [slice(&tensor, dim, 0..TOKENS), slice(&tensor, dim, TOKENS..TOKENS + 1)];
                tensor = cat(&[&pad(&before, dim, [left, right], number), &new], dim);
            }
            let other = garbage(&tensor, number);
            let rows: Vec<&Tensor> = (0..of).map(|at| if at == row { &tensor } else { &other }).collect();
            vec![(item.step, cat(&rows, 0))]
        })
    }

    /// The end of the prompt alone, from a token on; what is cached is all there.
    pub fn end_from(&self, first: usize) -> Run {
        self.map(|item| {
            let cut = item.token_dim().filter(|_| item.step == 0 && !item.tensor.name.starts_with("past_"));
            vec![(
                item.step,
                cut.map_or_else(|| copy(&item.tensor), |dim| slice(&item.tensor, dim, first..TOKENS)),
            )]
        })
    }
}

impl Item {
    pub fn is_weights(&self) -> bool {
        self.tensor.name.ends_with("attn_weights")
    }

    /// The dimension that counts the prompt's tokens, in a bundled dump of text.
    pub fn token_dim(&self) -> Option<usize> {
        let dim = if self.is_weights() || self.tensor.name.starts_with("past_") { 2 } else { 1 };
        (self.tensor.shape.get(dim) == Some(&TOKENS)).then_some(dim)
    }

    /// A decoding step's entry: the fourth token's numbers.
    fn decoded(&self) -> Option<Item> {
        let tensor = match (self.tensor.name.as_str(), self.token_dim()) {
            ("step_logits", _) => return None,
            (_, None) => copy(&self.tensor),
            (_, Some(dim)) if self.is_weights() => {
                let one = slice(&self.tensor, dim, 3..4);
                cat(&[&one, &slice(&one, dim + 1, 0..1)], dim + 1)
            }
            (_, Some(dim)) => slice(&self.tensor, dim, 3..4),
        };
        Some(Item { step: 1, role: self.role, module: self.module.clone(), tensor })
    }
}

fn item(step: u64, tensor: Tensor) -> Item {
    Item { step, role: Role::Activation, module: String::new(), tensor }
}

pub fn copy(tensor: &Tensor) -> Tensor {
    let Tensor { name, dtype, shape, data } = tensor;
    Tensor { name: name.clone(), dtype: *dtype, shape: shape.clone(), data: data.clone() }
}

/// A part of a dimension.
pub fn slice(tensor: &Tensor, dim: usize, range: Range<usize>) -> Tensor {
    let inner = tensor.shape[dim + 1..].iter().product::<usize>() * tensor.dtype.size_bytes();
    let block = tensor.shape[dim] * inner;
    let blocks = tensor.data.chunks_exact(block);
    let data = blocks.flat_map(|block| &block[range.start * inner..range.end * inner]).copied().collect();
    let mut shape = tensor.shape.clone();
    shape[dim] = range.len();
    Tensor { name: tensor.name.clone(), dtype: tensor.dtype, shape, data }
}

/// Tensors one after the other along a dimension.
pub fn cat(tensors: &[&Tensor], dim: usize) -> Tensor {
    let size = |tensor: &Tensor| tensor.shape[dim..].iter().product::<usize>() * tensor.dtype.size_bytes();
    let outer: usize = tensors[0].shape[..dim].iter().product();
    let mut data = Vec::new();
    for at in 0..outer {
        for tensor in tensors {
            data.extend_from_slice(&tensor.data[at * size(tensor)..(at + 1) * size(tensor)]);
        }
    }
    let mut shape = tensors[0].shape.clone();
    shape[dim] = tensors.iter().map(|tensor| tensor.shape[dim]).sum();
    Tensor { name: tensors[0].name.clone(), dtype: tensors[0].dtype, shape, data }
}

/// Numbers that are no one's: what another request has in the same place.
pub fn garbage(tensor: &Tensor, seed: usize) -> Tensor {
    let mut other = copy(tensor);
    let ids = other.dtype == Dtype::Int64;
    other.map(|index, value| if ids { value + 7.0 } else { -1.5 * value + ((index + seed) % 5) as f64 });
    other
}

/// More tokens before and behind: id 0 among ids, else numbers that are no one's.
pub fn pad(tensor: &Tensor, dim: usize, [left, right]: [usize; 2], seed: usize) -> Tensor {
    let filler = |count: usize| {
        let first = slice(tensor, dim, 0..1);
        let mut filler = cat(&vec![&first; count.max(1)], dim);
        if tensor.dtype == Dtype::Int64 {
            filler.map(|_, _| 0.0)
        } else {
            filler = garbage(&filler, seed)
        }
        filler
    };
    let (before, behind) = (filler(left), filler(right));
    let parts = [(left > 0).then_some(&before), Some(tensor), (right > 0).then_some(&behind)];
    cat(&parts.into_iter().flatten().collect::<Vec<_>>(), dim)
}
