//! Any text as a chat template gives a prompt, or is refused with a sentence: never a panic, an overflow of the stack, nor
//! memory or time without bound.

#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use reference::prompt::ChatTemplate;
use reference::prompt::chat_template::Message;
use serde_json::Map;

const MESSAGES: [Message<'_>; 3] = [
    Message { role: "system", content: " Be brief. " },
    Message { role: "user", content: "Hi <b>\n" },
    Message { role: "assistant", content: "Hello" },
];

fuzz_target!(|source: &str| {
    let rendered = ChatTemplate::new(PathBuf::from("t"), source, Map::new())
        .and_then(|template| template.render(&MESSAGES));
    if let Err(error) = rendered {
        let message = error.to_string();
        assert!(message.starts_with("`t`: the chat template") && message.len() < 8000, "{message:?}");
    }
});
