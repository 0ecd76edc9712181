//! The bundled checkpoint, converted, and runs of the goldens' requests on it.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once, OnceLock};

use converter::Conversion;
use converter::normalized::TorchDtype;
use converter::plan::PlanOptions;
use converter::resolve::Settings;
use converter::source::Location;
use converter::write::Unwatched;
use golden::{Dtype, Dump, DumpWriter, ManifestHead, Steps};
use half::bf16;
use reference::generate::{ModelInputs, Sampling};
use reference::mistakes::{self, Mistake};
use reference::model::observer::Observer as _;
use reference::prompt::{PromptBuilder, Tokenizer};
use reference::record::Recorder;
use reference::recorded::{InputSource, RecordedRun};
use reference::replay::{ReplayOptions, replay};
use reference::request::ChatRequest;
use reference::{Math, NemotronVl};
use tch::Device;
use tempfile::TempDir;
use validate::{DiffReport, Policy};

pub const F32: &str = "shapes-describe-float32";
pub const B16: &str = "shapes-describe-bfloat16";
pub const WIDE: &str = "shapes-wide-bfloat16";
pub const HISTORY: &str = "shapes-history-bfloat16";

/// A folder among the bundled data.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/fixtures").join(name)
}

/// A bundled golden, in full.
pub fn golden(name: &str) -> PathBuf {
    static WHOLE: LazyLock<TempDir> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        SKETCHED.iter().for_each(|name| make_whole(name, &dir.path().join(name)));
        dir
    });
    if SKETCHED.contains(&name) { WHOLE.path().join(name) } else { fixture("goldens").join(name) }
}

/// The goldens of which not all tensors are bundled.
const SKETCHED: [&str; 2] = [WIDE, HISTORY];

/// Computes a golden again, which gives the tensors that it has as sketches: each has the hash that the golden says.
fn make_whole(name: &str, out: &Path) {
    let sketches = Dump::open(fixture("goldens").join(name)).unwrap();
    let pixels = pixel_values_dtype_of(&sketches);
    let attn_weights = RecordedRun::of(&sketches).attn_weights;
    let kept = Kept { attn_weights, ..Kept::default() };
    replayed(checkpoint(), &sketches, None, Math::Exact, (pixels, &[]), kept, out);
    let whole = Dump::open(out).unwrap();
    whole.verify().unwrap();
    let hashes = |dump: &Dump| -> Vec<(String, String)> {
        dump.entries().iter().map(|entry| (entry.name.clone(), entry.sha256.clone())).collect()
    };
    assert_eq!(hashes(&whole), hashes(&sketches), "{name}");
    assert_eq!(whole.tensors().count(), whole.entries().len(), "{name}: all of them are tensors");
}

/// Converts the bundled checkpoint to `out`.
pub fn convert(source: &Path, out: &Path, options: PlanOptions) {
    let source = Location::parse(source.to_str().unwrap());
    let settings = Settings { align_corners: Some(true), ..Settings::default() };
    Conversion::prepare(source, settings, options).unwrap().write(out, false, &Unwatched).unwrap();
}

pub const AS_IT_IS: PlanOptions = PlanOptions::KEEP;

/// The bundled checkpoint, converted.
pub fn checkpoint() -> &'static Path {
    static CONVERTED: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &CONVERTED
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("shapes");
            convert(&fixture("checkpoints/shapes"), &out, AS_IT_IS);
            (dir, out)
        })
        .1
}

/// Limits libtorch to the kernels that the goldens were recorded with, so that the table's numbers are those of every
/// machine. To be called first in each test: they wait for each other here.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let dump = Dump::open(golden(F32)).unwrap();
        reference::settings::Settings::of(&dump.manifest().producer).apply();
    });
    tch::set_num_threads(1);
}

/// The dtype of a golden's run.
pub fn dtype_of(golden: &Dump) -> TorchDtype {
    RecordedRun::of(golden).dtypes.model.unwrap()
}

/// The dtype in which a golden's pixels reached its tower.
pub fn pixel_values_dtype_of(golden: &Dump) -> TorchDtype {
    // Those that do not tell were recorded by callers who rounded first.
    RecordedRun::of(golden).pixel_values_dtype.unwrap_or(dtype_of(golden))
}

/// What a recorded run was given.
pub fn inputs_of(checkpoint: &Path, model: &NemotronVl, run: &Dump) -> ModelInputs {
    let tokenizer = Tokenizer::load(checkpoint).unwrap();
    InputSource { config: model.config(), tokenizer: &tokenizer, images: &[] }.inputs_of(run).unwrap()
}

/// Runs a golden's request on a checkpoint, in its dtype, and records it to `out`.
pub fn run(checkpoint: &Path, golden: &Dump, dtype: Option<TorchDtype>, math: Math, out: &Path) {
    run_with(checkpoint, golden, dtype, math, &[], out);
}

/// The same with mistakes.
pub fn run_with(
    checkpoint: &Path,
    golden: &Dump,
    dtype: Option<TorchDtype>,
    math: Math,
    mistakes: &[Mistake],
    out: &Path,
) {
    replayed(
        checkpoint,
        golden,
        dtype,
        math,
        (pixel_values_dtype_of(golden), mistakes),
        Kept::default(),
        out,
    );
}

/// The same, with six passes and the cache behind each.
pub fn decode_with(checkpoint: &Path, golden: &Dump, mistakes: &[Mistake], out: &Path) {
    let kept = Kept { attn_weights: false, steps: Steps::parse("0:6").unwrap(), kv: true };
    replayed(checkpoint, golden, None, Math::Exact, (pixel_values_dtype_of(golden), mistakes), kept, out);
}

/// What is recorded beside the sites of the prefill.
#[derive(Default)]
struct Kept {
    attn_weights: bool,
    steps: Steps,
    kv: bool,
}

/// The same with pixels that reach the tower in this dtype.
pub fn run_on_pixels(
    checkpoint: &Path,
    golden: &Dump,
    dtype: Option<TorchDtype>,
    math: Math,
    pixel_values_dtype: TorchDtype,
    out: &Path,
) {
    replayed(checkpoint, golden, dtype, math, (pixel_values_dtype, &[]), Kept::default(), out);
}

fn replayed(
    checkpoint: &Path,
    golden: &Dump,
    dtype: Option<TorchDtype>,
    math: Math,
    (pixel_values_dtype, mistakes): (TorchDtype, &[Mistake]),
    kept: Kept,
    out: &Path,
) {
    let dtype = dtype.unwrap_or(dtype_of(golden));
    let mut model = mistakes::load(checkpoint, Some(dtype), Device::Cpu, math, mistakes).unwrap();
    model.set_pixel_values_dtype(pixel_values_dtype);
    if let Some(attention) = RecordedRun::of(golden).attention().filter(|_| math == Math::Exact) {
        model.set_attention(attention);
    }
    let inputs = inputs_of(checkpoint, &model, golden);
    let tokenizer = Tokenizer::load(checkpoint).unwrap();
    let decode = |ids: &[i64]| Ok(tokenizer.answer(ids)?);
    let settings = reference::settings::Settings::of(&golden.manifest().producer);
    let options = ReplayOptions {
        settings: &settings,
        attn_weights: kept.attn_weights,
        steps: kept.steps,
        kv: kept.kv,
        flow: kept.kv,
        sketch_seed: None,
        mistakes,
    };
    let writer = DumpWriter::create(out).unwrap();
    replay(&model, golden, &inputs, options, vec![tokenizer.eos_token_id()], decode, writer).unwrap();
}

/// Writes what the model is given for a picture, as a dump that can be replayed.
pub fn ask(checkpoint: &Path, picture: &Path, out: &Path) -> PathBuf {
    let dump = out.join("asked");
    let request = ChatRequest {
        question: "Describe this image.".to_owned(),
        images: vec![picture.to_owned()],
        ..Default::default()
    };
    let opened = converter::normalized::Checkpoint::open(checkpoint).unwrap();
    let prompts = PromptBuilder::load(checkpoint, opened.config()).unwrap();
    let prepared = request.prepare(opened.config(), &prompts).unwrap();
    let mut recorder = Recorder::new(DumpWriter::create(&dump).unwrap(), &[]).unwrap();
    recorder.input("pixel_values", prepared.inputs.pixel_values.as_ref().unwrap()).unwrap();
    recorder.input("input_ids", &prepared.inputs.input_ids).unwrap();
    let mut head = ManifestHead::new(golden::manifest::Producer::new("nvl-reference", "float32"));
    head.request = Some(prepared.manifest(4, &Sampling::GREEDY));
    head.prompt = Some(prepared.prompt.clone());
    recorder.into_writer().unwrap().finish(head).unwrap();
    dump
}

/// Writes a dump anew, with its bfloat16 numbers in float32.
pub fn recorded_in_float32(run: &Dump, out: &Path) -> PathBuf {
    let mut writer = DumpWriter::create(out).unwrap();
    for (entry, view) in run.tensors() {
        let (mut dtype, mut data) = (entry.dtype, view.data().to_vec());
        if dtype == Dtype::BFloat16 {
            let values = data.chunks_exact(2).map(|bytes| bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32());
            (dtype, data) = (Dtype::Float32, values.flat_map(f32::to_le_bytes).collect());
        }
        writer.push(&entry.name, entry.role, &entry.module, dtype, view.shape(), &data).unwrap();
    }
    writer.finish(run.manifest().head()).unwrap();
    out.to_owned()
}

pub fn diff(golden: &Dump, candidate: &Path, policy: &Policy) -> DiffReport {
    validate::diff(golden, &Dump::open(candidate).unwrap(), &validate::DiffOptions::new(policy)).unwrap()
}

/// What the program ends with.
pub fn exit_status(report: &DiffReport) -> u8 {
    u8::from(!report.passes())
}
