//! Any bytes are a file of requests, or refused with a sentence: never a panic, and a line costs no other.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use reference::run::Requests;

fuzz_target!(|bytes: &[u8]| {
    let Ok(requests) = Requests::parse(bytes) else { return };
    let mut last = 0;
    for line in requests.lines() {
        assert!(line.number > last);
        last = line.number;
        assert!(!line.dump_name().contains('/'));
        match &line.request {
            Ok(request) => {
                let _ = request.sampling().check();
                if let Err(error) = request.chat(Path::new("/base")) {
                    assert!(!error.to_string().contains('\n'));
                }
            }
            Err(problem) => assert!(problem.starts_with(&format!("line {}", line.number)), "{problem:?}"),
        }
    }
    // Each line alone is what it is among others, but for its number.
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate().take(8) {
        let among = requests.lines().find(|among| among.number == index + 1);
        if let (Some(among), Ok(alone)) = (among, Requests::parse(line)) {
            let alone = alone.lines().next().map(|alone| alone.request.is_ok());
            assert_eq!(alone, Some(among.request.is_ok()));
        }
    }
});
