//! The other commands, and the command line.

use std::fs;

use insta::assert_snapshot;

use super::{NAME, run};
use crate::dumps::goldens;

#[test]
fn what_is_in_a_dump() {
    let run = run(&["show", "shapes-history-bfloat16"]);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    let (head, table) = run.stdout.split_once("\n\n").unwrap();
    assert_snapshot!(head, @r#"
    dump         shapes-history-bfloat16
    producer     nvl-golden record 0.1.0 (30f2ed681 2026-11-28)
    torch        2.11.0+cu130
    transformers 4.57.6
    timm         1.0.31
    dtype        bfloat16
    pixel_values float32, as they reached the tower
    device       cpu
    attention    sdpa (vision), eager (text)
    threads      1
    cpu          AVX2
    deviation    inputs are not moved to CUDA (`modeling.py`, line 257)
    deviation    inputs are not moved to CUDA (`modeling.py`, line 258)
    checkpoint   shapes
    remote code  18106a9d313ad70e image_processing.py
    remote code  c204c3d77984df1d configuration.py
    remote code  0ee10a60b2948af9 hf_model.py
    remote code  9a6ddfbc0204b914 common.py
    remote code  ab5decb89b49b4a2 radio_model.py
    remote code  f585ab4ee09da408 enable_cpe_support.py
    remote code  a74401f5220c2e59 feature_normalizer.py
    remote code  a938b96715266d2f extra_models.py
    remote code  eb5a562d11edc655 forward_intermediates.py
    remote code  72062d3b71877e14 input_conditioner.py
    remote code  591a6ae511fa38c5 vit_patch_generator.py
    remote code  64ee35f128380c3b cls_token.py
    remote code  86853ae2ed28c902 dual_hybrid_vit.py
    remote code  42f532b882f18ca4 extra_timm_models.py
    remote code  5433d08522c28f46 dinov2_arch.py
    remote code  85b4c1d0a6d0c8c5 adaptor_base.py
    remote code  bf76c60b991813ee eradio_model.py
    remote code  b8e703400604ee5f enable_spectral_reparam.py
    remote code  938444bbb6c8beaf adaptor_generic.py
    remote code  0c720adfa8cdddda adaptor_mlp.py
    remote code  16963e07de300e5f adaptor_registry.py
    remote code  c2eb9166de48f5eb open_clip_adaptor.py
    remote code  3b83163ce2650ef0 utils.py
    remote code  5b83b4c7b90b797d vitdet.py
    remote code  4fadb3ba284ca559 modeling.py
    system       "Answer in one word."
    user         "<image>\nDescribe this image."
    assistant    "a purple square"
    user         "<image>\nWhat color is the circle?"
    image        purple-square.png, 64×64, tiles: 1
    image        red-circle-above-blue-square.png, 64×64, tiles: 1
    generation   at most 12 new tokens, greedy
    prompt       "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nAnswer in one word.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<img><image>×16</img>\nDescribe this image.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\na purple square<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<img><image>×16</img>\nWhat color is the circle?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    generated    [65, 75, 299, 493]
    text         "blue"
    entries      109, 0.4 MB
    sketches     107, seed 0
    "#);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + 109);
    let columns: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(columns[..5], ["0", "pixel_values", "input", "-", "float32"]);
    assert_eq!(columns[columns.len() - 2..], ["0", "0"]);
}

#[test]
fn help() {
    assert_snapshot!(run(&["diff", "--help"]).stdout, @r#"
    Compare a candidate's dump with the golden one

    Usage: nvl-validate diff [OPTIONS] <GOLDEN> <CANDIDATE>

    Arguments:
      <GOLDEN>     The folder of the dump that is right
      <CANDIDATE>  The folder of the dump under test

    Options:
          --preset <NAME>      Use a built-in policy: every bit, or the limits of one dtype for all
                               entries [possible values: exact, float32, bfloat16]
          --policy <FILE>      Take tolerances from this TOML file
          --names <FILE|NAME>  Map the candidate's names and layouts: a TOML file, or a ready-made map
                               (`nvl-validate maps`)
          --relation <NAME>    Two runs of one engine, the plain one first, that must agree in this way
                               [possible values: same, chunked, batched, prefix-cache]
          --noise <DUMP>       Take the limits from the noise of this right run of the same request; may
                               be repeated, the largest noise counts
          --noise-factor <K>   An error may be this many times the noise [default: 3]
          --format <FORMAT>    The format of the report; may be repeated with `--out` [possible values:
                               table, json, junit, markdown, html, github]
          --out <DIR>          Write a `report.*` file for each format to this folder [default formats:
                               all]
          --tokenizer <FILE>   Show the texts of differing ids, with this checkpoint folder or
                               `tokenizer.json`
          --all                Show each entry in its own row of the table
          --no-verify          Do not check the tensors against their recorded hashes
      -h, --help               Print help
    "#);
}

#[test]
fn limits_from_right_runs_on_the_command_line() {
    let golden = goldens().join(NAME);
    let golden = golden.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let calibrated = run(&["calibrate", golden, golden, golden, "--factor", "2"]);
    assert_eq!((calibrated.status, calibrated.stderr.as_str()), (0, ""));
    assert!(calibrated.stdout.starts_with("# 2 times the noise of 2 right runs"), "{}", calibrated.stdout);
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, &calibrated.stdout).unwrap();
    let by_policy = run(&["diff", golden, golden, "--policy", policy.to_str().unwrap()]);
    assert_eq!(by_policy.status, 0, "{}", by_policy.stderr);

    let by_noise = run(&["diff", golden, golden, "--noise", golden, "--preset", "exact"]);
    assert_eq!(by_noise.status, 0, "{}", by_noise.stderr);
    assert!(by_noise.stdout.contains("preset     exact\nnoise      3 times that of "), "{}", by_noise.stdout);

    for wrong in [
        &["diff", golden, golden, "--noise-factor", "2"][..],
        &["diff", golden, golden, "--noise", golden, "--noise-factor", "0.5"],
        &["diff", golden, golden, "--noise", "nowhere"],
        &["diff", golden, golden, "--preset", "int8"],
        &["calibrate", golden],
    ] {
        let refused = run(wrong);
        assert_eq!((refused.status, refused.stdout.as_str()), (2, ""), "{wrong:?}");
    }
}

#[test]
fn the_library_describes_the_command_line() {
    let command = validate::arguments::command();
    assert_eq!(command.get_name(), "nvl-validate");
    let names: Vec<&str> = command.get_subcommands().map(|command| command.get_name()).collect();
    assert_eq!(names, ["diff", "calibrate", "maps", "names", "sketch", "show", "completions", "man"]);
    command.debug_assert();
}
