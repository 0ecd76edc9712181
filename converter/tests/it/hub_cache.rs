//! The hub's cache in each state that `huggingface_hub` accepts: what is there is used, with the hub or without.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use store::hash::sha256;
use tempfile::TempDir;

use crate::hub_server::{
    CODE, COMMIT, OTHER_COMMIT, PATCH_GENERATOR, REPOSITORY, SHARD, Server, clean, files_of, nobody, refused,
    reply, snapshot, stderr, succeeded,
};

/// A cache with everything, as the hub's own programs make it.
struct Filled {
    server: Server,
    home: TempDir,
}

impl Filled {
    /// One that `lay` made file by file: it gets the repository's folder, a file's name and its content.
    fn by(lay: impl Fn(&Path, &str, &[u8])) -> Self {
        let server = Server::with_checkpoint();
        server.change(CODE, |files| {
            files.insert("hf_model.py".into(), PATCH_GENERATOR.into());
        });
        let home = TempDir::new().unwrap();
        for (repository, wanted) in [(REPOSITORY, ["json", "py", "safetensors"]), (CODE, ["py"; 3])] {
            let dir = repository_dir(home.path(), repository);
            fs::create_dir_all(dir.join("refs")).unwrap();
            fs::create_dir_all(dir.join("snapshots").join(COMMIT)).unwrap();
            fs::write(dir.join("refs/main"), COMMIT).unwrap();
            let files = server.state.lock().unwrap().repositories[repository].clone();
            for (name, bytes) in files {
                let end = name.rsplit('.').next().unwrap();
                if wanted.contains(&end) && !name.contains("README") {
                    lay(&dir, &name, &bytes);
                }
            }
            // As whoever asked the hub leaves it.
            let absent = dir.join(".no_exist").join(COMMIT);
            fs::create_dir_all(&absent).unwrap();
            fs::write(absent.join("configuration.py"), "").unwrap();
        }
        Self { server, home }
    }

    fn linked() -> Self {
        Self::by(linked)
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.server.run(self.home.path(), arguments, variables)
    }

    fn dir(&self) -> PathBuf {
        repository_dir(self.home.path(), REPOSITORY)
    }
}

fn repository_dir(home: &Path, repository: &str) -> PathBuf {
    home.join(format!("hub/models--{}", repository.replace('/', "--")))
}

/// A link in the snapshot to a blob.
fn linked(dir: &Path, name: &str, bytes: &[u8]) {
    fs::create_dir_all(dir.join("blobs")).unwrap();
    let hash = sha256(bytes);
    fs::write(dir.join("blobs").join(&hash), bytes).unwrap();
    symlink(format!("../../blobs/{hash}"), dir.join("snapshots").join(COMMIT).join(name)).unwrap();
}

/// A link of the whole path.
fn linked_from_the_root(dir: &Path, name: &str, bytes: &[u8]) {
    fs::create_dir_all(dir.join("blobs")).unwrap();
    let blob = dir.join("blobs").join(sha256(bytes));
    fs::write(&blob, bytes).unwrap();
    symlink(blob, dir.join("snapshots").join(COMMIT).join(name)).unwrap();
}

/// The file itself in the snapshot, as on a file system without links.
fn unlinked(dir: &Path, name: &str, bytes: &[u8]) {
    fs::write(dir.join("snapshots").join(COMMIT).join(name), bytes).unwrap();
}

/// A blob that is a link itself, into the store that all repositories of a cache share.
fn shared(dir: &Path, name: &str, bytes: &[u8]) {
    let store = dir.parent().unwrap().join("blobs");
    let hash = sha256(bytes);
    fs::create_dir_all(store.join(&hash[..2])).unwrap();
    fs::create_dir_all(dir.join("blobs")).unwrap();
    fs::write(store.join(".huggingface-shared-blobs"), "1\n").unwrap();
    fs::write(store.join(&hash[..2]).join(&hash), bytes).unwrap();
    let blob = dir.join("blobs").join(&hash);
    if !blob.exists() {
        symlink(format!("../../blobs/{}/{hash}", &hash[..2]), &blob).unwrap();
    }
    symlink(format!("../../blobs/{hash}"), dir.join("snapshots").join(COMMIT).join(name)).unwrap();
}

/// How a cache lays a file out.
type Layout = (&'static str, fn(&Path, &str, &[u8]));

const LAYOUTS: [Layout; 4] = [
    ("links", linked),
    ("whole links", linked_from_the_root),
    ("no links", unlinked),
    ("a shared store", shared),
];

#[test]
fn a_complete_cache_is_taken_however_it_is_laid_out() {
    for (layout, lay) in LAYOUTS {
        let filled = Filled::by(lay);
        // With the hub: it is asked what the revision is, and for nothing that is there.
        succeeded(&filled.run(&["convert", REPOSITORY, "out"], &[]));
        let requests = filled.server.requests();
        assert!(requests.iter().all(|request| request.path.starts_with("/api/")), "{layout}: {requests:?}");
        // Without: the same, and the user is told.
        let nobody = nobody();
        for dead in [&[("HF_ENDPOINT", nobody.as_str())][..], &[("HF_HUB_OFFLINE", "1")]] {
            let output = filled.run(&["verify", "out", "--source", REPOSITORY], dead);
            assert_eq!(output.status.code(), Some(0), "{layout}: {}", stderr(&output));
            let told = stderr(&output);
            let is_told = told
                .contains(&format!("what the cache has of `main` is used, commit {COMMIT}: `{REPOSITORY}`"));
            assert_eq!(is_told, dead[0].0 == "HF_ENDPOINT", "{layout}: {told}");
        }
        succeeded(&filled.run(&["verify", "out", "--source", REPOSITORY, "--local-files-only"], &[]));
        // A commit: nobody is asked anything.
        let pinned = format!("{REPOSITORY}@{COMMIT}");
        filled.server.requests();
        assert_eq!(succeeded(&filled.run(&["inspect", &pinned], &[])), "", "{layout}");
        assert_eq!(
            succeeded(&filled.run(&["inspect", &pinned], &[("HF_ENDPOINT", &nobody)])),
            "",
            "{layout}"
        );
        assert_eq!(filled.server.requests(), [], "{layout}");
    }
}

#[test]
fn the_cache_is_used_whatever_keeps_the_hub_from_answering() {
    let gone = reply("401 Unauthorized", "X-Error-Code: RepoNotFound\r\n", b"");
    for (status, told) in [
        (reply("503 Service Unavailable", "Retry-After: 86400\r\n", b""), "status 503"),
        (reply("429 Too Many Requests", "Retry-After: 86400\r\n", b""), "status 429"),
        (reply("403 Forbidden", "X-Error-Code: GatedRepo\r\n", b""), "status 403"),
        (reply("200 OK", "", b"<html>log in</html>"), "expected JSON"),
        (gone, "status 401"),
    ] {
        let filled = Filled::linked();
        filled.server.answer_first(usize::MAX, |_| true, status);
        let output = filled.run(&["inspect", REPOSITORY], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("what the cache has of `main` is used")
                && stderr(&output).contains(told),
            "{}",
            stderr(&output)
        );
    }
    // What the hub knows not to be there is not taken from yesterday.
    let filled = Filled::linked();
    let absent = reply("404 Not Found", "X-Error-Code: RevisionNotFound\r\n", b"");
    filled.server.answer_first(usize::MAX, |_| true, absent);
    refused(&filled.run(&["inspect", REPOSITORY], &[]));
}

/// Runs the program where the cache of `filled` is mounted so that nobody can write to it.
fn read_only(filled: &Filled, arguments: &[&str], endpoint: &str) -> Output {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let namespace: &[&str] = if is_root { &["-m"] } else { &["-rm"] };
    let script = "mount --bind \"$CACHE\" \"$CACHE\" && mount -o remount,bind,ro \"$CACHE\" && ! touch \"$CACHE\"/x 2>/dev/null && exec \"$@\"";
    let mut command = Command::new("unshare");
    clean(&mut command);
    command
        .args(namespace)
        .args(["sh", "-c", script, "sh"])
        .arg(assert_cmd::cargo::cargo_bin("nvl-convert"))
        .args(arguments)
        .env("CACHE", filled.home.path().join("hub"))
        .env("HF_HOME", filled.home.path())
        .env("HF_ENDPOINT", endpoint)
        .current_dir(filled.home.path())
        .output()
        .unwrap()
}

#[test]
fn a_cache_that_nobody_may_write_to_is_read() {
    let filled = Filled::linked();
    let url = filled.server.url();
    let output = read_only(&filled, &["convert", REPOSITORY, "out"], &url);
    if output.status.code() != Some(0)
        && std::env::var_os("NVL_TEST_NO_MOUNT").is_some_and(|value| value == "1")
    {
        return;
    }
    assert!(
        !succeeded(&output).contains("warning: the cache"),
        "this test mounts a folder; where that is forbidden, NVL_TEST_NO_MOUNT=1 says so"
    );
    succeeded(&read_only(&filled, &["inspect", REPOSITORY], &nobody()));
    let pinned = format!("{REPOSITORY}@{COMMIT}");
    assert_eq!(succeeded(&read_only(&filled, &["inspect", &pinned], &nobody())), "");
    // A revision that the cache has not noted: it is used all the same, and told that it can't be noted.
    let told = succeeded(&read_only(&filled, &["inspect", &format!("{REPOSITORY}@v1")], &url));
    assert!(
        told.contains("the cache does not know from now on what `v1` is: Read-only file system"),
        "{told}"
    );
    // What it lacks can't be fetched into it.
    fs::remove_file(snapshot(filled.home.path(), REPOSITORY).join("tokenizer.json")).unwrap();
    let message = refused(&read_only(&filled, &["inspect", REPOSITORY], &url));
    assert!(message.contains("`tokenizer.json`: expected a cache to write to at `"), "{message}");
    assert!(message.contains("hint: the cache lacks needed files: set `HF_HUB_CACHE`"), "{message}");
}

#[test]
fn only_what_is_missing_is_fetched() {
    let filled = Filled::linked();
    let link = snapshot(filled.home.path(), REPOSITORY).join(SHARD);
    let bytes = fs::read(&link).unwrap();
    let asked = |filled: &Filled| {
        let content = |request: &&crate::hub_server::Request| {
            request.method == "GET" && !request.path.starts_with("/api/")
        };
        filled
            .server
            .requests()
            .iter()
            .filter(content)
            .map(|request| request.path.clone())
            .collect::<Vec<_>>()
    };
    // The link alone: its content is there.
    fs::remove_file(&link).unwrap();
    succeeded(&filled.run(&["convert", REPOSITORY, "out1"], &[]));
    assert_eq!(asked(&filled), Vec::<String>::new());
    // A link to nothing.
    fs::remove_file(fs::canonicalize(&link).unwrap()).unwrap();
    succeeded(&filled.run(&["convert", REPOSITORY, "out2"], &[]));
    assert_eq!(asked(&filled), [format!("/blob/{REPOSITORY}/{SHARD}")]);
    assert_eq!(fs::read(&link).unwrap(), bytes);
    // A blob that is too short is none.
    fs::write(fs::canonicalize(&link).unwrap(), &bytes[..10]).unwrap();
    fs::remove_file(&link).unwrap();
    succeeded(&filled.run(&["convert", REPOSITORY, "out3"], &[]));
    assert_eq!(fs::read(&link).unwrap(), bytes);
}

#[test]
fn a_reference_follows_the_hub_and_stays_where_there_is_none() {
    let filled = Filled::linked();
    let reference = filled.dir().join("refs/main");
    let before = fs::metadata(&reference).unwrap().modified().unwrap();
    succeeded(&filled.run(&["inspect", REPOSITORY], &[]));
    assert_eq!(fs::metadata(&reference).unwrap().modified().unwrap(), before, "written though it was right");
    // Branches, tags and requests are folders below `refs`.
    filled.server.state.lock().unwrap().revisions.insert("refs%2Fpr%2F1".into(), COMMIT.into());
    succeeded(&filled.run(&["inspect", &format!("{REPOSITORY}@refs/pr/1")], &[]));
    assert_eq!(fs::read_to_string(filled.dir().join("refs/refs/pr/1")).unwrap(), COMMIT);
    // The hub moves on; what the cache has is used as long as nobody can ask.
    filled.server.state.lock().unwrap().revisions.insert("main".into(), OTHER_COMMIT.into());
    let told = succeeded(&filled.run(&["inspect", REPOSITORY], &[("HF_ENDPOINT", &nobody())]));
    assert!(told.contains(COMMIT), "{told}");
    filled.server.requests();
    succeeded(&filled.run(&["inspect", REPOSITORY], &[]));
    assert_eq!(fs::read_to_string(&reference).unwrap(), OTHER_COMMIT);
    assert_eq!(filled.server.requests().iter().filter(|request| request.is_for("config.json")).count(), 2);
}

#[test]
fn an_incomplete_cache_without_a_hub_says_what_is_missing() {
    let filled = Filled::linked();
    fs::remove_file(snapshot(filled.home.path(), REPOSITORY).join(SHARD)).unwrap();
    let nobody = nobody();
    let message = refused(&filled.run(&["convert", REPOSITORY, "out"], &[("HF_ENDPOINT", &nobody)]));
    assert!(message.contains(&format!("expected an answer of {nobody}")), "{message}");
    for (variables, flag, why) in [
        (&[("HF_HUB_OFFLINE", "1")][..], &[][..], "`HF_HUB_OFFLINE` is set"),
        (&[], &["--local-files-only"], "`--local-files-only` is given"),
    ] {
        let arguments = [&["convert", REPOSITORY, "out"], flag].concat();
        let message = refused(&filled.run(&arguments, variables));
        assert!(message.contains(&format!("`{SHARD}`: expected it in the cache")), "{message}");
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(filled.server.requests(), []);
}

#[test]
fn code_that_the_configuration_names_and_nobody_knows_of_is_told() {
    let filled = Filled::linked();
    let pinned = format!("{REPOSITORY}@{COMMIT}");
    fs::remove_dir_all(filled.dir().join(".no_exist")).unwrap();
    let told = succeeded(&filled.run(&["inspect", &pinned], &[]));
    let hint = format!("`hf download {REPOSITORY} --revision {COMMIT}` fetches it");
    assert!(
        told.contains("the cache has no `configuration.py` of `nvidia/small`, and the hub was not asked"),
        "{told}"
    );
    assert!(told.contains(&hint), "{told}");
    assert_eq!(filled.server.requests(), []);
    // Once asked, it is known.
    succeeded(&filled.run(&["inspect", REPOSITORY], &[]));
    assert_eq!(succeeded(&filled.run(&["inspect", &pinned], &[])), "");
}

#[test]
fn a_folder_of_links_into_the_cache_is_converted() {
    // As `huggingface-cli download --local-dir` made it: small files, and links to large ones.
    let filled = Filled::linked();
    let local = TempDir::new().unwrap();
    let snapshot = snapshot(filled.home.path(), REPOSITORY);
    for name in files_of(&snapshot).keys() {
        match name.ends_with(".safetensors") {
            true => symlink(fs::canonicalize(snapshot.join(name)).unwrap(), local.path().join(name)).unwrap(),
            false => drop(fs::copy(snapshot.join(name), local.path().join(name)).unwrap()),
        }
    }
    let local_path = local.path().to_str().unwrap();
    succeeded(&filled.run(&["convert", local_path, "out"], &[]));
    // Links to anywhere else are not followed, and the user is told what to do.
    let elsewhere = TempDir::new().unwrap();
    let target = elsewhere.path().join("weights");
    fs::copy(local.path().join(SHARD), &target).unwrap();
    fs::remove_file(local.path().join(SHARD)).unwrap();
    symlink(&target, local.path().join(SHARD)).unwrap();
    let message = refused(&filled.run(&["convert", local_path, "out2"], &[]));
    assert!(message.contains("expected a file inside the folder, found a link to"), "{message}");
    assert!(
        message.contains(&format!("hint: `cp -rL {local_path} COPY` makes a folder of files")),
        "{message}"
    );
}
