//! Pictures, and behaviours that are given, read or assumed.

use converter::resolve::Settings;
use converter::source::Evidence;
use serde_json::json;

use super::{evidence, prepare, prepare_with, refusal};
use crate::hand_made_source::Source;

#[test]
fn the_image_processor_must_agree_and_its_defaults_are_recorded() {
    let mut source = Source::sound();
    source.preprocessor["image_size"] = json!(512);
    assert_eq!(
        refusal(&source),
        "`DIR/preprocessor_config.json`: field `image_size`: expected `16`, as `force_image_size` in `config.json`, found `512`"
    );
    source.preprocessor = json!({});
    assert!(refusal(&source).contains("found none, which `LlamaNemotronNanoVLImageProcessor` takes for 512"));
    source.preprocessor = json!({ "image_size": 16 });
    let (config, findings) = prepare(&source);
    assert_eq!((config.image_processor.max_num_tiles, config.image_processor.use_thumbnail), (12, true));
    assert!(!config.image_processor.do_rescale);
    assert!(matches!(evidence(&findings, "image_processor.max_num_tiles"), Evidence::Assumed { .. }));
    // A written `null` is Python's false, and no assumption.
    source.preprocessor = json!({ "image_size": 16, "use_thumbnail": null, "do_rescale": null });
    let (config, findings) = prepare(&source);
    assert_eq!((config.image_processor.use_thumbnail, config.image_processor.do_rescale), (false, false));
    assert!(!findings.behaviours.iter().any(|behaviour| behaviour.name == "image_processor.use_thumbnail"));
    source.preprocessor = json!({ "image_size": 16, "do_normalize": true });
    assert!(refusal(&source).contains("field `image_mean`: expected 3 numbers, found none"));
    source.preprocessor = json!({ "image_size": 16, "image_processor_type": "CLIPImageProcessor" });
    assert!(refusal(&source).contains("field `image_processor_type`"));
}

#[test]
fn the_image_token_comes_from_the_tokenizer() {
    let mut source = Source::sound();
    source.tokenizer = json!({ "added_tokens": [], "model": { "vocab": { "<image>": 9 } } });
    source.tokenizer_config = json!({});
    assert_eq!(prepare(&source).0.image_token_id, 9);
    source.tokenizer_config = json!({ "added_tokens_decoder": { "8": { "content": "<image>" } } });
    assert!(refusal(&source).contains(
        "field `added_tokens_decoder.8`: expected the image token `<image>` at id 9, as in `tokenizer.json`, found id 8"
    ));
    source.tokenizer = json!({ "added_tokens": [], "model": {} });
    assert_eq!(
        refusal(&source),
        "`DIR/tokenizer.json`: field `added_tokens`: expected the image token `<image>`, found no token of this text"
    );
}

#[test]
fn align_corners_is_given_read_or_assumed() {
    const NAME: &str = "position_interpolation_align_corners";
    let (config, findings) = prepare(&Source::sound());
    assert!(config.vision_config.position_interpolation_align_corners);
    let Evidence::Assumed { settled_by, .. } = evidence(&findings, NAME) else { panic!("assumed") };
    assert_eq!(settled_by, "`--align-corners`");

    let settings = Settings { align_corners: Some(false), ..Settings::default() };
    let conversion = prepare_with(&Source::sound(), settings).ok().unwrap();
    assert!(!conversion.config().vision_config.position_interpolation_align_corners);
    let flag = "--align-corners false".to_string();
    assert_eq!(*evidence(conversion.findings(), NAME), Evidence::CommandLine { flag });

    let mut source = Source::sound();
    source.files.push(("vit_patch_generator.py".into(), "raise SystemExit\n".into()));
    let findings = prepare(&source).1;
    assert!(matches!(evidence(&findings, NAME), Evidence::Assumed { .. }));
    assert_eq!(
        findings.warnings[0],
        "`vit_patch_generator.py`: `position_interpolation_align_corners` cannot be determined: it has no method \
         `_get_pos_embeddings`"
    );
}

#[test]
fn an_absent_pixel_shuffle_is_the_class_default_and_an_assumption() {
    let (config, findings) = prepare(&Source::sound().without("/ps_version"));
    assert_eq!(serde_json::to_value(config.ps_version).unwrap(), "v1");
    assert!(matches!(evidence(&findings, "ps_version"), Evidence::Assumed { .. }));
    assert!(matches!(evidence(&prepare(&Source::sound()).1, "ps_version"), Evidence::SourceFile { .. }));
}

#[test]
fn strict_names_every_assumption_and_what_settles_it() {
    let conversion = prepare_with(&Source::sound().without("/ps_version"), Settings::default()).ok().unwrap();
    let error = conversion.findings().refuse_assumptions().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`--strict` refuses an assumption: behaviour `ps_version`: expected evidence, found `\"v1\"` assumed, which the \
         field `ps_version`, once written, settles; behaviour `position_interpolation_align_corners`: expected \
         evidence, found `true` assumed, which `--align-corners` settles; behaviour `upscale_factor`: expected \
         evidence, found `2` assumed, which `--upscale-factor` settles"
    );
    let settings = Settings { align_corners: Some(true), upscale_factor: Some(3), ..Settings::default() };
    let conversion = prepare_with(&Source::sound(), settings).ok().unwrap();
    conversion.findings().refuse_assumptions().unwrap();
    assert_eq!(conversion.config().image_processor.upscale_factor, 3);
}

#[test]
fn a_field_that_nobody_knows_is_listed_and_warned_of() {
    let source = Source::sound().with("/llm_config/mystery", json!(1)).with("/riddle", json!(true));
    let findings = prepare(&source).1;
    assert_eq!(findings.warnings.len(), 2, "{:?}", findings.warnings);
    assert!(findings.warnings[0].contains("`llm_config.mystery`"));
    assert!(findings.warnings[1].contains("`riddle`"));
    let unknown: Vec<&str> =
        findings.ignored.iter().filter(|field| !field.known).map(|field| field.field.as_str()).collect();
    assert_eq!(unknown, ["llm_config.mystery", "riddle"]);
}
