//! Writing one safetensors file whose tensors arrive one after the other.
//!
//! The header stands first in the file and is known last. A small file waits in memory and is written exactly; a
//! larger one goes to disk behind room kept for the header, which is filled with spaces: the format allows them.
//!
//! Why the crate `safetensors` does not do this: it needs all tensors before it writes the first.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use crate::Dtype;

/// The file of a dump that has only one.
pub(crate) const SINGLE_FILE: &str = "tensors.safetensors";

/// Size of the length before the header, in bytes.
const LENGTH_BYTES: u64 = store::safetensors_header::LENGTH_BYTES as u64;

/// The name of a file of several.
pub(crate) fn shard_name(index: usize, count: usize) -> String {
    format!("tensors-{index:05}-of-{count:05}.safetensors")
}

/// The index and count of a file of several.
pub(crate) fn parse_shard_name(name: &str) -> Option<(usize, usize)> {
    let (index, count) = name.strip_prefix("tensors-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
    let number = |digits: &str| {
        (digits.len() >= 5 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse().ok())
            .flatten()
    };
    Some((number(index)?, number(count)?))
}

/// A file in the making.
#[derive(Debug)]
pub(crate) struct Shard {
    state: State,
    /// The header's members without the braces around them.
    header: String,
    data_bytes: u64,
    buffer_bytes: usize,
    header_room_bytes: u64,
}

#[derive(Debug)]
enum State {
    /// The tensors so far, to be ordered by the size of their elements when they are written.
    Buffered(Vec<Buffered>),
    /// Everything but the header is in the file.
    Streaming(File),
}

#[derive(Debug)]
struct Buffered {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Shard {
    /// An empty file that waits in memory up to `buffer_bytes`, and keeps `header_room_bytes` for its header beyond.
    pub(crate) fn new(buffer_bytes: usize, header_room_bytes: u64) -> Self {
        Shard {
            state: State::Buffered(Vec::new()),
            header: String::new(),
            data_bytes: 0,
            buffer_bytes,
            header_room_bytes: header_room_bytes.next_multiple_of(8),
        }
    }

    /// The size of the tensors so far.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Whether there is no tensor yet.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.state {
            State::Buffered(tensors) => tensors.is_empty(),
            State::Streaming(_) => false,
        }
    }

    /// Whether the header still has room for another tensor.
    pub(crate) fn has_room(&self, name: &str, dtype: Dtype, shape: &[usize]) -> bool {
        room_for(self.header.len(), name, dtype, shape) <= self.header_room_bytes
    }

    /// Appends a tensor; `path` is made when the tensors no longer fit in memory.
    pub(crate) fn push(
        &mut self,
        path: &Path,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        data: &[u8],
    ) -> io::Result<()> {
        if self.is_empty() {
            // The first tensor is always taken, however long its name.
            self.header_room_bytes = self.header_room_bytes.max(room_for(0, name, dtype, shape));
        }
        if let State::Buffered(tensors) = &mut self.state {
            if self.data_bytes + data.len() as u64 <= self.buffer_bytes as u64 {
                tensors.push(Buffered {
                    name: name.to_owned(),
                    dtype,
                    shape: shape.to_vec(),
                    data: data.to_vec(),
                });
                // The header is counted as the streamed one would be, so that it fits when the buffer overflows.
                self.describe(name, dtype, shape, data.len());
                return Ok(());
            }
            let tensors = std::mem::take(tensors);
            let mut file = File::create(path)?;
            file.seek(SeekFrom::Start(LENGTH_BYTES + self.header_room_bytes))?;
            for tensor in tensors {
                file.write_all(&tensor.data)?;
            }
            self.state = State::Streaming(file);
        }
        if let State::Streaming(file) = &mut self.state {
            file.write_all(data)?;
        }
        self.describe(name, dtype, shape, data.len());
        Ok(())
    }

    /// Writes the header, and whatever waits in memory, and asks the system to keep the file.
    pub(crate) fn finish(self, path: &Path) -> io::Result<()> {
        let (mut file, header, header_bytes) = match self.state {
            State::Streaming(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                (file, self.header, self.header_room_bytes)
            }
            State::Buffered(mut tensors) => {
                // Wide elements first keeps every tensor aligned to its element, as safetensors' own writer does.
                tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.size_bytes()));
                let mut exact = Shard::new(0, 0);
                for tensor in &tensors {
                    exact.describe(&tensor.name, tensor.dtype, &tensor.shape, tensor.data.len());
                }
                let header_bytes = (exact.header.len() as u64 + 2).next_multiple_of(8);
                let mut file = File::create(path)?;
                file.seek(SeekFrom::Start(LENGTH_BYTES + header_bytes))?;
                for tensor in &tensors {
                    file.write_all(&tensor.data)?;
                }
                file.seek(SeekFrom::Start(0))?;
                (file, exact.header, header_bytes)
            }
        };
        let mut head = header_bytes.to_le_bytes().to_vec();
        head.push(b'{');
        head.extend_from_slice(header.as_bytes());
        head.push(b'}');
        head.resize((LENGTH_BYTES + header_bytes) as usize, b' ');
        file.write_all(&head)?;
        file.sync_all()
    }

    fn describe(&mut self, name: &str, dtype: Dtype, shape: &[usize], len_bytes: usize) {
        let end = self.data_bytes + len_bytes as u64;
        if !self.header.is_empty() {
            self.header.push(',');
        }
        self.header.push_str(&member(name, dtype, shape, self.data_bytes, end));
        self.data_bytes = end;
    }
}

/// The room that a header needs for another tensor, with the digits of its offsets counted at their most.
fn room_for(header_bytes: usize, name: &str, dtype: Dtype, shape: &[usize]) -> u64 {
    let punctuation = "{,}".len();
    let member = member(name, dtype, shape, u64::MAX, u64::MAX);
    ((header_bytes + member.len() + punctuation) as u64).next_multiple_of(8)
}

/// A tensor's member of the header.
fn member(name: &str, dtype: Dtype, shape: &[usize], start: u64, end: u64) -> String {
    let name = serde_json::Value::from(name);
    let dtype = safetensors::Dtype::from(dtype);
    let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    format!(r#"{name}:{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{start},{end}]}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_several_files_lead_back_to_their_numbers() {
        assert_eq!(shard_name(2, 12), "tensors-00002-of-00012.safetensors");
        assert_eq!(parse_shard_name(&shard_name(2, 12)), Some((2, 12)));
        assert_eq!(parse_shard_name(&shard_name(1, 123_456)), Some((1, 123_456)));
        for other in
            ["tensors.safetensors", "tensors-1-of-2.safetensors", "tensors-00001-of-0000x.safetensors"]
        {
            assert_eq!(parse_shard_name(other), None, "{other}");
        }
    }
}
