//! Any bytes as a safetensors file: refused, or a header whose tensors cover the file, each byte once.
#![no_main]

use std::path::Path;

use converter::weights::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Header::parse(Path::new("model.safetensors"), bytes) {
        Ok(header) => {
            let mut covered = 0;
            for tensor in &header.tensors {
                assert_eq!(tensor.start, covered);
                covered = tensor.end;
            }
            assert_eq!(header.data_start + covered, bytes.len());
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
});
