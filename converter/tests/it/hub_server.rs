//! A server on this machine that speaks the hub's protocol, and misbehaves where a test asks for it.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use store::hash::sha256;

use crate::hand_made_source::Source;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const OTHER_COMMIT: &str = "1123456789abcdef0123456789abcdef01234567";
pub const REPOSITORY: &str = "nvidia/small";
pub const CODE: &str = "nvidia/code";
/// The first of the small checkpoint's two files of weights.
pub const SHARD: &str = "model-00001-of-00002.safetensors";

/// Code of another repository with a behaviour in it.
pub const PATCH_GENERATOR: &str = "class ViTPatchGenerator:\n    def _get_pos_embeddings(self, size):\n        \
     return F.interpolate(self.table, size=size, mode='bilinear', align_corners=False)\n";

pub type Files = HashMap<String, Vec<u8>>;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// The first byte that it asks for, and the last.
    pub range: Option<(usize, Option<usize>)>,
    pub token: Option<String>,
    /// The port that it came to.
    pub port: u16,
}

impl Request {
    pub fn is_for(&self, name: &str) -> bool {
        self.path.ends_with(&format!("/{name}"))
    }

    fn from(&self) -> usize {
        self.range.map_or(0, |(from, _)| from)
    }
}

/// Answers a request in its own way, and says whether it has.
pub type Hook = Box<dyn FnMut(&Request, &mut TcpStream) -> bool + Send>;

/// What the server has, and how it misbehaves.
#[derive(Default)]
pub struct State {
    /// Files of each repository.
    pub repositories: HashMap<String, Files>,
    /// Revisions beside `main` and `v1`, and their commits.
    pub revisions: HashMap<String, String>,
    /// The token that it takes to read anything.
    pub gated: Option<String>,
    /// Asked first, one after the other.
    pub hooks: Vec<Arc<Mutex<Hook>>>,
    /// Every request.
    pub requests: Vec<Request>,
    /// Bytes of files of weights that were sent.
    pub sent: usize,
    pub no_ranges: bool,
    pub weak_etags: bool,
    pub no_sizes: bool,
    /// Where content lies; at the server itself, if nowhere else.
    pub content: Option<String>,
}

#[derive(Clone)]
pub struct Server {
    pub port: u16,
    pub state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start(state: State) -> Self {
        Self::sharing(Arc::new(Mutex::new(state)))
    }

    /// Another port with the same content: another host, as far as a token goes.
    pub fn twin(&self) -> Self {
        Self::sharing(Arc::clone(&self.state))
    }

    fn sharing(state: Arc<Mutex<State>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), state };
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
    pub fn with_checkpoint() -> Self {
        let mut source = Source::sound()
            .with("/vision_config/auto_map", json!({ "AutoModel": format!("{CODE}--hf_model.RADIOModel") }));
        source.shards = 2;
        let mut files = files_of(source.write().path());
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

    /// With a behaviour in the code of the other repository.
    pub fn with_code() -> Self {
        let server = Self::with_checkpoint();
        server.change(CODE, |files| {
            files.insert("vit_patch_generator.py".into(), PATCH_GENERATOR.into());
        });
        server
    }

    pub fn change(&self, repository: &str, change: impl FnOnce(&mut Files)) {
        change(self.state.lock().unwrap().repositories.get_mut(repository).unwrap());
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        self.state.lock().unwrap().repositories[REPOSITORY][name].clone()
    }

    /// Answers each request that `hook` takes by it.
    pub fn hook(&self, hook: impl FnMut(&Request, &mut TcpStream) -> bool + Send + 'static) {
        self.state.lock().unwrap().hooks.push(Arc::new(Mutex::new(Box::new(hook))));
    }

    /// Answers the first `times` requests that `wanted` takes with `answer`.
    pub fn answer_first(
        &self,
        mut times: usize,
        wanted: impl Fn(&Request) -> bool + Send + 'static,
        answer: impl Into<Vec<u8>>,
    ) {
        let answer = answer.into();
        self.hook(move |request, stream| {
            let is_taken = times > 0 && wanted(request);
            if is_taken {
                times -= 1;
                let _ = stream.write_all(&answer);
            }
            is_taken
        });
    }

    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let Some(request) = self.read(&mut reader) else { return };
        let mut stream = reader.into_inner();
        let hooks = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(request.clone());
            state.hooks.clone()
        };
        // Outside the lock: one may take its time.
        if hooks.iter().any(|hook| when_free(hook).is_some_and(|mut hook| hook(&request, &mut stream))) {
            return;
        }
        let answer = self.state.lock().unwrap().respond(&request);
        let _ = stream.write_all(&answer);
    }

    fn read(&self, reader: &mut BufReader<TcpStream>) -> Option<Request> {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
        let mut request = Request { method, path, range: None, token: None, port: self.port };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let line = line.trim();
            if line.is_empty() {
                return Some(request);
            }
            let (name, value) = line.split_once(": ")?;
            match name.to_lowercase().as_str() {
                "range" => {
                    let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
                    request.range = Some((from.parse().ok()?, to.parse().ok()));
                }
                "authorization" => request.token = Some(value.strip_prefix("Bearer ")?.to_string()),
                _ => {}
            }
        }
    }

    /// Runs the program with its cache in `home`.
    pub fn run(&self, home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(home, arguments, variables).output().unwrap()
    }

    pub fn command(&self, home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("nvl-convert"));
        clean(&mut command);
        command
            .args(arguments)
            .current_dir(home)
            .env("HF_HOME", home)
            .env("HF_ENDPOINT", self.url())
            .envs(variables.iter().copied());
        command
    }
}

/// Takes what a user's environment may have out of a command's.
pub fn clean(command: &mut Command) {
    for name in [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_MODULES_CACHE",
        "HF_HUB_OFFLINE",
        "HF_HUB_DOWNLOAD_TIMEOUT",
        "HF_HUB_ETAG_TIMEOUT",
        "TRANSFORMERS_OFFLINE",
        "XDG_CACHE_HOME",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
}

/// An answer of HTTP.
pub fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    announced(status, headers, body.len(), body)
}

/// An answer that says another size than it has.
pub fn announced(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n")
            .into_bytes();
    bytes.extend(body);
    bytes
}

impl State {
    fn respond(&mut self, request: &Request) -> Vec<u8> {
        let fail = |status: &str, headers: &str| reply(status, headers, b"");
        if let Some(rest) = request.path.strip_prefix("/blob/") {
            // What the hub keeps elsewhere, where nobody asks for a token.
            let (repository, name) = rest.rsplit_once('/').unwrap();
            let bytes = self.repositories[repository][name].clone();
            let answer = self.part(request, &bytes, "");
            self.sent += answer.len();
            return answer;
        }
        if self.gated.is_some() && self.gated != request.token {
            return fail(if request.token.is_some() { "403 Forbidden" } else { "401 Unauthorized" }, "");
        }
        if let Some(rest) = request.path.strip_prefix("/api/models/") {
            let (repository, revision) = rest.split_once("/revision/").unwrap();
            let known = ["main", "v1", COMMIT].contains(&revision).then(|| COMMIT.to_string());
            let commit = self.revisions.get(revision).cloned().or(known);
            let Some(files) = self.repositories.get(repository) else {
                return fail(
                    "404 Not Found",
                    "X-Error-Code: RepoNotFound\r\nX-Error-Message: Repository not found\r\n",
                );
            };
            let Some(commit) = commit else {
                let headers = format!(
                    "X-Error-Code: RevisionNotFound\r\nX-Error-Message: Invalid rev id: {revision}\r\n"
                );
                return fail("404 Not Found", &headers);
            };
            let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
            let body = json!({ "sha": commit, "siblings": siblings }).to_string();
            return reply("200 OK", "Content-Type: application/json\r\n", body.as_bytes());
        }
        let (repository, rest) = request.path[1..].split_once("/resolve/").unwrap();
        let (revision, name) = rest.split_once('/').unwrap();
        let is_commit = revision == COMMIT || self.revisions.values().any(|commit| commit == revision);
        assert!(is_commit, "every file is asked for at one commit");
        let Some(bytes) = self.repositories.get(repository).and_then(|files| files.get(name)).cloned() else {
            return fail(
                "404 Not Found",
                "X-Error-Code: EntryNotFound\r\nX-Error-Message: Entry not found\r\n",
            );
        };
        let (weak, commit) =
            (if self.weak_etags { "W/" } else { "" }, format!("X-Repo-Commit: {revision}\r\n"));
        if name.ends_with(".safetensors") {
            let etag =
                if self.weak_etags { format!("{:x}-{}", bytes.len(), name.len()) } else { sha256(&bytes) };
            let size =
                if self.no_sizes { String::new() } else { format!("X-Linked-Size: {}\r\n", bytes.len()) };
            let content =
                self.content.clone().unwrap_or_else(|| format!("http://127.0.0.1:{}", request.port));
            let headers = format!(
                "{commit}{size}X-Linked-Etag: {weak}\"{etag}\"\r\nLocation: {content}/blob/{repository}/{name}\r\n"
            );
            return fail("302 Found", &headers);
        }
        let headers = format!("{commit}ETag: {weak}\"{}\"\r\n", &sha256(&bytes)[..40]);
        self.part(request, &bytes, &headers)
    }

    /// The part of a file that was asked for.
    fn part(&self, request: &Request, bytes: &[u8], headers: &str) -> Vec<u8> {
        if request.method == "HEAD" {
            return announced("200 OK", headers, bytes.len(), b"");
        }
        let Some((from, to)) = request.range.filter(|_| !self.no_ranges) else {
            return reply("200 OK", headers, bytes);
        };
        if from >= bytes.len() {
            return reply("416 Range Not Satisfiable", "", b"");
        }
        let end = to.map_or(bytes.len(), |to| (to + 1).min(bytes.len()));
        let range = format!("{headers}Content-Range: bytes {from}-{}/{}\r\n", end - 1, bytes.len());
        reply("206 Partial Content", &range, &bytes[from..end])
    }
}

/// Answers a request for a file of weights with so many of the bytes it asks for, and the end of the connection.
pub fn cut(request: &Request, bytes: &[u8], after: usize) -> Vec<u8> {
    let from = request.from();
    let headers = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    let body = &bytes[from..];
    announced("206 Partial Content", &headers, body.len(), &body[..after.min(body.len())])
}

/// The address of a port that nobody listens on.
pub fn nobody() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

/// The row of an inspection, as JSON, that the code of the other repository settles.
pub fn behaviour(output: &Output) -> Value {
    let inspection: Value = serde_json::from_slice(&output.stdout).unwrap();
    let behaviours = inspection["behaviours"].as_array().unwrap();
    behaviours.iter().find(|row| row["name"] == "position_interpolation_align_corners").unwrap().clone()
}

/// Every file of a folder.
pub fn files_of(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.path().is_file());
    files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A hook, as soon as it has answered the request before; `None` if it takes its time over that one.
fn when_free(hook: &Mutex<Hook>) -> Option<MutexGuard<'_, Hook>> {
    (0..100).find_map(|attempt| {
        std::thread::sleep(Duration::from_millis(if attempt == 0 { 0 } else { 5 }));
        hook.try_lock().ok()
    })
}

/// Asserts that a run succeeded, and gives what it said.
pub fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    stderr(output)
}

/// Asserts that a run could not tell, without anything on stdout, and gives what it said.
pub fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{}", stderr(output));
    stderr(output)
}

pub fn snapshot(home: &Path, repository: &str) -> PathBuf {
    home.join(format!("hub/models--{}/snapshots/{COMMIT}", repository.replace('/', "--")))
}

pub fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
