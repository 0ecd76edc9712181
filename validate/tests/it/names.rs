//! Candidates with names and layouts of their own, and the maps that translate them.

use std::fs;

use golden::{Dtype, Dump, DumpWriter};
use insta::assert_snapshot;
use validate::tolerance::{Failure, Verdict};
use validate::{DiffReport, Error, NameMap, Note, Policy};

use crate::dumps::{Candidate, Tensor, bundled, failing, first_named};

const NAME: &str = "shapes-describe-float32";
const BLOCKS: &str = "vision_model.radio_model.model.blocks";
const LAYERS: &str = "language_model.model.layers";

/// A bundled dump written anew: each tensor as those that an engine would have recorded instead.
fn engine(name: &str, mut record: impl FnMut(Tensor) -> Vec<Tensor>) -> Candidate {
    let folder = tempfile::tempdir().unwrap();
    let dump = Dump::open(bundled(name)).unwrap();
    let mut writer = DumpWriter::create(folder.path().join("candidate")).unwrap();
    for (entry, view) in dump.tensors() {
        let tensor = Tensor {
            name: entry.name.clone(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            data: view.data().to_vec(),
        };
        for Tensor { name, dtype, shape, data } in record(tensor) {
            writer.push(&name, entry.role, &entry.module, dtype, &shape, &data).unwrap();
        }
    }
    writer.finish(dump.manifest().head()).unwrap();
    Candidate { folder }
}

fn compare(name: &str, candidate: &Candidate, map: &str) -> validate::Result<DiffReport> {
    let golden = Dump::open(bundled(name)).unwrap();
    let candidate = Dump::open(candidate.path()).unwrap();
    let map = NameMap::parse("map.toml", map)?;
    validate::diff_with_names(&golden, &candidate, &Policy::default(), None, Some(&map), true, &|_| ())
}

fn renamed(mut tensor: Tensor, name: &str) -> Tensor {
    tensor.name = name.to_owned();
    tensor
}

/// The parts of the last dimension, with these names and sizes.
fn split(tensor: &Tensor, parts: &[(&str, usize)]) -> Vec<Tensor> {
    let (row, size) = (tensor.row_len(), tensor.dtype.size_bytes());
    let mut start = 0;
    let part = |&(name, len): &(&str, usize)| {
        let rows = tensor.data.chunks_exact(row * size);
        let data = rows.flat_map(|row| &row[start * size..(start + len) * size]).copied().collect();
        start += len;
        let mut shape = tensor.shape.clone();
        *shape.last_mut().unwrap() = len;
        Tensor { name: name.to_owned(), dtype: tensor.dtype, shape, data }
    };
    parts.iter().map(part).collect()
}

/// The elements in the order of permuted dimensions.
fn permuted(tensor: &Tensor, shape: &[usize], order: &[usize]) -> Tensor {
    let size = tensor.dtype.size_bytes();
    let steps: Vec<usize> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
    let to: Vec<usize> = order.iter().map(|&at| shape[at]).collect();
    let mut data = Vec::new();
    for flat in 0..tensor.len() {
        let (mut left, mut from) = (flat, 0);
        for (&len, &at) in to.iter().zip(order).rev() {
            from += left % len * steps[at];
            left /= len;
        }
        data.extend_from_slice(&tensor.data[from * size..(from + 1) * size]);
    }
    Tensor { name: tensor.name.clone(), dtype: tensor.dtype, shape: to, data }
}

fn index(name: &str, prefix: &str) -> Option<(String, String)> {
    let (number, site) = name.strip_prefix(prefix)?.strip_prefix('.')?.split_once('.')?;
    Some((number.to_owned(), site.to_owned()))
}

/// An engine that does everything otherwise that a map can undo.
fn otherwise() -> Candidate {
    engine(NAME, |tensor| {
        let name = tensor.name.clone();
        if let Some((number, site)) = index(&name, BLOCKS) {
            return match site.as_str() {
                // Three projections for one, with heads before tokens.
                "attn.qkv" => split(&tensor, &[("q", 96), ("k", 96), ("v", 96)])
                    .into_iter()
                    .map(|part| {
                        let heads = permuted(&part, &[1, 72, 4, 24], &[0, 2, 1, 3]);
                        renamed(heads, &format!("tower.{number}.{}", part.name))
                    })
                    .collect(),
                // Without the prefix tokens.
                "norm2" => {
                    let mut patches = renamed(tensor, &format!("tower.{number}.norm2"));
                    patches.data.drain(..8 * 96 * 4);
                    patches.shape = vec![64, 96];
                    vec![patches]
                }
                _ => vec![renamed(tensor, &format!("tower.{number}.{site}"))],
            };
        }
        if let Some((number, site)) = index(&name, LAYERS) {
            let layer = format!("decoder.{number}");
            let mut flat = tensor;
            flat.shape = vec![flat.len() / flat.row_len(), flat.row_len()];
            return match site.as_str() {
                "self_attn.q_proj" | "self_attn.k_proj" | "mlp.gate_proj" | "mlp.act_fn" => Vec::new(),
                "self_attn.v_proj" | "mlp.up_proj" => {
                    let dump = Dump::open(bundled(NAME)).unwrap();
                    let (parts, fused): (&[&str], _) = if site == "mlp.up_proj" {
                        (&["mlp.gate_proj", "mlp.up_proj"], "gate_up")
                    } else {
                        (&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], "qkv")
                    };
                    let of = |part: &&str| dump.get(&format!("{LAYERS}.{number}.{part}")).unwrap();
                    let views: Vec<_> = parts.iter().map(of).collect();
                    let mut data = Vec::new();
                    for row in 0..41 {
                        for view in &views {
                            let len = view.shape()[2] * 4;
                            data.extend_from_slice(&view.data()[row * len..(row + 1) * len]);
                        }
                    }
                    let columns = views.iter().map(|view| view.shape()[2]).sum();
                    let name = format!("{layer}.{fused}");
                    vec![Tensor { name, dtype: Dtype::Float32, shape: vec![41, columns], data }]
                }
                site => vec![renamed(flat, &format!("{layer}.{site}"))],
            };
        }
        match name.as_str() {
            "input_ids" => {
                let ids: Vec<u8> =
                    (0..tensor.len()).flat_map(|at| (tensor.get(at) as i32).to_le_bytes()).collect();
                vec![Tensor { name, dtype: Dtype::Int32, shape: vec![41], data: ids }]
            }
            // Logits of all tokens, of which the golden run has the last.
            "language_model.lm_head" => {
                let mut all = Tensor { shape: vec![1, 3, 512], ..tensor };
                let last = all.data.clone();
                all.data = [vec![0; 2 * last.len()], last].concat();
                vec![all]
            }
            _ => vec![tensor],
        }
    })
}

const OTHERWISE: &str = r#"
version = 1

[[rules]]
candidate = ['tower\.(?<n>\d+)\.q', 'tower\.(?<n>\d+)\.k', 'tower\.(?<n>\d+)\.v']
golden = "vision_model.radio_model.model.blocks.$n.attn.qkv"
each = [{ permute = [0, 2, 1, 3] }, { flatten = [2, 3] }]
concat = -1

[[rules]]
candidate = 'tower\.(\d+)\.norm2'
golden = "vision_model.radio_model.model.blocks.$1.norm2"
steps = [{ unsqueeze = 0 }]
golden_steps = [{ last_tokens = "candidate" }]

[[rules]]
candidate = 'tower\.(\d+)\.(norm1|attn|attn\.proj|mlp.*)'
golden = "vision_model.radio_model.model.blocks.$1.$2"

[[rules]]
candidate = 'decoder\.(\d+)\.qkv'
golden = [
    "language_model.model.layers.$1.self_attn.q_proj",
    "language_model.model.layers.$1.self_attn.k_proj",
    "language_model.model.layers.$1.self_attn.v_proj",
]
split = -1
pieces = [{ reshape = "golden" }]

[[rules]]
candidate = 'decoder\.(\d+)\.gate_up'
golden = ["language_model.model.layers.$1.mlp.gate_proj", "language_model.model.layers.$1.mlp.up_proj"]
split = 1
sizes = [352, 352]
pieces = [{ unsqueeze = 0 }]

[[rules]]
candidate = 'decoder\.(\d+)\.(.*norm|self_attn|self_attn\.o_proj|mlp|mlp\.down_proj)'
golden = "language_model.model.layers.$1.$2"
steps = [{ reshape = "golden" }]

[[rules]]
candidate = 'input_ids'
golden = "input_ids"
dtype = "any"
steps = [{ reshape = "golden" }]

[[rules]]
candidate = 'language_model\.lm_head'
golden = "language_model.lm_head"
steps = [{ last_tokens = "golden" }]

[[absent]]
golden = 'language_model\.model\.layers\.\d+\.mlp\.act_fn'
reason = "fused with the product"
"#;

#[test]
fn other_layouts_are_undone_to_the_last_bit() {
    let report = compare(NAME, &otherwise(), OTHERWISE).unwrap();
    assert_eq!(failing(&report), [""; 0]);
    let summary = report.summary();
    assert_eq!((summary.entries, summary.ignored, summary.bit_equal), (105, 4, 101));
    let of = |name: &str| report.entries.iter().find(|entry| entry.entry.name == name).unwrap();
    let qkv = of(&format!("{BLOCKS}.1.attn.qkv")).counterpart.as_ref().unwrap();
    assert_eq!(qkv.tensors, ["tower.1.q", "tower.1.k", "tower.1.v"]);
    assert_eq!(qkv.layout, ["each permute [0, 2, 1, 3]", "each flatten [2, 3]", "concat 2"]);
    let norm2 = of(&format!("{BLOCKS}.1.norm2"));
    assert_eq!(norm2.entry.shape, [1, 64, 96]);
    assert_eq!(norm2.counterpart.as_ref().unwrap().recorded_shape, [1, 72, 96]);
    let act_fn = of(&format!("{LAYERS}.0.mlp.act_fn"));
    assert_eq!(act_fn.verdict, Verdict::Ignored { reason: "fused with the product".to_owned() });
    assert!(report.notes.contains(&Note::MappedDtypes { count: 1 }), "{:?}", report.notes);
}

#[test]
fn an_error_behind_a_map_is_found_in_its_golden_place() {
    let mut candidate = otherwise();
    // Of the keys of the second block, the second head's token 70 (behind 8 prefix tokens) and its channel 5.
    let dump = Dump::open(candidate.path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut writer = DumpWriter::create(folder.path().join("candidate")).unwrap();
    for (entry, view) in dump.tensors() {
        let mut data = view.data().to_vec();
        if entry.name == "tower.1.k" {
            assert_eq!(entry.shape, [1, 4, 72, 24]);
            let at = 4 * ((72 + 70) * 24 + 5);
            data[at..at + 4].copy_from_slice(&1e3_f32.to_le_bytes());
        }
        writer.push(&entry.name, entry.role, &entry.module, entry.dtype, &entry.shape, &data).unwrap();
    }
    writer.finish(dump.manifest().head()).unwrap();
    candidate.folder = folder;
    let report = compare(NAME, &candidate, OTHERWISE).unwrap();
    let site = format!("{BLOCKS}.1.attn.qkv");
    assert_eq!(failing(&report), [site.as_str()]);
    assert_eq!(first_named(&report), site);
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    let largest = entry.measurement.as_ref().unwrap().largest.as_ref().unwrap();
    assert_eq!((largest.index.as_slice(), largest.candidate), (&[0, 70, 96 + 24 + 5][..], 1e3));
    let places = &report.findings.as_ref().unwrap().places;
    assert!(places[0].contains("row 7, column 6"), "{places:?}");
}

/// A dump whose only other name is that of one site.
fn one(name: &'static str, site: &'static str, as_recorded: impl Fn(Tensor) -> Vec<Tensor>) -> Candidate {
    engine(name, |tensor| if tensor.name == site { as_recorded(tensor) } else { vec![tensor] })
}

fn rule(rest: &str) -> String {
    format!("version = 1\n[[rules]]\n{rest}")
}

#[test]
fn a_sum_of_two_tensors_is_rounded_once() {
    let name = "shapes-text-float32";
    let site = "language_model.model.layers.1";
    // Halves add up to the whole exactly.
    let halves = one(name, site, |mut tensor| {
        tensor.map(|_, value| value / 2.0);
        let other = Tensor {
            name: "hidden".to_owned(),
            shape: tensor.shape.clone(),
            data: tensor.data.clone(),
            ..tensor
        };
        vec![renamed(tensor, "residual"), other]
    });
    let map =
        rule("candidate = ['hidden', 'residual']\ngolden = 'language_model.model.layers.1'\nadd = true");
    let report = compare(name, &halves, &map).unwrap();
    assert!(report.passes());
    assert_eq!(report.summary().bit_equal, 62);
}

#[test]
fn sizes_that_differ_are_a_finding_and_not_a_wrong_rule() {
    let name = "shapes-text-float32";
    let site = "language_model.model.norm";
    let shorter = one(name, site, |mut tensor| {
        let row = tensor.row_len();
        let tokens = tensor.len() / row - 1;
        tensor.data.truncate(tokens * row * 4);
        tensor.shape = vec![tokens, row];
        vec![renamed(tensor, "norm")]
    });
    let map =
        rule("candidate = 'norm'\ngolden = 'language_model.model.norm'\nsteps = [{ reshape = 'golden' }]");
    let report = compare(name, &shorter, &map).unwrap();
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    assert!(matches!(&entry.verdict, Verdict::Fail(Failure::Shape { .. })), "{:?}", entry.verdict);
}

#[test]
fn what_has_no_counterpart_is_named_and_what_the_engine_does_not_expose_is_not() {
    let name = "shapes-text-float32";
    let candidate = engine(name, |tensor| {
        if tensor.name.ends_with(".act_fn") || tensor.name.ends_with(".0.mlp") {
            Vec::new()
        } else {
            vec![tensor]
        }
    });
    let map = "version = 1\n[[absent]]\ngolden = '.*\\.act_fn'\nreason = 'fused'";
    let report = compare(name, &candidate, map).unwrap();
    let missing: Vec<&str> = report.not_recorded().map(|entry| entry.entry.name.as_str()).collect();
    assert_eq!(missing, ["language_model.model.layers.0.mlp"]);
    assert_eq!(failing(&report), missing);
    assert_eq!(report.summary().ignored, 4);
}

#[test]
fn tensors_of_no_site_are_extra_unless_the_map_ignores_them() {
    let name = "shapes-text-float32";
    let site = "language_model.model.norm";
    let candidate = || {
        one(name, site, |tensor| {
            let of = |name: &str| Tensor {
                name: name.to_owned(),
                shape: tensor.shape.clone(),
                data: tensor.data.clone(),
                dtype: tensor.dtype,
            };
            vec![of("dropout"), of("unknown"), tensor]
        })
    };
    let map = "version = 1\n[[ignore]]\ncandidate = 'dropout'\nreason = 'does nothing'";
    let report = compare(name, &candidate(), map).unwrap();
    assert_eq!(failing(&report), ["unknown"]);
    let ignored = report.entries.iter().find(|entry| entry.entry.name == "dropout").unwrap();
    assert_eq!(ignored.verdict, Verdict::Ignored { reason: "does nothing".to_owned() });
    // A rule that gives a name that the golden dump lacks says so, and its tensor is extra; unless it is optional.
    let map = rule("candidate = 'unknown|dropout'\ngolden = 'nowhere.$0'");
    let report = compare(name, &candidate(), &map).unwrap();
    assert_eq!(failing(&report), ["dropout", "unknown"]);
    assert!(matches!(&report.notes[..], [Note::NoSuchSite { name, .. }] if name == "nowhere.dropout"));
    let report = compare(name, &candidate(), &(map + "\noptional = true")).unwrap();
    assert!(report.passes() && report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn a_rule_that_matches_nothing_is_reported() {
    let name = "shapes-text-float32";
    let candidate = Candidate::copied(name);
    let map = rule("candidate = 'nothing\\.(\\d+)'\ngolden = 'x.$1'");
    let report = compare(name, &candidate, &map).unwrap();
    assert!(report.passes());
    let expressions = vec!["nothing\\.(\\d+)".to_owned()];
    assert_eq!(report.notes, [Note::IdleNames { map: "map.toml".to_owned(), expressions }]);
}

#[test]
fn a_call_of_a_module_keeps_its_number() {
    let name = "shapes-text-float32";
    let candidate = engine(name, |tensor| {
        let renamed = tensor.name.replace("language_model.model.layers.2.mlp", "mlp.two");
        vec![Tensor {
            name: format!("{renamed}{}", if renamed == tensor.name { "" } else { "#1" }),
            ..tensor
        }]
    });
    // The golden names have no call: with the number that the candidate's have, none is found.
    let map = rule("candidate = 'mlp\\.two([.a-z_]*)'\ngolden = 'language_model.model.layers.2.mlp$1'");
    let report = compare(name, &candidate, &map).unwrap();
    assert_eq!(report.not_recorded().count(), 5);
    assert!(
        matches!(&report.notes[..], [Note::NoSuchSite { name, .. }] if name.ends_with("#1")),
        "{:?}",
        report.notes
    );
    // An expression that takes the number in has its own way with it.
    let map = rule("candidate = 'mlp\\.two([.a-z_]*)#1'\ngolden = 'language_model.model.layers.2.mlp$1'");
    let report = compare(name, &candidate, &map).unwrap();
    assert_eq!(report.not_recorded().count(), 0);
}

/// What a map is refused with, on a copy of a golden dump.
fn refusal(map: &str) -> String {
    let error = compare("shapes-text-float32", &Candidate::copied("shapes-text-float32"), map).unwrap_err();
    assert!(matches!(error, Error::Names { .. } | Error::NamesFile { .. }), "{error:?}");
    assert_eq!(error.hint(), Some("`docs/names.md` describes maps"));
    error.to_string()
}

#[test]
fn a_wrong_map_is_refused_before_any_dump_is_looked_at() {
    let refusals = [
        "version = 2",
        "version = 1\nrule = []",
        &rule("candidate = 'a('\ngolden = 'a'"),
        &rule("candidate = 'a'\ngolden = 'b.$1'"),
        &rule("candidate = 'a'\ngolden = 'b.$'"),
        &rule("candidate = []\ngolden = 'b'"),
        &rule("candidate = 'a'\ngolden = []"),
        &rule("candidate = ['a', 'b']\ngolden = 'c'"),
        &rule("candidate = ['a', 'b']\ngolden = 'c'\nconcat = 0\nadd = true"),
        &rule("candidate = 'a'\ngolden = 'c'\nconcat = 0"),
        &rule("candidate = 'a'\ngolden = ['b', 'c']"),
        &rule("candidate = 'a'\ngolden = 'b'\nsplit = 0"),
        &rule("candidate = 'a'\ngolden = ['b', 'c']\nsplit = 0\nsizes = [1]"),
        &rule("candidate = 'a'\ngolden = 'b'\neach = [{ squeeze = 0 }]"),
        &rule("candidate = 'a'\ngolden = 'b'\npieces = [{ squeeze = 0 }]"),
        &rule("candidate = 'a'\ngolden = 'b'\nsteps = [{ last_tokens = 'candidate' }]"),
        &rule("candidate = 'a'\ngolden = ['b', 'c']\nsplit = 0\nsteps = [{ reshape = 'golden' }]"),
        "version = 1\n[[ignore]]\ncandidate = 'a'\nreason = ''",
        "version = 1\n[[absent]]\ngolden = '['\nreason = 'b'",
        "version = 1\n[[include]]\nmap = 'mine'",
        "version = 1\n[[include]]\nmap = 'vllm-llama'\nprefix = '(a)'",
    ]
    .map(refusal);
    let of_file = |text: &str| text.lines().next().unwrap_or_default().to_owned() + "\n";
    let refusals: String = refusals.iter().map(|refusal| of_file(refusal)).collect();
    assert_snapshot!(refusals, @r##"
    name map `map.toml`: field `version`: expected 1, found 2
    name map `map.toml`: TOML parse error at line 2, column 1
    name map `map.toml`: field `rules[0].candidate`: expected a regular expression, found `a(`: unclosed group
    name map `map.toml`: field `rules[0].golden`: expected captures of `a`, found `$1`
    name map `map.toml`: field `rules[0].golden`: expected a name in which `$` begins a capture (`$1`, `${name}`) or is doubled, found `b.$`
    name map `map.toml`: field `rules[0].candidate`: expected a regular expression, found none
    name map `map.toml`: field `rules[0].golden`: expected a name, found none
    name map `map.toml`: `rules[0]`: expected `concat` or `add` for the 2 expressions of `candidate`, found neither
    name map `map.toml`: `rules[0]`: expected one of `concat` and `add`, found both
    name map `map.toml`: field `rules[0].candidate`: expected several expressions, since there is `concat` or `add`, found one
    name map `map.toml`: `rules[0]`: expected `split` for the 2 names of `golden`, found none
    name map `map.toml`: field `rules[0].golden`: expected several names, since there is `split`, found one
    name map `map.toml`: field `rules[0].sizes`: expected a size above 0 for each piece of a `split`, found [1]
    name map `map.toml`: field `rules[0].each`: expected no steps where there is no `concat` or `add`, found 1 steps
    name map `map.toml`: field `rules[0].pieces`: expected no steps where there is no `split`, found 1 steps
    name map `map.toml`: field `rules[0].steps[0].last_tokens`: expected a number or "golden", found "candidate"
    name map `map.toml`: field `rules[0].steps[0].reshape`: expected numbers, since there are several golden tensors, found "golden"
    name map `map.toml`: field `ignore[0].reason`: expected a reason, found none
    name map `map.toml`: field `absent[0].golden`: expected a regular expression, found `[`: unclosed character class
    name map `map.toml`: field `include[0].map`: expected the name of a ready-made map (transformers-radio, transformers-llama, transformers-nemotron, vllm-radio, vllm-llama, vllm-nemotron), found `mine`
    name map `map.toml`: field `include[0].prefix`: expected a regular expression without captures, found `(a)`
    "##);
}

#[test]
fn a_rule_that_does_not_fit_the_tensors_is_refused() {
    let layer = r"language_model\.model\.layers\.(\d+)";
    let refusals = [
        rule(&format!("candidate = '{layer}\\.mlp'\ngolden = 'language_model.model.layers.$1.mlp'\nsteps = [{{ permute = [0, 2, 1, 3] }}]")),
        rule(&format!("candidate = '{layer}\\.(?:mlp|self_attn)'\ngolden = 'language_model.model.layers.$1'")),
        rule(&format!("candidate = ['{layer}\\.mlp', 'nothing(\\d+)']\ngolden = 'language_model.model.layers.$1'\nadd = true")),
        rule(&format!("candidate = ['{layer}\\.mlp', '{layer}\\.mlp\\.up_proj']\ngolden = 'language_model.model.layers.$1'\nadd = true")),
        rule(&format!("candidate = ['{layer}\\.mlp', '{layer}\\.mlp\\.up_proj']\ngolden = 'language_model.model.layers.$1'\nconcat = 1")),
        rule(&format!("candidate = ['{layer}\\.mlp', '{layer}\\.self_attn']\ngolden = 'language_model.model.layers.$1'\nconcat = 7")),
        rule(&format!("candidate = '{layer}\\.mlp'\ngolden = ['language_model.model.layers.$1', 'a', 'b']\nsplit = -1")),
        rule(&format!("candidate = '{layer}\\.mlp'\ngolden = ['language_model.model.layers.$1', 'a']\nsplit = -1\nsizes = [1, 2]")),
        rule("candidate = 'language_model\\.lm_head'\ngolden = 'language_model'"),
        rule("candidate = 'inputs_embeds'\ngolden = 'language_model.model.norm'\n[[rules]]\ncandidate = 'language_model.model.norm'\ngolden = 'language_model.model.norm'"),
        rule("candidate = ['input_ids', 'inputs_embeds']\ngolden = 'language_model.model.norm'\nadd = true"),
        rule("candidate = ['input_ids', 'input_ids']\ngolden = 'language_model.model.norm'\nadd = true"),
    ]
    .map(|map| refusal(&map) + "\n");
    assert_snapshot!(refusals.concat(), @r##"
    name map `map.toml`: rules[0].steps[0].permute: golden `language_model.model.layers.0.mlp` from `language_model.model.layers.0.mlp`: expected more dimensions than dimension 3 needs, found [1, 24, 128]
    name map `map.toml`: rules[0].candidate: golden `language_model.model.layers.0`: expected one tensor that `language_model\.model\.layers\.(\d+)\.(?:mlp|self_attn)` matches, found `language_model.model.layers.0.self_attn` and `language_model.model.layers.0.mlp`
    name map `map.toml`: rules[0].candidate: golden `language_model.model.layers.0`: expected a tensor that `nothing(\d+)` matches, found none
    name map `map.toml`: rules[0].add: golden `language_model.model.layers.0` from `language_model.model.layers.0.mlp`, `language_model.model.layers.0.mlp.up_proj`: expected [1, 24, 128] in all parts, found [1, 24, 352]
    name map `map.toml`: rules[0].concat: golden `language_model.model.layers.0` from `language_model.model.layers.0.mlp`, `language_model.model.layers.0.mlp.up_proj`: expected shapes alike but for dimension 1, found [[1, 24, 128], [1, 24, 352]]
    name map `map.toml`: rules[0].concat: golden `language_model.model.layers.0` from `language_model.model.layers.0.mlp`, `language_model.model.layers.0.self_attn`: expected more dimensions than dimension 7 needs, found [1, 24, 128]
    name map `map.toml`: rules[0].split: golden `language_model.model.layers.0` from `language_model.model.layers.0.mlp`: expected `sizes`, where several of the golden entries are not there, found none, and no entry `a`
    name map `map.toml`: rules[0].split: golden `language_model.model.layers.0` from `language_model.model.layers.0.mlp`: expected `sizes` whose sum is 128, found [1, 2]
    name map `map.toml`: rules[0]: expected one counterpart of the golden entry `language_model`, found this rule's and the candidate's tensor of the same name
    name map `map.toml`: rules[1]: expected one counterpart of the golden entry `language_model.model.norm`, found this rule's and that of rules[0] of map.toml
    name map `map.toml`: rules[0].candidate: golden `language_model.model.norm` from `input_ids`, `inputs_embeds`: expected int64 in all parts, found float32 in `inputs_embeds`
    name map `map.toml`: rules[0].add: golden `language_model.model.norm` from `input_ids`, `input_ids`: expected float64, float32, float16 or bfloat16, found int64
    "##);
}

#[test]
fn bytes_behind_a_map_are_held_to_their_hashes() {
    let name = "shapes-text-float32";
    let site = "language_model.model.norm";
    let candidate = one(name, site, |tensor| vec![renamed(tensor, "norm")]);
    let dump = Dump::open(candidate.path()).unwrap();
    let file = candidate.path().join("tensors.safetensors");
    let bytes = fs::read(&file).unwrap();
    let tensor = dump.get("norm").unwrap().data().to_vec();
    let at = bytes.windows(tensor.len()).position(|window| window == tensor).unwrap();
    drop(dump);
    let map = rule("candidate = 'norm'\ngolden = 'language_model.model.norm'");
    // The bytes are there twice, since the model's output is the same; the norm's come first.
    let mut spoilt = bytes.clone();
    spoilt[at] ^= 1;
    fs::write(&file, spoilt).unwrap();
    let error = compare(name, &candidate, &map).unwrap_err();
    assert!(
        matches!(error, Error::Dump(golden::Error::HashMismatch { ref name, .. }) if name == "norm"),
        "{error}"
    );
    fs::write(&file, bytes).unwrap();
    assert!(compare(name, &candidate, &map).unwrap().passes());
}

#[test]
fn every_ready_made_map_can_be_read_and_says_where_it_comes_from() {
    for map in validate::names::BUILTIN {
        NameMap::read(map.name).unwrap();
        assert!(map.text.contains("\n# Source: ") && map.text.contains(".py"), "{}", map.name);
    }
    // A golden dump under the names of the map that includes both parts.
    let candidate = engine(NAME, |tensor| {
        let name = tensor.name.replace("language_model.model", "model.language_model.model");
        vec![Tensor { name: name.replace("mlp1.0", "multi_modal_projector.layer_norm"), ..tensor }]
    });
    let golden = Dump::open(bundled(NAME)).unwrap();
    let candidate = Dump::open(candidate.path()).unwrap();
    let map = NameMap::read("transformers-nemotron").unwrap();
    let report =
        validate::diff_with_names(&golden, &candidate, &Policy::default(), None, Some(&map), true, &|_| ())
            .unwrap();
    assert_eq!(failing(&report), [""; 0]);
}

#[test]
fn a_map_that_is_not_there_is_refused_with_what_to_do() {
    let error = NameMap::read("no-such-map").unwrap_err();
    assert_snapshot!(
        error.to_string(),
        @"name map `no-such-map`: expected a readable file or the name of a ready-made map, found: No such file or directory (os error 2)"
    );
    assert_eq!(error.hint(), Some("`nvl-validate maps` lists the ready-made maps"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    fs::write(&path, "version = 1").unwrap();
    NameMap::read(path.to_str().unwrap()).unwrap();
}

#[test]
fn the_example_in_the_document_is_a_map() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/names.md")).unwrap();
    let example = text.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    NameMap::parse("names.md", example).unwrap();
    for map in validate::names::BUILTIN {
        assert!(text.contains(&format!("| `{}` | {} |", map.name, map.about)), "{}", map.name);
    }
}

#[test]
fn a_mapped_report_satisfies_its_schema_and_tells_the_candidates_names() {
    let schema = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/diff-report.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    // The act_fn sites are missing without the map's last table.
    let map = OTHERWISE.split("[[absent]]").next().unwrap();
    let report = compare(NAME, &otherwise(), map).unwrap();
    let of = |format: &str| {
        let options = validate::report::Options { all: true, colour: false };
        validate::report::format(format, options).unwrap().render(&report)
    };
    let json: serde_json::Value = serde_json::from_str(&of("json")).unwrap();
    if let Err(error) = schema.validate(&json) {
        panic!("{error} at {}", error.instance_path());
    }
    assert_eq!(json["names"], "map.toml");
    let missing: Vec<String> = (0..4).map(|layer| format!("{LAYERS}.{layer}.mlp.act_fn")).collect();
    assert_eq!(json["not_recorded"], serde_json::json!(missing));
    let entry =
        |name: &str| json["entries"].as_array().unwrap().iter().find(|e| e["name"] == name).unwrap().clone();
    assert_eq!(
        entry(&format!("{BLOCKS}.0.norm2"))["counterpart"],
        serde_json::json!({
            "tensors": ["tower.0.norm2"],
            "rule": { "map": "map.toml", "index": 1 },
            "layout": ["unsqueeze 0", "golden last_tokens candidate"],
            "compared_shape": [1, 64, 96],
        })
    );
    assert_eq!(entry(&format!("{BLOCKS}.0.norm2"))["shape"], serde_json::json!([1, 72, 96]));
    for (format, told) in [
        ("table", "tower.0.q, tower.0.k, tower.0.v"),
        ("table", "4 not recorded by the candidate:"),
        ("markdown", "decoder.0.qkv (rules\\[3\\] of map.toml): piece 1 of 3 along -1, reshape"),
        ("markdown", "4 not recorded by the candidate:"),
        (
            "junit",
            "<property name=\"candidate\" value=\"in the candidate tower.2.norm2 (rules[1] of map.toml)",
        ),
        ("html", "<small>in the candidate tower.2.norm2 (rules[1] of map.toml)"),
        ("html", "4 not recorded by the candidate:"),
    ] {
        let text = of(format).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(told), "{format}: {told}\n{text}");
    }
}

/// A bundled dump as vLLM's whole model would record it.
fn vllm() -> Candidate {
    let dump = Dump::open(bundled(NAME)).unwrap();
    let values = |name: &str| dump.get(name).unwrap().elements::<f32>().unwrap().into_owned();
    let flat = |name: String, columns: usize, values: Vec<f32>| Tensor {
        name,
        dtype: Dtype::Float32,
        shape: vec![values.len() / columns, columns],
        data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    engine(NAME, |tensor| {
        let name = tensor.name.clone();
        if name == "step_logits" || name.contains("rotary_emb") || name.ends_with(".act_fn") {
            return Vec::new();
        }
        if let Some((number, site)) = index(&name, BLOCKS) {
            let linear = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"].contains(&site.as_str());
            let site = site.replace("mlp.act", "mlp.activation_fn");
            let name = format!(
                "vision_model.model.encoder.layers.{number}.{site}{}",
                if linear { ".0" } else { "" }
            );
            return vec![renamed(tensor, &name)];
        }
        if let Some(rest) = name.strip_prefix("vision_model.radio_model.") {
            if rest == "input_conditioner" {
                return vec![renamed(tensor, "vision_model.pixel_values")];
            }
            let rest = rest
                .replace("model.blocks.", "model.encoder.layers.")
                .replace("model.blocks", "model.encoder");
            return vec![renamed(tensor, &format!("vision_model.{rest}"))];
        }
        let of = |number: &str, site: &str| format!("{LAYERS}.{number}.{site}");
        let fused = |name: String, parts: &[String]| {
            let rows: Vec<(Vec<f32>, usize)> = parts
                .iter()
                .map(|part| (values(part), *dump.get(part).unwrap().shape().last().unwrap()))
                .collect();
            let columns = rows.iter().map(|(_, columns)| columns).sum();
            let row = |row: usize| rows.iter().flat_map(move |(v, n)| v[row * n..(row + 1) * n].to_vec());
            flat(name, columns, (0..41).flat_map(row).collect())
        };
        let language = |rest: &str| format!("language_model.model.{rest}");
        if let Some((number, site)) = index(&name, LAYERS) {
            return match site.as_str() {
                "self_attn.q_proj" => {
                    let parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
                    vec![fused(
                        language(&format!("layers.{number}.self_attn.qkv_proj.0")),
                        &parts.map(|p| of(&number, p)),
                    )]
                }
                "mlp.gate_proj" => {
                    let parts = ["mlp.gate_proj", "mlp.up_proj"];
                    vec![fused(
                        language(&format!("layers.{number}.mlp.gate_up_proj.0")),
                        &parts.map(|p| of(&number, p)),
                    )]
                }
                "self_attn.k_proj" | "self_attn.v_proj" | "mlp.up_proj" => Vec::new(),
                site => vec![flat(language(&format!("layers.{number}.{site}")), 128, values(&name))],
            };
        }
        if let Some(number) = name.strip_prefix(LAYERS).and_then(|rest| rest.strip_prefix('.')) {
            let before = match number.parse::<usize>().unwrap() {
                0 => "inputs_embeds".to_owned(),
                layer => format!("{LAYERS}.{}", layer - 1),
            };
            // What the second norm adds: the same sum as the public code's.
            let residual =
                values(&before).iter().zip(values(&of(number, "self_attn"))).map(|(a, b)| a + b).collect();
            return vec![
                flat(language(&format!("layers.{number}.0")), 128, values(&of(number, "mlp"))),
                flat(language(&format!("layers.{number}.1")), 128, residual),
            ];
        }
        match name.as_str() {
            "vision_model" => vec![renamed(tensor, "vision_model.1")],
            "language_model.lm_head" => {
                vec![flat("language_model.logits_processor".to_owned(), 512, values(&name))]
            }
            "language_model.model" => Vec::new(),
            "language_model.model.norm" => vec![flat(language("norm.0"), 128, values(&name))],
            "language_model.model.embed_tokens" => vec![flat(name.clone(), 128, values(&name))],
            "language_model" => vec![flat(name.clone(), 128, values("language_model.model.norm"))],
            "inputs_embeds" => vec![flat(name.clone(), 128, values(&name))],
            "input_ids" => vec![Tensor { shape: vec![41], ..tensor }],
            _ => vec![tensor],
        }
    })
}

#[test]
fn what_vllm_records_is_equal_through_its_map() {
    let golden = Dump::open(bundled(NAME)).unwrap();
    let candidate = vllm();
    let candidate = Dump::open(candidate.path()).unwrap();
    let map = NameMap::read("vllm-nemotron").unwrap();
    let report =
        validate::diff_with_names(&golden, &candidate, &Policy::default(), None, Some(&map), true, &|_| ())
            .unwrap();
    assert_eq!(failing(&report), ["step_logits"], "there was an answer, and no logits of it");
    let ignored = |entry: &&validate::EntryReport| matches!(entry.verdict, Verdict::Ignored { .. });
    // The golden entries come first.
    let entries = report.entries[..105].iter().filter(ignored);
    let entries: Vec<&str> = entries.map(|entry| entry.entry.name.as_str()).collect();
    let expected = [
        "language_model.model.rotary_emb.cos",
        "language_model.model.rotary_emb.sin",
        "language_model.model.layers.0.mlp.act_fn",
        "language_model.model.layers.1.mlp.act_fn",
        "language_model.model.layers.2.mlp.act_fn",
        "language_model.model.layers.3.mlp.act_fn",
    ];
    assert_eq!(entries, expected);
    assert_eq!(report.summary().bit_equal, 105 - 1 - expected.len());
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

/// The proposal for a candidate, and the report of a comparison by it.
fn proposed(name: &str, candidate: &Candidate) -> (validate::names::Proposal, DiffReport) {
    let golden = Dump::open(bundled(name)).unwrap();
    let proposal = validate::names::propose(&golden, &Dump::open(candidate.path()).unwrap()).unwrap();
    let report = compare(name, candidate, &proposal.text).unwrap();
    (proposal, report)
}

#[test]
fn a_proposal_finds_what_lies_otherwise() {
    let (proposal, report) = proposed(NAME, &otherwise());
    let act_fn: Vec<String> = (0..4).map(|layer| format!("{LAYERS}.{layer}.mlp.act_fn")).collect();
    assert_eq!(proposal.unmatched, act_fn);
    assert_eq!(proposal.left, [""; 0]);
    assert_eq!(proposal.matched, 101);
    assert_eq!(failing(&report), act_fn, "{}", proposal.text);
    assert_eq!(report.summary().bit_equal, 101);
    // Layers share rules.
    assert!(proposal.text.matches("[[rules]]").count() < 40, "{}", proposal.text);
    assert!(proposal.text.contains(r"candidate = 'decoder\.(?<layer>\d+)\.qkv'"), "{}", proposal.text);
}

#[test]
fn a_proposal_finds_sums_and_fused_projections() {
    let (proposal, report) = proposed(NAME, &vllm());
    let expected: Vec<String> = (0..4).map(|layer| format!("{LAYERS}.{layer}.mlp.act_fn")).collect();
    for site in &proposal.unmatched {
        let rotary = site.contains("rotary_emb") || site == "step_logits";
        assert!(rotary || expected.contains(site), "{site}\n{}", proposal.text);
    }
    assert!(
        failing(&report).iter().all(|site| proposal.unmatched.contains(&(*site).to_owned())),
        "{:?}",
        failing(&report)
    );
    assert!(
        proposal.text.contains("add = true") && proposal.text.contains("split = -1"),
        "{}",
        proposal.text
    );
}

#[test]
fn a_proposal_pairs_what_a_mistake_changed_by_its_place() {
    let name = "shapes-text-float32";
    let candidate = engine(name, |mut tensor| {
        let broken = tensor.name == "language_model.model.layers.2.mlp.down_proj";
        tensor.name =
            tensor.name.replace("language_model.model.layers.", "h.").replace("mlp.down_proj", "ffn.down");
        tensor.name = tensor.name.replace(".mlp", ".ffn.whole");
        if broken {
            tensor.map(|index, _| f64::from(index as u32 % 7) * 1e3);
        }
        vec![tensor]
    });
    let (proposal, report) = proposed(name, &candidate);
    assert_eq!(proposal.unmatched, [""; 0], "{}", proposal.text);
    assert_eq!(failing(&report), ["language_model.model.layers.2.mlp.down_proj"]);
    assert!(proposal.text.contains("1 more by their names only"), "{}", proposal.text);
    // The same bytes in bfloat16: alike, in another dtype.
    let rounded = Candidate { folder: engine(name, |tensor| vec![rounded(tensor)]).folder };
    let (proposal, report) = proposed(name, &rounded);
    assert_eq!(proposal.unmatched, [""; 0]);
    assert!(proposal.text.contains("dtype = \"any\""), "{}", proposal.text);
    let other_dtype = |verdict: &Verdict| matches!(verdict, Verdict::Fail(Failure::Dtype { .. }));
    assert!(!report.entries.iter().any(|entry| other_dtype(&entry.verdict)));
}

/// Floats as bfloat16, under another name.
fn rounded(tensor: Tensor) -> Tensor {
    if tensor.dtype != Dtype::Float32 {
        return tensor;
    }
    let bfloat16 = |at: usize| half::bf16::from_f64(tensor.get(at)).to_le_bytes();
    let data = (0..tensor.len()).flat_map(bfloat16).collect();
    Tensor {
        name: format!("engine.{}", tensor.name),
        dtype: Dtype::BFloat16,
        shape: tensor.shape.clone(),
        data,
    }
}

#[test]
fn the_programs_commands_for_maps() {
    let run = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_nvl-validate"));
        let output = command.current_dir(crate::dumps::goldens()).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (status, list, _) = run(&["maps"]);
    assert_eq!((status, list.lines().count()), (0, validate::names::BUILTIN.len()));
    let (status, map, _) = run(&["maps", "vllm-llama"]);
    assert_eq!(status, 0);
    NameMap::parse("printed", &map).unwrap();
    assert_eq!(run(&["maps", "mine"]).0, 2);

    let candidate = vllm();
    let path = candidate.path();
    let path = path.to_str().unwrap();
    let out = candidate.folder.path().join("maps/mine.toml");
    let (status, stdout, stderr) = run(&["names", NAME, path, "--out", out.to_str().unwrap()]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert!(stderr.contains("of 105 golden entries have a counterpart"), "{stderr}");
    assert!(stderr.contains("golden entries without one: "), "{stderr}");
    let (status, stdout, _) = run(&["diff", NAME, path, "--names", out.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(stdout.contains("not recorded by the candidate"), "{stdout}");
    assert_eq!(run(&["diff", NAME, path, "--names", "vllm-nemotron", "--policy", "nowhere.toml"]).0, 2);
    let (status, _, stderr) = run(&["diff", NAME, path, "--names", "nowhere.toml"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("hint: `nvl-validate maps` lists the ready-made maps"), "{stderr}");
}
