//! The table that `diff` prints.

use std::fs;

use assert_cmd::Command;
use insta::assert_snapshot;

use super::{NAME, Run, diff, faulty, run, spoil};
use crate::dumps::{Candidate, goldens};

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
    step logits: 4 steps, the same probabilities; 4 left out, because the ids before
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
