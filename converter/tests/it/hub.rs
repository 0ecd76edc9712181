//! Fetching from the hub, against a server on this machine that speaks its protocol.

use std::fs;
use std::io::{BufRead, BufReader};

use serde_json::json;
use store::hash::sha256;
use tempfile::TempDir;

use crate::hub_server::{
    CODE, COMMIT, Files, REPOSITORY, SHARD, Server, behaviour, cut, entries, nobody, snapshot, stderr,
    succeeded,
};

#[test]
fn a_repository_is_fetched_once_only_what_is_needed_and_converted() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let output = server.run(home.path(), &["convert", "nvidia/small@v1", "out"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        entries(&snapshot(home.path(), REPOSITORY)),
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "modeling.py",
            "preprocessor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    );
    assert_eq!(entries(&snapshot(home.path(), CODE)), ["hf_model.py"]);
    let ledger: serde_json::Value =
        serde_json::from_slice(&fs::read(home.path().join("out/conversion.json")).unwrap()).unwrap();
    assert_eq!(ledger["source"]["repository"], REPOSITORY);
    assert_eq!(ledger["source"]["revision"], COMMIT);
    assert_eq!(ledger["source"]["name"], "small");

    // Again: the hub is asked what the revision is, and for nothing else.
    server.requests();
    let output = server.run(home.path(), &["verify", "out", "--source", "nvidia/small@v1"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.path.starts_with("/api/models/")), "{requests:?}");
    // Without the hub: nothing is asked at all.
    let output = server.run(home.path(), &["inspect", "nvidia/small@v1"], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output =
        server.run(home.path(), &["inspect", &format!("nvidia/small@{COMMIT}")], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(server.requests(), []);
}

#[test]
fn a_download_goes_where_the_search_for_code_looks_whichever_variable_names_it() {
    let server = Server::with_code();
    for (variable, below) in [("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")] {
        let (home, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let named = [(variable, cache.path().to_str().unwrap())];
        let parent = TempDir::new().unwrap();
        let out = parent.path().join("out");
        succeeded(&server.run(home.path(), &["convert", REPOSITORY, out.to_str().unwrap()], &named));
        let snapshot = |name: &str| {
            cache.path().join(below).join(format!("models--{}/snapshots/{COMMIT}", name.replace('/', "--")))
        };
        assert!(snapshot(REPOSITORY).join("config.json").exists(), "{variable}");
        assert_eq!(entries(home.path()), Vec::<String>::new(), "{variable}");

        // The checkpoint as a folder: the code of the other repository is found where it was fetched to.
        server.requests();
        let folder = snapshot(REPOSITORY);
        let output = server.run(home.path(), &["inspect", folder.to_str().unwrap(), "--json"], &named);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(behaviour(&output)["evidence"]["repository"], CODE, "{variable}");
        assert_eq!(server.requests(), []);
    }
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let name = "model-00002-of-00002.safetensors";
    let bytes = server.file(name);
    let (mut left, content) = (3, bytes.clone());
    server.hook(move |request, stream| {
        use std::io::Write;
        let is_taken = left > 0 && request.path.starts_with("/blob/") && request.is_for(name);
        if is_taken {
            left -= 1;
            stream.write_all(&cut(request, &content, 1000)).unwrap();
        }
        is_taken
    });
    let output = server.run(home.path(), &["convert", REPOSITORY, "out"], &[]);
    succeeded(&output);
    let requests = server.requests();
    let asked = requests.iter().filter(|request| request.path.starts_with("/blob/") && request.is_for(name));
    let from: Vec<usize> = asked.map(|request| request.range.map_or(0, |(from, _)| from)).collect();
    assert_eq!(from, [0, 1000, 2000, 3000]);
    assert_eq!(fs::read(snapshot(home.path(), REPOSITORY).join(name)).unwrap(), bytes);
    // The next run goes on as well, and so does one behind a `huggingface_hub` that was ended.
    let link = snapshot(home.path(), REPOSITORY).join(name);
    let blob = fs::canonicalize(&link).unwrap();
    fs::remove_file(&link).unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(format!("{}.incomplete", blob.display()), &bytes[..2500]).unwrap();
    succeeded(&server.run(home.path(), &["convert", REPOSITORY, "out2"], &[]));
    assert!(server.requests().iter().any(|request| request.range == Some((2500, None))));
    assert_eq!(fs::read(link).unwrap(), bytes);
}

#[test]
fn downloads_of_one_repository_wait_for_each_other() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    // One that `huggingface_hub` has: it locks the same file.
    let name = SHARD;
    let locks = home.path().join("hub/.locks/models--nvidia--small");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", sha256(&server.file(name))))).unwrap();
    lock.lock().unwrap();
    let mut command = server.command(home.path(), &["convert", REPOSITORY, "out"], &[]);
    let mut first = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(first.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(told.any(|line| line.contains(&format!("another program is fetching `{name}`; waiting for it"))));
    drop(lock);
    let told: Vec<String> = told.collect();
    assert!(first.wait().unwrap().success(), "{told:?}");
    let content = |request: &&crate::hub_server::Request| request.path.starts_with("/blob/");
    assert_eq!(server.requests().iter().filter(content).count(), 2);

    let home = TempDir::new().unwrap();
    let runs = ["out1", "out2", "out3"].map(|out| {
        let mut run = server.command(home.path(), &["convert", REPOSITORY, out], &[]);
        run.stderr(std::process::Stdio::piped()).spawn().unwrap()
    });
    for run in runs {
        succeeded(&run.wait_with_output().unwrap());
    }
    assert_eq!(server.requests().iter().filter(content).count(), 2);
}

#[test]
fn a_file_that_is_not_what_was_announced_is_removed() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let name = SHARD;
    let output = server.run(home.path(), &["convert", REPOSITORY, "out"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // A part of another file, left by who knows whom.
    let link = snapshot(home.path(), REPOSITORY).join(name);
    let blob = fs::canonicalize(&link).unwrap();
    fs::remove_file(&link).unwrap();
    fs::remove_file(&blob).unwrap();
    let part = format!("{}.incomplete", blob.display());
    fs::write(&part, vec![b'x'; 100]).unwrap();
    let output = server.run(home.path(), &["convert", REPOSITORY, "out2"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.starts_with(&format!("error: `{REPOSITORY}`: `{name}`: expected SHA-256 ")), "{message}");
    assert!(
        message.ends_with("hint: run it again: the spoilt file was removed from the cache\n"),
        "{message}"
    );
    assert!(!fs::exists(&part).unwrap());
    // More than all of it is of no use.
    fs::write(&part, vec![b'x'; 1 << 20]).unwrap();
    let output = server.run(home.path(), &["convert", REPOSITORY, "out2"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_gated_repository_says_what_to_do_and_takes_a_token() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    server.state.lock().unwrap().gated = Some("hf_right".into());
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    assert_eq!(
        stderr(&output).replace(&endpoint, "HUB"),
        "error: `nvidia/small`: expected leave to read it, found status 401: it is gated, private, or not there\n\
         hint: accept its conditions at HUB/nvidia/small, then set `HF_TOKEN` or log in with `hf auth login`\n"
    );
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[("HF_TOKEN", "hf_wrong")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("status 403"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: the account of this token must accept its conditions at "));
    assert!(!stderr(&output).contains("hf_wrong"), "a token is nobody's business");
    fs::write(home.path().join("token"), "hf_right\n").unwrap();
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn what_is_not_there_not_cached_or_not_reachable_is_told() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    for (source, found, hint) in [
        (
            "nvidia/none",
            "expected it on the hub, found status 404: Repository not found",
            "hint: check the spelling",
        ),
        (
            "nvidia/small@none",
            "expected this revision of it, found status 404: Invalid rev id: none",
            "/nvidia/small/tree/main lists its branches and tags",
        ),
    ] {
        let output = server.run(home.path(), &["inspect", source], &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(found), "{}", stderr(&output));
        assert!(stderr(&output).contains(hint), "{}", stderr(&output));
    }
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("expected revision `main` in the cache `"), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("found none, and `HF_HUB_OFFLINE` is set\nhint: fetch it without"),
        "{}",
        stderr(&output)
    );

    // The same cache, with a file less.
    succeeded(&server.run(home.path(), &["convert", REPOSITORY, "out"], &[]));
    fs::remove_file(snapshot(home.path(), REPOSITORY).join("tokenizer.json")).unwrap();
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[("HF_HUB_OFFLINE", "1")]);
    assert!(
        stderr(&output).starts_with("error: `nvidia/small`: `tokenizer.json`: expected it in the cache"),
        "{}",
        stderr(&output)
    );

    let endpoint = nobody();
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[("HF_ENDPOINT", &endpoint)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains(&format!("expected an answer of {endpoint}, found ")),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("hint: check the network and `HF_ENDPOINT`"));
}

#[test]
fn missing_code_of_another_repository_is_a_warning() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    server.state.lock().unwrap().repositories.remove(CODE);
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("warning: the Python code of `nvidia/code` could not be fetched: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_repository_without_safetensors_is_refused() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    server.change(REPOSITORY, |files| files.retain(|name, _| !name.contains("safetensors")));
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output)
            .contains("expected a file `model.safetensors` or `model.safetensors.index.json`, found neither")
    );
}

#[test]
fn what_the_code_of_another_repository_does_is_read_where_it_was_fetched() {
    let (server, home) = (Server::with_code(), TempDir::new().unwrap());
    let output = server.run(home.path(), &["inspect", REPOSITORY, "--json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let row = behaviour(&output);
    assert_eq!(row["value"], false);
    let evidence = &row["evidence"];
    assert_eq!((&evidence["how"], &evidence["line"]), (&json!("parsed"), &json!(3)));
    assert_eq!((&evidence["repository"], &evidence["revision"]), (&json!(CODE), &json!(COMMIT)));
}

#[test]
fn another_model_is_refused_before_its_weights_are_fetched() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    server.change(REPOSITORY, |files| {
        files.insert("config.json".into(), b"{\"model_type\": \"llama\"}".to_vec());
    });
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("found `\"llama\"`: only this model is supported"),
        "{}",
        stderr(&output)
    );
    assert_eq!(entries(&snapshot(home.path(), REPOSITORY)), ["config.json"]);
}

#[test]
fn a_quantized_sister_is_refused_before_its_weights_are_fetched() {
    const SCALE: &str = "language_model.model.layers.0.mlp.down_proj.input_scale";
    let by_index = |files: &mut Files| {
        let mut index: serde_json::Value =
            serde_json::from_slice(&files["model.safetensors.index.json"]).unwrap();
        index["weight_map"][SCALE] = json!(SHARD);
        files.insert("model.safetensors.index.json".into(), index.to_string().into_bytes());
    };
    let by_configuration = |files: &mut Files| {
        let file = json!({ "quantization": { "quant_algo": "NVFP4" } });
        files.insert("hf_quant_config.json".into(), file.to_string().into_bytes());
    };
    for (change, scheme, tensor) in [
        (&by_index as &dyn Fn(&mut Files), "FP8", format!("`{SCALE}`")),
        (&by_configuration, "NVFP4", "none of them".into()),
    ] {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        server.change(REPOSITORY, |files| change(files));
        let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
        assert_eq!(output.status.code(), Some(2));
        let expected = format!("quantized with `{scheme}`, whose first quantized tensor is {tensor}");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
        let fetched = entries(&snapshot(home.path(), REPOSITORY));
        assert!(!fetched.iter().any(|name| name.ends_with(".safetensors")), "{fetched:?}");
    }
}
