//! Maps that are none, or that do not fit.

use std::fs;

use insta::assert_snapshot;
use validate::{Error, NameMap};

use super::{compare, rule};
use crate::dumps::Candidate;

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
    name map `map.toml`: TOML parse error at line 2, column 1: unknown field `rule`, expected one of `version`, `dtype`, `answer`, `include`, `rules`, `ignore`, `absent`
    name map `map.toml`: field `rules[0].candidate`: expected a regular expression, found `a(`: unclosed group
    name map `map.toml`: field `rules[0].golden`: expected captures of `a`, found `$1`
    name map `map.toml`: field `rules[0].golden`: expected a name in which `$` begins a capture (`$1`, `${name}`) or is doubled, found `b.$`
    name map `map.toml`: field `rules[0].candidate`: expected a regular expression, found none
    name map `map.toml`: field `rules[0].golden`: expected a name, found none
    name map `map.toml`: `rules[0]`: expected `concat` or `add` for the 2 expressions of `candidate`, found neither
    name map `map.toml`: `rules[0]`: expected one of `concat` and `add`, found both
    name map `map.toml`: field `rules[0].candidate`: expected several expressions, because there is `concat` or `add`, found one
    name map `map.toml`: `rules[0]`: expected `split` for the 2 names of `golden`, found none
    name map `map.toml`: field `rules[0].golden`: expected several names, because there is `split`, found one
    name map `map.toml`: field `rules[0].sizes`: expected a size above 0 for each piece of a `split`, found [1]
    name map `map.toml`: field `rules[0].each`: expected no steps where there is no `concat` or `add`, found 1 steps
    name map `map.toml`: field `rules[0].pieces`: expected no steps where there is no `split`, found 1 steps
    name map `map.toml`: field `rules[0].steps[0].last_tokens`: expected a number or "golden", found "candidate"
    name map `map.toml`: field `rules[0].steps[0].reshape`: expected numbers, because there are several golden tensors, found "golden"
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
