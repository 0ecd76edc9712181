//! Fetching from the hub, against a server on this machine that speaks its protocol.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use converter::digest::sha256;
use serde_json::json;
use tempfile::TempDir;

use crate::hand_made_source::Source;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPOSITORY: &str = "nvidia/small";
const CODE: &str = "nvidia/code";

/// What the server has, and how it misbehaves.
#[derive(Default)]
struct State {
    /// Files of each repository.
    repositories: HashMap<String, HashMap<String, Vec<u8>>>,
    /// The token that it takes to read anything.
    gated: Option<String>,
    /// Files of which the connection breaks after so many bytes, once for each entry.
    breaks: HashMap<String, Vec<usize>>,
    /// Every request, with the byte that it begins at.
    requests: Vec<String>,
}

#[derive(Clone)]
struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), state: Arc::new(Mutex::new(state)) };
        let answering = server.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = answering.clone();
                std::thread::spawn(move || server.answer(stream));
            }
        });
        server
    }

    /// One with the small checkpoint in two shards, with Python of its own and of another repository.
    fn with_checkpoint() -> Self {
        let mut source = Source::sound()
            .with("/vision_config/auto_map", json!({ "AutoModel": format!("{CODE}--hf_model.RADIOModel") }));
        source.shards = 2;
        let dir = source.write();
        let mut files: HashMap<String, Vec<u8>> = HashMap::new();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            files.insert(path.file_name().unwrap().to_str().unwrap().into(), fs::read(&path).unwrap());
        }
        for name in ["modeling.py", "README.md", "pytorch_model.bin", "picture.png", "model.gguf"] {
            files.insert(name.into(), b"x = 1\n".to_vec());
        }
        let code = HashMap::from([
            ("hf_model.py".to_string(), b"y = 2\n".to_vec()),
            ("model.safetensors".to_string(), b"no".to_vec()),
        ]);
        Self::start(State {
            repositories: HashMap::from([(REPOSITORY.into(), files), (CODE.into(), code)]),
            ..State::default()
        })
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut request = String::new();
        if reader.read_line(&mut request).is_err() || request.is_empty() {
            return;
        }
        let (mut from, mut token) = (0, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap();
            match name.to_lowercase().as_str() {
                "range" => from = value["bytes=".len()..].split('-').next().unwrap().parse().unwrap(),
                "authorization" => token = Some(value["Bearer ".len()..].to_string()),
                _ => {}
            }
        }
        let path = request.split(' ').nth(1).unwrap().to_string();
        let answer = self.respond(&path, from, token);
        let _ = reader.into_inner().write_all(&answer);
    }

    fn respond(&self, path: &str, from: usize, token: Option<String>) -> Vec<u8> {
        let mut state = self.state.lock().unwrap();
        state.requests.push(format!("{path} from {from}"));
        let reply = |status: &str, headers: &str, length: usize, body: &[u8]| {
            let mut bytes = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
            )
            .into_bytes();
            bytes.extend(body);
            bytes
        };
        let fail = |status: &str| reply(status, "", 0, b"");
        if let Some(rest) = path.strip_prefix("/blob/") {
            // What the hub keeps elsewhere, where nobody asks for a token.
            let (repository, name) = rest.rsplit_once('/').unwrap();
            let bytes = state.repositories[repository][name].clone();
            if from >= bytes.len() {
                return fail("416 Range Not Satisfiable");
            }
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            let body = &bytes[from..];
            // Never the question for the size, which is answered before.
            let cut =
                state.breaks.get_mut(name).filter(|breaks| breaks.len() > 1).and_then(|breaks| breaks.pop());
            let sent = cut.map_or(body, |cut| &body[..cut.min(body.len())]);
            return reply("206 Partial Content", &range, body.len(), sent);
        }
        if state.gated.is_some() && state.gated != token {
            return fail(if token.is_some() { "403 Forbidden" } else { "401 Unauthorized" });
        }
        if let Some(rest) = path.strip_prefix("/api/models/") {
            let (repository, revision) = rest.split_once("/revision/").unwrap();
            let known = ["main", "v1", COMMIT].contains(&revision);
            let Some(files) = state.repositories.get(repository).filter(|_| known) else {
                return fail("404 Not Found");
            };
            let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
            let body = json!({ "sha": COMMIT, "siblings": siblings }).to_string();
            return reply("200 OK", "Content-Type: application/json\r\n", body.len(), body.as_bytes());
        }
        let (repository, rest) = path[1..].split_once("/resolve/").unwrap();
        let (revision, name) = rest.split_once('/').unwrap();
        assert_eq!(revision, COMMIT, "every file is asked for at one commit");
        let Some(bytes) = state.repositories.get(repository).and_then(|files| files.get(name)) else {
            return fail("404 Not Found");
        };
        let etag = sha256(bytes);
        if name.ends_with(".safetensors") {
            let headers = format!(
                "X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{etag}\"\r\nLocation: http://127.0.0.1:{}/blob/{repository}/{name}\r\n",
                self.port
            );
            return reply("302 Found", &headers, 0, b"");
        }
        let headers = format!(
            "X-Repo-Commit: {COMMIT}\r\nETag: \"{}\"\r\nContent-Range: bytes {from}-{}/{}\r\n",
            &etag[..40],
            bytes.len() - 1,
            bytes.len()
        );
        let body = &bytes[from..];
        reply("206 Partial Content", &headers, body.len(), body)
    }

    /// With a behaviour in the code of the other repository.
    fn with_code() -> Self {
        let server = Self::with_checkpoint();
        let code = "class ViTPatchGenerator:\n    def _get_pos_embeddings(self, size):\n        \
                    return F.interpolate(self.table, size=size, mode='bilinear', align_corners=False)\n";
        let file = ("vit_patch_generator.py".to_string(), code.as_bytes().to_vec());
        server.state.lock().unwrap().repositories.get_mut(CODE).unwrap().extend([file]);
        server
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn run(&self, home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("nvl-convert"));
        for name in [
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_MODULES_CACHE",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            "XDG_CACHE_HOME",
            "http_proxy",
            "HTTP_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(home)
            .env("HF_HOME", home)
            .env("HF_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn snapshot(home: &Path, repository: &str) -> PathBuf {
    home.join(format!("hub/models--{}/snapshots/{COMMIT}", repository.replace('/', "--")))
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

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
    assert!(requests.iter().all(|request| request.starts_with("/api/models/")), "{requests:?}");
    // Without the hub: nothing is asked at all.
    let output = server.run(home.path(), &["inspect", "nvidia/small@v1"], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output =
        server.run(home.path(), &["inspect", &format!("nvidia/small@{COMMIT}")], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn a_download_goes_where_the_search_for_code_looks_whichever_variable_names_it() {
    let server = Server::with_code();
    for (variable, below) in [("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")] {
        let (home, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let named = [(variable, cache.path().to_str().unwrap())];
        let output = server.run(home.path(), &["inspect", REPOSITORY], &named);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
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
        assert_eq!(server.requests(), Vec::<String>::new());
    }
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let name = "model-00002-of-00002.safetensors";
    // Three attempts end in the middle; the sizes are asked for in between, and break at more than they send.
    let breaks = vec![0, 1000, 1000, 1000, usize::MAX, usize::MAX];
    server.state.lock().unwrap().breaks.insert(name.into(), breaks);
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    let requests = server.requests();
    if output.status.code() != Some(0) {
        assert!(stderr(&output).contains("run it again: it goes on where it stopped"), "{}", stderr(&output));
        let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let all: Vec<String> = requests
        .into_iter()
        .chain(server.requests())
        .filter(|r| r.contains(&format!("/blob/{REPOSITORY}/{name}")))
        .collect();
    assert!(all.iter().any(|request| request.ends_with(" from 1000")), "{all:?}");
    let fetched = fs::read(snapshot(home.path(), REPOSITORY).join(name)).unwrap();
    assert_eq!(fetched, server.state.lock().unwrap().repositories[REPOSITORY][name]);
}

#[test]
fn a_file_that_is_not_what_was_announced_is_removed() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let name = "model-00001-of-00002.safetensors";
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // A part of another file, left by who knows whom.
    let link = snapshot(home.path(), REPOSITORY).join(name);
    let blob = fs::canonicalize(&link).unwrap();
    fs::remove_file(&link).unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(blob.with_extension("part"), vec![b'x'; 100]).unwrap();
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.starts_with(&format!("error: `{REPOSITORY}`: `{name}`: expected SHA-256 ")), "{message}");
    assert!(
        message.ends_with("hint: run it again: the spoilt file was removed from the cache\n"),
        "{message}"
    );
    // All of it but its name is fetched again, too.
    fs::write(blob.with_extension("part"), vec![b'x'; 1 << 20]).unwrap();
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
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
    for source in ["nvidia/none", "nvidia/small@none"] {
        let output = server.run(home.path(), &["inspect", source], &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("found status 404: no such repository, revision or file"),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains("hint: check the spelling"));
    }
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("expected revision `main` in the cache `"), "{}", stderr(&output));
    assert!(stderr(&output).contains("found none, and `HF_HUB_OFFLINE` is set\nhint: fetch it without"));

    // The same cache, with a file less.
    server.run(home.path(), &["inspect", REPOSITORY], &[]);
    fs::remove_file(snapshot(home.path(), REPOSITORY).join("tokenizer.json")).unwrap();
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[("HF_HUB_OFFLINE", "1")]);
    assert!(
        stderr(&output).starts_with("error: `nvidia/small`: `tokenizer.json`: expected it in the cache"),
        "{}",
        stderr(&output)
    );

    // A port that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
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
    {
        let mut state = server.state.lock().unwrap();
        let files = state.repositories.get_mut(REPOSITORY).unwrap();
        files.retain(|name, _| !name.contains("safetensors"));
    }
    let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output)
            .contains("expected a file `model.safetensors` or `model.safetensors.index.json`, found neither")
    );
}

/// The row that the code of the other repository settles.
fn behaviour(output: &Output) -> serde_json::Value {
    let inspection: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let behaviours = inspection["behaviours"].as_array().unwrap();
    behaviours.iter().find(|row| row["name"] == "position_interpolation_align_corners").unwrap().clone()
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
    {
        let mut state = server.state.lock().unwrap();
        let files = state.repositories.get_mut(REPOSITORY).unwrap();
        files.insert("config.json".into(), b"{\"model_type\": \"llama\"}".to_vec());
    }
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
    let by_index = |files: &mut HashMap<String, Vec<u8>>| {
        let mut index: serde_json::Value =
            serde_json::from_slice(&files["model.safetensors.index.json"]).unwrap();
        index["weight_map"][SCALE] = json!("model-00001-of-00002.safetensors");
        files.insert("model.safetensors.index.json".into(), index.to_string().into_bytes());
    };
    let by_configuration = |files: &mut HashMap<String, Vec<u8>>| {
        let file = json!({ "quantization": { "quant_algo": "NVFP4" } });
        files.insert("hf_quant_config.json".into(), file.to_string().into_bytes());
    };
    for (change, scheme, tensor) in [
        (&by_index as &dyn Fn(&mut _), "FP8", format!("`{SCALE}`")),
        (&by_configuration, "NVFP4", "none of them".into()),
    ] {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        change(server.state.lock().unwrap().repositories.get_mut(REPOSITORY).unwrap());
        let output = server.run(home.path(), &["inspect", REPOSITORY], &[]);
        assert_eq!(output.status.code(), Some(2));
        let expected = format!("quantized with `{scheme}`, whose first quantized tensor is {tensor}");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
        let fetched = entries(&snapshot(home.path(), REPOSITORY));
        assert!(!fetched.iter().any(|name| name.ends_with(".safetensors")), "{fetched:?}");
    }
}
