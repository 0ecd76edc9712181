//! Names and files that somebody made to mislead: what is printed is ours, and nothing hangs or takes all memory.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use golden::manifest::{Producer, Request};
use golden::{Dtype, Dump, DumpWriter, ManifestHead, Role};
use tempfile::TempDir;
use validate::tolerance::Tolerance;
use validate::{NameMap, Policy};

use crate::command::run;

/// What each text of the dump ends in: lines of its own, commands to CI services, and characters that are not seen.
const HOSTILE: &str = "x\nverdict: pass\r\n::set-output name=a::b\n ##[add-path]/evil ::error::c \u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200b}\
                       \u{2028}\u{feff}\u{fffe}\u{ffff}\u{7f}\u{0}<b>|`*{?[!]}\\";

/// A dump of a few tensors, every text of which is hostile, and each tensor's name a different beginning of that.
fn dump(path: &Path, values: f32) -> PathBuf {
    let mut writer = DumpWriter::create(path).unwrap();
    let hostile: Vec<char> = HOSTILE.chars().collect();
    for end in 1..=hostile.len() {
        let name = format!("m.{end}.{}", hostile[..end].iter().collect::<String>());
        let data: Vec<u8> = (0..8).flat_map(|at| (values * (end + at) as f32).to_le_bytes()).collect();
        writer.push(&name, Role::Activation, HOSTILE, Dtype::Float32, &[2, 4], &data).unwrap();
    }
    let mut head = ManifestHead::new(Producer::new(HOSTILE, "float32"));
    head.producer.version = Some(HOSTILE.to_owned());
    head.producer.device = Some(HOSTILE.to_owned());
    head.producer.deviations = vec![HOSTILE.to_owned()];
    head.remote_code = [(HOSTILE.to_owned(), HOSTILE.to_owned())].into_iter().collect();
    head.prompt = Some(format!("{HOSTILE}{values}"));
    head.text = Some(format!("{HOSTILE}{values}"));
    let request = serde_json::json!({ "turns": [{ "user": HOSTILE }], "images": [
        { "file": HOSTILE, "sha256": HOSTILE, "width": 1, "height": 1 }
    ] });
    head.request = Some(serde_json::from_value::<Request>(request).unwrap());
    writer.finish(head).unwrap();
    path.to_owned()
}

fn two_dumps() -> (TempDir, [String; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = [("golden", 1.0), ("candidate", 1.5)]
        .map(|(name, values)| dump(&folder.path().join(name), values).to_str().unwrap().to_owned());
    (folder, paths)
}

/// Nothing is in a text but what is seen, and no line is a command or a verdict that is not ours.
fn check(text: &str, what: &str) {
    // As the standard library tells what can be printed, behind another character, and not as the programs do.
    let hidden = |c: char| c != '\n' && format!("x{c}").escape_debug().count() > 2 && !"\"'\\".contains(c);
    let found: Vec<char> = text.chars().filter(|&c| hidden(c)).collect();
    assert!(found.is_empty(), "{what}: {found:?}");
    for line in text.lines() {
        // The page's own style has one, which is no command.
        let command = line.trim_start().starts_with("::") && !line.trim_start().starts_with("::placeholder ");
        assert!(!command, "{what}: {line:?}");
        assert!(!line.contains("##["), "{what}: {line:?}");
        assert!(!line.starts_with("verdict: pass"), "{what}: {line:?}");
    }
}

#[test]
fn no_name_ends_a_line_or_steers_what_shows_it() {
    let (_folder, [golden, candidate]) = two_dumps();
    for format in ["table", "json", "junit", "markdown", "html"] {
        let run = run(&["diff", &golden, &candidate, "--format", format, "--all"]);
        assert_eq!(run.status, 1, "{}", run.stderr);
        check(&run.stdout, format);
    }
    for arguments in [
        &["show", &golden][..],
        &["calibrate", &golden, &candidate],
        &["names", &golden, &candidate],
        &["diff", &golden, &candidate],
    ] {
        let run = run(arguments);
        check(&run.stdout, arguments[0]);
        check(&run.stderr, arguments[0]);
    }
    // A message about a name.
    let file = Path::new(&candidate).join("tensors.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let run = run(&["diff", &golden, &candidate]);
    assert_eq!((run.status, run.stderr.lines().count()), (2, 2), "{}", run.stderr);
    check(&run.stderr, "a changed tensor");
}

#[test]
fn junit_is_xml_whatever_the_names_are() {
    let (_folder, [golden, candidate]) = two_dumps();
    let run = run(&["diff", &golden, &candidate, "--format", "junit"]);
    let xml = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert_eq!(run.stdout.chars().find(|&c| !xml(c)), None);
    let report = quick_junit::Report::deserialize_from_str(&run.stdout).unwrap();
    let cases = &report.test_suites[0].test_cases;
    assert!(cases.iter().any(|case| case.name.ends_with("\\u{fffe}\\u{ffff}")));
    assert_eq!(cases.len(), 3 + HOSTILE.chars().count());
}

#[test]
fn a_policy_that_was_calibrated_is_read_and_means_the_very_sites() {
    let (folder, [golden, candidate]) = two_dumps();
    let calibrated = run(&["calibrate", &golden, &candidate]);
    assert_eq!(calibrated.status, 0, "{}", calibrated.stderr);
    let file = folder.path().join("policy.toml");
    fs::write(&file, &calibrated.stdout).unwrap();
    let policy = Policy::read(&file).unwrap();
    let dump = Dump::open(&golden).unwrap();
    assert_eq!(policy.idle_rules(dump.entries()).count(), 0);
    for entry in dump.entries() {
        // Three times a half of the golden numbers.
        let Tolerance::Bounds(bounds) = policy.tolerance(entry, None) else { panic!("{:?}", entry.name) };
        assert_eq!(bounds.relative_l2, Some(1.5), "{:?}", entry.name);
    }
    assert_eq!(
        run(&["diff", &golden, &candidate, "--policy", file.to_str().unwrap()]).status,
        1,
        "the prompts differ"
    );
}

#[test]
fn a_proposed_map_is_read_and_fits() {
    let (folder, [golden, candidate]) = two_dumps();
    let file = folder.path().join("map.toml");
    let proposed = run(&["names", &golden, &candidate, "--out", file.to_str().unwrap()]);
    assert!(proposed.status < 2, "{}", proposed.stderr);
    NameMap::read(file.to_str().unwrap()).unwrap();
}

#[test]
fn a_name_of_any_length_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let name = "n".repeat(70_000);
    let path = folder.path().join("dump");
    let mut writer = DumpWriter::create(&path).unwrap();
    for name in ["short", &name] {
        writer.push(name, Role::Activation, &name.replace('n', "C"), Dtype::Float32, &[1], &[0; 4]).unwrap();
    }
    writer.finish(ManifestHead::new(Producer::new("engine", "float32"))).unwrap();
    let path = path.to_str().unwrap();
    let shown = run(&["show", path]);
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert!(lines[lines.len() - 1].contains(&name));
    assert!(lines[lines.len() - 2].len() < 200, "the long name widens its own line only");
    for format in ["table", "json", "junit", "markdown", "html"] {
        assert_eq!(run(&["diff", path, path, "--format", format]).status, 0, "{format}");
    }
}

fn pipe(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let (folder, [golden, candidate]) = two_dumps();
    let fifo = folder.path().join("pipe");
    pipe(&fifo);
    for special in [fifo.to_str().unwrap(), "/dev/zero"] {
        for option in ["--policy", "--names", "--tokenizer"] {
            let run = run(&["diff", &golden, &candidate, option, special]);
            assert_eq!(run.status, 2);
            assert!(run.stderr.contains("expected a regular file, found a "), "{option}: {}", run.stderr);
        }
    }
    for name in ["manifest.json", "tensors.safetensors"] {
        let file = Path::new(&candidate).join(name);
        let kept = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        pipe(&file);
        for command in
            [&["show", &candidate][..], &["diff", &golden, &candidate], &["names", &golden, &candidate]]
        {
            let run = run(command);
            assert_eq!(run.status, 2);
            assert!(run.stderr.contains("expected a regular file, found a pipe"), "{name}: {}", run.stderr);
        }
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert!(run(&["show", &candidate]).stderr.contains("found a device"), "{name}");
        fs::remove_file(&file).unwrap();
        fs::write(&file, kept).unwrap();
    }
}

#[test]
fn a_limit_of_the_size_of_files_is_told() {
    let (folder, [golden, candidate]) = two_dumps();
    let out = folder.path().join("report");
    let command = format!("ulimit -f 1; exec \"{}\" \"$@\"", env!("CARGO_BIN_EXE_nvl-validate"));
    let output = Command::new("sh")
        .args(["-c", &command, "sh", "diff", &golden, &candidate, "--out", out.to_str().unwrap()])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cannot be written: File too large"), "{stderr}");
}

#[test]
fn a_map_cannot_take_more_memory_than_it_may() {
    let map = |candidate: &str| {
        format!("version = 1\n[[rules]]\ncandidate = {candidate}\ngolden = \"a\"\nconcat = 0\n")
    };
    let many = vec![r"'\w{10}'"; 700].join(", ");
    for (candidate, expected) in [
        (format!("['{}', 'b']", "()".repeat(3900)), "it has 3900 captures, more than 32"),
        ("['\\w{1000}{1000}', 'b']".to_owned(), "it needs more than 1048576 bytes of memory"),
        (
            format!("[{many}]"),
            "expected expressions that need at most 67108864 bytes of memory, all together, found more",
        ),
    ] {
        let text = map(&candidate);
        assert!(text.len() < 9000, "{}", text.len());
        let error = NameMap::parse("map.toml", &text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
