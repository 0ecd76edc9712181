//! `vision_config.args`, the tower's training arguments, to `vision_config`.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::dtype::dtype;
use super::fields::Fields;
use super::findings::{BOOKKEEPING, Findings};
use super::timm_options::check_options;
use super::tower_models::{LAYER_NORM_EPS, REGISTERED_IMG_SIZE, TowerModel};
use crate::Error;
use crate::nemotron_vl::Buffers;
use crate::normalized::{TorchDtype, VisionConfig};
use crate::source::{CONFIG_FILE, Evidence};

/// Mean and standard deviation of OpenAI's CLIP, which RADIO's conditioner is built with.
pub(super) const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// The standard deviation, likewise.
pub(super) const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// What else the tower's resolution needs to know.
pub(super) struct Context<'a> {
    /// `force_image_size`: side of a tile in pixels.
    pub(super) image_size: usize,
    /// The SHA-256 of `config.json`.
    pub(super) config_sha256: &'a str,
    /// The buffers' values.
    pub(super) buffers: &'a Buffers,
    /// How the position table is resized.
    pub(super) align_corners: bool,
}

/// Resolves `vision_config`.
pub(super) fn vision_config(
    fields: &Fields<'_>,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Result<VisionConfig, Error> {
    refuse_unsupported_parts(fields)?;
    let args = fields.required_child("args", "an object of training arguments")?;
    let model = tower_model(&args)?;
    let patch_size = model.patch_size;
    fields.refuse_other_size("patch_size", patch_size, "by `vision_config.args.model` and `model_kwargs`")?;
    let teachers = teachers(&args)?;
    let num_cls_tokens = num_cls_tokens(&args, &teachers)?;
    let num_registers = num_registers(&args, num_cls_tokens)?;
    let max_img_size = max_img_size(&args, patch_size, &model)?;
    let summary_idxs = summary_idxs(&teachers, num_cls_tokens, context, findings);
    model.list_behaviours(context, findings);

    // The model's class takes an absent argument for `false`.
    let model_norm = args.flag("model_norm")?.unwrap_or(false);
    if model_norm {
        // Other poolings have their norm behind the pooling, which RADIO leaves out.
        let reason = "a pooling that moves the last norm is not supported";
        args.refuse("gp", &[json!(""), json!("token"), json!("map")], reason)?;
    }
    args.refuse_null("dtype", "`float32`, `bfloat16` or `float16`")?;
    let dtype = dtype(&args, &["dtype"])?.unwrap_or(TorchDtype::Float32);

    // What is left of the hundreds of training arguments is read by nothing in inference. `damp` and `spectral_reparam` are
    // of training, too: what is left of them in a checkpoint is in the names of its tensors.
    findings.ignore_all(CONFIG_FILE, &args);
    findings.ignore_rest(CONFIG_FILE, fields, &[BOOKKEEPING, TOWER_BOOKKEEPING].concat());
    let (norm_mean, norm_std) = conditioner(context.buffers, findings);
    Ok(VisionConfig {
        model_type: "radio".into(),
        hidden_size: model.embed_dim,
        num_hidden_layers: model.depth,
        num_attention_heads: model.num_heads,
        mlp_ratio: model.mlp_ratio,
        hidden_act: "gelu".into(),
        layer_norm_eps: LAYER_NORM_EPS,
        qkv_bias: model.qkv_bias,
        num_channels: 3,
        patch_size,
        image_size: context.image_size,
        max_img_size,
        num_cls_tokens,
        num_registers,
        summary_idxs,
        norm_mean,
        norm_std,
        layerscale_value: model.init_values,
        model_norm,
        dtype,
        position_interpolation_align_corners: context.align_corners,
    })
}

/// Fields of RADIO's configuration class that say where it came from or what it was trained for.
const TOWER_BOOKKEEPING: &[&str] = &["adaptor_configs", "max_resolution", "preferred_resolution", "version"];

impl Context<'_> {
    fn config(&self, detail: String) -> Evidence {
        Evidence::read(CONFIG_FILE, self.config_sha256, detail)
    }
}

fn refuse_unsupported_parts(fields: &Fields<'_>) -> Result<(), Error> {
    fields.refuse("vitdet_window_size", &[], "windowed attention in the tower is not supported")?;
    fields.refuse("adaptor_names", &[], "adaptors of the tower are not supported")?;
    fields.refuse("feature_normalizer_config", &[], "the feature normalizer is not supported")?;
    fields.refuse(
        "inter_feature_normalizer_config",
        &[],
        "the intermediate feature normalizer is not supported",
    )?;
    fields.refuse("quantization_config", &[], "quantized weights are not supported")?;
    if let Some(architectures) = fields.texts("architectures")?
        && architectures != ["RADIOModel"]
    {
        let reason = "only C-RADIO is supported as the tower";
        return Err(fields.unsupported("architectures", "`[\"RADIOModel\"]`", reason));
    }
    match fields.text("model_type")? {
        None | Some("" | "radio") => Ok(()),
        Some(_) => Err(fields.unsupported("model_type", "`radio`", "only C-RADIO is supported as the tower")),
    }
}

/// A [`TowerModel`] with `model_kwargs` applied.
struct Tower {
    name: &'static str,
    patch_size: usize,
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
    init_values: Option<f64>,
    qkv_bias: bool,
    img_size: usize,
    /// Whether `model_kwargs` give the number of heads, which no tensor's shape shows.
    has_own_heads: bool,
}

fn tower_model(args: &Fields<'_>) -> Result<Tower, Error> {
    let name = args.text("model")?;
    let name = args.required("model", "the name of a vision transformer", name)?;
    let Some(model) = TowerModel::of(name) else {
        let known: Vec<&str> = super::tower_models::TOWER_MODELS.iter().map(|model| model.name).collect();
        let expected = format!("one of `{}`", known.join("`, `"));
        return Err(args.unsupported("model", &expected, "this tower is not supported"));
    };
    let in_chans = match args.size("in_chans")? {
        Some(in_chans) => Some(in_chans),
        None => args.numbers("input_size")?.and_then(|size| size.first().map(|&channels| channels as usize)),
    };
    if in_chans.is_some_and(|channels| channels != 3) {
        let field = if args.size("in_chans")?.is_some() { "in_chans" } else { "input_size" };
        return Err(args.unsupported(field, "3 channels", "only RGB is supported"));
    }
    let mut tower = Tower {
        name: model.name,
        patch_size: model.patch_size,
        embed_dim: model.embed_dim,
        depth: model.depth,
        num_heads: model.num_heads,
        mlp_ratio: model.mlp_ratio,
        init_values: model.init_values,
        qkv_bias: true,
        img_size: REGISTERED_IMG_SIZE,
        has_own_heads: false,
    };
    if let Some(kwargs) = args.child("model_kwargs")? {
        tower.apply(&kwargs)?;
    }
    Ok(tower)
}

impl Tower {
    fn apply(&mut self, kwargs: &Fields<'_>) -> Result<(), Error> {
        let set = |target: &mut usize, name: &str| {
            kwargs.size(name).map(|value| *target = value.unwrap_or(*target))
        };
        set(&mut self.embed_dim, "embed_dim")?;
        set(&mut self.depth, "depth")?;
        set(&mut self.num_heads, "num_heads")?;
        self.has_own_heads = kwargs.value("num_heads").is_some();
        set(&mut self.patch_size, "patch_size")?;
        set(&mut self.img_size, "img_size")?;
        for (name, size) in [("embed_dim", self.embed_dim), ("patch_size", self.patch_size)] {
            if size == 0 {
                return Err(kwargs.wrong(name, "a whole number from 1", "`0`"));
            }
        }
        if let Some(ratio) = kwargs.number("mlp_ratio")? {
            self.mlp_ratio = ratio;
        }
        if let Some(bias) = kwargs.flag("qkv_bias")? {
            self.qkv_bias = bias;
        }
        if let Some(value) = kwargs.number("init_values")? {
            // timm builds no LayerScale for 0 either.
            self.init_values = (value != 0.0).then_some(value);
        }
        // Nothing but a check of the position table's size depends on it.
        kwargs.unused("img_size");
        check_options(kwargs)
    }

    /// Lists what the model's name stands for and no tensor's shape shows, with the field that says it.
    fn list_behaviours(&self, context: &Context<'_>, findings: &mut Findings) {
        let named = |value: Value| (value, format!("`vision_config.args.model` names `{}`", self.name));
        let heads = if self.has_own_heads {
            (json!(self.num_heads), "field `vision_config.args.model_kwargs.num_heads`".to_string())
        } else {
            named(json!(self.num_heads))
        };
        for (name, (value, detail)) in [
            ("vision_config.num_attention_heads", heads),
            ("vision_config.layer_norm_eps", named(json!(LAYER_NORM_EPS))),
            ("vision_config.hidden_act", named(json!("gelu"))),
        ] {
            findings.behaviour(name, value, context.config(detail));
        }
    }
}

struct Teacher<'a> {
    fields: Fields<'a>,
    name: &'a str,
    use_summary: bool,
}

fn teachers<'a>(args: &Fields<'a>) -> Result<Vec<Teacher<'a>>, Error> {
    let teachers = args.children("teachers")?;
    args.required("teachers", "a list of teachers", teachers)?
        .into_iter()
        .map(|fields| {
            let name = fields.text("name")?;
            let name = fields.required("name", "a text", name)?;
            let use_summary = fields.truth("use_summary")?.unwrap_or(true);
            Ok(Teacher { fields, name, use_summary })
        })
        .collect()
}

/// Class tokens: one for each teacher's name, since teachers of one name share theirs, or a single one for all.
fn num_cls_tokens(args: &Fields<'_>, teachers: &[Teacher<'_>]) -> Result<usize, Error> {
    match args.truth("cls_token_per_teacher")? {
        Some(true) => Ok(teachers.iter().map(|teacher| teacher.name).collect::<HashSet<_>>().len()),
        Some(false) => {
            teachers.iter().for_each(|teacher| teacher.fields.unused("name"));
            Ok(1)
        }
        None => Err(args.wrong("cls_token_per_teacher", "`true` or `false`", "none")),
    }
}

/// Registers: as many as are asked for, else enough to fill up to the next multiple; an exact multiple adds a whole
/// further set.
fn num_registers(args: &Fields<'_>, num_cls_tokens: usize) -> Result<usize, Error> {
    // Zero counts as not set, in both.
    let asked = args.size("cpe_num_registers")?.filter(|&registers| registers > 0);
    let multiple = args.size("register_multiple")?.filter(|&multiple| multiple > 0);
    Ok(match (asked, multiple) {
        (Some(registers), _) => {
            args.unused("register_multiple");
            registers
        }
        (None, Some(multiple)) => multiple - num_cls_tokens % multiple,
        (None, None) => 0,
    })
}

fn max_img_size(args: &Fields<'_>, patch_size: usize, tower: &Tower) -> Result<usize, Error> {
    let Some(size) = args.size("cpe_max_size")? else {
        let reason = "a tower without cropped position embeddings is not supported";
        return Err(args.unsupported("cpe_max_size", "a size in pixels", reason));
    };
    // Python's `round`: to the nearest, ties to even.
    let patches = (size as f64 / patch_size as f64).round_ties_even();
    let size = (patches as usize).saturating_mul(patch_size);
    if size == tower.img_size {
        let expected = format!("a size other than the registered {}", tower.img_size);
        let reason =
            "a position table of exactly this size is cropped and not resized, which is not supported";
        return Err(args.unsupported("cpe_max_size", &expected, reason));
    }
    Ok(size)
}

/// Of several class tokens those of the summary: the stored buffer where there is one, since it is what the model loads;
/// else what the teachers say.
fn summary_idxs(
    teachers: &[Teacher<'_>],
    num_cls_tokens: usize,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Vec<usize> {
    if num_cls_tokens == 1 {
        // RADIO takes a single class token for the summary, whatever the indices are.
        teachers.iter().for_each(|teacher| teacher.fields.unused("use_summary"));
        return vec![0];
    }
    let by_teachers: Vec<usize> =
        teachers.iter().enumerate().filter(|(_, t)| t.use_summary).map(|(i, _)| i).collect();
    match &context.buffers.summary_idxs {
        None => {
            let detail = "computed from `use_summary` of `vision_config.args.teachers`".to_string();
            findings.behaviour("vision_config.summary_idxs", by_teachers.clone(), context.config(detail));
            by_teachers
        }
        Some(stored) => {
            if *stored != by_teachers {
                findings.warnings.push(format!(
                    "`summary_idxs` is {stored:?} as stored and {by_teachers:?} by the teachers' `use_summary`; the stored one is used"
                ));
            }
            stored.clone()
        }
    }
}

fn conditioner(buffers: &Buffers, findings: &mut Findings) -> (Vec<f64>, Vec<f64>) {
    let mut or_clip = |name: &str, stored: &Option<Vec<f64>>, clip: [f64; 3]| {
        stored.clone().unwrap_or_else(|| {
            let evidence = Evidence::Assumed {
                reason: format!(
                    "the checkpoint has no buffer `{name}`; RADIO's conditioner is built with OpenAI CLIP's"
                ),
                settled_by: format!("a checkpoint with `input_conditioner.{name}`"),
            };
            findings.behaviour(&format!("vision_config.{name}"), clip.to_vec(), evidence);
            clip.to_vec()
        })
    };
    (or_clip("norm_mean", &buffers.norm_mean, CLIP_MEAN), or_clip("norm_std", &buffers.norm_std, CLIP_STD))
}
