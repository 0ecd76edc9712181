//! Videos, as their frames.

use std::path::Path;
use std::process::Command;

use reference::pictures::video::Frames;
use reference::pictures::{MediaFile, PictureError, preprocess, preprocess_media};
use reference::prompt::Medium;
use tch::IndexOp;

use crate::fixtures;

fn video(path: &Path, num_frames: usize) -> MediaFile {
    MediaFile::Video { path: path.to_owned(), num_frames }
}

/// A folder of the bundled pictures under the names given, in an order that is not theirs.
fn folder_of(names: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, image) in names {
        std::fs::copy(fixtures::path(&format!("goldens/images/{image}")), dir.path().join(name)).unwrap();
    }
    dir
}

const WIDE: &str = "green-triangle-left-of-yellow-circle.png";

#[test]
fn a_folder_is_a_video_in_the_order_of_names_with_a_tile_a_frame() {
    let dir = folder_of(&[("2.png", WIDE), ("1.png", "purple-square.png"), (".hidden", WIDE)]);
    let image = fixtures::path(&format!("goldens/images/{WIDE}"));
    let files = [MediaFile::Image(image.clone()), video(dir.path(), 8)];
    let (preprocessed, media) = preprocess_media(&files, &fixtures::image_processor()).unwrap();
    assert_eq!(media, [Medium::Image, Medium::Video { frames: 2 }]);
    let names: Vec<_> = preprocessed.pictures.iter().map(|picture| picture.file.as_str()).collect();
    assert_eq!(names, [WIDE, "1.png", "2.png"]);
    // As a picture it has two tiles and a thumbnail; as a frame it is all in one, which is its thumbnail.
    assert_eq!(preprocessed.tiles_per_picture(), [3, 1, 1]);
    let pixel_values = preprocessed.pixel_values.unwrap();
    assert_eq!(pixel_values.i(2), pixel_values.i(4));
    let alone = preprocess(&[image], &fixtures::image_processor()).unwrap().pixel_values.unwrap();
    assert_eq!(pixel_values.i(0..3), alone);
}

#[test]
fn a_long_folder_is_sampled() {
    let names: Vec<String> = (0..11).map(|frame| format!("{frame:02}.png")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), "purple-square.png")).collect();
    let dir = folder_of(&entries);
    let frames = Frames::open(dir.path(), 4).unwrap();
    let names: Vec<_> = frames.paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["01.png", "03.png", "06.png", "09.png"]);
    assert!(!frames.are_extracted());
}

#[test]
fn a_video_without_frames_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for num_frames in [0, 8] {
        let error =
            preprocess_media(&[video(dir.path(), num_frames)], &fixtures::image_processor()).unwrap_err();
        assert!(error.to_string().ends_with("it has no frames"), "{error}");
        assert!(error.hint().is_some());
    }
    let missing = dir.path().join("missing.mp4");
    let error = preprocess_media(&[video(&missing, 8)], &fixtures::image_processor()).unwrap_err();
    assert!(matches!(error, PictureError::Read { .. }), "{error}");
}

fn has_ffmpeg() -> bool {
    Command::new("ffprobe").arg("-version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_file_that_is_no_video_is_refused_whether_ffmpeg_is_there_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("video.mp4");
    std::fs::write(&path, "not a video").unwrap();
    let error = preprocess_media(&[video(&path, 8)], &fixtures::image_processor()).unwrap_err();
    assert!(matches!(error, PictureError::Video { .. }), "{error}");
    let expected =
        if has_ffmpeg() { "`ffprobe`: " } else { "expected the program `ffprobe` to read it, found none" };
    assert!(error.to_string().contains(expected), "{error}");
}

/// Needs ffmpeg to make a video; where there is none, the test above shows what a user is told.
#[test]
fn ffmpeg_gives_the_frames_that_are_asked_for() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Twelve frames without loss, frame n all of grey 20·n.
    for frame in 0..12u8 {
        let mut pgm = b"P5 16 16 255\n".to_vec();
        pgm.extend([20 * frame; 256]);
        std::fs::write(dir.path().join(format!("{frame:02}.pgm")), pgm).unwrap();
    }
    let path = dir.path().join("-odd name.mkv");
    let input = dir.path().join("%02d.pgm");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(input)
        .args(["-c:v", "ffv1", "-pix_fmt", "gray"])
        .arg(format!("file:{}", path.display()))
        .status()
        .unwrap();
    assert!(made.success());

    let frames = Frames::open(&path, 4).unwrap();
    assert!(frames.are_extracted());
    let greys: Vec<u8> = frames
        .paths
        .iter()
        .map(|path| {
            reference::pictures::decode::decode(&std::fs::read(path).unwrap()).unwrap().raster.data[0]
        })
        .collect();
    // 11 / 4 apart: frames 1, 4, 7 (5.5 to the even 6, and 1.375) and 9.
    assert_eq!(greys, [20, 80, 140, 180]);
    let extracted = frames.paths[0].clone();
    drop(frames);
    assert!(!extracted.exists());
}
