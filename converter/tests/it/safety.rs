//! Whatever happens to a run, the final name holds nothing or something complete.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use converter::write::Unwatched;
use converter::{Error, verify};
use serde_json::Value;
use tempfile::TempDir;

use crate::conversion::shapes;

fn converter() -> PathBuf {
    assert_cmd::cargo::cargo_bin("nvl-convert")
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn command(out: &Path, dtype: &str, force: bool) -> Command {
    let mut command = Command::new(converter());
    command.arg("convert").arg(shapes()).arg(out).args(["--dtype", dtype]);
    command.args(force.then_some("--force")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// How long an undisturbed run takes, at the longest of a few.
fn duration_of_a_run(out: &Path, force: bool) -> Duration {
    let longest = (0..3).map(|_| {
        let begun = Instant::now();
        assert!(command(out, "keep", force).status().unwrap().success());
        if !force {
            fs::remove_dir_all(out).unwrap();
        }
        begun.elapsed()
    });
    longest.max().unwrap()
}

/// The dtype that the complete and verified output at `out` was asked for with.
fn verified(out: &Path) -> String {
    let (ledger, verification) = verify(out, &Unwatched).unwrap();
    assert_eq!(verification.differences, []);
    ledger.options.dtype
}

/// Pseudo-random numbers below 1.
fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Debug, Default)]
struct Seen {
    nothing: usize,
    complete: usize,
    left_over: usize,
}

/// Starts a run and kills it `delay` later; what it left must be nothing, or the output of a run.
fn kill_after(parent: &Path, dtype: &str, force: bool, delay: Duration, seen: &mut Seen) -> Option<String> {
    let out = parent.join("out");
    let mut child = command(&out, dtype, force).spawn().unwrap();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let names = entries(parent);
    assert!(names.iter().all(|name| name == "out" || name == ".out.partial"), "{names:?}");
    seen.left_over += usize::from(names.iter().any(|name| name == ".out.partial"));
    if names.iter().any(|name| name == "out") {
        seen.complete += 1;
        Some(verified(&out))
    } else {
        seen.nothing += 1;
        None
    }
}

/// Kills runs at moments spread over the whole of one, at least 120 times and until `seen_enough`. A run takes longer while
/// other tests run, so each round of 40 goes on for longer than the one before.
fn sweep(duration: Duration, seed: u64, mut kill: impl FnMut(Duration) -> bool) {
    const ROUND: u32 = 40;
    let mut random = random(seed);
    let mut reach = 1.2;
    for round in 0..30 {
        let mut seen_enough = false;
        for i in 0..ROUND {
            seen_enough = kill(duration.mul_f64((f64::from(i) + random()) / f64::from(ROUND) * reach));
        }
        if round >= 2 && seen_enough {
            return;
        }
        reach *= 1.2;
    }
    panic!("1200 kills, and they have not been through the whole run");
}

#[test]
fn a_run_killed_at_any_moment_leaves_nothing_or_everything() {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let duration = duration_of_a_run(&out, false);
    let mut seen = Seen::default();
    sweep(duration, 1, |delay| {
        if kill_after(parent.path(), "keep", false, delay, &mut seen).is_some() {
            fs::remove_dir_all(&out).unwrap();
        }
        // Each run has begun on what the last one left.
        seen.nothing >= 20 && seen.complete >= 5 && seen.left_over >= 20
    });
    assert!(command(&out, "keep", false).status().unwrap().success());
    assert_eq!(verified(&out), "keep");
    assert_eq!(entries(parent.path()), ["out"]);
}

#[test]
fn a_replacing_run_killed_at_any_moment_leaves_the_old_or_the_new() {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let duration = duration_of_a_run(&out, true);
    let mut seen = Seen::default();
    let (mut before, mut replaced, mut kept) = (verified(&out), 0, 0);
    sweep(duration, 2, |delay| {
        let dtype = if before == "keep" { "float16" } else { "keep" };
        let after = kill_after(parent.path(), dtype, true, delay, &mut seen).unwrap();
        assert!(after == dtype || after == before);
        if after == dtype {
            replaced += 1;
        } else {
            kept += 1;
        }
        before = after;
        replaced >= 5 && kept >= 20 && seen.left_over >= 20
    });
    assert!(command(&out, "float32", true).status().unwrap().success());
    assert_eq!(verified(&out), "float32");
    assert_eq!(entries(parent.path()), ["out"]);
}

#[test]
fn converters_of_one_output_do_not_mix() {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let dtypes = ["keep", "float32", "float16", "bfloat16"];
    let children: Vec<_> = (0..12)
        .map(|i| command(&out, dtypes[i % 4], i % 2 == 0).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut finished = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => finished += 1,
            Some(2) => assert!(
                message.contains("out`: expected no other conversion to this output, found one at work")
                    || message.contains("expected nothing at the output's path"),
                "{message}"
            ),
            other => panic!("{other:?}: {message}"),
        }
    }
    assert!(finished >= 1);
    assert!(dtypes.contains(&verified(&out).as_str()));
    assert_eq!(entries(parent.path()), ["out"]);
}

/// Runs a shell script that runs the converter as `"$@"`.
fn under(script: &str, out: &Path) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(converter())
        .arg("convert")
        .arg(shapes())
        .arg(out)
        .env("DIR", out.parent().unwrap())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_full_disk_is_told_with_what_is_needed_and_leaves_nothing() {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let namespace = if is_root { "unshare -m" } else { "unshare -rm" };
    let mount = |size: &str| {
        format!(
            "{namespace} sh -c 'mount -t tmpfs -o size={size} tmpfs \"$DIR\" && \"$@\"; status=$?; ls -A \"$DIR\" >&2; exit $status' sh \"$@\""
        )
    };
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let (status, message) = under(&mount("64m"), &out);
    if status != Some(0) && std::env::var_os("NVL_TEST_NO_MOUNT").is_some_and(|value| value == "1") {
        return;
    }
    assert_eq!(
        status,
        Some(0),
        "this test mounts a small file system; where that is forbidden, NVL_TEST_NO_MOUNT=1 says so: {message}"
    );
    assert!(message.ends_with("\nout\n"), "{message}");

    // Too small for the weights, which is told before they are written.
    let (status, message) = under(&mount("1m"), &out);
    assert_eq!(status, Some(2), "{message}");
    assert!(message.starts_with(&format!("error: `{}`: expected 2.9", parent.path().display())), "{message}");
    assert!(message.contains(" MB of free space, found 1.0"), "{message}");
    assert!(
        message.ends_with(
            "\nhint: the output needs its whole size; `--force` frees the old one only afterwards\n"
        ),
        "{message}"
    );
    // Large enough for them, and too small for the rest.
    let weights = 4096 * (2_964_000 / 4096 + 3);
    let (status, message) = under(&mount(&weights.to_string()), &out);
    assert_eq!(status, Some(2), "{message}");
    assert!(message.contains("No space left on device"), "{message}");
    assert!(message.ends_with("\nhint: free some space, or give an output on another disk\n"), "{message}");
}

#[test]
fn a_limit_on_the_size_of_files_is_told_and_leaves_nothing() {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    // In blocks of 512 bytes; without the trap the system would end the process.
    let (status, message) = under("trap '' XFSZ; ulimit -f 2000; exec \"$@\"", &out);
    assert_eq!(status, Some(2), "{message}");
    assert!(message.contains("model.safetensors`: File too large"), "{message}");
    assert!(message.ends_with("hint: a smaller `--max-shard-size` may fit\n"), "{message}");
    assert_eq!(entries(parent.path()), Vec::<String>::new());
}

/// What a difference must name, for a bit of the file `name` at `place`.
fn names_of(dir: &Path, name: &str, place: usize) -> String {
    let file = format!("`{name}`");
    if !name.ends_with(".safetensors") {
        return file;
    }
    let bytes = fs::read(dir.join(name)).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let Some(offset) = place.checked_sub(8 + header) else { return name.to_string() };
    let entries: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let (tensor, _) = entries
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .find(|(_, entry)| {
            let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
            (at(0)..at(1)).contains(&offset)
        })
        .unwrap();
    format!("tensor `{tensor}`")
}

#[test]
fn one_flipped_bit_anywhere_is_found_and_named() {
    let source = {
        let mut source = crate::hand_made_source::Source::sound();
        source.files.push(("generation_config.json".into(), "{\"max_new_tokens\": 7}".into()));
        source.files.push(("special_tokens_map.json".into(), "{}".into()));
        source.write()
    };
    let options = converter::plan::PlanOptions {
        max_shard_size: "14KB".parse().unwrap(),
        ..converter::plan::PlanOptions::KEEP
    };
    let (_parent, out, _) = crate::conversion::convert(source.path(), Default::default(), options);
    let names = entries(&out);
    assert_eq!(names.len(), 13, "{names:?}");
    let mut random = random(3);
    let mut flips = 0;
    for name in &names {
        let path = out.join(name);
        let sound = fs::read(&path).unwrap();
        // Every bit of the shortest, a spread of the others.
        let places = if sound.len() < 8 { sound.len() * 8 } else { 64 };
        for i in 0..places {
            let bit = (i * sound.len() * 8 + (random() * (sound.len() * 8) as f64) as usize) / places;
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            let told = match verify(&out, &Unwatched) {
                Ok((_, verification)) => {
                    verification.differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
                }
                // A ledger that can't be read; it is then the file that the message begins with.
                Err(error @ (Error::Json { .. } | Error::Field { .. })) => {
                    assert_eq!(name, "conversion.json", "{error}");
                    error.to_string().replace(&path.display().to_string(), name)
                }
                Err(error) => panic!("{name}, bit {bit}: {error}"),
            };
            fs::write(&path, &sound).unwrap();
            let expected = names_of(&out, name, bit / 8);
            assert!(told.contains(&expected), "{name}, bit {bit}: expected {expected}, found {told:?}");
            flips += 1;
        }
    }
    assert!(flips >= 500, "{flips}");
    assert!(verify(&out, &Unwatched).unwrap().1.is_clean());
}
