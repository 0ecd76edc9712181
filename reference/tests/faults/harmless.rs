//! Changes that are no mistakes, each with the policy that a user would choose.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use converter::Export;
use converter::normalized::TorchDtype;
use converter::plan::{PlanOptions, ShardSize};
use converter::write::Unwatched;
use golden::{Dump, DumpWriter, Role, WriteOptions};
use reference::Math;
use reference::mistakes as bank;
use reference::recorded::RecordedRun;
use serde_json::json;
use validate::tolerance::Preset;
use validate::{DiffOptions, Noise, Policy, diff};

use crate::runs::{self, AS_IT_IS, B16, F32, HISTORY, WIDE};

const TEXT: &str = "shapes-text-float32";

/// How many times the noise an error may be: the program's own default.
const NOISE_FACTOR: f64 = 3.0;

/// What the candidate is held to.
enum Held {
    /// The built-in limits.
    Defaults,
    Preset(Preset),
    /// A policy file of this content.
    Policy(&'static str),
    /// `--noise` of a right run of this dtype.
    Noise(TorchDtype),
}

/// Makes a candidate's dump in a folder, and tells where it is.
type Make = Box<dyn Fn(&Path, &Dump) -> PathBuf>;

struct Change {
    what: &'static str,
    golden: &'static str,
    held: Held,
    make: Make,
}

/// What the comparison says of a change.
pub struct Outcome {
    pub what: &'static str,
    pub golden: &'static str,
    pub held: String,
    pub status: u8,
    pub entries: usize,
    /// The first divergence, were there one.
    pub first: Option<String>,
}

impl Outcome {
    pub fn problems(&self) -> Vec<String> {
        let passes = self.status == 0 && self.first.is_none();
        (!passes)
            .then(|| format!("{}: exit status {}: {:?}", self.what, self.status, self.first))
            .into_iter()
            .collect()
    }
}

/// All of them, run once.
pub fn outcomes() -> &'static [Outcome] {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    runs::prepare();
    OUTCOMES.get_or_init(|| all().iter().map(outcome).collect())
}

fn outcome(change: &Change) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let golden = Dump::open(runs::golden(change.golden)).unwrap();
    let candidate = Dump::open((change.make)(folder.path(), &golden)).unwrap();
    let (mut policy, mut noise) = (Policy::default(), None);
    let held = match &change.held {
        Held::Defaults => "defaults".to_owned(),
        Held::Preset(preset) => {
            policy.preset = Some(*preset);
            format!("`--preset {}`", preset.name())
        }
        Held::Policy(text) => {
            let file = folder.path().join("policy.toml");
            std::fs::write(&file, text).unwrap();
            policy = Policy::read(&file).unwrap();
            "`--policy`".to_owned()
        }
        Held::Noise(dtype) => {
            let run = folder.path().join("noise");
            runs::run(runs::checkpoint(), &golden, Some(*dtype), Math::Exact, &run);
            let runs = [Dump::open(run).unwrap()];
            noise = Some(Noise::measure(&golden, &runs, NOISE_FACTOR, true, &|_| ()).unwrap());
            format!("`--noise` of a run in {}", dtype.as_str())
        }
    };
    let report =
        diff(&golden, &candidate, &DiffOptions { noise: noise.as_ref(), ..DiffOptions::new(&policy) })
            .unwrap();
    Outcome {
        what: change.what,
        golden: change.golden,
        held,
        status: runs::exit_status(&report),
        entries: report.entries.len(),
        first: report.first_divergence().map(|first| match first {
            validate::Divergence::Entry(at) => {
                format!("{}: {:?}", report.entries[at].entry.name, report.entries[at].verdict)
            }
            other => format!("{other:?}"),
        }),
    }
}

/// Runs the golden's request in this process.
fn run_here(
    checkpoint: &Path,
    golden: &Dump,
    dtype: Option<TorchDtype>,
    math: Math,
    folder: &Path,
) -> PathBuf {
    let out = folder.join("candidate");
    runs::run(checkpoint, golden, dtype, math, &out);
    out
}

/// Replays by the program, whose kernels and threads are its own.
fn program(folder: &Path, golden: &Dump, arguments: &[&str], environment: &[(&str, &str)]) -> PathBuf {
    let out = folder.join("candidate");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nvl-reference"));
    for variable in ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"] {
        command.env_remove(variable);
    }
    command.envs(environment.iter().copied()).args(["replay", "--model"]).arg(runs::checkpoint());
    let output = command.arg(golden.path()).arg("--record").arg(&out).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    out
}

/// The golden dump written anew: in other files, or with its entries in the reverse order.
fn rewritten(folder: &Path, golden: &Dump, options: WriteOptions, backwards: bool) -> PathBuf {
    let out = folder.join("candidate");
    let mut writer = DumpWriter::create_with(&out, options).unwrap();
    let mut tensors: Vec<_> = golden.tensors().collect();
    if backwards {
        tensors.reverse();
    }
    for (entry, view) in tensors {
        writer.push(&entry.name, entry.role, &entry.module, entry.dtype, view.shape(), view.data()).unwrap();
    }
    writer.finish(golden.manifest().head()).unwrap();
    out
}

/// Runs on a checkpoint that was converted otherwise.
fn converted(folder: &Path, golden: &Dump, source: &Path, options: PlanOptions) -> PathBuf {
    let checkpoint = folder.join("checkpoint");
    runs::convert(source, &checkpoint, options);
    run_here(&checkpoint, golden, None, Math::Exact, folder)
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn all() -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut add = |what, golden, held, make: Make| {
        changes.push(Change { what, golden, held, make });
    };
    let exact = || Held::Preset(Preset::Exact);
    let plain = || -> Make {
        Box::new(|folder, golden| run_here(runs::checkpoint(), golden, None, Math::Exact, folder))
    };
    let with = |arguments: &'static [&'static str], environment: &'static [(&'static str, &'static str)]| {
        Box::new(move |folder: &Path, golden: &Dump| program(folder, golden, arguments, environment))
    };
    let planted = |mistake: bank::Mistake| -> Make {
        Box::new(move |folder, golden| {
            let out = folder.join("candidate");
            runs::run_with(runs::checkpoint(), golden, None, Math::Exact, &[mistake], &out);
            out
        })
    };
    const BASELINE: &[(&str, &str)] = &[
        ("ATEN_CPU_CAPABILITY", "default"),
        ("ONEDNN_MAX_CPU_ISA", "SSE41"),
        ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
    ];

    add("the same request again", F32, exact(), plain());
    add("the same request again, bfloat16", B16, exact(), plain());
    add("two pictures and a history", HISTORY, exact(), plain());
    add("three tiles", WIDE, exact(), plain());
    add("no picture", TEXT, exact(), plain());

    add("two threads", F32, Held::Defaults, with(&["--threads", "2"], &[]));
    add("four threads, bfloat16", WIDE, Held::Defaults, with(&["--threads", "4"], &[]));
    add("kernels without AVX", F32, Held::Defaults, with(&["--native-kernels"], BASELINE));
    add("kernels without AVX, bfloat16", HISTORY, Held::Defaults, with(&["--native-kernels"], BASELINE));
    add("the machine's own kernels", F32, Held::Defaults, with(&["--native-kernels"], &[]));
    add("the machine's own kernels, bfloat16", WIDE, Held::Defaults, with(&["--native-kernels"], &[]));

    let fast = |folder: &Path, golden: &Dump| run_here(runs::checkpoint(), golden, None, Math::Fast, folder);
    add("fused attention (`--math fast`)", F32, Held::Defaults, Box::new(fast));
    add(
        "fused attention and products in float32 (`--math fast`), bfloat16",
        B16,
        Held::Defaults,
        Box::new(fast),
    );
    add(
        "`--math fast`, the machine's own kernels, two threads",
        HISTORY,
        Held::Defaults,
        with(&["--math", "fast", "--native-kernels", "--threads", "2"], &[]),
    );

    add(
        "pixels that are rounded before they are normalised, where the golden run's are not, or the other way round",
        B16,
        Held::Defaults,
        Box::new(|folder, golden| {
            let out = folder.join("candidate");
            let other = match runs::pixel_values_dtype_of(golden) {
                TorchDtype::Float32 => TorchDtype::Bfloat16,
                _ => TorchDtype::Float32,
            };
            runs::run_on_pixels(runs::checkpoint(), golden, None, Math::Exact, other, &out);
            out
        }),
    );
    add(bank::NORM_CAST_LAST.what, B16, Held::Defaults, planted(bank::NORM_CAST_LAST));
    add(bank::SOFTMAX_IN_DTYPE.what, B16, Held::Defaults, planted(bank::SOFTMAX_IN_DTYPE));
    add(bank::BIAS_APART.what, WIDE, Held::Defaults, planted(bank::BIAS_APART));
    add("products rounded before the bias is added, float32", F32, Held::Defaults, planted(bank::BIAS_APART));

    add(
        "bfloat16 against float32: rounding only",
        F32,
        Held::Noise(TorchDtype::Bfloat16),
        Box::new(|folder, golden| {
            run_here(runs::checkpoint(), golden, Some(TorchDtype::Bfloat16), Math::Fast, folder)
        }),
    );
    add(
        "float16 against float32: rounding only",
        F32,
        Held::Noise(TorchDtype::Float16),
        Box::new(|folder, golden| {
            run_here(runs::checkpoint(), golden, Some(TorchDtype::Float16), Math::Fast, folder)
        }),
    );
    add(
        "computed in bfloat16, recorded in float32",
        F32,
        Held::Preset(Preset::Bfloat16),
        Box::new(|folder, _| {
            let run = Dump::open(runs::golden(B16)).unwrap();
            runs::recorded_in_float32(&run, &folder.join("candidate"))
        }),
    );
    add(
        "the checkpoint in float32, the run in bfloat16",
        B16,
        exact(),
        Box::new(|folder, golden| {
            let options = PlanOptions { dtype: Some(TorchDtype::Float32), ..AS_IT_IS };
            converted(folder, golden, &runs::fixture("checkpoints/shapes"), options)
        }),
    );
    add(
        "the checkpoint in files of 200 kB",
        B16,
        exact(),
        Box::new(|folder, golden| {
            let options = PlanOptions { max_shard_size: "200KB".parse::<ShardSize>().unwrap(), ..AS_IT_IS };
            converted(folder, golden, &runs::fixture("checkpoints/shapes"), options)
        }),
    );
    add(
        "the checkpoint exported and converted again",
        B16,
        exact(),
        Box::new(|folder, golden| {
            let exported = folder.join("exported");
            Export::prepare(runs::checkpoint()).unwrap().write(&exported, false, &Unwatched).unwrap();
            converted(folder, golden, &exported, AS_IT_IS)
        }),
    );
    add(
        "the checkpoint in another folder",
        F32,
        exact(),
        Box::new(|folder, golden| {
            let moved = folder.join("another name");
            crate::edit::Edit::open(runs::checkpoint()).write(runs::checkpoint(), &moved);
            run_here(&moved, golden, None, Math::Exact, folder)
        }),
    );

    add(
        "the dump in files of 100 kB",
        WIDE,
        exact(),
        Box::new(|folder, golden| {
            let mut options = WriteOptions::default();
            options.max_shard_bytes = 100_000;
            rewritten(folder, golden, options, false)
        }),
    );
    add(
        "entries recorded in the reverse order",
        B16,
        exact(),
        Box::new(|folder, golden| rewritten(folder, golden, WriteOptions::default(), true)),
    );
    add(
        "some sites only, the others excused by a policy",
        B16,
        Held::Policy("version = 1\nunpaired = \"ignore\"\n"),
        Box::new(|folder, golden| {
            let out = folder.join("candidate");
            let mut writer = DumpWriter::create(&out).unwrap();
            for (entry, view) in
                golden.tensors().filter(|(entry, _)| entry.role != Role::Activation || entry.order % 3 == 0)
            {
                writer
                    .push(&entry.name, entry.role, &entry.module, entry.dtype, view.shape(), view.data())
                    .unwrap();
            }
            writer.finish(golden.manifest().head()).unwrap();
            out
        }),
    );
    add("a run of many requests, killed and taken up again", B16, exact(), Box::new(resumed));
    changes
}

/// A run of two requests that ended after the first, and was started again.
fn resumed(folder: &Path, golden: &Dump) -> PathBuf {
    let attention = RecordedRun::of(golden).attention().unwrap().as_str();
    let pixels = match runs::pixel_values_dtype_of(golden) {
        TorchDtype::Float32 => "float32",
        _ => "model",
    };
    let picture = runs::golden("images/red-circle-above-blue-square.png");
    let request = |id: &str| json!({"id": id, "prompt": "Describe this image.", "images": [picture], "max_new_tokens": 12});
    let (requests, answers, dumps) =
        (folder.join("requests.jsonl"), folder.join("answers.jsonl"), folder.join("dumps"));
    std::fs::write(&requests, format!("{}\n{}\n", request("a"), request("b"))).unwrap();
    let run = || {
        // Its kernels are those of this process, which the environment names: see `runs::prepare`.
        let mut command = Command::new(env!("CARGO_BIN_EXE_nvl-reference"));
        command.args(["run", "--math", "exact", "--threads", "1", "--attention", attention]);
        command.args(["--pixel-values-dtype", pixels, "--model"]).arg(runs::checkpoint());
        let output = command.args([&requests, &answers]).arg("--record").arg(&dumps).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run();
    // As a kill in the second request leaves it: its row cut off, no dump of it.
    let text = std::fs::read_to_string(&answers).unwrap();
    let second = text.lines().next().unwrap().len() + 1;
    std::fs::write(&answers, &text[..second + 20]).unwrap();
    let dump = |id: &str| {
        let found = std::fs::read_dir(&dumps).unwrap().map(|entry| entry.unwrap().path());
        found.into_iter().find(|path| path.to_string_lossy().ends_with(id)).unwrap()
    };
    std::fs::remove_dir_all(dump("b")).unwrap();
    run();
    dump("b")
}
