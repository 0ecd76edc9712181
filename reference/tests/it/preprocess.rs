//! `nvl-reference preprocess`: what the model would be given, as a dump and as a picture.

use golden::Dump;

use super::bundled::{checkpoint, golden, nvl_reference, picture};
use super::fixtures;

fn preprocess(out: &std::path::Path) -> assert_cmd::Command {
    let mut command = nvl_reference();
    command.arg("preprocess").arg("--model").arg(checkpoint()).arg("--out").arg(out);
    command
}

fn integers(dump: &Dump, name: &str) -> Vec<i64> {
    dump.require(name).unwrap().elements::<i64>().unwrap().into_owned()
}

#[test]
fn a_dump_has_the_goldens_pixels_and_ids() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dump");
    let expected = Dump::open(golden("shapes-wide-bfloat16")).unwrap();
    preprocess(&out)
        .args(["--prompt", "Describe this image.", "--image"])
        .arg(picture("green-triangle-left-of-yellow-circle.png"))
        .assert()
        .success()
        .stdout(format!("{}\n", expected.manifest().prompt.as_deref().unwrap()));
    let actual = Dump::open(&out).unwrap();
    actual.verify().unwrap();
    for name in ["pixel_values", "input_ids"] {
        assert_eq!(actual.entry(name).unwrap().sha256, expected.entry(name).unwrap().sha256, "{name}");
    }
    assert_eq!(integers(&actual, "image_grids"), [2, 1]);
    assert_eq!(integers(&actual, "num_tiles"), [3]);
    assert_eq!(actual.manifest().prompt, expected.manifest().prompt);
    let request = actual.manifest().request.as_ref().unwrap();
    assert_eq!(request.images, expected.manifest().request.as_ref().unwrap().images);
    assert_eq!(request.max_new_tokens, Some(0));
}

#[test]
fn the_tiles_replace_a_file_only_by_force_and_a_picture_of_the_request_never() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("photo.webp");
    std::fs::copy(fixtures::path("preprocess/images/photo-120x75.webp"), &picture).unwrap();
    let link = dir.path().join("link.webp");
    std::os::unix::fs::symlink(&picture, &link).unwrap();
    let before = std::fs::read(&picture).unwrap();
    let run = |tiles: &std::path::Path, force: bool| {
        let mut command = preprocess(&dir.path().join(format!("dump-{force}")));
        command.args(["--prompt", "x", "--image"]).arg(&picture).arg("--tiles-png").arg(tiles);
        command.args(force.then_some("--force")).assert()
    };
    for tiles in [&picture, &link] {
        for force in [false, true] {
            let message = run(tiles, force).code(2).get_output().stderr.clone();
            let message = String::from_utf8(message).unwrap();
            assert!(message.contains("found what they are made of"), "{message}");
            assert_eq!(std::fs::read(&picture).unwrap(), before);
        }
    }
    let other = dir.path().join("other.png");
    std::fs::write(&other, "work").unwrap();
    let message = String::from_utf8(run(&other, false).code(2).get_output().stderr.clone()).unwrap();
    assert!(message.contains("expected nothing in the place of the tiles, found something"), "{message}");
    assert_eq!(std::fs::read(&other).unwrap(), b"work");
    run(&other, true).success();
    assert!(decode(&other).0.0 > 0);
}

#[test]
fn the_tiles_can_be_seen_as_one_picture() {
    let dir = tempfile::tempdir().unwrap();
    let (out, png) = (dir.path().join("dump"), dir.path().join("tiles.png"));
    preprocess(&out)
        .args(["--prompt", "x", "--image"])
        .arg(fixtures::path("preprocess/images/rgb-640x480.png"))
        .arg("--image")
        .arg(fixtures::path("preprocess/images/photo-120x75.webp"))
        .arg("--tiles-png")
        .arg(&png)
        .assert()
        .success();
    let (size, pixels) = decode(&png);
    // A row of tiles a picture: the strips of the fixtures, one below the other.
    let strips = ["rgb-640x480", "photo-120x75"]
        .map(|name| decode(&fixtures::path(&format!("preprocess/tiles/{name}.tiles.png"))));
    let widest = strips.iter().map(|(size, _)| size.0).max().unwrap();
    assert_eq!(size, (widest, 256));
    for (index, ((width, height), strip)) in strips.iter().enumerate() {
        for y in 0..*height as usize {
            let row = &strip[y * *width as usize * 3..][..*width as usize * 3];
            let start = ((index * 128 + y) * widest as usize) * 3;
            assert_eq!(&pixels[start..start + row.len()], row, "picture {index}, row {y}");
        }
    }
}

fn decode(path: &std::path::Path) -> ((u32, u32), Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    ((info.width, info.height), pixels)
}

#[test]
fn a_video_is_its_frames() {
    let dir = tempfile::tempdir().unwrap();
    let video = dir.path().join("video");
    std::fs::create_dir(&video).unwrap();
    for (index, name) in ["purple-square", "red-circle-above-blue-square", "purple-square"].iter().enumerate()
    {
        std::fs::copy(picture(&format!("{name}.png")), video.join(format!("{index}.png"))).unwrap();
    }
    let out = dir.path().join("dump");
    let assert = preprocess(&out)
        .args(["--prompt", "<image> and <video> differ how?", "--num-frames", "2", "--video"])
        .arg(&video)
        .arg("--image")
        .arg(picture("purple-square.png"))
        .assert()
        .success();
    let prompt = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    let tile = format!("<img>{}</img>", "<image>".repeat(16));
    assert!(
        prompt.contains(&format!("{tile} and Frame-1: {tile}\nFrame-2: {tile}\n differ how?")),
        "{prompt}"
    );
    let dump = Dump::open(&out).unwrap();
    assert_eq!(integers(&dump, "num_tiles"), [1, 1, 1]);
    let request = dump.manifest().request.as_ref().unwrap();
    assert_eq!(request.turns[0].user, "<image> and <video> differ how?");
}

#[test]
fn nothing_is_left_of_a_request_that_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dump");
    preprocess(&out).args(["--prompt", "<image>"]).assert().code(2).stdout("");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
