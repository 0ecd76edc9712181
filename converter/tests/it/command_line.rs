//! The program: what goes to stdout and to stderr, exit statuses, and hostile input.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conversion::shapes;
use crate::hand_made::{raw_file, write_json};
use crate::hand_made_source::Source;

struct Output {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(arguments: &[&str]) -> Output {
    let output = Command::cargo_bin("nvl-convert").unwrap().args(arguments).output().unwrap();
    Output {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Converts a hostile source; it must end with status 2, one clear line, and nothing beside the source.
fn refused(dir: &TempDir) -> String {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let output = run(&["convert", text(dir.path()), text(&out)]);
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    assert_eq!(output.stdout, "");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "something was left behind");
    let mut lines = output.stderr.lines();
    let error = lines.next().unwrap().to_string();
    assert!(error.starts_with("error: "), "{error}");
    assert!(lines.all(|line| line.starts_with("hint: ")), "{}", output.stderr);
    assert!(error.contains("expected") && error.contains("found") || error.contains("line "), "{error}");
    error.replace(text(dir.path()), "DIR")
}

#[test]
fn help_names_every_command_and_flag() {
    insta::assert_snapshot!(run(&["--help"]).stdout, @r#"
    Converts a Llama-3.1-Nemotron-Nano-VL checkpoint to a normalized one that needs no Python

    Usage: nvl-convert <COMMAND>

    Commands:
      inspect      Show what a checkpoint contains, and how each behaviour of the model is known
      convert      Write a normalized checkpoint, with a ledger of every tensor and assumption
      verify       Hash a normalized checkpoint and compare it with its ledger, and with its source
      export       Write the original checkpoint again, byte by byte
      completions  Print the completions for a shell
      man          Print the manual page, or write all manual pages to a folder
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version
    "#);
    insta::assert_snapshot!(run(&["convert", "-h"]).stdout, @r#"
    Write a normalized checkpoint, with a ledger of every tensor and assumption

    Usage: nvl-convert convert [OPTIONS] <SOURCE> <OUT>

    Arguments:
      <SOURCE>  A folder, or a hub id with an optional revision (`owner/name@rev`)
      <OUT>     The folder to write

    Options:
          --part <PART>                 The part to write: transformers' own classes load `text` and
                                        `vision` [default: all] [possible values: all, text, vision]
          --dtype <DTYPE>               The dtype of the weights written [default: keep] [possible
                                        values: keep, float32, bfloat16, float16]
          --max-shard-size <SIZE>       The largest file, unless a single tensor is larger [default:
                                        5GB]
          --align-corners <true|false>  Whether the tower resizes its positions with aligned corners, if
                                        no source file says so [possible values: true, false]
          --upscale-factor <N>          The factor by which a picture is enlarged before it is cut into
                                        tiles, if no source file says it
          --strict                      Refuse behaviours that are only assumed
          --dry-run                     Print the plan and write nothing
          --force                       Replace OUT if it is empty or a converted checkpoint without
                                        other files
          --code-revision <REV>         The revision of the other repository that has the model's code:
                                        a branch, a tag or a commit
          --local-files-only            Do not use the network: the cache must have everything
      -h, --help                        Print help
    "#);
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["convert"][..],
        &["convert", "a"],
        &["convert", "a", "b", "--dtype", "int8"],
        &["convert", "a", "b", "--max-shard-size", "5XB"],
        &["convert", "a", "b", "--align-corners", "maybe"],
        &["convert", "a", "b", "--upscale-factor", "0"],
        &["frobnicate"],
        &[],
    ] {
        let output = run(arguments);
        assert_eq!((output.status, output.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn inspect_tells_people_what_the_bundled_checkpoint_is() {
    let output = run(&["inspect", text(&shapes())]);
    assert_eq!((output.status, output.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(output.stdout, @r#"
    checkpoint      shapes
    model           Llama_Nemotron_Nano_VL
    weights         1 477 216 parameters, 96 tensors, 2.95 MB

    tower           C-RADIO, 3 blocks, width 96, 4 heads, MLP 384, bfloat16
                    patches of 16 pixels, positions 32 x 32, 4 class tokens and 4 registers
                    no final norm, no LayerScale
    projector       pixel shuffle v2 by 2, then 384 to 192 to 128
    language model  Llama, 4 layers, width 128, 4 query and 2 key-value heads of 32, MLP 352
                    vocabulary 512, 131072 positions, rotary base 500000, llama3 scaling by 8, untied embeddings, bfloat16
    pictures        enlarged by 2, up to 12 tiles of 128 x 128 pixels and a thumbnail, 16 tokens a tile
    prompt          <img><image>…</img> (token 494)

    tensors                     count       parameters       size  dtype
      vision_model                 51          508 320    1.02 MB  bfloat16
      multi_modal_projector         6           99 392  198.78 kB  bfloat16
      language_model               39          869 504    1.74 MB  bfloat16
      of the source's tensors: 39 kept, 39 renamed, 3 skipped, 6 split

    files                                     tensors       size
      model-00001-of-00003.safetensors             23  970.48 kB
      model-00002-of-00003.safetensors             31  999.07 kB
      model-00003-of-00003.safetensors             33  995.10 kB

    not weights
      vision_model.radio_model.summary_idxs I64 [3]: vision_config.summary_idxs = [0,1,2]
      vision_model.radio_model.input_conditioner.norm_mean BF16 [3, 1, 1]: vision_config.norm_mean = [0.482421875,0.45703125,0.408203125]
      vision_model.radio_model.input_conditioner.norm_std BF16 [3, 1, 1]: vision_config.norm_std = [0.26953125,0.26171875,0.275390625]

    behaviours that come from Python code
      ps_version = "v2": `config.json`, field `ps_version`
      position_interpolation_align_corners = true: assumed, since the 8B was released before 2025-06-28, when RADIO's code changed from true to false (NVlabs/RADIO cb07f55); `--align-corners` settles it
      upscale_factor = 2: assumed, since the released `image_processing.py` doubles a picture before it chooses tiles; `--upscale-factor` settles it
      vision_config.num_attention_heads = 4: `config.json`, field `vision_config.args.model_kwargs.num_heads`
      vision_config.layer_norm_eps = 1e-6: `config.json`, `vision_config.args.model` names `vit_huge_patch16_224`
      vision_config.hidden_act = "gelu": `config.json`, `vision_config.args.model` names `vit_huge_patch16_224`
      projector_layer_norm_eps = 0.00001: `config.json`, `model_type` names `Llama_Nemotron_Nano_VL`
      image_token = "<image>": `config.json`, `model_type` names `Llama_Nemotron_Nano_VL`
      image_start_token = "<img>": `config.json`, `model_type` names `Llama_Nemotron_Nano_VL`
      image_end_token = "</img>": `config.json`, `model_type` names `Llama_Nemotron_Nano_VL`

    defaults made explicit
      text_config.head_dim = 32 (transformers LlamaConfig)
      text_config.initializer_range = 0.02 (transformers LlamaConfig)
      text_config.attention_dropout = 0.0 (transformers LlamaConfig)
      text_config.pad_token_id = null (transformers LlamaConfig)
      text_config.pretraining_tp = 1 (transformers LlamaConfig)
      text_config.use_cache = true (transformers LlamaConfig)

    31 fields of the source without influence on inference
    "#);
}

#[test]
fn inspect_tells_programs_the_same() {
    let output = run(&["inspect", text(&shapes()), "--json"]);
    assert_eq!((output.status, output.stderr.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(json["parameters"], 1_477_216);
    assert_eq!(json["parts"][0]["name"], "vision_model");
    assert_eq!(json["actions"], json!({ "kept": 39, "renamed": 39, "skipped": 3, "split": 6 }));
    assert_eq!(json["buffers"][0]["value"], json!([0, 1, 2]));
    assert_eq!(json["config"]["vision_config"]["num_registers"], 4);
    assert_eq!(json["behaviours"][1]["evidence"]["kind"], "assumed");
}

#[test]
fn a_conversion_is_silent_on_stdout_and_verifies() {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let output = run(&["convert", text(&shapes()), text(&out)]);
    assert_eq!((output.status, output.stdout.as_str()), (Some(0), ""), "{}", output.stderr);
    assert!(output.stderr.contains("out written: 2.96 MB read in "), "{}", output.stderr);

    let output = run(&["verify", text(&out), "--source", text(&shapes())]);
    assert_eq!(output.status, Some(0));
    assert_eq!(output.stdout, "15 files, 96 tensors, 87 source tensors compared: nothing differs\n");

    let path = out.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = run(&["verify", text(&out)]);
    assert_eq!(output.status, Some(1));
    assert!(output.stdout.starts_with("differs: tensor `language_model.lm_head.weight`: expected SHA-256 "));
    assert!(output.stdout.ends_with("7 files, 96 tensors compared: 1 difference\n"), "{}", output.stdout);

    let output = run(&["convert", text(&shapes()), text(&out)]);
    assert_eq!(output.status, Some(2));
    assert!(output.stderr.contains("hint: `--force` replaces it"), "{}", output.stderr);
    assert_eq!(run(&["convert", text(&shapes()), text(&out), "--force"]).status, Some(0));
    assert_eq!(run(&["verify", text(&out)]).status, Some(0));
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let dir = Source::sound().write();
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let output = run(&["convert", text(dir.path()), text(&out), "--dry-run", "--dtype", "float32"]);
    assert_eq!((output.status, output.stderr.as_str()), (Some(0), ""));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    for line in [
        "convert language_model.model.norm.weight BF16 [24]\n     -> language_model.model.norm.weight F32 [24] in model.safetensors\n",
        "skip    vision_model.radio_model.input_conditioner.norm_std BF16 [3, 1, 1]: a buffer, not a weight: its value is `vision_config.norm_std`\n",
        "     -> vision_model.encoder.layer.0.attention.k_proj.bias F32 [12] in model.safetensors\n",
        "68 tensors of the source become 78 tensors, ",
    ] {
        assert!(output.stdout.contains(line), "{line}: {}", output.stdout);
    }
}

#[test]
fn strict_is_refused_until_every_flag_is_given() {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let output = run(&["convert", text(&shapes()), text(&out), "--strict", "--align-corners", "true"]);
    assert_eq!(output.status, Some(2));
    assert!(output.stderr.contains("`upscale_factor`") && output.stderr.contains("`--upscale-factor`"));
    assert!(!output.stderr.contains("position_interpolation"), "{}", output.stderr);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    let flags = ["--strict", "--align-corners", "false", "--upscale-factor", "1"];
    let output = run(&[&["convert", text(&shapes()), text(&out)][..], &flags].concat());
    assert_eq!(output.status, Some(0), "{}", output.stderr);
    let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["vision_config"]["position_interpolation_align_corners"], false);
    assert_eq!(config["image_processor"]["upscale_factor"], 1);
}

#[test]
fn a_path_that_is_not_there_is_no_repository() {
    let output = run(&["inspect", "./no/such/folder"]);
    assert_eq!(output.stderr, "error: `./no/such/folder`: expected a folder, found nothing\n");
}

#[test]
fn a_cut_or_missing_shard_is_refused() {
    let mut source = Source::sound();
    source.shards = 3;
    let dir = source.write();
    let shard = dir.path().join("model-00002-of-00003.safetensors");
    let bytes = fs::read(&shard).unwrap();
    for length in [0, 4, 8, 100, bytes.len() - 1] {
        fs::write(&shard, &bytes[..length]).unwrap();
        let error = refused(&dir);
        let found = if length == 0 { "found an empty file" } else { "cut off" };
        assert!(error.contains("DIR/model-00002-of-00003.safetensors") && error.contains(found), "{error}");
    }
    fs::remove_file(&shard).unwrap();
    assert!(refused(&dir).contains(
        "`model-00002-of-00003.safetensors`, which `model.safetensors.index.json` names for tensor `"
    ));
}

#[test]
fn an_index_that_leads_outside_is_refused() {
    let mut source = Source::sound();
    source.shards = 2;
    let dir = source.write();
    let path = dir.path().join("model.safetensors.index.json");
    let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for name in ["/etc/hostname", "../model.safetensors", "sub/model.safetensors", "a\u{0}b", "a\nb", ""] {
        let mut index = index.clone();
        index["weight_map"]["mlp1.0.weight"] = json!(name);
        write_json(&path, &index);
        assert!(refused(&dir).contains(
            "DIR/model.safetensors.index.json`: field `weight_map.mlp1.0.weight`: expected the plain name of a file inside the folder"
        ));
    }
    let outside = TempDir::new().unwrap();
    let shard = dir.path().join("model-00002-of-00002.safetensors");
    let target = outside.path().join("weights");
    fs::rename(&shard, &target).unwrap();
    std::os::unix::fs::symlink(&target, &shard).unwrap();
    write_json(&path, &index);
    assert!(refused(&dir).contains("expected a file inside the folder, found a link to"));
}

#[test]
fn a_header_that_lies_is_refused() {
    let dir = Source::sound().write();
    let path = dir.path().join("model.safetensors");
    let entry = "{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":";
    for (bytes, part) in [
        (raw_file("not json", &[]), "a JSON object of tensors"),
        (raw_file(&format!("{{\"a\":{entry}[0,4]}},\"b\":{entry}[2,6]}}}}"), &[0; 6]), "tensor `b`"),
        (raw_file(&format!("{{\"a\":{entry}[0,4]}},\"a\":{entry}[0,4]}}}}"), &[0; 4]), "found `a` twice"),
        (raw_file(&format!("{{\"a\":{entry}[18446744073709551615,3]}}}}"), &[0; 4]), "tensor `a`"),
        (
            raw_file(
                "{\"a\":{\"dtype\":\"BF16\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,4]}}",
                &[0; 4],
            ),
            "tensor `a`",
        ),
        (
            raw_file("{\"a\\nb\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", &[0; 4]),
            "tensor `a\\nb`",
        ),
        (
            raw_file("{\"a\":{\"dtype\":\"Q4\",\"shape\":[2],\"data_offsets\":[0,4]}}", &[0; 4]),
            "unknown variant `Q4`",
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = refused(&dir);
        assert!(error.contains("DIR/model.safetensors") && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn broken_json_is_refused_with_line_and_column() {
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"] {
        let dir = Source::sound().write();
        fs::write(dir.path().join(name), "{\n  \"a\": }").unwrap();
        assert!(refused(&dir).contains(&format!("`DIR/{name}`: line 2, column ")), "{name}");
        fs::write(dir.path().join(name), "[]").unwrap();
        let error = refused(&dir);
        assert!(error.contains(&format!("`DIR/{name}`")), "{error}");
        fs::write(dir.path().join(name), b"\xff\xfe").unwrap();
        assert!(refused(&dir).contains(&format!("`DIR/{name}`: line 1")), "{name}");
        fs::remove_file(dir.path().join(name)).unwrap();
        assert!(refused(&dir).contains(&format!("expected a file `{name}`, found none")));
    }
    let dir = Source::sound().write();
    let config = fs::read_to_string(dir.path().join("config.json")).unwrap();
    let twice = config.replacen('{', "{\"ps_version\": \"v1\",", 1);
    fs::write(dir.path().join("config.json"), twice).unwrap();
    assert!(refused(&dir).contains("expected each key once, found `ps_version` twice"));
    fs::write(dir.path().join("config.json"), "[".repeat(100_000)).unwrap();
    assert!(refused(&dir).contains("recursion limit exceeded"));
}

#[test]
fn another_model_is_refused_by_name_before_its_files_are_missed() {
    let dir = TempDir::new().unwrap();
    write_json(&dir.path().join("config.json"), &json!({ "model_type": "llama" }));
    assert_eq!(
        refused(&dir),
        "error: `DIR/config.json`: field `model_type`: expected `\"Llama_Nemotron_Nano_VL\"`, found `\"llama\"`: only this model is supported"
    );
    let out = dir.path().join("out");
    assert_eq!(run(&["convert", text(&shapes()), text(&out)]).status, Some(0));
    let output = run(&["inspect", text(&out)]);
    assert!(output.stderr.contains("this checkpoint is normalized already"), "{}", output.stderr);
}

#[test]
fn windowed_attention_and_strange_names_are_refused() {
    let dir = Source::sound().with("/vision_config/vitdet_window_size", json!(14)).write();
    assert_eq!(
        refused(&dir),
        "error: `DIR/config.json`: field `vision_config.vitdet_window_size`: expected `null`, found `14`: windowed attention in the tower is not supported"
    );
    let dir = Source::sound().with_tensor("mlp1.0.weight\u{7f}", Dtype::BF16, &[1]).write();
    assert!(refused(&dir).contains("expected a name without control characters"));
    let dir = Source::sound().with_tensor("lora.weight", Dtype::BF16, &[1]).write();
    assert!(
        refused(&dir)
            .contains("tensor `lora.weight`: expected no such tensor, found it in `model.safetensors`")
    );
}

#[test]
fn export_writes_the_source_back_and_says_so() {
    let parent = TempDir::new().unwrap();
    let (out, back) = (parent.path().join("out"), parent.path().join("back"));
    assert_eq!(run(&["convert", text(&shapes()), text(&out)]).status, Some(0));
    let exported = run(&["export", text(&out), text(&back)]);
    assert_eq!((exported.status, exported.stdout.as_str()), (Some(0), ""), "{}", exported.stderr);
    assert!(exported.stderr.contains("back written: 11 files, 87 tensors"), "{}", exported.stderr);
    for entry in fs::read_dir(shapes()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::read(&path).unwrap(), fs::read(back.join(path.file_name().unwrap())).unwrap());
    }
    let again = run(&["export", text(&out), text(&back)]);
    assert_eq!(again.status, Some(2));
    assert!(
        again.stderr.contains("expected nothing at the output's path, found a folder\nhint: `--force`"),
        "{}",
        again.stderr
    );
    assert_eq!(run(&["export", text(&out), text(&back), "--force"]).status, Some(0));
    let of_source = run(&["export", text(&shapes()), text(&parent.path().join("x"))]);
    assert_eq!(of_source.status, Some(2));
    assert!(
        of_source.stderr.contains("expected a file `conversion.json`, found none"),
        "{}",
        of_source.stderr
    );
}

#[test]
fn the_library_describes_the_command_line() {
    let command = converter::arguments::command();
    assert_eq!(command.get_name(), "nvl-convert");
    let names: Vec<&str> = command.get_subcommands().map(|command| command.get_name()).collect();
    assert_eq!(names, ["inspect", "convert", "verify", "export", "completions", "man"]);
    command.debug_assert();
}

#[test]
fn verify_tells_of_a_template_that_was_put_beside_the_checkpoint() {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let mut source = Source::sound();
    source.tokenizer_config.as_object_mut().unwrap().remove("chat_template").unwrap();
    let dir = source.write();
    assert_eq!(run(&["convert", text(dir.path()), text(&out)]).status, Some(0));
    fs::write(out.join("chat_template.jinja"), "{{ messages }}").unwrap();
    let output = run(&["verify", text(&out)]);
    assert_eq!(output.status, Some(1), "{}", output.stderr);
    assert!(
        output.stdout.contains("file `chat_template.jinja`: expected no such file, found it"),
        "{}",
        output.stdout
    );
}

#[test]
fn a_pointer_of_git_lfs_comes_with_what_to_do() {
    let dir = Source::sound().write();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4976698672\n";
    fs::write(dir.path().join("model.safetensors"), pointer).unwrap();
    let parent = TempDir::new().unwrap();
    let output = run(&["convert", text(dir.path()), text(&parent.path().join("out"))]);
    assert_eq!(output.status, Some(2));
    assert_eq!(
        output.stderr.replace(text(dir.path()), "DIR"),
        "error: `DIR/model.safetensors`: expected a safetensors file, found a Git LFS pointer to a file of 4976698672 bytes\n\
         hint: `git lfs pull` in the repository's folder fetches the files themselves\n"
    );
}
