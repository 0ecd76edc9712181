//! Small models that are nothing but dumps: each site is computed from the recorded values of its inputs, so that an error that
//! is planted at one of them goes on along the data flow.

use std::path::{Path, PathBuf};

use golden::manifest::{ManifestHead, Producer};
use golden::{Dtype, Dump, DumpWriter, Flow, NewEntry, Role, RowAlignment};
use half::bf16;
use tempfile::TempDir;
use validate::{DiffOptions, DiffReport, Policy};

pub use RowAlignment::{FromEnd, Mixed, Same};

/// The channels of every site.
pub const WIDTH: usize = 16;

/// A run of a model: its dtype, whether it rounds as another right implementation would, and the mistake that it makes.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    pub dtype: Dtype,
    pub otherwise: bool,
    /// The key of the site that is wrong.
    pub wrong: Option<&'a str>,
    /// The only row of it that is, if not all are.
    pub row: Option<usize>,
    /// Whether the data flow is written down.
    pub flow: bool,
}

/// Numbers in rows of [`WIDTH`].
type Rows = Vec<Vec<f64>>;

struct Site {
    name: String,
    step: u64,
    rows: Rows,
    role: Role,
    flow: Flow,
}

/// A model that runs.
pub struct Run<'a> {
    how: How<'a>,
    sites: Vec<Site>,
    step: u64,
}

impl Run<'_> {
    /// Gives sites other names.
    pub fn rename(&mut self, from: &str, to: &str) {
        for site in &mut self.sites {
            for name in site.flow.inputs.iter_mut().chain([&mut site.name]) {
                if let Some(rest) = name.strip_prefix(from) {
                    *name = format!("{to}{rest}");
                }
            }
        }
    }

    /// Leaves out the steps behind one.
    pub fn forget_after(&mut self, step: u64) {
        self.sites.retain(|site| site.step <= step);
    }

    /// The site of a key, of this step unless it has another.
    fn at(&self, key: &str) -> (usize, String) {
        let (name, step) =
            key.split_once('@').map_or((key, self.step), |(name, at)| (name, at.parse().unwrap()));
        let index = self.sites.iter().position(|site| site.name == name && site.step == step).unwrap();
        (index, golden::key_of(name, step).into_owned())
    }

    fn round(&self, value: f64) -> f64 {
        match self.how.dtype {
            Dtype::BFloat16 => bf16::from_f64(value).to_f64(),
            _ => f64::from(value as f32),
        }
    }

    /// What is rounded between two operators of a site, unless the implementation keeps it.
    fn between(&self, value: f64) -> f64 {
        if self.how.otherwise { value } else { self.round(value) }
    }

    pub fn input(&mut self, name: &str, count: usize) {
        let mut random = random(name.len() as u64 * 7919 + self.step);
        let rows = (0..count).map(|_| (0..WIDTH).map(|_| random()).collect()).collect();
        self.push(name, Role::Input, rows, &[], &[]);
    }

    fn push(
        &mut self,
        name: &str,
        role: Role,
        mut rows: Rows,
        inputs: &[(&str, RowAlignment)],
        operators: &[(&str, u64)],
    ) {
        let key = golden::key_of(name, self.step).into_owned();
        if self.how.wrong == Some(key.as_str()) {
            let rows =
                rows.iter_mut().enumerate().filter(|(at, _)| self.how.row.is_none_or(|row| row == *at));
            rows.for_each(|(_, row)| row.iter_mut().step_by(3).for_each(|value| *value = -*value));
        }
        rows.iter_mut().flatten().for_each(|value| *value = self.round(*value));
        let mut nearest: Vec<(usize, String, RowAlignment)> = Vec::new();
        for &(input, rows) in inputs {
            let (index, key) = self.at(input);
            nearest.push((index, key, rows));
        }
        nearest.sort_by_key(|&(index, ..)| std::cmp::Reverse(index));
        let flow = Flow {
            inputs: nearest.iter().map(|(_, key, _)| key.clone()).collect(),
            input_rows: nearest.iter().map(|&(.., rows)| rows).collect(),
            operations: operators.iter().map(|&(name, count)| (format!("aten.{name}"), count)).collect(),
        };
        self.sites.push(Site { name: name.to_owned(), step: self.step, rows, role, flow });
    }

    fn rows(&self, key: &str) -> &Rows {
        &self.sites[self.at(key).0].rows
    }

    /// Another order of sums, or none.
    fn dot(&self, a: &[f64], b: impl Fn(usize) -> f64) -> f64 {
        let mut sum = 0.0_f32;
        for at in 0..a.len() {
            let at = if self.how.otherwise { a.len() - 1 - at } else { at };
            sum += (a[at] * b(at)) as f32;
        }
        f64::from(sum)
    }

    fn project(&self, rows: &Rows, name: &str) -> Rows {
        let mut random = random(name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)));
        let weight: Vec<f64> = (0..WIDTH * WIDTH).map(|_| random() / 2.0).collect();
        let project = |row: &Vec<f64>| -> Vec<f64> {
            (0..WIDTH).map(|out| self.dot(row, |at| weight[out * WIDTH + at])).collect()
        };
        rows.iter().map(project).collect()
    }

    pub fn linear(&mut self, name: &str, of: &str) {
        let rows = self.project(self.rows(of), name);
        self.push(name, Role::Activation, rows, &[(of, Same)], &[("linear", 1)]);
    }

    /// The projection of the last row alone.
    pub fn head(&mut self, name: &str, of: &str) {
        let rows = self.project(&self.rows(of)[self.rows(of).len() - 1..].to_vec(), name);
        self.push(name, Role::Output, rows, &[(of, FromEnd)], &[("linear", 1)]);
    }

    pub fn norm(&mut self, name: &str, of: &str) {
        let norm = |row: &Vec<f64>| -> Vec<f64> {
            let root = (self.dot(row, |at| row[at]) / WIDTH as f64 + 1e-6).sqrt();
            row.iter().map(|value| self.between(value / root) * 1.25).collect()
        };
        let rows = self.rows(of).iter().map(norm).collect();
        let operators = [("_to_copy", 2), ("pow", 1), ("mean", 1), ("add", 1), ("rsqrt", 1), ("mul", 2)];
        self.push(name, Role::Activation, rows, &[(of, Same)], &operators);
    }

    pub fn silu(&mut self, name: &str, of: &str) {
        let silu = |row: &Vec<f64>| row.iter().map(|value| value / (1.0 + (-value).exp())).collect();
        let rows = self.rows(of).iter().map(silu).collect();
        self.push(name, Role::Activation, rows, &[(of, Same)], &[("silu", 1)]);
    }

    /// A projection of the product of two sites.
    pub fn gated(&mut self, name: &str, gate: &str, up: &str) {
        let product = |(a, b): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            a.iter().zip(b).map(|(a, b)| self.between(a * b)).collect()
        };
        let products = self.rows(gate).iter().zip(self.rows(up)).map(product).collect();
        let rows = self.project(&products, name);
        self.push(name, Role::Activation, rows, &[(gate, Same), (up, Same)], &[("mul", 1), ("linear", 1)]);
    }

    pub fn add(&mut self, name: &str, a: &str, b: &str) {
        let sum = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
        let rows = self.rows(a).iter().zip(self.rows(b)).map(sum).collect();
        self.push(name, Role::Activation, rows, &[(a, Same), (b, Same)], &[("add", 1)]);
    }

    /// Rows of two sites one after the other.
    pub fn cat(&mut self, name: &str, parts: &[&str]) {
        let rows = parts.iter().flat_map(|part| self.rows(part).clone()).collect();
        let inputs: Vec<(&str, RowAlignment)> = parts.iter().map(|&part| (part, Mixed)).collect();
        self.push(name, Role::Activation, rows, &inputs, &[("cat", 1)]);
    }

    /// An attention over all keys, and the projection behind it.
    pub fn attention(&mut self, name: &str, queries: &str, keys: &str, values: &str) {
        let (all_keys, all_values) = (self.rows(keys), self.rows(values));
        let attend = |query: &Vec<f64>| -> Vec<f64> {
            let scores: Vec<f64> =
                all_keys.iter().map(|key| self.between(self.dot(query, |at| key[at]) / 4.0)).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
            let sum: f64 = weights.iter().sum();
            (0..WIDTH)
                .map(|at| {
                    let parts = all_values.iter().zip(&weights);
                    self.between(parts.map(|(value, weight)| self.between(weight / sum) * value[at]).sum())
                })
                .collect()
        };
        let attended = self.rows(queries).iter().map(attend).collect();
        let rows = self.project(&attended, name);
        let inputs = [(queries, Mixed), (keys, Mixed), (values, Mixed)];
        self.push(
            name,
            Role::Activation,
            rows,
            &inputs,
            &[("scaled_dot_product_attention", 1), ("linear", 1)],
        );
    }
}

/// A dump of a run.
pub struct Written {
    folder: TempDir,
    /// The keys of all sites that were computed, in order.
    pub computed: Vec<String>,
}

impl Written {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("dump")
    }

    pub fn open(&self) -> Dump {
        Dump::open(self.path()).unwrap()
    }
}

/// Runs a model and writes it down.
pub fn written(how: How<'_>, model: fn(&mut Run<'_>)) -> Written {
    written_without(how, model, &[])
}

/// The same of a run that does not record some sites; it has no data flow.
pub fn written_without(how: How<'_>, model: fn(&mut Run<'_>), left_out: &[&str]) -> Written {
    let mut run = Run { how, sites: Vec::new(), step: 0 };
    model(&mut run);
    let folder = tempfile::tempdir().unwrap();
    let mut computed = Vec::new();
    write(&run, &folder.path().join("dump"), left_out, &mut computed);
    Written { folder, computed }
}

fn write(run: &Run<'_>, to: &Path, left_out: &[&str], computed: &mut Vec<String>) {
    let mut writer = DumpWriter::create(to).unwrap();
    for Site { name, step, rows, role, flow } in &run.sites {
        if left_out.contains(&name.as_str()) {
            continue;
        }
        let of = |&value: &f64| match run.how.dtype {
            Dtype::BFloat16 => bf16::from_f64(value).to_le_bytes().to_vec(),
            _ => (value as f32).to_le_bytes().to_vec(),
        };
        let bytes: Vec<u8> = rows.iter().flatten().flat_map(of).collect();
        let flow = run.how.flow.then(|| flow.clone());
        let entry = NewEntry { step: *step, flow, ..NewEntry::new(name, *role, "") };
        let is_cache = name.starts_with("past_key_values.");
        let shape = if is_cache { vec![1, 1, rows.len(), WIDTH] } else { vec![1, rows.len(), WIDTH] };
        writer.push_entry(entry, run.how.dtype, &shape, &bytes, None).unwrap();
        if *role != Role::Input {
            computed.push(golden::key_of(name, *step).into_owned());
        }
    }
    writer.finish(ManifestHead::new(Producer::new("synthetic", run.how.dtype.name()))).unwrap();
}

pub fn compared(golden: &Written, candidate: &Written) -> DiffReport {
    validate::diff(&golden.open(), &candidate.open(), &DiffOptions::new(&Policy::default())).unwrap()
}

/// The keys of the sites that made an error.
pub fn made(report: &DiffReport) -> Vec<String> {
    report.fresh().map(|entry| entry.entry.key().into_owned()).collect()
}

/// Two towers, one of which attends to the other. The names tell nothing, and neither does the order.
pub fn two_towers(run: &mut Run<'_>) {
    run.input("tokens", 5);
    run.input("image", 7);
    run.linear("s01", "tokens");
    run.linear("s02", "image");
    run.norm("s03", "s01");
    run.norm("s04", "s02");
    run.silu("s05", "s04");
    run.linear("s06", "s03");
    run.linear("s07", "s05");
    run.add("s08", "s07", "s02");
    run.linear("s09", "s08");
    run.linear("s10", "s08");
    run.attention("s11", "s06", "s09", "s10");
    run.add("s12", "s11", "s01");
    run.norm("s13", "s12");
    run.linear("s14", "s13");
    run.linear("s15", "s13");
    run.silu("s16", "s14");
    run.gated("s17", "s16", "s15");
    run.add("s18", "s17", "s12");
    run.norm("s19", "s18");
    run.head("s20", "s19");
}

/// How many steps [`decoder`] has behind the prefill.
pub const STEPS: u64 = 4;

/// A layer of a decoder with its cache: a prefill of some tokens, then steps of one token.
pub fn decoder(run: &mut Run<'_>) {
    for step in 0..=STEPS {
        run.step = step;
        run.input("inputs_embeds", if step == 0 { 6 } else { 1 });
        run.norm("model.norm1", "inputs_embeds");
        for name in ["q", "k", "v"] {
            run.linear(&format!("model.{name}"), "model.norm1");
        }
        for (cache, own) in [("past_key_values.0.keys", "model.k"), ("past_key_values.0.values", "model.v")] {
            let before = format!("{cache}@{}", step.saturating_sub(1));
            if step == 0 { run.cat(cache, &[own]) } else { run.cat(cache, &[&before, own]) }
        }
        run.attention("model.o", "model.q", "past_key_values.0.keys", "past_key_values.0.values");
        run.add("model.out", "model.o", "inputs_embeds");
        run.head("head", "model.out");
    }
}

/// Numbers between -1.7 and 1.7 of a variance of about one: a linear congruential sequence.
fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 / f64::from(1 << 23) - 1.0) * 1.7
    }
}
