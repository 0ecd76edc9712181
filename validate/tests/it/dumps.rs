//! Copies of the bundled dumps, changed.

use std::fs;
use std::path::{Path, PathBuf};

use golden::manifest::ManifestHead;
use golden::{Dtype, Dump, DumpWriter, Entry};
use half::bf16;
use tempfile::TempDir;
use validate::{DiffOptions, DiffReport, Divergence, Policy};

pub fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/fixtures/goldens")
}

pub fn bundled(name: &str) -> PathBuf {
    goldens().join(name)
}

/// A tensor that a change can do anything to.
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Tensor {
    pub fn get(&self, index: usize) -> f64 {
        golden::TensorView::new(self.dtype, &self.shape, &self.data).unwrap().to_f64_vec()[index]
    }

    pub fn set(&mut self, index: usize, value: f64) {
        let bytes = match self.dtype {
            Dtype::Float32 => (value as f32).to_le_bytes().to_vec(),
            Dtype::BFloat16 => bf16::from_f64(value).to_le_bytes().to_vec(),
            Dtype::Int64 => (value as i64).to_le_bytes().to_vec(),
            other => panic!("{other}"),
        };
        let size_bytes = bytes.len();
        self.data[index * size_bytes..(index + 1) * size_bytes].copy_from_slice(&bytes);
    }

    /// Changes every element.
    pub fn map(&mut self, change: impl Fn(usize, f64) -> f64) {
        let values = golden::TensorView::new(self.dtype, &self.shape, &self.data).unwrap().to_f64_vec();
        for (index, value) in values.into_iter().enumerate() {
            self.set(index, change(index, value));
        }
    }

    pub fn len(&self) -> usize {
        self.data.len() / self.dtype.size_bytes()
    }

    pub fn row_len(&self) -> usize {
        *self.shape.last().unwrap()
    }
}

/// A candidate: a bundled dump written anew with changes, its hashes those of the changed bytes.
pub struct Candidate {
    pub folder: TempDir,
}

impl Candidate {
    /// `change` returns whether the tensor stays.
    pub fn of(name: &str, mut change: impl FnMut(&mut Tensor) -> bool) -> Self {
        Candidate::with(
            name,
            |_| (),
            |entry, tensor| {
                let _: &Entry = entry;
                change(tensor)
            },
        )
    }

    pub fn with(
        name: &str,
        change_head: impl FnOnce(&mut ManifestHead),
        mut change: impl FnMut(&Entry, &mut Tensor) -> bool,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dump = Dump::open(bundled(name)).unwrap();
        let mut writer = DumpWriter::create(folder.path().join("candidate")).unwrap();
        let mut changed = Vec::new();
        for (entry, view) in dump.tensors() {
            let mut tensor = Tensor {
                name: entry.name.clone(),
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                data: view.data().to_vec(),
            };
            let stays = change(entry, &mut tensor);
            if stays {
                let Tensor { name, dtype, shape, data } = &tensor;
                writer.push(name, entry.role, &entry.module, *dtype, shape, data).unwrap();
            }
            changed.push((entry.name.as_str(), stays));
        }
        let mut head = dump.manifest().head();
        change_head(&mut head);
        writer.finish(head).unwrap();
        let candidate = Candidate { folder };
        if changed.len() < dump.entries().len() {
            candidate.keep_sketches(&dump, &changed);
        }
        candidate
    }

    /// Puts the sketches of the bundled dump, which stay as they are, between the tensors that were written.
    fn keep_sketches(&self, dump: &Dump, changed: &[(&str, bool)]) {
        let mut manifest = self.manifest();
        let mut written = manifest["entries"].as_array().unwrap().clone().into_iter();
        let mut entries: Vec<serde_json::Value> = Vec::new();
        for entry in dump.entries() {
            match changed.iter().find(|(name, _)| *name == entry.name) {
                Some((_, true)) => entries.push(written.next().unwrap()),
                Some((_, false)) => (),
                None => entries.push(serde_json::to_value(entry).unwrap()),
            }
        }
        entries.iter_mut().enumerate().for_each(|(order, entry)| entry["order"] = order.into());
        manifest["entries"] = entries.into();
        fs::write(self.path().join("manifest.json"), manifest.to_string()).unwrap();
    }

    /// Changes the values of one tensor in the file that it is in, and its hash: quicker than writing a dump anew.
    pub fn changing(name: &str, site: &str, change: impl FnOnce(&mut Tensor)) -> Self {
        let candidate = Candidate::copied(name);
        let file = candidate.path().join("tensors.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let (header_bytes, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let (start, end) = metadata.info(site).unwrap().data_offsets;
        let range = header_bytes + 8 + start..header_bytes + 8 + end;
        let mut manifest = candidate.manifest();
        let entries = manifest["entries"].as_array_mut().unwrap();
        let entry = entries.iter_mut().find(|entry| entry["name"] == site).unwrap();
        let mut tensor = Tensor {
            name: site.to_owned(),
            dtype: entry["dtype"].as_str().unwrap().parse().unwrap(),
            shape: serde_json::from_value(entry["shape"].clone()).unwrap(),
            data: bytes[range.clone()].to_vec(),
        };
        change(&mut tensor);
        entry["sha256"] = golden::sha256_hex(&tensor.data).into();
        bytes[range].copy_from_slice(&tensor.data);
        fs::write(file, bytes).unwrap();
        fs::write(candidate.path().join("manifest.json"), manifest.to_string()).unwrap();
        candidate
    }

    pub fn manifest(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path().join("manifest.json")).unwrap()).unwrap()
    }

    /// The bytes as they are, hashes and all, to be spoilt on disk.
    pub fn copied(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("candidate")).unwrap();
        for file in ["manifest.json", "tensors.safetensors"] {
            fs::copy(bundled(name).join(file), folder.path().join("candidate").join(file)).unwrap();
        }
        Candidate { folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("candidate")
    }
}

pub fn compare(golden: &str, candidate: &Candidate) -> DiffReport {
    compare_by(golden, candidate, &Policy::default())
}

pub fn compare_by(golden: &str, candidate: &Candidate, policy: &Policy) -> DiffReport {
    let golden = Dump::open(bundled(golden)).unwrap();
    let candidate = Dump::open(candidate.path()).unwrap();
    validate::diff(&golden, &candidate, &DiffOptions::new(policy)).unwrap()
}

/// The name of the entry that a report names first.
pub fn first_named(report: &DiffReport) -> &str {
    match report.first_divergence() {
        Some(Divergence::Entry(index)) => &report.entries[index].entry.name,
        other => panic!("{other:?}"),
    }
}

/// The names of all entries that fail.
pub fn failing(report: &DiffReport) -> Vec<&str> {
    report.entries.iter().filter(|entry| entry.is_failure()).map(|entry| entry.entry.name.as_str()).collect()
}
