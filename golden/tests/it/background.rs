//! Writing on a thread of its own.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use golden::background::Tensor;
use golden::manifest::{ManifestHead, Producer, Role};
use golden::{BackgroundWriter, Dtype, Dump, DumpWriter, Error, NewEntry, WriteOptions};
use serde_json::json;

fn head() -> ManifestHead {
    ManifestHead::new(Producer::new("test", "float32"))
}

fn tensor(name: &str, data: impl AsRef<[u8]> + Send + 'static) -> Tensor {
    Tensor {
        entry: NewEntry::new(name, Role::Activation, "Linear"),
        dtype: Dtype::UInt8,
        shape: vec![data.as_ref().len()],
        sketch: None,
        data: Box::new(data),
    }
}

/// Nothing of a dump in the making is left in a folder.
fn assert_empty(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Bytes that count how many of them are alive.
struct Counted {
    data: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn what_is_pushed_is_read_back_in_order_with_its_hashes_and_further_fields() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let writer = BackgroundWriter::new(DumpWriter::create(&target).unwrap(), 100).unwrap();
    for index in 0..50u8 {
        let mut tensor = tensor(&format!("layers.{index}"), vec![index; usize::from(index)]);
        tensor.entry.extra.insert("rows".to_owned(), json!({ "of": 7 }));
        writer.push(tensor).unwrap();
    }
    writer.finish(head()).unwrap();
    let dump = Dump::open(&target).unwrap();
    dump.verify().unwrap();
    assert_eq!(dump.entries().len(), 50);
    for (index, (entry, view)) in dump.tensors().enumerate() {
        assert_eq!(entry.name, format!("layers.{index}"));
        assert_eq!(entry.extra["rows"]["of"], 7);
        assert_eq!(view.data(), vec![index as u8; index]);
    }
}

#[test]
fn a_tensor_can_be_sketched_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let writer = BackgroundWriter::new(DumpWriter::create(&target).unwrap(), 1000).unwrap();
    let data: Vec<u8> = [1.0f32, -2.0, 3.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut sketched = Tensor { dtype: Dtype::Float32, shape: vec![3], ..tensor("a", data.clone()) };
    sketched.sketch = Some(7);
    writer.push(sketched).unwrap();
    writer.finish(head()).unwrap();
    let dump = Dump::open(&target).unwrap();
    assert!(dump.get("a").is_none());
    let view = golden::TensorView::new(Dtype::Float32, &[3], &data).unwrap();
    assert_eq!(dump.sketch("a"), Some(&golden::Sketch::of(&view, 7)));
    assert_eq!(dump.entry("a").unwrap().sha256, golden::sha256_hex(&data));
}

#[test]
fn only_so_many_bytes_wait_and_they_are_released_when_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let alive = Arc::new(AtomicUsize::new(0));
    let options = {
        let mut options = WriteOptions::default();
        options.buffer_bytes = 0;
        options
    };
    let writer = DumpWriter::create_with(folder.path().join("dump"), options).unwrap();
    let writer = BackgroundWriter::new(writer, 3000).unwrap();
    for index in 0..200 {
        let now = alive.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(now <= 4, "{now} tensors of 1,000 bytes, where 3,000 may wait and one is being pushed");
        let data = Counted { data: vec![1; 1000], alive: Arc::clone(&alive) };
        writer.push(tensor(&index.to_string(), data)).unwrap();
        assert!(writer.queued_bytes() <= 3000);
    }
    // A tensor that is larger than all that may wait is taken when nothing does.
    alive.fetch_add(1, Ordering::SeqCst);
    writer.push(tensor("large", Counted { data: vec![1; 10_000], alive: Arc::clone(&alive) })).unwrap();
    writer.finish(head()).unwrap();
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn a_tensor_for_which_there_is_no_room_comes_back() {
    /// Bytes that are not read before they may be.
    struct Blocked(std::sync::Mutex<std::sync::mpsc::Receiver<()>>, AtomicUsize);
    impl AsRef<[u8]> for Blocked {
        fn as_ref(&self) -> &[u8] {
            // The first two calls come from this test, which asks for the length.
            if self.1.fetch_add(1, Ordering::SeqCst) >= 2 {
                let _ = self.0.lock().unwrap().recv();
            }
            &[7; 10]
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (unblock, blocked) = std::sync::mpsc::channel();
    let writer = DumpWriter::create(folder.path().join("dump")).unwrap();
    let writer = BackgroundWriter::new(writer, 10).unwrap();
    writer.push(tensor("first", Blocked(std::sync::Mutex::new(blocked), AtomicUsize::new(0)))).unwrap();
    let returned = writer.try_push(tensor("second", vec![1]), Duration::from_millis(20)).unwrap().unwrap();
    assert_eq!(returned.entry.name, "second");
    drop(unblock);
    writer.push(returned).unwrap();
    writer.finish(head()).unwrap();
    let dump = Dump::open(folder.path().join("dump")).unwrap();
    assert_eq!(dump.entries().len(), 2);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let writer = DumpWriter::create(folder.path().join("dump")).unwrap();
    let writer = BackgroundWriter::new(writer, 1000).unwrap();
    writer.push(tensor("a", vec![1; 10])).unwrap();
    drop(writer);
    assert_empty(folder.path());
}

#[test]
fn a_failure_is_told_once_and_nothing_is_left_under_the_final_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = WriteOptions::default();
    options.buffer_bytes = 0;
    let writer = DumpWriter::create_with(folder.path().join("dump"), options).unwrap();
    // As if the disk failed: the folder that the tensors go to is taken away.
    let hidden = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(&hidden).unwrap();
    let mut writer = BackgroundWriter::new(writer, 1000).unwrap();
    writer.push(tensor("a", vec![1; 10])).unwrap();
    writer.begin_finish(head());
    let error = loop {
        match writer.wait(Duration::from_secs(5)) {
            Ok(ended) => assert!(!ended),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Write { path, .. } if path.starts_with(&hidden)), "{error}");
    let again = writer.push(tensor("b", vec![1])).unwrap_err();
    assert!(matches!(again, Error::WriterStopped), "{again}");
    assert!(again.to_string().starts_with("expected a dump that is still being written, found one that"));
    drop(writer);
    assert_empty(folder.path());
}

#[test]
fn what_the_thread_refuses_comes_back_as_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let writer = DumpWriter::create(folder.path().join("dump")).unwrap();
    let writer = BackgroundWriter::new(writer, 1000).unwrap();
    writer.push(tensor("a", vec![1])).unwrap();
    let _ = writer.push(tensor("a", vec![2]));
    let error = writer.finish(head()).unwrap_err();
    assert!(matches!(error, Error::DuplicateName { .. } | Error::WriterStopped), "{error}");
    assert_empty(folder.path());
}
