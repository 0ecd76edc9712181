//! Dumps of many entries: what is looked at of each does not grow with their number.

use std::collections::HashSet;

use golden::manifest::Producer;
use golden::{Dtype, Dump, DumpWriter, ManifestHead, Role};
use validate::diagnosis::Place;
use validate::{DiffOptions, Policy, names};

fn dump(path: &std::path::Path, names: &[String], value: impl Fn(usize) -> f32) -> Dump {
    let mut writer = DumpWriter::create(path).unwrap();
    for (index, name) in names.iter().enumerate() {
        let data: Vec<u8> = (0..4).flat_map(|at| (value(index) + at as f32).to_le_bytes()).collect();
        writer.push(name, Role::Activation, "C", Dtype::Float32, &[1, 4], &data).unwrap();
    }
    writer.finish(ManifestHead::new(Producer::new("engine", "float32"))).unwrap();
    Dump::open(path).unwrap()
}

#[test]
fn an_entry_computes_from_few_of_many() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..5000).map(|index| format!("list.{index}")).collect();
    let golden = dump(&folder.path().join("golden"), &names, |index| index as f32);
    let candidate = dump(&folder.path().join("candidate"), &names, |index| index as f32 * 1.5);
    let report = validate::diff(&golden, &candidate, &DiffOptions::new(&Policy::default())).unwrap();
    let inputs: usize = report.entries.iter().map(|entry| entry.origin.inputs.len()).sum();
    assert!(inputs <= 65 * names.len(), "{inputs} inputs of {} entries", names.len());
    let nearest: HashSet<usize> = (4935..4999).collect();
    assert!(nearest.iter().all(|index| report.entries[4999].origin.inputs.contains(index)));
}

#[test]
fn layers_of_any_number_are_no_way_to_walk() {
    let folder = tempfile::tempdir().unwrap();
    let layer = |number: usize| format!("language_model.model.layers.{number}.mlp.down_proj");
    let names = ["inputs_embeds".to_owned(), layer(3), layer(usize::MAX)];
    let golden = dump(&folder.path().join("golden"), &names, |index| index as f32);
    let candidate = dump(&folder.path().join("candidate"), &names, |index| index as f32 * 1.5);
    let report = validate::diff(&golden, &candidate, &DiffOptions::new(&Policy::default())).unwrap();
    assert_eq!(report.entries[2].origin.inputs, [0, 1]);
}

#[test]
fn many_tensors_of_one_size_find_their_counterparts() {
    let folder = tempfile::tempdir().unwrap();
    let names = |end: &str| (0..3000).map(|index| format!("{end}.{index}")).collect::<Vec<String>>();
    let value = |index: usize| (index * index % 7919) as f32;
    let golden = dump(&folder.path().join("golden"), &names("a"), value);
    let candidate = dump(&folder.path().join("candidate"), &names("b"), |index| value(index) * 1.000_01);
    let proposal = names::propose(&golden, &candidate).unwrap();
    assert_eq!(proposal.matched, 3000);
    assert!(proposal.text.contains(r"candidate = 'b\.(?<layer>\d+)'"), "{}", &proposal.text[..400]);
}

#[test]
fn the_channel_of_an_error_in_one_row_of_many_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, channels) = (4099, 64);
    let dump = |name: &str, wrong: f32| {
        let path = folder.path().join(name);
        let mut writer = DumpWriter::create(&path).unwrap();
        // No test looks at every row of so many.
        let value = |at: usize| (at % 7) as f32 + if at == channels + 5 { wrong } else { 1.0 };
        let data: Vec<u8> = (0..rows * channels).flat_map(|at| value(at).to_le_bytes()).collect();
        writer.push("a", Role::Activation, "C", Dtype::Float32, &[rows, channels], &data).unwrap();
        writer.finish(ManifestHead::new(Producer::new("engine", "float32"))).unwrap();
        Dump::open(&path).unwrap()
    };
    let (golden, candidate) = (dump("golden", 1.0), dump("candidate", 1000.0));
    let report = validate::diff(&golden, &candidate, &DiffOptions::new(&Policy::default())).unwrap();
    assert_eq!(report.findings.unwrap().places[1..], [Place::Single(vec![5], channels)]);
}
