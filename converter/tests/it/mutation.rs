//! Whatever a source's configuration files hold, preparing a conversion ends in an answer.

use converter::Conversion;
use converter::plan::PlanOptions;
use converter::resolve::Settings;
use converter::source::Location;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::hand_made_source::Source;

/// Every JSON pointer into `value`, the root's excepted.
fn pointers(value: &Value, prefix: &str, all: &mut Vec<String>) {
    let mut visit = |name: &str, value: &Value| {
        let pointer = format!("{prefix}/{name}");
        all.push(pointer.clone());
        pointers(value, &pointer, all);
    };
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| visit(name, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| visit(&i.to_string(), item)),
        _ => {}
    }
}

fn strange_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0u64..70).prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        (-2.0f64..2.0).prop_map(|number| json!(number)),
        ".{0,8}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null, 1, "x"])),
        Just(json!({ "rope_type": "llama3", "factor": 0.0 })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_strange_value_anywhere_makes_no_panic(
        file in 0usize..4,
        changes in proptest::collection::vec((any::<Index>(), strange_value()), 1..3),
    ) {
        let mut source = Source::sound();
        let target = match file {
            0 => &mut source.preprocessor,
            1 => &mut source.tokenizer_config,
            _ => &mut source.config,
        };
        for (place, value) in changes {
            let mut all = Vec::new();
            pointers(target, "", &mut all);
            all.push(String::new());
            let pointer: &String = place.get(&all);
            if let Some(slot) = target.pointer_mut(pointer) {
                *slot = value;
            }
        }
        let dir = source.write();
        let options = PlanOptions::KEEP;
        let location = Location::parse(dir.path().to_str().unwrap());
        if let Err(error) = Conversion::prepare(location, Settings::default(), options) {
            let message = error.to_string();
            prop_assert!(!message.chars().any(char::is_control), "{message:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn changed_bytes_of_a_header_or_an_index_make_no_panic(
        file in 0usize..3,
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut source = Source::sound();
        source.shards = 2;
        let dir = source.write();
        let name = ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "config.json"][file];
        let path = dir.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        // Of a file of weights, its header.
        let length = bytes.len().min(6000);
        for (place, byte) in changes {
            bytes[place.index(length)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length));
        }
        std::fs::write(&path, bytes).unwrap();
        let options = PlanOptions::KEEP;
        let location = Location::parse(dir.path().to_str().unwrap());
        if let Err(error) = Conversion::prepare(location, Settings::default(), options) {
            let message = error.to_string();
            prop_assert!(!message.chars().any(char::is_control), "{message:?}");
        }
    }
}
