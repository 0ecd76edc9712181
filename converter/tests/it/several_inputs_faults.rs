//! Tables of a family that contradict themselves, its shapes or its source, each refused with the tensor's name; and the second
//! reading of what goes into tensors of several inputs.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use converter::architecture::{
    Architecture, Axis, Block, Mapping, Names, Part, Parts, Rule, TensorLayout, rule,
};
use converter::normalized::{Config, TorchDtype};
use converter::plan::{Plan, PlanOptions, SourceTensor};
use converter::weights::{Folder, Weights};
use converter::write::{NullSink, Observer, stream};
use converter::{Error, TensorProblem};
use safetensors::Dtype;
use tempfile::TempDir;

use crate::hand_made::{normalized_config, write_shards};
use crate::several_inputs::{planned, sources, toy};

type Shapes = &'static [(&'static str, &'static [usize])];

fn layout(shapes: Shapes) -> Vec<TensorLayout> {
    shapes.iter().map(|(name, shape)| TensorLayout { name: (*name).into(), shape: shape.to_vec() }).collect()
}

fn plan_of(
    family: Architecture,
    sources: &[(&str, Dtype, &[usize])],
    part: Part,
) -> Result<Plan, Vec<TensorProblem>> {
    let config: Config = serde_json::from_value(normalized_config()).unwrap();
    let source = |(name, dtype, shape): &(&str, Dtype, &[usize])| SourceTensor {
        name: (*name).into(),
        dtype: *dtype,
        shape: shape.to_vec(),
        file: "model.safetensors".into(),
    };
    Plan::new(
        &family,
        sources.iter().map(source).collect(),
        &config,
        PlanOptions { part, ..PlanOptions::KEEP },
    )
}

fn problems(family: Architecture, sources: &[(&str, Dtype, &[usize])], part: Part) -> Vec<String> {
    plan_of(family, sources, part).unwrap_err().iter().map(ToString::to_string).collect()
}

fn family(
    rules: &'static [Rule],
    layout: fn(&Config, Part) -> Vec<TensorLayout>,
    fused: fn(&Config) -> Vec<TensorLayout>,
) -> Architecture {
    Architecture { names: Names { rules, refused: &[] }, layout, fused, ..toy() }
}

#[test]
fn pieces_that_do_not_make_up_their_target_are_named() {
    const COLUMNS: &[Rule] = &[rule(
        &["pair"],
        Mapping::Split { targets: &["left", "right"], along: Axis::Columns, reason: "left, then right" },
    )];
    const ROWS: &[Rule] = &[rule(
        &["pair"],
        Mapping::Split { targets: &["left", "right"], along: Axis::Rows, reason: "left, then right" },
    )];
    let flat = family(COLUMNS, |_, _| layout(&[("left", &[4]), ("right", &[4])]), |_| Vec::new());
    let expected = ["left", "right"].map(|name| {
        format!(
            "tensor `{name}`: expected two dimensions, as `pair` is cut along its columns, found shape [4]"
        )
    });
    assert_eq!(problems(flat, &[("pair", Dtype::BF16, &[4])], Part::All), expected);

    let deep = family(COLUMNS, |_, _| layout(&[("left", &[2, 1, 3]), ("right", &[2, 2, 3])]), |_| Vec::new());
    let expected = [("left", "[2, 1, 3]"), ("right", "[2, 2, 3]")].map(|(name, shape)| {
        format!("tensor `{name}`: expected two dimensions, as `pair` is cut along its columns, found shape {shape}")
    });
    assert_eq!(problems(deep, &[("pair", Dtype::BF16, &[2, 3, 3])], Part::All), expected);

    let uneven = family(ROWS, |_, _| layout(&[("left", &[2, 3]), ("right", &[3, 4])]), |_| Vec::new());
    assert_eq!(
        problems(uneven, &[("pair", Dtype::BF16, &[5, 3])], Part::All),
        ["tensor `right`: expected the elements of shape [3, 4], found 9 elements of `pair`"]
    );
}

#[test]
fn a_line_has_as_many_sources_as_its_mapping_takes() {
    const SCALE: Mapping = Mapping::Scale { target: "w", dtype: TorchDtype::Bfloat16, block: Block::All };
    const SPLIT: Mapping = Mapping::Split { targets: &["x", "y"], along: Axis::Rows, reason: "x, then y" };
    const RULES: &[Rule] = &[
        rule(&["alone"], SCALE),
        rule(&["weight", "scale", "third"], SCALE),
        rule(&["kept", "too"], Mapping::Keep),
        rule(&["renamed", "too"], Mapping::Rename("other")),
        rule(&["split", "too"], SPLIT),
        rule(&[], Mapping::Fuse("of nothing")),
    ];
    let two = "two sources, a weight and its scale";
    let expected = [
        ("alone", two, 1),
        ("weight", two, 3),
        ("kept", "one source", 2),
        ("renamed", "one source", 2),
        ("split", "one source", 2),
        ("of nothing", "one source or more", 0),
    ]
    .map(|(name, sources, count)| {
        format!("tensor `{name}`: expected {sources}, found {count} in its line of the family's table")
    });
    let wrong = family(RULES, |_, _| layout(&[("w", &[2])]), |_| Vec::new());
    assert_eq!(problems(wrong, &[("alone", Dtype::BF16, &[2])], Part::All), expected);
}

#[test]
fn each_input_of_a_fusion_has_its_own_shape() {
    const RULES: &[Rule] = &[rule(&["q", "k"], Mapping::Fuse("qk"))];
    let shapes: fn(&Config, Part) -> Vec<TensorLayout> = |_, _| layout(&[("qk", &[6, 3])]);
    let swapped: &[(&str, Dtype, &[usize])] = &[("q", Dtype::BF16, &[2, 3]), ("k", Dtype::BF16, &[4, 3])];
    let known = family(RULES, shapes, |_| layout(&[("q", &[4, 3]), ("k", &[2, 3])]));
    assert_eq!(
        problems(known, swapped, Part::All),
        [
            "tensor `q`: expected shape [4, 3], found [2, 3]",
            "tensor `k`: expected shape [2, 3], found [4, 3]"
        ]
    );
    let unknown = family(RULES, shapes, |_| layout(&[("q", &[2, 3])]));
    assert_eq!(
        problems(unknown, swapped, Part::All),
        ["tensor `k`: expected the family to say its shape, as it is fused into `qk`, found none"]
    );
    // What the family says of the inputs does not make up what it says of the target.
    let short = family(RULES, shapes, |_| layout(&[("q", &[2, 3]), ("k", &[2, 3])]));
    assert_eq!(
        problems(short, &[("q", Dtype::BF16, &[2, 3]), ("k", Dtype::BF16, &[2, 3])], Part::All),
        ["tensor `qk`: expected 6 rows of `q`, `k` together, found 4"]
    );
}

#[test]
fn a_scale_has_a_number_for_each_block_and_the_last_block_may_be_short() {
    fn scaled(block: Block) -> Architecture {
        const fn rules(block: Block) -> Rule {
            rule(&["w", "s"], Mapping::Scale { target: "w", dtype: TorchDtype::Bfloat16, block })
        }
        const ALL: &[Rule] = &[rules(Block::All)];
        const ROW: &[Rule] = &[rules(Block::Row)];
        const FP8: &[Rule] = &[rules(Block::Of(&[128, 128]))];
        const FLAT: &[Rule] = &[rules(Block::Of(&[128]))];
        let rules = match block {
            Block::All => ALL,
            Block::Row => ROW,
            Block::Of([_]) => FLAT,
            Block::Of(_) => FP8,
        };
        family(rules, |_, _| layout(&[("w", &[192, 130])]), |_| Vec::new())
    }
    let fp8 = Block::Of(&[128, 128]);
    let with = |block: Block, shape: &[usize]| {
        let sources = [("w", Dtype::F8_E4M3, &[192, 130][..]), ("s", Dtype::F32, shape)];
        plan_of(scaled(block), &sources, Part::All)
            .map(|plan| plan.outputs[0].block.clone())
            .map_err(|problems| problems[0].to_string())
    };
    assert_eq!(with(fp8, &[2, 2]), Ok(vec![128, 128]));
    for shape in [&[][..], &[1], &[1, 1]] {
        assert_eq!(with(Block::All, shape), Ok(vec![192, 130]));
    }
    for shape in [&[192][..], &[192, 1]] {
        assert_eq!(with(Block::Row, shape), Ok(vec![1, 130]));
    }
    // Two rows of scales divide 192, and are no blocks of 96.
    for (block, shape, expected) in [
        (fp8, &[2][..], "shape [2, 2], a number for each block [128, 128] of `w`, found shape [2]"),
        (fp8, &[3, 2], "shape [2, 2], a number for each block [128, 128] of `w`, found shape [3, 2]"),
        (Block::All, &[2, 1], "shape [1, 1], a number for each block [192, 130] of `w`, found shape [2, 1]"),
        (Block::Row, &[2, 2], "shape [192, 1], a number for each block [1, 130] of `w`, found shape [2, 2]"),
    ] {
        assert_eq!(with(block, shape), Err(format!("tensor `s`: expected {expected}")));
    }
    let flat = with(Block::Of(&[128]), &[2]).unwrap_err();
    assert_eq!(
        flat,
        "tensor `w`: expected blocks that fit shape [192, 130], found Of([128]) in the family's table"
    );
}

#[test]
fn tensors_that_become_one_in_a_part_have_one_dtype_and_one_width() {
    const RULES: &[Rule] = &[rule(&["*"], Mapping::Keep)];
    let mut family = family(RULES, |_, _| layout(&[("a", &[2, 3]), ("b", &[1, 3])]), |_| Vec::new());
    family.parts = Parts { name: |_, _| "ab".into(), ..family.parts };
    assert_eq!(
        problems(family, &[("a", Dtype::BF16, &[2, 3]), ("b", Dtype::F16, &[1, 3])], Part::All),
        [
            "tensor `b`: expected more rows of `ab`, which is `BF16` of shape [2, 3] so far, found `F16` of shape [1, 3]"
        ]
    );
}

#[test]
fn bytes_that_are_read_again_are_counted() {
    struct Count(AtomicU64);
    impl Observer for Count {
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let dir = TempDir::new().unwrap();
    write_shards(dir.path(), &sources(), 2);
    let weights = Weights::open(&Folder::open(dir.path()).unwrap()).unwrap();
    let plan = planned(&toy(), &weights, None).unwrap();
    let count = Count(AtomicU64::new(0));
    stream(&weights, &plan, &NullSink, &count).unwrap();
    let files: u64 = weights.files().iter().map(|file| file.bytes()).sum();
    // `qkv` of 8 rows, its bias, 24 bytes and two scales.
    assert_eq!(plan.reread_bytes(), 48 + 16 + 24 + 8);
    assert_eq!(count.0.into_inner(), files + plan.reread_bytes());
}

#[test]
fn an_input_that_changes_before_it_is_read_again_is_refused() {
    /// Writes to the source behind the program's back when the walk is over.
    struct Meddler<'a> {
        source: &'a Path,
        left: AtomicUsize,
    }

    impl Observer for Meddler<'_> {
        fn advance(&self, bytes: u64) {
            if self.left.fetch_sub(bytes as usize, Ordering::SeqCst) == bytes as usize {
                let name = self.source.join("model-00001-of-00002.safetensors");
                let file = fs::File::options().write(true).open(&name).unwrap();
                let at = file.metadata().unwrap().len();
                (at - 100..at).for_each(|at| file.write_all_at(&[0x11], at).unwrap());
            }
        }
    }

    let parent = TempDir::new().unwrap();
    write_shards(parent.path(), &sources(), 2);
    let weights = Weights::open(&Folder::open(parent.path()).unwrap()).unwrap();
    let plan = planned(&toy(), &weights, None).unwrap();
    let bytes = weights.files().iter().map(|file| file.bytes() as usize).sum();
    let meddler = Meddler { source: parent.path(), left: AtomicUsize::new(bytes) };
    let error = stream(&weights, &plan, &NullSink, &meddler).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
}
