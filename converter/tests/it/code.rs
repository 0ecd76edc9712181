//! Behaviours that the Python beside a checkpoint decides: read from it, and never guessed in silence.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use converter::normalized::Config;
use converter::plan::PlanOptions;
use converter::resolve::{Findings, Settings};
use converter::source::{CodeCaches, Evidence, How, Location};
use converter::write::Unwatched;
use converter::{Conversion, Error, verify, verify_source};
use serde_json::{Value, json};
use store::hash::sha256;
use tempfile::TempDir;

use crate::hand_made_source::Source;

const KEEP: PlanOptions = PlanOptions::KEEP;
const ALIGN: &str = "position_interpolation_align_corners";

fn generator(align: &str) -> String {
    format!(
        "class ViTPatchGenerator:\n    def _get_pos_embeddings(self, size):\n        \
         return F.interpolate(self.table, size=size, align_corners={align}, mode='bilinear')\n"
    )
}

fn processing(times: &str) -> String {
    format!(
        "class LlamaNemotronNanoVLImageProcessor:\n    \
             do_rescale = True\n    \
             def __init__(self, image_size=16, max_num_tiles=5, use_thumbnail=False):\n        pass\n    \
             def _process_image(self, image):\n        \
                 return image.resize((image.width * {times}, image.height * {times}), Image.BILINEAR)\n"
    )
}

fn modeling(eps: &str) -> String {
    format!(
        "class Llama_Nemotron_Nano_VL:\n    def __init__(self):\n        \
             self.mlp1 = nn.Sequential(nn.LayerNorm(8{eps}), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))\n    \
         def pixel_shuffle(self, x):\n        \
             x = x.permute(0, 2, 1, 3)\n        \
             return x if self.ps_version == 'v1' else x.permute(0, 2, 1, 3)\n    \
         def extract_feature(self, x):\n        return x.to(torch.bfloat16)\n    \
         def chat(self, IMG_CONTEXT_TOKEN='<image>'):\n        pass\n"
    )
}

const CONFIGURATION: &str = "\
class Llama_Nemotron_Nano_VL_Config:
    def __init__(self, downsample_ratio=0.5, ps_version='v2', image_tag_type='nvlm', projector_hidden_size=36, vit_hidden_size=12):
        pass
";

fn with(files: &[(&str, String)]) -> Source {
    let mut source = Source::sound();
    source.files.extend(files.iter().map(|(name, text)| (name.to_string(), text.clone())));
    source
}

fn prepare(source: &Source, settings: Settings) -> Result<(Config, Findings), (String, Option<String>)> {
    let dir = source.write();
    match Conversion::prepare(Location::parse(dir.path().to_str().unwrap()), settings, KEEP) {
        Ok(conversion) => Ok((conversion.config().clone(), conversion.findings().clone())),
        Err(error) => Err((error.to_string().replace(dir.path().to_str().unwrap(), "DIR"), error.hint())),
    }
}

fn row<'a>(findings: &'a Findings, name: &str) -> (&'a Value, &'a Evidence) {
    let found = findings.behaviours.iter().find(|behaviour| behaviour.name == name).unwrap();
    (&found.value, &found.evidence)
}

fn parsed(findings: &Findings, name: &str) -> (Value, String, usize) {
    match row(findings, name) {
        (value, Evidence::SourceFile { file, how: How::Parsed, line: Some(line), repository: None, .. }) => {
            (value.clone(), file.clone(), *line)
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_behaviour_is_read_from_the_code_beside_the_checkpoint() {
    let mut source = with(&[
        ("vit_patch_generator.py", generator("False")),
        ("image_processing.py", processing("3")),
        ("modeling.py", modeling(", eps=1e-6")),
        ("configuration.py", CONFIGURATION.to_string()),
        (
            "input_conditioner.py",
            "class InputConditioner:\n    def forward(self, x):\n        return (x - self.norm_mean) / self.norm_std\n".into(),
        ),
    ]);
    for field in
        ["downsample_ratio", "ps_version", "image_tag_type", "projector_hidden_size", "vit_hidden_size"]
    {
        source = source.without(&format!("/{field}"));
    }
    source.preprocessor = json!({});
    let (config, findings) = prepare(&source, Settings::default()).unwrap();
    assert_eq!(findings.warnings, Vec::<String>::new());
    for (name, value, file, line) in [
        (ALIGN, json!(false), "vit_patch_generator.py", 3),
        ("upscale_factor", json!(3), "image_processing.py", 6),
        ("ps_version", json!("v2"), "configuration.py", 2),
        ("image_tag_type", json!("nvlm"), "configuration.py", 2),
        ("downsample_ratio", json!(0.5), "configuration.py", 2),
        ("projector_hidden_size", json!(36), "configuration.py", 2),
        ("vision_hidden_size", json!(12), "configuration.py", 2),
        ("image_processor.max_num_tiles", json!(5), "image_processing.py", 3),
        ("image_processor.use_thumbnail", json!(false), "image_processing.py", 3),
        ("image_processor.do_rescale", json!(true), "image_processing.py", 2),
        ("projector_layer_norm_eps", json!(1e-6), "modeling.py", 3),
        ("pixel_shuffle", json!("rows and columns are swapped back"), "modeling.py", 6),
        ("features_dtype", json!("bfloat16"), "modeling.py", 8),
        ("input_conditioner", json!("(pixels - norm_mean) / norm_std"), "input_conditioner.py", 3),
    ] {
        assert_eq!(parsed(&findings, name), (value, file.to_string(), line), "{name}");
    }
    assert!(!config.vision_config.position_interpolation_align_corners);
    assert_eq!(config.image_processor.upscale_factor, 3);
    assert_eq!(config.image_processor.max_num_tiles, 5);
    assert_eq!(config.projector_layer_norm_eps, 1e-6);
    assert_eq!(config.image_start_token, "<Image>");
    let Evidence::SourceFile { sha256: hash, .. } = row(&findings, ALIGN).1 else { panic!("a file") };
    assert_eq!(*hash, sha256(generator("False").as_bytes()));
}

#[test]
fn strict_is_content_with_code_and_no_flags() {
    let source =
        with(&[("vit_patch_generator.py", generator("True")), ("image_processing.py", processing("2"))]);
    prepare(&source, Settings::default()).unwrap().1.refuse_assumptions().unwrap();
}

#[test]
fn code_that_contradicts_a_flag_is_refused_with_its_line() {
    let source =
        with(&[("vit_patch_generator.py", generator("True")), ("image_processing.py", processing("2"))]);
    let (message, hint) =
        prepare(&source, Settings { align_corners: Some(false), ..Settings::default() }).unwrap_err();
    assert_eq!(
        message,
        "`DIR/vit_patch_generator.py`: behaviour `position_interpolation_align_corners`: expected `false`, as \
         `--align-corners false` says, found `true`: line 3, `F.interpolate(self.table, size=size, \
         align_corners=True, mode='bilinear')` in `_get_pos_embeddings`"
    );
    assert!(hint.unwrap().starts_with("leave the flag out"));
    let (message, _) =
        prepare(&source, Settings { upscale_factor: Some(1), ..Settings::default() }).unwrap_err();
    assert!(message.contains("expected `1`, as `--upscale-factor 1` says, found `2`: line 6"), "{message}");
    let agrees = Settings { align_corners: Some(true), upscale_factor: Some(2), ..Settings::default() };
    assert_eq!(parsed(&prepare(&source, agrees).unwrap().1, ALIGN).0, json!(true));
}

#[test]
fn code_that_cannot_be_followed_is_told_and_the_flag_holds() {
    let source = with(&[("vit_patch_generator.py", generator("size > 3"))]);
    let findings = prepare(&source, Settings::default()).unwrap().1;
    assert_eq!(
        findings.warnings,
        [
            "`vit_patch_generator.py`: line 3: `position_interpolation_align_corners` cannot be determined: `size > 3` is not a \
          constant"
        ]
    );
    let (value, Evidence::Assumed { reason, .. }) = row(&findings, ALIGN) else { panic!("assumed") };
    assert_eq!(*value, json!(true));
    assert!(reason.ends_with("; `vit_patch_generator.py` could not be followed"), "{reason}");
    assert!(findings.refuse_assumptions().unwrap_err().to_string().contains(ALIGN));
    let settings = Settings { align_corners: Some(false), ..Settings::default() };
    let findings = prepare(&source, settings).unwrap().1;
    assert!(matches!(row(&findings, ALIGN).1, Evidence::CommandLine { .. }));
}

#[test]
fn code_that_does_something_else_is_refused() {
    let bicubic = generator("True").replace("bilinear", "bicubic");
    let (message, _) =
        prepare(&with(&[("vit_patch_generator.py", bicubic)]), Settings::default()).unwrap_err();
    assert!(
        message.starts_with("`DIR/vit_patch_generator.py`: field `line 3`: expected a bilinear resize"),
        "{message}"
    );
    let other = modeling("").replace("'v1' else", "'v2' else");
    let (message, _) = prepare(&with(&[("modeling.py", other)]), Settings::default()).unwrap_err();
    assert_eq!(
        message,
        "`DIR/modeling.py`: behaviour `pixel_shuffle`: expected `2`, as in the released model, found `1`"
    );
    let other = modeling("").replace("<image>", "<IMG_CONTEXT>");
    let (message, _) = prepare(&with(&[("modeling.py", other)]), Settings::default()).unwrap_err();
    assert!(message.contains("behaviour `image_token`: expected `<image>`"), "{message}");
}

/// A source whose tower refers to another repository, and a cache that has it.
fn elsewhere(align: &str) -> (Source, TempDir) {
    let auto_map = json!({ "AutoModel": "owner/tower-x--hf_model.RADIOModel" });
    let cache = TempDir::new().unwrap();
    let snapshot = cache.path().join("hub/models--owner--tower-x/snapshots/0123");
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(snapshot.join("vit_patch_generator.py"), generator(align)).unwrap();
    (Source::sound().with("/vision_config/auto_map", auto_map), cache)
}

#[test]
fn the_code_of_another_repository_is_found_in_the_caches() {
    let (source, cache) = elsewhere("False");
    let caches = CodeCaches { hub: vec![cache.path().join("hub")], modules: vec![] };
    let (config, findings) =
        prepare(&source, Settings { caches: caches.clone(), ..Settings::default() }).unwrap();
    assert!(!config.vision_config.position_interpolation_align_corners);
    let (_, Evidence::SourceFile { repository, revision, how, .. }) = row(&findings, ALIGN) else {
        panic!("a file")
    };
    assert_eq!((repository.as_deref(), revision.as_deref()), (Some("owner/tower-x"), Some("0123")));
    assert_eq!(*how, How::Parsed);

    // What was found there holds for a verification on a machine without the cache.
    let dir = source.write();
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let location = || Location::parse(dir.path().to_str().unwrap());
    let settings = Settings { caches, ..Settings::default() };
    Conversion::prepare(location(), settings, KEEP).unwrap().write(&out, false, &Unwatched).unwrap();
    let (ledger, _) = verify(&out, &Unwatched).unwrap();
    assert_eq!(verify_source(&out, &ledger, location(), &Unwatched).unwrap().differences, []);

    // A second version without a `main`: which one is meant cannot be told.
    let other = cache.path().join("hub/models--owner--tower-x/snapshots/4567");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("vit_patch_generator.py"), generator("True")).unwrap();
    let caches = CodeCaches { hub: vec![cache.path().join("hub")], modules: vec![] };
    let findings = prepare(&source, Settings { caches, ..Settings::default() }).unwrap().1;
    assert_eq!(
        findings.warnings,
        ["`vit_patch_generator.py` of `owner/tower-x` was not read: the caches have several versions of it, at `4567`, `0123`"]
            .map(|warning| {
                let mut both = [("4567", generator("True")), ("0123", generator("False"))];
                both.sort_by_key(|(_, text)| sha256(text.as_bytes()));
                warning.replace("`4567`, `0123`", &format!("`{}`, `{}`", both[0].0, both[1].0))
            })
    );
}

#[test]
fn the_program_reads_the_caches_that_the_environment_names() {
    let (source, cache) = elsewhere("False");
    let dir = source.write();
    let inspect = |variable: &str, path: &Path| {
        let mut command = Command::cargo_bin("nvl-convert").unwrap();
        command
            .env_remove("HF_HUB_CACHE")
            .env_remove("HUGGINGFACE_HUB_CACHE")
            .env_remove("HF_MODULES_CACHE")
            .env("HF_HOME", "/nowhere");
        let output = command.env(variable, path).arg("inspect").arg(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let expected =
        "position_interpolation_align_corners = false: owner/tower-x, `vit_patch_generator.py`, line 3: ";
    assert!(inspect("HF_HOME", cache.path()).contains(expected));
    assert!(inspect("HF_HUB_CACHE", &cache.path().join("hub")).contains(expected));
    assert!(inspect("HUGGINGFACE_HUB_CACHE", &cache.path().join("hub")).contains(expected));
    assert!(inspect("HF_HOME", dir.path()).contains("position_interpolation_align_corners = true: assumed"));
}

#[test]
fn a_repository_that_leads_out_of_a_cache_is_none() {
    let cache = TempDir::new().unwrap();
    let caches =
        CodeCaches { hub: vec![cache.path().join("hub")], modules: vec![cache.path().to_path_buf()] };
    for name in ["../x", "a/..", "a", "/etc/passwd", "a/b/c"] {
        let auto_map = json!({ "AutoModel": format!("{name}--hf_model.RADIOModel") });
        let source = Source::sound().with("/vision_config/auto_map", auto_map);
        let settings = Settings { caches: caches.clone(), ..Settings::default() };
        let findings = prepare(&source, settings).unwrap().1;
        assert!(matches!(row(&findings, ALIGN).1, Evidence::Assumed { .. }), "{name}");
    }
    let error = Error::Contradicted {
        path: "a.py".into(),
        behaviour: "image_token",
        expected: "`<image>`, as in the released model".into(),
        found: "`x`".into(),
    };
    assert_eq!(error.hint(), None);
}
