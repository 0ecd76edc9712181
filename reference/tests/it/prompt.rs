//! Prompts and answers, against those of the public code.

use std::path::Path;

use converter::normalized::{Config, ImageTagType};
use reference::prompt::{AnswerStream, AnsweredTurn, Conversation, PromptBuilder, PromptError, Tokenizer};
use serde_json::{Value, json};

use crate::fixtures;

const CHECKPOINT: &str = "checkpoints/shapes";

/// The configuration of the bundled checkpoint, as far as a prompt depends on it.
fn config(image_tag_type: ImageTagType) -> Config {
    let (image_start_token, image_end_token) = match image_tag_type {
        ImageTagType::Internvl => ("<img>", "</img>"),
        ImageTagType::Nvlm => ("<Image>", "</Image>"),
    };
    let mut config: Config = serde_json::from_value(fixtures::normalized_config()).unwrap();
    config.image_tag_type = image_tag_type;
    config.image_start_token = image_start_token.to_owned();
    config.image_end_token = image_end_token.to_owned();
    config
}

fn builder(image_tag_type: ImageTagType) -> PromptBuilder {
    PromptBuilder::load(&fixtures::path(CHECKPOINT), &config(image_tag_type)).unwrap()
}

fn question(question: &str) -> Conversation<'_> {
    Conversation { question, ..Conversation::default() }
}

#[test]
fn prompt_ids_and_answer_of_every_golden_are_equal() {
    let builder = builder(ImageTagType::Internvl);
    for golden in fixtures::goldens() {
        let manifest = fixtures::json(&format!("goldens/{golden}/manifest.json"));
        let request = &manifest["request"];
        let turns = request["turns"].as_array().unwrap();
        let (last, earlier) = turns.split_last().unwrap();
        let earlier: Vec<AnsweredTurn> =
            earlier.iter().map(|turn| serde_json::from_value(turn.clone()).unwrap()).collect();
        let tiles: Vec<usize> = request["images"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| image["tiles"].as_u64().unwrap() as usize)
            .collect();
        let conversation = Conversation {
            system: request["system"].as_str(),
            history: (!earlier.is_empty()).then_some(&earlier),
            question: last["user"].as_str().unwrap(),
        };
        let prompt = builder.build(conversation, &tiles).unwrap();
        assert_eq!(prompt.text, manifest["prompt"].as_str().unwrap(), "{golden}");
        let bytes: Vec<u8> = prompt.input_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        assert!(Some(bytes) == fixtures::golden_tensor(&golden, "input_ids"), "{golden}: `input_ids` differ");

        let generated: Vec<i64> =
            manifest["generated_ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        let tokenizer = builder.tokenizer();
        assert_eq!(generated.last(), Some(&tokenizer.eos_token_id()), "{golden}");
        assert_eq!(tokenizer.answer(&generated).unwrap(), manifest["text"].as_str().unwrap(), "{golden}");
    }
}

#[test]
fn a_placeholder_for_each_picture_goes_in_front_of_a_first_question() {
    let builder = builder(ImageTagType::Internvl);
    let prompt = builder.build(question("Compare."), &[1, 1]).unwrap();
    assert_eq!(prompt.question, "<image>\n<image>\nCompare.");
    assert_eq!(builder.build(question("Compare."), &[]).unwrap().question, "Compare.");
    let placed = builder.build(question("Compare <image> and <image>."), &[1, 1]).unwrap();
    assert_eq!(placed.question, "Compare <image> and <image>.");
}

#[test]
fn a_history_even_of_no_turns_puts_no_placeholder_in_front() {
    let conversation = Conversation { history: Some(&[]), ..question("Compare.") };
    let error = builder(ImageTagType::Internvl).build(conversation, &[1, 1]).unwrap_err();
    assert_eq!(error.to_string(), "the conversation has 0 `<image>`: expected 2, one for each file");
    assert!(error.hint().is_some());
}

#[test]
fn a_placeholder_too_many_is_refused_with_both_numbers() {
    for builder in [builder(ImageTagType::Internvl), builder(ImageTagType::Nvlm)] {
        let error = builder.build(question("<image> <image> <image>"), &[1, 3]).unwrap_err();
        assert!(matches!(error, PromptError::ImageCount { expected: 2, found: 3, .. }), "{error}");
        // Without pictures as well, and in the system prompt.
        let conversation = Conversation { system: Some("<image>"), ..question("Hello.") };
        let error = builder.build(conversation, &[]).unwrap_err();
        assert!(matches!(error, PromptError::ImageCount { expected: 0, found: 1, .. }), "{error}");
    }
}

#[test]
fn nvlm_names_each_tile() {
    let builder = builder(ImageTagType::Nvlm);
    let tokens = "<image>".repeat(16);
    let text = builder.build(question("Describe."), &[3, 1]).unwrap().text;
    let expected = format!(
        "<Image><tile_1>{tokens}<tile_2>{tokens}<tile_global_thumbnail>{tokens}</Image>\n\
         <Image><tile_global_thumbnail>{tokens}</Image>\nDescribe."
    );
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn a_streamed_answer_is_the_answer() {
    let tokenizer = Tokenizer::load(&fixtures::path(CHECKPOINT)).unwrap();
    for text in [
        "a red circle",
        "  two  words \n",
        "na\u{ef}ve \u{1f600}\u{4f60}\u{597d} end",
        "<|eot_id",
        "",
        " \n ",
    ] {
        let mut ids = tokenizer.encode(text).unwrap();
        ids.push(tokenizer.eos_token_id());
        ids.extend(tokenizer.encode("never seen").unwrap());
        let mut stream = AnswerStream::new(&tokenizer);
        let mut pieces = Vec::new();
        for &id in &ids {
            let piece = stream.push(id).unwrap();
            assert!(!piece.contains('\u{fffd}'), "{text:?}: half a character in {piece:?}");
            pieces.push(piece);
        }
        pieces.push(stream.finish().unwrap());
        assert_eq!(pieces.concat(), tokenizer.answer(&ids).unwrap(), "{text:?}");
        assert_eq!(pieces.concat(), text.trim(), "{text:?}");
    }
}

#[test]
fn words_are_streamed_as_soon_as_they_are_there() {
    let tokenizer = Tokenizer::load(&fixtures::path(CHECKPOINT)).unwrap();
    let ids = tokenizer.encode("a red circle above a blue square").unwrap();
    let mut stream = AnswerStream::new(&tokenizer);
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert!(pieces.iter().filter(|piece| !piece.is_empty()).count() > 4, "{pieces:?}");
    assert_eq!(pieces.concat(), "a red circle above a blue square");
}

/// A copy of the bundled checkpoint's tokenizer, with a changed configuration.
fn changed_checkpoint(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let source = fixtures::path(CHECKPOINT);
    for file in ["tokenizer.json", "chat_template.jinja", "special_tokens_map.json"] {
        std::fs::copy(source.join(file), dir.path().join(file)).unwrap();
    }
    let mut config = fixtures::json(&format!("{CHECKPOINT}/tokenizer_config.json"));
    change(&mut config);
    write(dir.path(), "tokenizer_config.json", &config.to_string());
    dir
}

fn write(dir: &Path, file: &str, text: &str) {
    std::fs::write(dir.join(file), text).unwrap();
}

#[test]
fn an_answer_is_cleaned_up_where_the_tokenizer_says_so_streamed_or_not() {
    let dir = changed_checkpoint(|config| config["clean_up_tokenization_spaces"] = json!(true));
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    for (text, expected) in [
        ("yes , it is n't .", "yes, it isn't."),
        (" It 's a square , is n't it ? ", "It's a square, isn't it?"),
        ("a ' b ' c", "a'b'c"),
        ("they 've , we 're , I 'm !", "they've, we're, I'm!"),
        ("  .  ", "."),
    ] {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.answer(&ids).unwrap(), expected);
        let mut stream = AnswerStream::new(&tokenizer);
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        assert_eq!(pieces.concat(), expected, "{pieces:?}");
    }
}

#[test]
fn a_token_under_two_ids_is_refused() {
    let dir =
        changed_checkpoint(|config| config["added_tokens_decoder"]["7"] = json!({"content": "<image>"}));
    let error = Tokenizer::load(dir.path()).unwrap_err();
    assert!(
        matches!(&error, PromptError::TokenId { token, expected: 7, found, .. } if token == "<image>" && found == "494"),
        "{error}"
    );
}

#[test]
fn a_token_of_the_configuration_alone_is_added() {
    let dir =
        changed_checkpoint(|config| config["added_tokens_decoder"]["512"] = json!({"content": "<extra>"}));
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(tokenizer.token_to_id("<extra>"), Some(512));
    assert_eq!(tokenizer.encode("<extra><image>").unwrap(), [512, 494]);
}

#[test]
fn special_tokens_may_be_objects_or_in_their_old_file() {
    let dir = changed_checkpoint(|config| config["eos_token"] = json!({"content": "<|end_of_text|>"}));
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!((tokenizer.eos_token(), tokenizer.eos_token_id()), ("<|end_of_text|>", 490));
    assert_eq!((tokenizer.bos_token(), tokenizer.bos_token_id()), (Some("<|begin_of_text|>"), Some(489)));

    let dir = changed_checkpoint(|config| {
        for field in ["added_tokens_decoder", "eos_token"] {
            config.as_object_mut().unwrap().remove(field);
        }
    });
    assert_eq!(Tokenizer::load(dir.path()).unwrap().eos_token(), "<|eot_id|>");
}

#[test]
fn a_tokenizer_without_an_end_is_refused() {
    let dir = changed_checkpoint(|config| config["eos_token"] = Value::Null);
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("`eos_token`: expected a token, found none"), "{error}");
    let dir = changed_checkpoint(|config| config["eos_token"] = json!("<nowhere>"));
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("`eos_token`: expected a token of `tokenizer.json`, found `<nowhere>`"),
        "{error}"
    );
}

#[test]
fn missing_and_broken_files_are_named() {
    let dir = changed_checkpoint(|_| {});
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(
        matches!(Tokenizer::load(dir.path()).unwrap_err(), PromptError::Read { path, .. } if path.ends_with("tokenizer.json"))
    );
    write(dir.path(), "tokenizer.json", "{}");
    assert!(
        matches!(Tokenizer::load(dir.path()).unwrap_err(), PromptError::Malformed { path, .. } if path.ends_with("tokenizer.json"))
    );
    write(dir.path(), "tokenizer_config.json", "[1, 2]");
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("the whole: expected a JSON object, found `[1,2]`"), "{error}");
}

#[test]
fn an_image_token_under_another_id_is_refused() {
    let mut config = config(ImageTagType::Internvl);
    config.image_token_id = 3;
    let error = PromptBuilder::load(&fixtures::path(CHECKPOINT), &config).unwrap_err();
    assert!(
        matches!(error, PromptError::TokenId { expected: 3, ref found, .. } if found == "494"),
        "{error}"
    );
}

#[test]
fn an_id_that_is_none_is_refused() {
    let tokenizer = Tokenizer::load(&fixtures::path(CHECKPOINT)).unwrap();
    assert!(matches!(tokenizer.decode(&[-1]), Err(PromptError::Id { found: -1 })));
}
