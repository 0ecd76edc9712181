//! Tensors that are made of several, or of rows and columns of one: a small family that has each, through the plan, the stream,
//! the ledger, `verify` and `export`.

use std::fs;
use std::path::PathBuf;

use converter::architecture::{Architecture, Axis, Block, Mapping, Names, Part, Rule, TensorLayout, rule};
use converter::ledger::{
    self, LEDGER_FILE, LEDGER_FORMAT, LEDGER_VERSION, Ledger, LedgerInput, LedgerOptions, LedgerRow,
    LedgerSource, ReadFile, Tool, WrittenFile,
};
use converter::nemotron_vl::ARCHITECTURE;
use converter::normalized::{Config, TorchDtype};
use converter::plan::{Action, Plan, PlanOptions, SourceTensor, Transform};
use converter::weights::{Folder, Weights};
use converter::write::{NullSink, Streamed, Unwatched, stream, write_tensors};
use converter::{Error, Export, TensorProblem, compare_tensors, verify};
use half::bf16;
use safetensors::Dtype;
use store::hash::sha256;
use tempfile::TempDir;

use crate::conversion::tensors;
use crate::hand_made::{Made, normalized_config, write_json, write_shards};

const NAMES: Names = Names { rules: RULES, refused: &[] };

const RULES: &[Rule] = &[
    rule(&["attn.q.*", "attn.k.*", "attn.v.*"], Mapping::Fuse("attn.qkv.*")),
    rule(
        &["mlp.gate_up.*"],
        Mapping::Split { targets: &["mlp.gate.*", "mlp.up.*"], along: Axis::Rows, reason: "gate, then up" },
    ),
    rule(
        &["pair.weight"],
        Mapping::Split {
            targets: &["left.weight", "right.weight"],
            along: Axis::Columns,
            reason: "left, then right",
        },
    ),
    rule(
        &["proj.weight", "proj.weight_scale"],
        Mapping::Scale { target: "proj.weight", dtype: TorchDtype::Bfloat16, block: Block::Of(&[2, 6]) },
    ),
    rule(&["norm.weight"], Mapping::Keep),
];

pub(crate) fn toy() -> Architecture {
    Architecture {
        names: NAMES,
        layout: |_, _| {
            let all: [(&str, &[usize]); 8] = [
                ("attn.qkv.weight", &[8, 3]),
                ("attn.qkv.bias", &[8]),
                ("mlp.gate.weight", &[2, 3]),
                ("mlp.up.weight", &[3, 3]),
                ("left.weight", &[4, 2]),
                ("right.weight", &[4, 5]),
                ("proj.weight", &[4, 6]),
                ("norm.weight", &[3]),
            ];
            all.map(|(name, shape)| TensorLayout { name: name.into(), shape: shape.to_vec() }).into()
        },
        fused: |_| {
            let all: [(&str, &[usize]); 6] = [
                ("attn.q.weight", &[4, 3]),
                ("attn.k.weight", &[2, 3]),
                ("attn.v.weight", &[2, 3]),
                ("attn.q.bias", &[4]),
                ("attn.k.bias", &[2]),
                ("attn.v.bias", &[2]),
            ];
            all.map(|(name, shape)| TensorLayout { name: name.into(), shape: shape.to_vec() }).into()
        },
        duplicates: |_| &[],
        ..ARCHITECTURE
    }
}

/// In no order that helps: `k` comes before `q`, the scale before its weight, and each pair is in two files.
pub(crate) fn sources() -> Vec<Made> {
    let mut proj = Made::new("proj.weight", Dtype::F8_E4M3, &[4, 6]);
    // Past every special value.
    proj.data.iter_mut().for_each(|byte| *byte |= 0x80);
    vec![
        Made::new("attn.k.weight", Dtype::BF16, &[2, 3]),
        Made::new("attn.k.bias", Dtype::BF16, &[2]),
        Made::new("pair.weight", Dtype::F16, &[4, 7]),
        scale(&[2, 1], &[0.5, 3.0]),
        Made::new("mlp.gate_up.weight", Dtype::BF16, &[5, 3]),
        Made::new("norm.weight", Dtype::F32, &[3]),
        Made::new("attn.v.bias", Dtype::BF16, &[2]),
        Made::new("attn.q.weight", Dtype::BF16, &[4, 3]),
        Made::new("attn.v.weight", Dtype::BF16, &[2, 3]),
        proj,
        Made::new("attn.q.bias", Dtype::BF16, &[4]),
    ]
}

fn scale(shape: &[usize], values: &[f32]) -> Made {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Made { name: "proj.weight_scale".into(), dtype: Dtype::F32, shape: shape.to_vec(), data }
}

/// The sources without the scaled weight: everything that can be undone.
fn unscaled() -> (Architecture, Vec<Made>) {
    let mut made = sources();
    made.retain(|tensor| !tensor.name.starts_with("proj"));
    let layout: fn(&Config, Part) -> Vec<TensorLayout> = |config, part| {
        let mut all = (toy().layout)(config, part);
        all.retain(|tensor| !tensor.name.starts_with("proj"));
        all
    };
    (Architecture { layout, ..toy() }, made)
}

pub(crate) fn planned(
    family: &Architecture,
    weights: &Weights,
    dtype: Option<TorchDtype>,
) -> Result<Plan, Vec<TensorProblem>> {
    let config: Config = serde_json::from_value(normalized_config()).unwrap();
    Plan::new(family, SourceTensor::all(weights), &config, PlanOptions { dtype, ..PlanOptions::KEEP })
}

/// What is wrong with the sources after a change.
fn problems(change: impl FnOnce(&mut Vec<Made>)) -> Vec<String> {
    let mut made = sources();
    change(&mut made);
    let dir = TempDir::new().unwrap();
    write_shards(dir.path(), &made, 2);
    let weights = Weights::open(&Folder::open(dir.path()).unwrap()).unwrap();
    planned(&toy(), &weights, None).unwrap_err().iter().map(ToString::to_string).collect()
}

struct Converted {
    parent: TempDir,
    plan: Plan,
    streamed: Streamed,
    ledger: Ledger,
}

impl Converted {
    /// Converts `made`; `part` is what the ledger says: `verify` looks for the whole of this project's own model in `All`.
    fn of(family: &Architecture, made: &[Made], dtype: Option<TorchDtype>, part: Part) -> Self {
        let parent = TempDir::new().unwrap();
        let (source, out) = (parent.path().join("source"), parent.path().join("out"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&out).unwrap();
        write_shards(&source, made, 2);
        let weights = Weights::open(&Folder::open(&source).unwrap()).unwrap();
        let plan = planned(family, &weights, dtype).unwrap();
        let streamed = write_tensors(&out, &weights, &plan, &Unwatched).unwrap();
        // A hash alone is the same hash.
        assert_eq!(stream(&weights, &plan, &NullSink, &Unwatched).unwrap(), streamed);

        let mut config = normalized_config();
        config["part"] = "text".into();
        write_json(&out.join("nemotron_vl_config.json"), &config);
        let config = fs::read(out.join("nemotron_vl_config.json")).unwrap();
        let written = |name: &str, bytes: usize, front: &[u8]| WrittenFile {
            name: name.into(),
            bytes: bytes as u64,
            sha256: sha256(front),
            hashed_bytes: front.len() as u64,
        };
        let mut files = vec![written("nemotron_vl_config.json", config.len(), &config)];
        files.extend(
            plan.shards
                .iter()
                .map(|shard| written(&shard.file, shard.header.len() + shard.data_bytes, &shard.header)),
        );
        let read = weights.files().iter().map(|file| ReadFile {
            name: file.name().into(),
            bytes: file.bytes(),
            sha256: sha256(&fs::read(file.path()).unwrap()),
            text: None,
            header: Some(String::from_utf8(file.front()[8..].to_vec()).unwrap()),
        });
        let mut ledger = Ledger {
            format: LEDGER_FORMAT.into(),
            format_version: LEDGER_VERSION,
            tool: Tool { name: "test".into(), version: "0".into(), commit: None },
            options: LedgerOptions { part, dtype: "keep".into(), max_shard_bytes: 1 << 30 },
            source: LedgerSource {
                name: "toy".into(),
                repository: None,
                revision: None,
                files: read.collect(),
                code: Vec::new(),
            },
            files,
            tensors: ledger::tensor_rows(&plan, &streamed),
            buffers: Vec::new(),
            behaviours: Vec::new(),
            defaults: Vec::new(),
            ignored_fields: Vec::new(),
            warnings: Vec::new(),
            ledger_sha256: String::new(),
        };
        fs::write(out.join(LEDGER_FILE), ledger.seal().unwrap()).unwrap();
        Self { parent, plan, streamed, ledger }
    }

    fn out(&self) -> PathBuf {
        self.parent.path().join("out")
    }

    fn row(&self, name: &str) -> &LedgerRow {
        self.ledger.tensors.iter().find(|row| row.source == name).unwrap()
    }

    fn differences(&self) -> Vec<String> {
        let (_, verification) = verify(&self.out(), &Unwatched).unwrap();
        verification.differences.iter().map(ToString::to_string).collect()
    }
}

fn data<'a>(made: &'a [Made], name: &str) -> &'a [u8] {
    &made.iter().find(|tensor| tensor.name == name).unwrap().data
}

#[test]
fn a_fusion_a_split_and_a_scale_have_the_bytes_that_they_say() {
    let made = sources();
    let converted = Converted::of(&toy(), &made, None, Part::Text);
    let written = tensors(&converted.out());
    let bytes = |name: &str| written[name].2.clone();
    for leaf in ["weight", "bias"] {
        let parts = ["q", "k", "v"].map(|part| data(&made, &format!("attn.{part}.{leaf}")));
        assert_eq!(bytes(&format!("attn.qkv.{leaf}")), parts.concat(), "{leaf}");
    }
    let gate_up = data(&made, "mlp.gate_up.weight");
    assert_eq!(
        (bytes("mlp.gate.weight"), bytes("mlp.up.weight")),
        (gate_up[..12].into(), gate_up[12..].into())
    );
    let rows: Vec<&[u8]> = data(&made, "pair.weight").chunks(14).collect();
    let columns = |range: std::ops::Range<usize>| {
        rows.iter().flat_map(|row| row[range.clone()].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!((bytes("left.weight"), bytes("right.weight")), (columns(0..4), columns(4..14)));
    assert_eq!((written["left.weight"].0, &written["left.weight"].1), (Dtype::F16, &vec![4, 2]));

    let product = |(i, &byte): (usize, &u8)| {
        let scale = if i < 12 { 0.5 } else { 3.0 };
        bf16::from_f32(store::float8::e4m3fn_to_f32(byte) * scale).to_le_bytes()
    };
    let expected: Vec<u8> = data(&made, "proj.weight").iter().enumerate().flat_map(product).collect();
    assert_eq!(written["proj.weight"], (Dtype::BF16, vec![4, 6], expected));
    assert_eq!(bytes("norm.weight"), data(&made, "norm.weight"));
    assert_eq!(written.len(), 8);
    for (output, hash) in converted.plan.outputs.iter().zip(&converted.streamed.outputs) {
        assert_eq!(hash.sha256, sha256(&bytes(&output.name)), "{}", output.name);
    }
}

#[test]
fn the_ledger_says_what_each_tensor_is_made_of() {
    let converted = Converted::of(&toy(), &sources(), None, Part::Text);
    let whole = |source: &str| LedgerInput { source: source.into(), rows: None, columns: None };
    for name in ["attn.q.weight", "attn.k.weight", "attn.v.weight"] {
        let row = converted.row(name);
        assert_eq!(row.action, Action::Combined);
        assert_eq!(
            row.reason,
            "the rows of `attn.q.weight`, `attn.k.weight`, `attn.v.weight` one after the other"
        );
        assert_eq!(row.targets.len(), 1);
        assert_eq!(row.targets[0].transform, Some(Transform::Stack));
        assert_eq!(row.targets[0].inputs, ["attn.q.weight", "attn.k.weight", "attn.v.weight"].map(whole));
    }
    let scaled = converted.row("proj.weight_scale");
    assert_eq!((scaled.action, scaled.targets[0].transform), (Action::Combined, Some(Transform::Scale)));
    assert_eq!(
        scaled.reason,
        "`proj.weight`, `proj.weight_scale`: a weight and its scale, multiplied in float32, rounded to bfloat16"
    );
    assert_eq!(scaled.targets[0].block, [2, 6]);
    assert_eq!(scaled.targets, converted.row("proj.weight").targets);

    // Rows follow each other: nothing more is to be said. Columns do not.
    let split = converted.row("mlp.gate_up.weight");
    assert_eq!((split.action, split.reason.as_str()), (Action::Split, "gate, then up"));
    assert!(split.targets.iter().all(|target| target.inputs.is_empty() && target.transform.is_none()));
    let columns: Vec<_> =
        converted.row("pair.weight").targets.iter().map(|target| target.inputs[0].columns).collect();
    assert_eq!(columns, [Some([0, 2]), Some([2, 7])]);
    let kept = serde_json::to_value(&converted.row("norm.weight").targets[0]).unwrap();
    assert!(kept.get("inputs").is_none() && kept.get("transform").is_none());
}

#[test]
fn another_dtype_goes_through_every_way() {
    let made = sources();
    let converted = Converted::of(&toy(), &made, Some(TorchDtype::Float32), Part::Text);
    let written = tensors(&converted.out());
    assert!(written.values().all(|(dtype, _, _)| *dtype == Dtype::F32));
    let wide = |bytes: &[u8]| bytes.chunks(2).flat_map(|half| [0, 0, half[0], half[1]]).collect::<Vec<u8>>();
    let qkv = ["q", "k", "v"].map(|part| wide(data(&made, &format!("attn.{part}.bias"))));
    assert_eq!(written["attn.qkv.bias"].2, qkv.concat());
    let row = converted.row("attn.k.bias");
    assert_eq!(row.action, Action::Combined);
    assert_eq!(
        row.reason,
        "the rows of `attn.q.bias`, `attn.k.bias`, `attn.v.bias` one after the other; bfloat16 to float32, rounded to nearest \
         even"
    );
    assert_eq!(converted.differences(), Vec::<String>::new());
}

#[test]
fn verify_finds_what_was_changed_in_a_tensor_of_several() {
    let converted = Converted::of(&toy(), &sources(), None, Part::Text);
    assert_eq!(converted.differences(), Vec::<String>::new());
    let path = converted.out().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for name in ["attn.qkv.weight", "proj.weight", "right.weight"] {
        let output = converted.plan.outputs.iter().find(|output| output.name == name).unwrap();
        let mut changed = bytes.clone();
        changed[converted.plan.shards[0].header.len() + output.offset] ^= 1;
        fs::write(&path, changed).unwrap();
        let found = converted.differences();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("tensor `{name}`: expected SHA-256 ")), "{found:?}");
    }
    fs::write(&path, bytes).unwrap();

    // The rows of one tensor that contradict each other.
    let mut ledger = converted.ledger.clone();
    let row = ledger.tensors.iter_mut().find(|row| row.source == "attn.k.weight").unwrap();
    row.targets[0].inputs.swap(0, 1);
    fs::write(converted.out().join(LEDGER_FILE), ledger.seal().unwrap()).unwrap();
    let expected =
        "tensor `attn.qkv.weight`: expected the same in each row of the ledger that has it, found another";
    assert_eq!(converted.differences()[0], expected);
}

#[test]
fn the_source_is_compared_tensor_by_tensor() {
    let converted = Converted::of(&toy(), &sources(), None, Part::Text);
    let clean = compare_tensors(&converted.plan, &converted.streamed, &converted.ledger);
    assert_eq!((clean.differences.as_slice(), clean.source_tensors), (&[][..], 11));
    let mut other = sources();
    other.iter_mut().find(|tensor| tensor.name == "proj.weight_scale").unwrap().data[2] ^= 0x40;
    let other = Converted::of(&toy(), &other, None, Part::Text);
    let found = compare_tensors(&other.plan, &other.streamed, &converted.ledger).differences;
    // The scale differs, and so does what the weight became with it.
    let places: Vec<&str> = found.iter().map(|difference| difference.place.as_str()).collect();
    assert_eq!(places, ["source tensor `proj.weight_scale`", "source tensor `proj.weight`"]);
    assert!(found[1].expected.starts_with("targets [(\"proj.weight\", "), "{:?}", found[1]);

    // The bytes are the same, and what the ledger says of their making is not.
    let mut ledger = converted.ledger.clone();
    for row in &mut ledger.tensors {
        for target in row.targets.iter_mut().filter(|target| !target.inputs.is_empty()) {
            match target.name.as_str() {
                "left.weight" => target.inputs[0].columns = Some([1, 3]),
                "proj.weight" => target.transform = Some(Transform::Stack),
                _ => {}
            }
        }
    }
    let found = compare_tensors(&converted.plan, &converted.streamed, &ledger).differences;
    let places: Vec<&str> = found.iter().map(|difference| difference.place.as_str()).collect();
    let expected = [
        "source tensor `proj.weight_scale`, target `proj.weight`",
        "source tensor `pair.weight`, target `left.weight`",
        "source tensor `proj.weight`, target `proj.weight`",
    ];
    assert_eq!(places, expected);
}

#[test]
fn a_fusion_is_undone_and_a_product_is_not() {
    let (family, made) = unscaled();
    // Columns are no run of bytes: that one is refused.
    let by_column = Converted::of(&family, &made, None, Part::All);
    let refused = Export::prepare(&by_column.out()).unwrap_err().to_string();
    assert!(
        refused.contains("found `pair.weight` computed with others, or in part only, in `left.weight`"),
        "{refused}"
    );

    let fused: fn(&Config, Part) -> Vec<TensorLayout> = |config, part| {
        let mut all = (toy().layout)(config, part);
        all.retain(|tensor| !["proj", "left", "right"].iter().any(|name| tensor.name.starts_with(name)));
        all
    };
    let family = Architecture { layout: fused, ..toy() };
    let made: Vec<Made> = made.into_iter().filter(|tensor| tensor.name != "pair.weight").collect();
    for dtype in [None, Some(TorchDtype::Float32)] {
        let converted = Converted::of(&family, &made, dtype, Part::All);
        let back = converted.parent.path().join("back");
        Export::prepare(&converted.out()).unwrap().write(&back, false, &Unwatched).unwrap();
        for file in fs::read_dir(&back).unwrap() {
            let name = file.unwrap().file_name();
            let again = fs::read(back.join(&name)).unwrap();
            assert_eq!(again, fs::read(converted.parent.path().join("source").join(&name)).unwrap());
        }
        assert_eq!(fs::read_dir(&back).unwrap().count(), 2);
    }

    // A shape of another row that no memory holds.
    let huge = Converted::of(&family, &made, None, Part::All);
    let mut ledger = huge.ledger.clone();
    let row = ledger.tensors.iter_mut().find(|row| row.source == "attn.q.weight").unwrap();
    row.shape[0] = usize::MAX;
    fs::write(huge.out().join(LEDGER_FILE), ledger.seal().unwrap()).unwrap();
    assert!(matches!(Export::prepare(&huge.out()), Err(Error::NotRestorable { .. })));

    let scaled = Converted::of(&toy(), &sources(), None, Part::All);
    assert!(matches!(Export::prepare(&scaled.out()), Err(Error::NotRestorable { .. })));
}

#[test]
fn what_is_missing_is_named_with_what_needs_it() {
    let lacking = |name: &'static str| problems(move |made| made.retain(|tensor| tensor.name != name));
    let message = |name: &str, target: &str| {
        format!("tensor `{name}`: expected it as an input of `{target}`, found no such tensor")
    };
    assert_eq!(lacking("attn.k.weight"), [message("attn.k.weight", "attn.qkv.weight")]);
    assert_eq!(lacking("proj.weight_scale"), [message("proj.weight_scale", "proj.weight")]);
    assert_eq!(lacking("proj.weight"), [message("proj.weight", "proj.weight")]);
    assert_eq!(lacking("pair.weight"), ["tensor `pair.weight`: expected shape [4, 7], found no such tensor"]);
    assert_eq!(
        lacking("mlp.gate_up.weight"),
        ["tensor `mlp.gate_up.weight`: expected shape [5, 3], found no such tensor"]
    );
    let all = problems(|made| made.retain(|tensor| !tensor.name.starts_with("attn")));
    let expected = ["weight", "bias"].map(|leaf| {
        ["q", "k", "v"].map(|part| message(&format!("attn.{part}.{leaf}"), &format!("attn.qkv.{leaf}")))
    });
    assert_eq!(all, expected.concat());
}

#[test]
fn what_does_not_fit_is_named() {
    let set = |name: &'static str, dtype: Dtype, shape: &'static [usize]| {
        problems(move |made| {
            *made.iter_mut().find(|tensor| tensor.name == name).unwrap() = Made::new(name, dtype, shape);
        })
    };
    for (found, expected) in [
        (
            set("attn.k.weight", Dtype::BF16, &[2, 4]),
            "tensor `attn.k.weight`: expected shape [2, 3], found [2, 4]",
        ),
        (
            set("attn.k.weight", Dtype::BF16, &[3, 3]),
            "tensor `attn.k.weight`: expected shape [2, 3], found [3, 3]",
        ),
        (
            set("attn.v.bias", Dtype::F16, &[2]),
            "tensor `attn.v.bias`: expected dtype `BF16`, which `attn.q.bias` has, found `F16`",
        ),
        (
            set("attn.v.bias", Dtype::F64, &[2]),
            "tensor `attn.v.bias`: expected dtype `F32`, `BF16` or `F16`, found `F64`",
        ),
        (
            set("mlp.gate_up.weight", Dtype::BF16, &[6, 3]),
            "tensor `mlp.gate_up.weight`: expected shape [5, 3], found [6, 3]",
        ),
        (
            set("pair.weight", Dtype::F16, &[4, 6]),
            "tensor `pair.weight`: expected shape [4, 7], found [4, 6]",
        ),
        (
            set("proj.weight", Dtype::I8, &[4, 6]),
            "tensor `proj.weight`: expected dtype `F8_E4M3`, `F32`, `BF16` or `F16`, found `I8`",
        ),
        (
            set("proj.weight", Dtype::F8_E4M3, &[6, 4]),
            "tensor `proj.weight`: expected shape [4, 6], found [6, 4]",
        ),
        (
            set("proj.weight_scale", Dtype::F64, &[4]),
            "tensor `proj.weight_scale`: expected dtype `F32`, `BF16` or `F16`, found `F64`",
        ),
        (
            set("proj.weight_scale", Dtype::F32, &[3]),
            "tensor `proj.weight_scale`: expected shape [2, 1], a number for each block [2, 6] of `proj.weight`, found shape \
             [3]",
        ),
        (
            set("proj.weight_scale", Dtype::F32, &[4, 6, 1]),
            "tensor `proj.weight_scale`: expected shape [2, 1], a number for each block [2, 6] of `proj.weight`, found shape \
             [4, 6, 1]",
        ),
    ] {
        assert_eq!(found, [expected]);
    }
    // With a dtype that the user names, inputs of several are no question.
    let mut made = sources();
    made.iter_mut().find(|tensor| tensor.name == "attn.v.bias").unwrap().dtype = Dtype::F16;
    Converted::of(&toy(), &made, Some(TorchDtype::Float32), Part::Text);
}
