//! Reports and maps as files.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;
use validate::report::FORMATS;

use super::{NAME, diff, faulty, run};
use crate::dumps::Candidate;

#[test]
fn json_on_stdout() {
    let run = diff(&faulty(), &["--format", "json"]);
    assert_eq!(run.status, 1);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["first_divergence"]["name"], "vision_model.radio_model.model.blocks.2.norm1");
    assert_eq!(report["first_divergence"]["last_agreement"], "vision_model.radio_model.model.blocks.1");
    assert_eq!(report["answer"]["generated_ids"]["difference"]["position"], 3);
}

#[test]
fn report_files() {
    let candidate = Candidate::copied(NAME);
    let out = candidate.folder.path().join("some/reports");
    let written = |options: &[&str]| {
        let run = diff(&candidate, &[&["--out", out.to_str().unwrap()], options].concat());
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(run.stdout.contains("verdict: pass"), "the table is on stdout too");
        let mut names: Vec<_> = fs::read_dir(&out)
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(written(&["--format", "json"]), ["report.json"]);
    let mut all: Vec<String> = FORMATS.iter().map(|format| format!("report.{}", format.extension)).collect();
    all.sort();
    assert_eq!(written(&[]), all);
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"], "pass");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(out.join("plain"), "").unwrap();
        let mode = |name: &str| fs::metadata(out.join(name)).unwrap().permissions().mode();
        assert_eq!(mode("report.json"), mode("plain"));
    }
}

#[test]
fn a_report_replaces_an_earlier_one_and_nothing_else() {
    let candidate = Candidate::copied(NAME);
    let out = candidate.folder.path().join("reports");
    let reported = |status| {
        let run = diff(&candidate, &["--out", out.to_str().unwrap()]);
        assert_eq!(run.status, status, "{}", run.stderr);
        run.stderr
    };
    reported(0);
    let first = fs::read(out.join("report.html")).unwrap();
    reported(0);
    assert_eq!(fs::read(out.join("report.html")).unwrap(), first);
    for extension in FORMATS.iter().map(|format| format.extension) {
        let path = out.join(format!("report.{extension}"));
        let report = fs::read(&path).unwrap();
        for foreign in ["", "somebody's", "{\n  \"format\": 1}", "<testsuites name=\"pytest\">"] {
            fs::write(&path, foreign).unwrap();
            let message = reported(2);
            let expected = format!(
                "`{}`: expected nothing or an earlier report in its place, found another file\nhint: move it away",
                path.display()
            );
            assert!(message.contains(&expected), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        reported(2);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, report).unwrap();
    }
    reported(0);
}

#[test]
fn a_map_that_was_worked_on_is_not_replaced() {
    let candidate = Candidate::copied(NAME);
    let map = candidate.folder.path().join("mine.toml");
    let path = candidate.path();
    let propose = || run(&["names", NAME, path.to_str().unwrap(), "--out", map.to_str().unwrap()]);
    assert_eq!(propose().status, 0);
    // The same again loses nothing.
    assert_eq!(propose().status, 0);
    let edited = fs::read_to_string(&map).unwrap() + "# by hand\n";
    fs::write(&map, &edited).unwrap();
    let again = propose();
    assert_eq!(again.status, 2);
    assert!(
        again.stderr.contains("mine.toml`: expected nothing or the same text in its place"),
        "{}",
        again.stderr
    );
    assert_eq!(fs::read_to_string(&map).unwrap(), edited);
}

#[test]
fn several_formats_need_a_folder() {
    let run = diff(&Candidate::copied(NAME), &["--format", "json", "--format", "table"]);
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    assert_snapshot!(run.stderr, @r#"
    error: expected one `--format` where there is no `--out`, found 2
    hint: `--out DIR` writes one file for each format
    "#);
}
