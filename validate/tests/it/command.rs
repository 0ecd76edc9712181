//! The program: what it prints, and its exit status.

use std::fs;

use assert_cmd::Command;
use insta::assert_snapshot;
use serde_json::Value;

use crate::dumps::{Candidate, bundled, goldens};

const NAME: &str = "shapes-describe-bfloat16";

pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program in the folder of the bundled dumps.
pub fn run(arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_nvl-validate"))
        .current_dir(goldens())
        .env_remove("CLICOLOR_FORCE")
        .env_remove("COLUMNS")
        .args(arguments)
        .output()
        .unwrap();
    Run {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Compares a bundled dump with a candidate, whose folder is called `candidate` in the output.
fn diff(candidate: &Candidate, options: &[&str]) -> Run {
    let path = candidate.path();
    let path = path.to_str().unwrap();
    let mut run = run(&[&["diff", NAME, path], options].concat());
    for text in [&mut run.stdout, &mut run.stderr] {
        *text = text.replace(path, "candidate");
    }
    run
}

fn faulty() -> Candidate {
    Candidate::with(
        NAME,
        |head| head.generated_ids.as_mut().unwrap()[3] = 259,
        |_, tensor| {
            if tensor.name.starts_with("vision_model.radio_model.model.blocks.2.") {
                tensor.set(100, 32.0);
            }
            true
        },
    )
}

#[test]
fn a_dump_and_its_copy() {
    let run = diff(&Candidate::copied(NAME), &[]);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert_snapshot!(run.stdout, @r#"
    golden     shapes-describe-bfloat16
               Hugging Face modeling.py, bfloat16, cpu
    candidate  candidate
               Hugging Face modeling.py, bfloat16, cpu

    order  site                                    rel L2  max abs     ulps  verdict
    0-104  105 sites, all bit-equal                     0        0        0  equal

    105 entries: 105 pass, 105 bit-equal, 0 fail
    worst relative L2: 0
    prompt: equal
    generated ids: equal
    text: equal
    step logits: 8 steps, the same probabilities
    verdict: pass
    "#);
}

#[test]
fn a_fault_and_what_follows() {
    let run = diff(&faulty(), &[]);
    assert_eq!((run.status, run.stderr.as_str()), (1, ""));
    assert_snapshot!(run.stdout, @r#"
    golden     shapes-describe-bfloat16
               Hugging Face modeling.py, bfloat16, cpu
    candidate  candidate
               Hugging Face modeling.py, bfloat16, cpu

    first divergence: vision_model.radio_model.model.blocks.2.norm1 (LayerNorm,
      order 27)
      relative L2: expected at most 2.0e-2, found 4.3e-1
      largest difference 3.2e1 at [0, 1, 4]: expected 0.271484375, found 32
      1 of 6912 elements differs
      1 of 8 prefix tokens is off: tile 0, prefix token 1
      the error is in channel 4 of 96
      made here: its input vision_model.radio_model.model.blocks.1 is bit-equal
      last agreement: vision_model.radio_model.model.blocks.1 (Block, order 26),
        bit-equal

    4 errors made, not inherited: vision_model.radio_model.model.blocks.2.norm1,
      vision_model.radio_model.model.blocks.2.attn.qkv,
      vision_model.radio_model.model.blocks.2.mlp.fc1,
      vision_model.radio_model.model.blocks.2.mlp.fc2

    vision…    vision_model.radio_model.model.blocks

     order  site                                   rel L2  max abs     ulps  verdict
      0-26  27 sites, all bit-equal                     0        0        0  equal
        27  vision….2.norm1                        4.3e-1    3.2e1      885  FRESH
        28  vision….2.attn.qkv                     1.2e-1    3.2e1    32686  FRESH
        29  vision….2.attn.proj                    1.3e-1    3.4e1    33246  FAIL
        30  vision….2.attn                         1.3e-1    3.4e1    33246  FAIL
        31  vision….2.norm2                        4.2e-1    3.2e1     1403  FAIL
        32  vision….2.mlp.fc1                      1.2e-1    3.1e1      686  FRESH
        33  vision….2.mlp.act                      3.3e-1    3.1e1      729  FAIL
        34  vision….2.mlp.fc2                      1.2e-1    3.0e1      560  FRESH
        35  vision….2.mlp                          1.2e-1    3.0e1      560  FAIL
    36-104  69 sites, all bit-equal                     0        0        0  equal

    105 entries: 96 pass, 96 bit-equal, 9 fail, 4 fresh
    worst relative L2: 4.3e-1 at vision_model.radio_model.model.blocks.2.norm1
    prompt: equal
    generated ids: at position 3: expected 334, found 259; the golden logits
      preferred it by 19.53 and have the other in place 28, the candidate's
      preferred it too, by 19.53
      golden     64 329 288 [334] 259 326 282 493
      candidate  64 329 288 [259] 259 326 282 493
    text: equal
    step logits: 4 steps, the same probabilities; 4 left out, since the ids before
      differ
    verdict: FAIL
    "#);
}

#[test]
fn a_missing_entry() {
    let site = "language_model.model.layers.3.post_attention_layernorm";
    let run = diff(&Candidate::of(NAME, |tensor| tensor.name != site), &[]);
    assert_eq!(run.status, 1);
    assert_snapshot!(run.stdout, @r#"
    golden     shapes-describe-bfloat16
               Hugging Face modeling.py, bfloat16, cpu
    candidate  candidate
               Hugging Face modeling.py, bfloat16, cpu

    first divergence: language_model.model.layers.3.post_attention_layernorm
      (LlamaRMSNorm, order 93)
      expected an entry in the candidate, found none
      last agreement: language_model.model.layers.3.self_attn (LlamaAttention, order
        92), bit-equal

     order  site                                   rel L2  max abs     ulps  verdict
      0-92  93 sites, all bit-equal                     0        0        0  equal
        93  language_mo…post_attention_layernorm        -        -        -  MISSING
    94-104  11 sites, all bit-equal                     0        0        0  equal

    105 entries: 104 pass, 104 bit-equal, 1 fail
    worst relative L2: 0
    prompt: equal
    generated ids: equal
    text: equal
    step logits: 8 steps, the same probabilities
    verdict: FAIL
    "#);
}

#[test]
fn what_only_the_candidate_has_stands_apart_and_has_no_order() {
    // The last golden entries without a counterpart, so that the two kinds are neighbours.
    let renamed = |count: usize| {
        let from = 105 - count;
        Candidate::with(
            NAME,
            |_| (),
            move |entry, tensor| {
                if entry.order as usize >= from {
                    tensor.name = format!("own.{}", entry.order);
                }
                true
            },
        )
    };
    let rows = |run: &Run| {
        let rows = run.stdout.lines().skip_while(|line| !line.trim_start().starts_with("order"));
        rows.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let rules = "[[rules]]\nsites = ['own.*', 'language_model', '*.lm_head', 'step_logits']\nignore = true\nreason = 'not asked for'\n";
    fs::write(&policy, format!("version = 1\n{rules}")).unwrap();
    let run = diff(&renamed(3), &["--policy", policy.to_str().unwrap()]);
    assert_eq!(run.status, 0, "{}", run.stdout);
    assert_snapshot!(rows(&run), @"
      order  site                                  rel L2  max abs     ulps  verdict
      0-101  102 sites, all bit-equal                   0        0        0  equal
    102-104  3 sites                                    -        -        -  ignored
          -  3 sites of the candidate only              -        -        -  ignored
    ");
    let run = diff(&renamed(15), &[]);
    assert_eq!(run.status, 1);
    assert_snapshot!(rows(&run), @"
      order  site                                  rel L2  max abs     ulps  verdict
       0-89  90 sites, all bit-equal                    0        0        0  equal
         90  language….self_attn.v_proj                 -        -        -  MISSING
         91  language….self_attn.o_proj                 -        -        -  MISSING
         92  language….self_attn                        -        -        -  MISSING
         93  language….post_attention_layernorm         -        -        -  MISSING
         94  language….mlp.gate_proj                    -        -        -  MISSING
         95  language….mlp.act_fn                       -        -        -  MISSING
         96  language….mlp.up_proj                      -        -        -  MISSING
         97  language….mlp.down_proj                    -        -        -  MISSING
         98  language….mlp                              -        -        -  MISSING
         99  language_model.model.layers.3              -        -        -  MISSING
        100  language_model.model.norm                  -        -        -  MISSING
        101  language_model.model                       -        -        -  MISSING
    102-104  3 more                                     -        -        -  MISSING
          -  own.90                                     -        -        -  EXTRA
          -  own.91                                     -        -        -  EXTRA
          -  own.92                                     -        -        -  EXTRA
          -  own.93                                     -        -        -  EXTRA
          -  own.94                                     -        -        -  EXTRA
          -  own.95                                     -        -        -  EXTRA
          -  own.96                                     -        -        -  EXTRA
          -  own.97                                     -        -        -  EXTRA
          -  own.98                                     -        -        -  EXTRA
          -  own.99                                     -        -        -  EXTRA
          -  own.100                                    -        -        -  EXTRA
          -  own.101                                    -        -        -  EXTRA
          -  3 more of the candidate only               -        -        -  EXTRA
    ");
    let run = diff(&renamed(1), &["--all"]);
    let rows = rows(&run);
    let last = rows.lines().last().unwrap();
    assert_eq!(last.split_whitespace().collect::<Vec<_>>(), ["-", "own.104", "-", "-", "-", "EXTRA"]);
}

#[test]
fn many_faults_share_rows_unless_all_are_asked_for() {
    let everything = Candidate::of(NAME, |tensor| {
        tensor.set(1, -3e4);
        true
    });
    let run = diff(&everything, &[]);
    assert_eq!(run.status, 1);
    assert_snapshot!(run.stdout, @r#"
    golden     shapes-describe-bfloat16
               Hugging Face modeling.py, bfloat16, cpu
    candidate  candidate
               Hugging Face modeling.py, bfloat16, cpu

    first divergence: pixel_values (input, order 0)
      relative L2: expected at most 1.0e-5, found 1.6e2
      largest difference 3.0e4 at [0, 0, 0, 1]: expected 0.9568628072738647, found
        -30000
      1 of 49152 elements differs
      1 of 384 rows is off: row 0
      the error is in channel 1 of 128
      made here: it was given and not computed
      no entry before it agrees

    14 errors made, not inherited: pixel_values, input_ids,
      vision_model.radio_model.model.patch_generator.cls_token,
      vision_model.radio_model.model.blocks.1.norm1,
      vision_model.radio_model.model.blocks.2.norm1, vision_model, mlp1.0,
      language_model.model.rotary_emb.cos and 6 more

    vision…    vision_model.radio_model.model

     order  site                                   rel L2  max abs     ulps  verdict
         0  pixel_values                            1.6e2    3.0e4    2.3e9  FRESH
         1  input_ids                                   -    3.0e4        -  FRESH
         2  vision_mode…_model.input_conditioner    7.8e1    3.0e4    34507  FAIL
         3  vision….pat…_generator.im_to_patches    7.8e1    3.0e4    34507  FAIL
         4  vision….patch_generator.embedder        1.8e1    3.0e4     1329  FAIL
         5  vision….patch_generator.cls_token       1.8e1    3.0e4    33618  FRESH
         6  vision….patch_generator                 1.8e1    3.0e4    33618  FAIL
         7  vision….blocks.0.norm1                  3.8e2    3.0e4    34125  FAIL
         8  vision….blocks.0.attn.qkv               9.2e1    3.0e4     1742  FAIL
         9  vision….blocks.0.attn.proj              1.1e2    3.0e4    34581  FAIL
        10  vision….blocks.0.attn                   1.1e2    3.0e4    34581  FAIL
        11  vision….blocks.0.norm2                  3.9e2    3.0e4    34387  FAIL
    12-104  93 more, worst langua…l.embed_tokens    5.9e3    3.0e4    33511  FAIL

    105 entries: 0 pass, 0 bit-equal, 105 fail, 14 fresh
    worst relative L2: 5.9e3 at language_model.model.embed_tokens
    prompt: equal
    generated ids: equal
    text: equal
    step logits: 8 steps, agreement top 1 100 %, top 5 100 %, top 10 100 %; KL
      divergence 2.1e-10 on average, 1.7e-9 at most (position 0)
    verdict: FAIL
    "#);
    let all = diff(&everything, &["--all"]).stdout;
    assert_eq!(all.matches(" FAIL\n").count() + all.matches(" FRESH\n").count(), 105 + 1, "{all}");
}

#[test]
fn every_line_fits_80_columns() {
    for options in [&[][..], &["--all"]] {
        let run = diff(&faulty(), options);
        for line in run.stdout.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn colour_only_where_it_is_forced_or_seen() {
    let candidate = faulty();
    let coloured = |name: &str, value: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_nvl-validate"))
            .current_dir(goldens())
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .env(name, value)
            .args(["diff", NAME, candidate.path().to_str().unwrap()])
            .output()
            .unwrap();
        output.stdout.contains(&0x1b)
    };
    assert!(coloured("CLICOLOR_FORCE", "1"));
    assert!(!coloured("NO_COLOR", "1"));
}

#[test]
fn a_dump_cannot_steer_the_terminal() {
    let hostile = Candidate::with(
        NAME,
        |head| {
            head.producer.name.push_str("\u{1b}]0;title\u{7}");
            head.text = Some("\u{1b}[2J".to_owned());
        },
        |_, tensor| {
            if tensor.name == "mlp1.2" {
                tensor.name.push_str("\u{1b}[31m\r");
            }
            true
        },
    );
    let path = hostile.path();
    let shown = run(&["show", path.to_str().unwrap()]);
    for run in [diff(&hostile, &["--all"]), diff(&hostile, &["--format", "json"]), shown] {
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!run.stdout.contains(steers) && !run.stderr.contains(steers), "{:?}", run.stdout);
    }
    // A message about the same dump, spoilt.
    spoil(&hostile, "mlp1.2\u{1b}[31m\r");
    let run = diff(&hostile, &[]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("tensor `mlp1.2\\u{1b}[31m\\r`"), "{:?}", run.stderr);
}

#[test]
fn json_on_stdout() {
    let run = diff(&faulty(), &["--format", "json"]);
    assert_eq!(run.status, 1);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["first_divergence"]["name"], "vision_model.radio_model.model.blocks.2.norm1");
    assert_eq!(report["first_divergence"]["last_agreement"], "vision_model.radio_model.model.blocks.1");
    assert_eq!(report["answer"]["generated_ids"]["difference"]["position"], 3);
}

#[test]
fn report_files() {
    let candidate = Candidate::copied(NAME);
    let out = candidate.folder.path().join("some/reports");
    let written = |options: &[&str]| {
        let run = diff(&candidate, &[&["--out", out.to_str().unwrap()], options].concat());
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(run.stdout.contains("verdict: pass"), "the table is on stdout too");
        let mut names: Vec<_> = fs::read_dir(&out)
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(written(&["--format", "json"]), ["report.json"]);
    assert_eq!(written(&[]), ["report.html", "report.json", "report.md", "report.txt", "report.xml"]);
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"], "pass");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(out.join("plain"), "").unwrap();
        let mode = |name: &str| fs::metadata(out.join(name)).unwrap().permissions().mode();
        assert_eq!(mode("report.json"), mode("plain"));
    }
}

#[test]
fn a_report_replaces_an_earlier_one_and_nothing_else() {
    let candidate = Candidate::copied(NAME);
    let out = candidate.folder.path().join("reports");
    let reported = |status| {
        let run = diff(&candidate, &["--out", out.to_str().unwrap()]);
        assert_eq!(run.status, status, "{}", run.stderr);
        run.stderr
    };
    reported(0);
    let first = fs::read(out.join("report.html")).unwrap();
    reported(0);
    assert_eq!(fs::read(out.join("report.html")).unwrap(), first);
    for extension in ["html", "json", "md", "txt", "xml"] {
        let path = out.join(format!("report.{extension}"));
        let report = fs::read(&path).unwrap();
        for foreign in ["", "somebody's", "{\n  \"format\": 1}", "<testsuites name=\"pytest\">"] {
            fs::write(&path, foreign).unwrap();
            let message = reported(2);
            let expected = format!(
                "`{}`: expected nothing or an earlier report in its place, found another file\nhint: move it away",
                path.display()
            );
            assert!(message.contains(&expected), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        reported(2);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, report).unwrap();
    }
    reported(0);
}

#[test]
fn a_map_that_was_worked_on_is_not_replaced() {
    let candidate = Candidate::copied(NAME);
    let map = candidate.folder.path().join("mine.toml");
    let path = candidate.path();
    let propose = || run(&["names", NAME, path.to_str().unwrap(), "--out", map.to_str().unwrap()]);
    assert_eq!(propose().status, 0);
    // The same again loses nothing.
    assert_eq!(propose().status, 0);
    let edited = fs::read_to_string(&map).unwrap() + "# by hand\n";
    fs::write(&map, &edited).unwrap();
    let again = propose();
    assert_eq!(again.status, 2);
    assert!(
        again.stderr.contains("mine.toml`: expected nothing or the same text in its place"),
        "{}",
        again.stderr
    );
    assert_eq!(fs::read_to_string(&map).unwrap(), edited);
}

#[test]
fn several_formats_need_a_folder() {
    let run = diff(&Candidate::copied(NAME), &["--format", "json", "--format", "table"]);
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    assert_snapshot!(run.stderr, @r#"
    error: expected one `--format` where there is no `--out`, found 2
    hint: `--out DIR` writes one file for each format
    "#);
}

/// Makes the first value of a bfloat16 tensor large, on disk, without telling the manifest.
fn spoil(candidate: &Candidate, site: &str) {
    let file = candidate.path().join("tensors.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let dump = golden::Dump::open(candidate.path()).unwrap();
    let data = dump.get(site).unwrap().data().to_vec();
    let start = bytes.windows(data.len()).position(|window| window == data).unwrap();
    bytes[start..start + 2].copy_from_slice(&half::bf16::from_f32(1e6).to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn bytes_that_are_not_those_recorded_cannot_be_judged() {
    let candidate = Candidate::copied(NAME);
    spoil(&candidate, "mlp1.1");
    let run = diff(&candidate, &[]);
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    let error = &run.stderr;
    assert!(error.contains("`candidate/tensors.safetensors`: tensor `mlp1.1`: expected SHA-256"), "{error}");
    assert!(error.contains("\nhint: "), "{error}");
    let run = diff(&candidate, &["--no-verify"]);
    assert_eq!(run.status, 1, "without the hashes it is a difference like any other");
    assert!(run.stdout.contains("first divergence: mlp1.1 (Linear, order 40)"), "{}", run.stdout);
    assert!(run.stdout.contains("the recorded hashes were not checked"), "{}", run.stdout);
}

#[test]
fn a_truncated_file_cannot_be_judged() {
    let candidate = Candidate::copied(NAME);
    let file = candidate.path().join("tensors.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    let run = diff(&candidate, &[]);
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    assert_snapshot!(run.stderr, @r#"
    error: `candidate/tensors.safetensors`: expected a complete safetensors file, found 2040164 bytes: incomplete metadata, file not fully covered
    hint: the dump was copied incompletely: copy it again, or record it again
    "#);
}

#[test]
fn what_is_no_dump_cannot_be_judged() {
    for arguments in [&["diff", NAME, "images"][..], &["diff", "images", NAME], &["show", "images"]] {
        let run = run(arguments);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""));
        assert!(run.stderr.contains("error: `images/manifest.json` cannot be read"), "{}", run.stderr);
        assert!(run.stderr.contains("hint: a dump is a folder"), "{}", run.stderr);
    }
}

#[test]
fn a_policy_that_is_none_cannot_be_applied() {
    let candidate = Candidate::copied(NAME);
    let policy = candidate.folder.path().join("policy.toml");
    let with = |text: Option<&str>| {
        if let Some(text) = text {
            fs::write(&policy, text).unwrap();
        }
        let mut run = diff(&candidate, &["--policy", policy.to_str().unwrap()]);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""));
        run.stderr = run.stderr.replace(policy.to_str().unwrap(), "policy.toml");
        run.stderr
    };
    let messages = [
        with(None),
        with(Some("version = 1\nunpaird = true\n")),
        with(Some("version = 1\n[[rules]]\nsites = [\"a[\"]\n")),
        with(Some("version = 1\n[defaults.float32]\nrelative_l2 = -1.0\n")),
    ];
    assert_snapshot!(messages.join("\n"), @r#"
    error: policy `policy.toml` cannot be read: No such file or directory (os error 2)

    error: policy `policy.toml`: TOML parse error at line 2, column 1: unknown field `unpaird`, expected one of `version`, `preset`, `unpaired`, `fresh`, `answer`, `defaults`, `rules`
    hint: `docs/tolerances.md` describes policy files

    error: policy `policy.toml`: field `rules[0].sites`: expected a glob, found `a[`: error parsing glob 'a[': unclosed character class; missing ']'
    hint: `docs/tolerances.md` describes policy files

    error: policy `policy.toml`: field `defaults.float32.relative_l2`: expected a number not below zero, found -1
    hint: `docs/tolerances.md` describes policy files
    "#);
}

#[test]
fn a_report_that_cannot_be_written_is_not_a_verdict() {
    let candidate = Candidate::copied(NAME);
    let file = candidate.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let run = diff(&candidate, &["--out", file.to_str().unwrap()]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("cannot be written"), "{}", run.stderr);
}

#[test]
fn wrong_usage_has_status_2() {
    for arguments in [&[][..], &["diff", NAME], &["diff", NAME, NAME, "--format", "xml"], &["dif"]] {
        let run = run(arguments);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!run.stderr.is_empty());
    }
}

#[test]
fn a_closed_pipe_does_not_change_the_verdict() {
    let path = |name: &str| bundled(name).to_str().unwrap().to_owned();
    let command = format!(
        "set -o pipefail; '{}' diff --all '{}' '{}' | true",
        env!("CARGO_BIN_EXE_nvl-validate"),
        path(NAME),
        path(NAME)
    );
    let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}

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
          --noise <DUMP>       Take the limits from the noise of this right run of the same request; may
                               be repeated, the largest noise counts
          --noise-factor <K>   An error may be this many times the noise [default: 3]
          --format <FORMAT>    The format of the report; may be repeated with `--out` [possible values:
                               table, json, junit, markdown, html]
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
