//! Dumps to read and to spoil.

use std::fs;
use std::path::{Path, PathBuf};

use golden::manifest::{ManifestHead, Producer};
use golden::{Dtype, DumpWriter, Role};

/// The five dumps that come with the project.
pub const BUNDLED: [&str; 5] = [
    "shapes-describe-bfloat16",
    "shapes-describe-float32",
    "shapes-history-bfloat16",
    "shapes-text-float32",
    "shapes-wide-bfloat16",
];

pub fn bundled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/goldens").join(name)
}

pub fn copy(name: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(bundled(name)).unwrap() {
        let from = item.unwrap().path();
        fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
}

pub fn head() -> ManifestHead {
    ManifestHead::new(Producer::new("a test", "float32"))
}

/// A dump of two tensors: `a`, float32 [2, 3], and `b`, uint8 [3].
pub fn small(to: &Path) {
    let mut writer = DumpWriter::create(to).unwrap();
    push_small(&mut writer);
    writer.finish(head()).unwrap();
}

pub fn push_small(writer: &mut DumpWriter) {
    let floats: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    writer.push("a", Role::Activation, "Linear", Dtype::Float32, &[2, 3], &floats).unwrap();
    writer.push("b", Role::Output, "", Dtype::UInt8, &[3], &[7, 8, 9]).unwrap();
}

/// Changes a dump's manifest.
pub fn edit_manifest(dump: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = dump.join("manifest.json");
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// Writes a safetensors file with the official writer.
pub fn write_tensors(path: &Path, tensors: &[(&str, safetensors::Dtype, &[usize], &[u8])]) {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (*name, safetensors::tensor::TensorView::new(*dtype, shape.to_vec(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}
