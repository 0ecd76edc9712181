//! Any bytes are decoded, or refused with a sentence: never a panic, nor memory or time without bound.
//!
//! What decodes has as many bytes as it says, and can be enlarged.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reference::pictures::decode::{MAX_PIXELS, decode};
use reference::pictures::raster::Mode;
use reference::pictures::upscale::upscale_to_rgb;

/// Above this, enlarging takes most of the time and finds nothing.
const MAX_ENLARGED_PIXELS: usize = 1 << 14;

fuzz_target!(|bytes: &[u8]| match decode(bytes) {
    Ok(decoded) => {
        let raster = decoded.raster;
        let pixels = raster.width * raster.height;
        assert!(pixels > 0 && pixels as u64 <= MAX_PIXELS);
        assert_eq!(raster.data.len(), pixels * raster.mode.bytes_per_pixel());
        assert!(raster.mode == Mode::P || raster.palette.is_empty());
        if pixels <= MAX_ENLARGED_PIXELS {
            for factor in [1, 2, 3] {
                let image = upscale_to_rgb(&raster, factor);
                assert_eq!((image.width, image.height), (factor * raster.width, factor * raster.height));
                assert_eq!(image.data.len(), 3 * image.width * image.height);
            }
        }
    }
    Err(error) => {
        let message = error.to_string();
        assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
    }
});
