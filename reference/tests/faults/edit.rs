//! The converted checkpoint, changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::bf16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

/// A tensor of the checkpoint: all of them are bfloat16.
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// A checkpoint in memory.
pub struct Edit {
    pub config: Value,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Edit {
    pub fn open(dir: &Path) -> Self {
        let config = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let read = |view: TensorView<'_>| {
            assert_eq!(view.dtype(), Dtype::BF16);
            let values = view.data().chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32());
            Tensor { shape: view.shape().to_vec(), values: values.collect() }
        };
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
        Edit { config, tensors: tensors.into_iter().map(|(name, view)| (name, read(view))).collect() }
    }

    /// Writes it to `out`, with the other files of the checkpoint in `dir`.
    pub fn write(&self, dir: &Path, out: &Path) {
        fs::create_dir(out).unwrap();
        for file in fs::read_dir(dir).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), out.join(file.file_name())).unwrap();
        }
        fs::write(out.join("config.json"), self.config.to_string()).unwrap();
        let bytes: Vec<(&String, &Tensor, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| {
                let bytes = tensor.values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes());
                (name, tensor, bytes.collect())
            })
            .collect();
        let views = bytes.iter().map(|(name, tensor, bytes)| {
            (name.as_str(), TensorView::new(Dtype::BF16, tensor.shape.clone(), bytes).unwrap())
        });
        fs::write(out.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    }

    pub fn get(&mut self, name: &str) -> &mut Tensor {
        self.tensors.get_mut(name).unwrap_or_else(|| panic!("no tensor `{name}`"))
    }

    /// Multiplies every number of a tensor.
    pub fn scale(&mut self, name: &str, factor: f32) {
        self.get(name).values.iter_mut().for_each(|value| *value *= factor);
    }

    pub fn exchange(&mut self, a: &str, b: &str) {
        let (first, second) = (self.tensors.remove(a).unwrap(), self.tensors.remove(b).unwrap());
        self.tensors.insert(a.to_owned(), second);
        self.tensors.insert(b.to_owned(), first);
    }
}

impl Tensor {
    /// Takes each row from another place.
    pub fn rows(&mut self, rows: impl IntoIterator<Item = usize>) {
        let width = self.values.len() / self.shape[0];
        let taken: Vec<f32> =
            rows.into_iter().flat_map(|row| self.values[row * width..(row + 1) * width].to_vec()).collect();
        self.shape[0] = taken.len() / width;
        self.values = taken;
    }

    pub fn transpose(&mut self) {
        let [rows, columns] = self.shape[..] else { panic!("{:?}", self.shape) };
        let old = std::mem::take(&mut self.values);
        self.values = (0..rows * columns).map(|at| old[at % rows * columns + at / rows]).collect();
        self.shape = vec![columns, rows];
    }
}
