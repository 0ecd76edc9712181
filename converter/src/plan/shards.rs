//! Distributes tensors over files, and makes each file's header.

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value, json};

use super::ShardSize;
use super::output::Output;
use crate::architecture::{Apart, Buffer};
use crate::weights::SINGLE_FILE;

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name.
    pub file: String,
    /// Everything in front of the data: the header's length and the header.
    pub header: Vec<u8>,
    /// Its tensors in the order of their data, as places in the plan's outputs.
    pub outputs: Vec<usize>,
    /// Tensors in front of those, in their order, that are made of the configuration.
    pub buffers: Vec<Buffer>,
    /// Whether it stands beside the checkpoint, whose index does not list it.
    pub is_apart: bool,
    /// Size of its data in bytes.
    pub data_bytes: usize,
}

/// Bytes that a tensor takes in the header beside its name, at most: dtype, shape and two offsets of up to 20 digits.
const HEADER_ENTRY_BYTES: u64 = 160;
/// Bytes of a header without tensors, at most.
const HEADER_BYTES: u64 = 64;

/// Sets each output's file and place in it, and returns the files.
///
/// Tensors stay in their order and go to the next file where they would make one larger than `max`; inside a file those
/// with larger elements come first, so that each begins at a multiple of its element's size. `buffers` go in front of
/// the first file. What is `apart` goes to a file of its own.
pub(super) fn assign(
    outputs: &mut [Output],
    buffers: Vec<Buffer>,
    apart: Option<Apart>,
    max: ShardSize,
) -> Vec<Shard> {
    let is_apart = |name: &str| apart.is_some_and(|apart| name.starts_with(apart.prefix));
    let (group_apart, rest): (Vec<usize>, Vec<usize>) =
        (0..outputs.len()).partition(|&i| is_apart(&outputs[i].name));
    let mut groups: Vec<Vec<usize>> = vec![Vec::new()];
    let of_buffers =
        buffers.iter().map(|buffer| (buffer.bytes.len() + buffer.name.len()) as u64 + HEADER_ENTRY_BYTES);
    let mut size = HEADER_BYTES + of_buffers.sum::<u64>();
    for i in rest {
        let output = &outputs[i];
        let bytes = output.bytes() as u64 + output.name.len() as u64 + HEADER_ENTRY_BYTES;
        let open = groups.len() - 1;
        if size + bytes > max.bytes() && !groups[open].is_empty() {
            groups.push(vec![i]);
            size = HEADER_BYTES + bytes;
        } else {
            groups[open].push(i);
            size += bytes;
        }
    }
    let count = groups.len();
    let mut shards: Vec<Shard> = Vec::with_capacity(count + 1);
    let mut buffers = Some(buffers);
    for (shard, group) in groups.into_iter().enumerate() {
        let file = if count == 1 {
            SINGLE_FILE.to_string()
        } else {
            format!("model-{:05}-of-{count:05}.safetensors", shard + 1)
        };
        shards.push(make_shard(outputs, shard, file, buffers.take().unwrap_or_default(), group));
    }
    if let Some(Apart { file, .. }) = apart
        && !group_apart.is_empty()
    {
        let shard = make_shard(outputs, shards.len(), file.to_string(), Vec::new(), group_apart);
        shards.push(Shard { is_apart: true, ..shard });
    }
    shards
}

fn make_shard(
    outputs: &mut [Output],
    shard: usize,
    file: String,
    buffers: Vec<Buffer>,
    mut group: Vec<usize>,
) -> Shard {
    group.sort_by_key(|&i| std::cmp::Reverse(outputs[i].dtype.elem_bytes()));
    let mut offset = 0;
    let mut entries = Vec::with_capacity(buffers.len() + group.len());
    for buffer in &buffers {
        let end = offset + buffer.bytes.len();
        let info =
            TensorInfo { dtype: buffer.dtype, shape: buffer.shape.clone(), data_offsets: (offset, end) };
        entries.push((buffer.name.to_string(), info));
        offset = end;
    }
    for &i in &group {
        let output = &mut outputs[i];
        let end = offset + output.bytes();
        (output.shard, output.offset) = (shard, offset);
        let info = TensorInfo {
            dtype: output.dtype.dtype(),
            shape: output.shape.clone(),
            data_offsets: (offset, end),
        };
        entries.push((output.name.clone(), info));
        offset = end;
    }
    Shard { file, header: header(entries), outputs: group, buffers, is_apart: false, data_bytes: offset }
}

/// The header's length and the header, filled up with spaces so that the data begins at a multiple of 8.
fn header(entries: Vec<(String, TensorInfo)>) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("__metadata__".into(), json!({ "format": "pt" }));
    for (name, info) in entries {
        let TensorInfo { dtype, shape, data_offsets: (start, end) } = info;
        let entry = json!({ "dtype": dtype.to_string(), "shape": shape, "data_offsets": [start, end] });
        object.insert(name, entry);
    }
    let mut text = Value::Object(object).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    header
}
