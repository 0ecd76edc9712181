//! Plants a mistake, runs, and compares.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use golden::{Dump, DumpWriter, Role};
use reference::Math;
use reference::mistakes as bank;
use serde_json::Value;
use validate::diagnosis::DiagnosisKind;
use validate::tolerance::Preset;
use validate::{DiffReport, Policy, report};

use crate::edit::Edit;
use crate::plant::{Given, Plant, Planted};
use crate::{planted, runs};

/// What the comparison says of a planted mistake.
pub struct Outcome {
    pub what: &'static str,
    pub planted_in: &'static str,
    pub golden: &'static str,
    pub expected_site: String,
    pub expected_mistake: Option<&'static str>,
    pub status: u8,
    pub site: String,
    pub reason: String,
    pub diagnoses: Vec<(String, String)>,
}

impl Outcome {
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, problem: String| {
            if !holds {
                problems.push(format!("{}: {problem}; {}; {:?}", self.what, self.reason, self.diagnoses));
            }
        };
        expect(self.status == 1, format!("exit status {}", self.status));
        expect(
            self.site == self.expected_site,
            format!("expected {}, found {}", self.expected_site, self.site),
        );
        let told = self.diagnoses.first().map(|(mistake, _)| mistake.as_str());
        expect(
            told == self.expected_mistake,
            format!("expected {:?}, found {told:?}", self.expected_mistake),
        );
        problems
    }
}

/// All of them, run once.
pub fn outcomes() -> &'static [Outcome] {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    runs::prepare();
    OUTCOMES.get_or_init(|| planted::all().iter().map(outcome).collect())
}

fn outcome(planted: &Planted) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (golden, candidate) = carry_out(planted, folder.path());
    let mut policy = Policy::default();
    policy.preset = matches!(planted.plant, Plant::Pixels { .. }).then_some(Preset::Exact);
    let report = runs::diff(&Dump::open(golden).unwrap(), &candidate, &policy);
    let rendered = report::format("json").unwrap().render(&report, report::Options::default());
    let first: Value = serde_json::from_str::<Value>(&rendered).unwrap()["first_divergence"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = first["diagnoses"].as_array().into_iter().flatten();
    Outcome {
        what: planted.what,
        planted_in: match planted.plant {
            Plant::Code(_) | Plant::CodeOn { .. } | Plant::Pixels { .. } => "computation",
            Plant::Checkpoint(_) => "checkpoint",
            Plant::Given(_) | Plant::Pictures { .. } => "inputs",
            Plant::Recorded { .. } => "recording",
        },
        golden: match planted.plant {
            Plant::Pictures { .. } | Plant::CodeOn { .. } => "own run",
            Plant::Pixels { .. } => "own run, `--preset exact`",
            _ => planted.golden,
        },
        expected_site: planted.site.clone(),
        expected_mistake: planted.mistake.map(DiagnosisKind::name),
        status: runs::exit_status(&report),
        site: first["name"].as_str().or(first["kind"].as_str()).unwrap_or_default().to_owned(),
        reason: reason(&report, &first),
        diagnoses: told.map(|told| (text(&told["mistake"]), text(&told["text"]))).collect(),
    }
}

fn reason(report: &DiffReport, first: &Value) -> String {
    match first["reason"].as_str() {
        Some(reason) => reason.to_owned(),
        None => format!("{:?}", report.answer),
    }
}

/// The folders of the golden dump and of the candidate's.
fn carry_out(planted: &Planted, folder: &Path) -> (PathBuf, PathBuf) {
    let out = folder.join("candidate");
    let bundled = runs::golden(planted.golden);
    let edited = |change: fn(&mut Edit), name: &str| {
        let mut edit = Edit::open(runs::checkpoint());
        change(&mut edit);
        let dir = folder.join(name);
        edit.write(runs::checkpoint(), &dir);
        dir
    };
    let wrongly = |checkpoint: &Path, golden: &Path, mistakes: &[bank::Mistake], out: &Path| {
        runs::run_with(checkpoint, &Dump::open(golden).unwrap(), None, Math::Exact, mistakes, out);
    };
    let run = |checkpoint: &Path, golden: &Path, out: &Path| wrongly(checkpoint, golden, &[], out);
    match &planted.plant {
        Plant::Code(mistake) => {
            wrongly(runs::checkpoint(), &bundled, &[*mistake], &out);
            (bundled, out)
        }
        Plant::Checkpoint(change) => {
            run(&edited(*change, "checkpoint"), &bundled, &out);
            (bundled, out)
        }
        Plant::Given(change) => {
            let given = folder.join("given");
            give(&bundled, *change, &given);
            run(runs::checkpoint(), &given, &out);
            (bundled, out)
        }
        Plant::Pictures { file, change } => {
            let ask = |checkpoint: &Path, out: &Path| {
                let picture = runs::fixture("preprocess/images").join(file);
                let asked = runs::ask(checkpoint, &picture, &folder.join("asked"));
                run(checkpoint, &asked, out);
            };
            let golden = folder.join("golden");
            ask(runs::checkpoint(), &golden);
            std::fs::remove_dir_all(folder.join("asked")).unwrap();
            ask(&edited(*change, "checkpoint"), &out);
            (golden, out)
        }
        Plant::Recorded { run } => {
            (bundled, runs::recorded_in_float32(&Dump::open(runs::golden(run)).unwrap(), &out))
        }
        Plant::Pixels { golden, candidate } => {
            let request = Dump::open(&bundled).unwrap();
            let folder = folder.join("golden");
            for (pixels, out) in [(*golden, &folder), (*candidate, &out)] {
                runs::run_on_pixels(runs::checkpoint(), &request, None, Math::Exact, pixels, out);
            }
            (folder, out)
        }
        Plant::CodeOn { checkpoint, mistake } => {
            let (checkpoint, golden) = (edited(*checkpoint, "checkpoint"), folder.join("golden"));
            run(&checkpoint, &bundled, &golden);
            wrongly(&checkpoint, &bundled, &[*mistake], &out);
            (golden, out)
        }
    }
}

/// Writes the inputs of a golden, changed, as a dump that can be replayed.
pub fn give(golden: &Path, change: fn(&mut Given), out: &Path) {
    let dump = Dump::open(golden).unwrap();
    let pixels = dump.get("pixel_values").unwrap();
    let mut head = dump.manifest().head();
    let mut given = Given {
        pixels: pixels.to_f64_vec().into_iter().map(|value| value as f32).collect(),
        shape: pixels.shape().to_vec(),
        ids: dump.get("input_ids").unwrap().to_f64_vec().into_iter().map(|id| id as i64).collect(),
        prompt: head.prompt.clone().unwrap(),
    };
    change(&mut given);
    let Given { pixels, shape, ids, prompt } = given;
    head.prompt = Some(prompt);
    let mut writer = DumpWriter::create(out).unwrap();
    let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
    writer.push("pixel_values", Role::Input, "", golden::Dtype::Float32, &shape, &bytes).unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    writer.push("input_ids", Role::Input, "", golden::Dtype::Int64, &[1, ids.len()], &bytes).unwrap();
    writer.finish(head).unwrap();
}

/// Mistakes inside an attention are told by similarity alone. All that does not hold of them in runs that the table does not
/// have: in float32, with three tiles, with two pictures and a history, and without any.
pub fn problems_in_other_runs() -> Vec<String> {
    runs::prepare();
    let inside: Vec<Planted> = planted::all()
        .into_iter()
        .filter(|planted| planted.site.ends_with("attn.proj") || planted.site.ends_with("self_attn.o_proj"))
        .filter(|planted| matches!(planted.plant, Plant::Code(_)))
        .collect();
    assert!(inside.len() >= 8, "{}", inside.len());
    let runs = [runs::F32, runs::WIDE, runs::HISTORY, "shapes-text-float32"];
    let in_run = |golden: &'static str| {
        let has_tower = !golden.contains("text");
        let inside = inside.iter().filter(move |planted| has_tower || planted.site.starts_with("language"));
        inside.map(move |planted| Planted { golden, site: planted.site.clone(), ..*planted })
    };
    let problems = runs.into_iter().flat_map(in_run).flat_map(|planted| {
        let of = |problem| format!("{}: {problem}", planted.golden);
        outcome(&planted).problems().into_iter().map(of).collect::<Vec<_>>()
    });
    problems.collect()
}
