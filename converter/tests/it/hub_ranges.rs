//! An inspection of a repository on the hub: configuration and headers, and no weights; and which code is read with it.

use std::collections::HashMap;
use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conversion::shapes;
use crate::hand_made_source::Source;
use crate::hub_server::{
    CODE, COMMIT, OTHER_COMMIT, PATCH_GENERATOR, REPOSITORY, SHARD, Server, State, behaviour, entries,
    files_of, refused, reply, snapshot, succeeded,
};

const SHAPES: &str = "nvidia/shapes";

fn with_shapes() -> Server {
    let repositories = HashMap::from([(SHAPES.into(), files_of(&shapes()))]);
    Server::start(State { repositories, ..State::default() })
}

fn inspected(output: &[u8]) -> Value {
    let mut inspection: Value = serde_json::from_slice(output).unwrap();
    for field in ["name", "repository", "revision"] {
        inspection.as_object_mut().unwrap().remove(field).unwrap();
    }
    inspection
}

#[test]
fn an_inspection_on_the_hub_is_that_of_the_folder_without_its_weights() {
    let (server, home) = (with_shapes(), TempDir::new().unwrap());
    let remote = server.run(home.path(), &["inspect", SHAPES, "--json"], &[]);
    succeeded(&remote);
    let folder = shapes();
    let local = server.run(home.path(), &["inspect", folder.to_str().unwrap(), "--json"], &[]);
    succeeded(&local);
    assert_eq!(inspected(&remote.stdout), inspected(&local.stdout));
    let whole: Value = serde_json::from_slice(&remote.stdout).unwrap();
    assert_eq!((&whole["repository"], &whole["revision"]), (&json!(SHAPES), &json!(COMMIT)));
    // Every tensor is accounted for, and every number of them stayed where it was.
    let fetched = entries(&snapshot(home.path(), SHAPES));
    assert!(fetched.iter().all(|name| !name.ends_with(".safetensors")), "{fetched:?}");
    let weights: usize = files_of(&folder)
        .iter()
        .filter(|(name, _)| name.ends_with(".safetensors"))
        .map(|(_, bytes)| bytes.len())
        .sum();
    let sent = server.state.lock().unwrap().sent;
    assert!(sent < weights / 5, "{sent} of {weights}");
    let ranges: Vec<_> =
        server.requests().into_iter().filter(|request| request.path.starts_with("/blob/")).collect();
    assert!(ranges.iter().all(|request| request.range.is_some_and(|(_, to)| to.is_some())), "{ranges:?}");

    // The plan of a conversion needs no more.
    let plan = server.run(home.path(), &["convert", SHAPES, "out", "--dry-run"], &[]);
    succeeded(&plan);
    assert_eq!(
        plan.stdout,
        server.run(home.path(), &["convert", folder.to_str().unwrap(), "out", "--dry-run"], &[]).stdout
    );
    let fetched = entries(&snapshot(home.path(), SHAPES));
    assert!(fetched.iter().all(|name| !name.ends_with(".safetensors")), "{fetched:?}");
    // What the cache has is read there.
    succeeded(&server.run(home.path(), &["convert", SHAPES, "out"], &[]));
    server.requests();
    let cached = server.run(home.path(), &["inspect", SHAPES, "--json"], &[]);
    assert_eq!(inspected(&cached.stdout), inspected(&local.stdout));
    assert!(server.requests().iter().all(|request| !request.path.starts_with("/blob/")));
}

#[test]
fn a_file_without_an_index_is_inspected_too() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let files = files_of(Source::sound().write().path());
    server.change(REPOSITORY, |there| *there = files);
    succeeded(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
    assert!(!snapshot(home.path(), REPOSITORY).join("model.safetensors").exists());
}

#[test]
fn a_header_that_lies_and_a_missing_shard_are_told_from_afar() {
    let name = SHARD;
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    server.change(REPOSITORY, |files| {
        let bytes = files.get_mut(name).unwrap();
        bytes.truncate(bytes.len() - 1);
    });
    let message = refused(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
    assert!(message.contains(name) && message.contains("the file is cut off"), "{message}");
    server.change(REPOSITORY, |files| drop(files.remove(name)));
    let message = refused(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
    assert!(message.contains(&format!("`{name}`: expected it on the hub, found status 404")), "{message}");
}

#[test]
fn tied_embeddings_that_were_not_read_are_told() {
    let mut source = Source::sound().with("/llm_config/tie_word_embeddings", json!(true));
    let embedding = source.tensor("language_model.model.embed_tokens.weight").data.clone();
    source.tensors.iter_mut().find(|tensor| tensor.name == "language_model.lm_head.weight").unwrap().data =
        embedding;
    let dir = source.write();
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let files = files_of(dir.path());
    server.change(REPOSITORY, |there| *there = files);
    let output = server.run(home.path(), &["inspect", REPOSITORY, "--json"], &[]);
    succeeded(&output);
    let inspection: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = inspection["warnings"].to_string();
    assert!(
        warnings.contains("only headers were read: whether `language_model.lm_head.weight` equals"),
        "{warnings}"
    );
    let output = server.run(home.path(), &["convert", REPOSITORY, "out"], &[]);
    assert!(!succeeded(&output).contains("only headers"));
}

#[test]
fn headers_come_through_troubles_and_from_servers_without_ranges() {
    let (server, home) = (with_shapes(), TempDir::new().unwrap());
    server.answer_first(
        2,
        |request| request.path.starts_with("/blob/"),
        reply("503 Service Unavailable", "", b""),
    );
    succeeded(&server.run(home.path(), &["inspect", SHAPES], &[]));
    // A signed address that is no longer valid.
    let (server, home) = (with_shapes(), TempDir::new().unwrap());
    server.answer_first(1, |request| request.path.starts_with("/blob/"), reply("403 Forbidden", "", b""));
    succeeded(&server.run(home.path(), &["inspect", SHAPES], &[]));
    let (server, home) = (with_shapes(), TempDir::new().unwrap());
    server.state.lock().unwrap().no_ranges = true;
    succeeded(&server.run(home.path(), &["inspect", SHAPES], &[]));
    // Other bytes than those that were asked for.
    let (server, home) = (with_shapes(), TempDir::new().unwrap());
    let wrong = reply("206 Partial Content", "Content-Range: bytes 7-8/9\r\n", b"ab");
    server.answer_first(9, |request| request.path.starts_with("/blob/"), wrong);
    let message = refused(&server.run(home.path(), &["inspect", SHAPES], &[]));
    assert!(
        message.contains("expected bytes 0 to 131072 of it, found status 206 and other bytes"),
        "{message}"
    );
}

#[test]
fn the_revision_of_the_other_repositorys_code_can_be_named() {
    let (server, home) = (Server::with_code(), TempDir::new().unwrap());
    {
        // The same repository at another commit, where its code does something else.
        let mut state = server.state.lock().unwrap();
        state.revisions.insert(OTHER_COMMIT.into(), OTHER_COMMIT.into());
        state.revisions.insert("v2".into(), OTHER_COMMIT.into());
    }
    server.hook(|request, stream| {
        let is_taken = request.path == format!("/{CODE}/resolve/{OTHER_COMMIT}/vit_patch_generator.py");
        if is_taken {
            use std::io::Write;
            let code = PATCH_GENERATOR.replace("False", "True");
            let headers = format!("X-Repo-Commit: {OTHER_COMMIT}\r\nETag: \"another\"\r\n");
            stream.write_all(&reply("200 OK", &headers, code.as_bytes())).unwrap();
        }
        is_taken
    });
    let run = |arguments: &[&str]| server.run(home.path(), arguments, &[]);
    for (revision, value, commit) in [
        (None, false, COMMIT),
        (Some(OTHER_COMMIT), true, OTHER_COMMIT),
        (Some("v2"), true, OTHER_COMMIT),
        (Some("main"), false, COMMIT),
    ] {
        let mut arguments = vec!["inspect", REPOSITORY, "--json"];
        arguments.extend(revision.iter().flat_map(|revision| ["--code-revision", revision]));
        let output = run(&arguments);
        succeeded(&output);
        let row = behaviour(&output);
        let evidence = &row["evidence"];
        assert_eq!((&row["value"], &evidence["revision"]), (&json!(value), &json!(commit)), "{revision:?}");
        assert_eq!(evidence["repository"], CODE);
    }
    // The ledger says which was read, and with everything in the cache nobody is asked.
    server.requests();
    let source = format!("{REPOSITORY}@{COMMIT}");
    succeeded(&run(&["convert", &source, "out1"]));
    server.requests();
    succeeded(&run(&["convert", &source, "out", "--code-revision", OTHER_COMMIT]));
    assert_eq!(server.requests(), []);
    let ledger: Value =
        serde_json::from_slice(&fs::read(home.path().join("out/conversion.json")).unwrap()).unwrap();
    let code = &ledger["source"]["code"];
    assert_eq!(code[0]["repository"], CODE);
    assert_eq!(code[0]["revision"], OTHER_COMMIT);
    assert_eq!(code[0]["file"], "vit_patch_generator.py");
    // A folder is given the same code, from the cache.
    let folder = snapshot(home.path(), REPOSITORY);
    let output = run(&["inspect", folder.to_str().unwrap(), "--json", "--code-revision", "v2"]);
    succeeded(&output);
    assert_eq!(behaviour(&output)["value"], json!(true));
    let output = run(&["inspect", folder.to_str().unwrap(), "--json", "--code-revision", "v3"]);
    let inspection: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        inspection["warnings"].to_string().contains("the caches have no revision `v3` of it"),
        "{inspection}"
    );
    // One that is not there is no warning, where the user named it.
    let message = refused(&run(&["inspect", REPOSITORY, "--code-revision", "v3"]));
    assert!(message.contains("`nvidia/code`: expected this revision of it, found status 404"), "{message}");
}
