//! Files that are refused: by name, and before they cost anything.

use std::path::PathBuf;

use reference::pictures::decode::{Format, MAX_FILE_BYTES, MAX_PIXELS, Warning, decode};
use reference::pictures::{DecodeError, PictureError, preprocess};

use crate::fixtures;

fn bundled(file: &str) -> Vec<u8> {
    std::fs::read(fixtures::path("preprocess/formats").join(file)).unwrap()
}

/// One of each format and way of coding, all of which decode.
const ONE_OF_EACH: [&str; 10] = [
    "png-17x9-RGB.png",
    "png-17x9-type2-16bit-adam7.png",
    "jpeg-17x9-420-q90.jpg",
    "jpeg-17x9-420-q90-progressive.jpg",
    "webp-17x9-lossy-q80-m0.webp",
    "webp-17x9-lossless.webp",
    "gif-17x9-palette-i1.gif",
    "bmp-17x9-24bit.bmp",
    "bmp-17x9-rle8.bmp",
    "tiff-17x9-RGB-tiff_lzw.tif",
];

/// The files' errors, each as one line.
fn errors_of(files: &[(&str, &[u8])]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    files
        .iter()
        .map(|(name, bytes)| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = preprocess(&[path], &fixtures::image_processor()).unwrap_err().to_string();
            error.replace(&format!("{}/", dir.path().display()), "")
        })
        .collect()
}

#[test]
fn a_file_that_is_no_picture_is_named_with_what_it_is() {
    let files: [(&str, &[u8]); 3] =
        [("empty.png", b""), ("page.jpg", b"<!doctype html>"), ("video.mp4", b"\0\0\0\x20ftypisom")];
    insta::assert_snapshot!(errors_of(&files).join("\n"), @r"
    `empty.png`: expected a picture, found an empty file
    `page.jpg`: expected a picture (PNG, JPEG, WebP, GIF, BMP or TIFF), found a web page
    `video.mp4`: expected a picture (PNG, JPEG, WebP, GIF, BMP or TIFF), found a video (MP4 or a relative)
    ");
}

#[test]
fn a_picture_cut_short_anywhere_is_refused_unless_all_pixels_are_there() {
    for file in ONE_OF_EACH {
        let bytes = bundled(file);
        let whole = decode(&bytes).unwrap().raster;
        let mut refused = 0;
        for length in 0..bytes.len() {
            match decode(&bytes[..length]) {
                Ok(cut) => assert!(cut.raster == whole, "{file}: {length} of {} bytes", bytes.len()),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= bytes.len() * 3 / 4, "{file}: {refused} of {} lengths refused", bytes.len());
    }
}

#[test]
fn a_picture_cut_in_half_is_called_truncated() {
    for file in ONE_OF_EACH {
        let bytes = bundled(file);
        let half = bytes.len() / 2;
        let error = decode(&bytes[..half]).unwrap_err();
        assert!(
            matches!(error, DecodeError::Truncated { found_bytes, .. } if found_bytes == half),
            "{file}: {error}"
        );
    }
}

#[test]
fn a_variant_whose_pixels_are_not_known_to_be_equal_is_named() {
    let found = |file: &str| match decode(&bundled(file)).unwrap_err() {
        error @ DecodeError::Unsupported { .. } => error.to_string(),
        other => panic!("{file}: {other}"),
    };
    assert!(found("tiff-17x9-group4.tif").ends_with("found compression 4"));
    assert!(found("tiff-17x9-orientation.tif").ends_with("found orientation 6"));
    assert!(
        found("tiff-17x9-P-raw.tif")
            .ends_with("found photometric interpretation 3, [8] bits, extra samples []")
    );
    let mut bmp = bundled("bmp-17x9-24bit.bmp");
    bmp[28] = 2;
    assert!(found_in(&bmp).ends_with("found 2 bits"), "{}", found_in(&bmp));
}

fn found_in(bytes: &[u8]) -> String {
    decode(bytes).unwrap_err().to_string()
}

#[test]
fn a_broken_checksum_is_refused() {
    let mut png = bundled("png-17x9-RGB.png");
    let data = png.windows(4).position(|name| name == b"IDAT").unwrap();
    png[data + 20] ^= 1;
    let error = decode(&png).unwrap_err();
    assert!(matches!(error, DecodeError::Malformed { format: Format::Png, .. }), "{error}");
}

/// A PNG header that claims so many pixels, with a right checksum, and nothing behind it.
fn png_of_sides(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut crc = u32::MAX;
    for byte in &header {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(header);
    png.extend((!crc).to_be_bytes());
    png
}

#[test]
fn a_decompression_bomb_is_refused_by_its_header() {
    let limit = MAX_PIXELS as u32;
    // Within the limit, the missing pixels are what is wrong.
    assert!(matches!(decode(&png_of_sides(limit, 1)), Err(DecodeError::Truncated { .. })));
    for (width, height) in [(limit + 1, 1), (60_000, 60_000), (0x7fff_ffff, 0x7fff_ffff)] {
        let error = decode(&png_of_sides(width, height)).unwrap_err();
        assert!(matches!(error, DecodeError::TooManyPixels { .. }), "{error}");
        assert!(error.hint().is_some());
    }
    let mut jpeg = bundled("jpeg-17x9-420-q90.jpg");
    let frame = jpeg.windows(2).position(|marker| marker == b"\xff\xc0").unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0, 0xff, 0]);
    assert!(matches!(decode(&jpeg), Err(DecodeError::TooManyPixels { width: 0xff00, height: 0xff00, .. })));
    let mut webp = bundled("webp-17x9-animated-lossless.webp");
    assert_eq!(&webp[12..16], b"VP8X");
    webp[24..30].copy_from_slice(&[0xfe, 0x3f, 0, 0xfe, 0x3f, 0]);
    assert!(matches!(decode(&webp), Err(DecodeError::TooManyPixels { .. })), "{:?}", decode(&webp));
}

#[test]
fn a_picture_too_thin_to_be_resized_is_refused_by_its_header() {
    let limit = MAX_PIXELS as u32;
    for (width, height) in [(1, 16_000_000), (1, limit), (limit, 1)] {
        let said = &errors_of(&[("thin.png", &png_of_sides(width, height))])[0];
        let expected = format!(
            "`thin.png`: expected a picture that can be resized with 2.1 GB of memory, found {width} × {height}"
        );
        // The missing pixels are not what is wrong.
        assert!(said.starts_with(&expected), "{said}");
    }
    for (width, height) in [(16_000_000, 1), (1, 1_000_000)] {
        let said = &errors_of(&[("thin.png", &png_of_sides(width, height))])[0];
        assert!(said.contains("it is truncated"), "{said}");
    }
}

#[test]
fn a_jpeg_of_endless_scans_is_refused() {
    let whole = bundled("jpeg-17x9-420-q90-progressive.jpg");
    let scan = whole.windows(2).rposition(|marker| marker == b"\xff\xda").unwrap();
    let end = whole.len() - 2;
    let mut bytes = whole[..end].to_vec();
    for _ in 0..1001 {
        bytes.extend(&whole[scan..end]);
    }
    bytes.extend(&whole[end..]);
    let error = decode(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "expected a valid JPEG file, found: 1001 scans of 17 × 9 pixels, which would take too long"
    );
}

#[test]
fn what_is_no_file_is_refused_without_opening_it() {
    let dir = tempfile::tempdir().unwrap();
    let refused =
        |path: &std::path::Path| preprocess(&[path], &fixtures::image_processor()).unwrap_err().to_string();
    let said = refused(dir.path());
    assert!(said.ends_with("cannot be read: expected a regular file, found a folder"), "{said}");
    let said = refused("/dev/zero".as_ref());
    assert!(said.ends_with("cannot be read: expected a regular file, found a device"), "{said}");
    let pipe = dir.path().join("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let said = refused(&pipe);
    assert!(said.ends_with("cannot be read: expected a regular file, found a pipe"), "{said}");
    let missing = dir.path().join("missing.png");
    let error = preprocess(&[&missing], &fixtures::image_processor()).unwrap_err();
    assert!(matches!(&error, PictureError::Read { path, .. } if *path == missing), "{error}");
}

#[test]
fn a_file_too_large_for_any_picture_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse.png");
    std::fs::File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    let error = preprocess(&[path], &fixtures::image_processor()).unwrap_err();
    assert!(matches!(error, PictureError::FileTooLarge { .. }), "{error}");
}

#[test]
fn what_a_user_may_not_expect_is_a_warning() {
    let warnings = |file: &str| decode(&bundled(file)).unwrap().warnings;
    assert_eq!(warnings("png-17x9-RGB.png"), []);
    assert_eq!(warnings("png-17x9-RGBA.png"), [Warning::Transparency]);
    assert_eq!(warnings("png-17x9-P-trns.png"), [Warning::Transparency]);
    assert_eq!(warnings("png-17x9-I16.png"), [Warning::SixteenBitGrey]);
    assert_eq!(warnings("png-17x9-apng.png"), [Warning::SeveralFrames, Warning::Transparency]);
    assert_eq!(warnings("webp-17x9-animated-lossy.webp"), [Warning::Transparency, Warning::SeveralFrames]);
    assert_eq!(warnings("jpeg-17x9-orientation.jpg"), [Warning::Orientation(6)]);
}

#[test]
fn an_impossible_configuration_is_refused_by_field() {
    type Change = fn(&mut converter::normalized::ImageProcessorConfig);
    let changes: [(&str, Change); 8] = [
        ("image_size", |config| config.image_size = 0),
        ("max_num_tiles", |config| config.max_num_tiles = 0),
        ("upscale_factor", |config| config.upscale_factor = 0),
        ("upscale_factor", |config| config.upscale_factor = 1_000_000),
        ("rescale_factor", |config| config.rescale_factor = f64::NAN),
        ("image_mean", |config| (config.do_normalize, config.image_mean) = (true, vec![0.5])),
        ("image_std", |config| (config.do_normalize, config.image_std) = (true, vec![0.5, 0.0, 0.5])),
        ("image_std", |config| {
            (config.do_normalize, config.image_std) = (true, vec![0.5, f64::INFINITY, 0.5])
        }),
    ];
    for (field, change) in changes {
        let mut config = fixtures::image_processor();
        change(&mut config);
        let error = preprocess(&Vec::<PathBuf>::new(), &config).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`image_processor.{field}`: expected ")), "{error}");
    }
}
