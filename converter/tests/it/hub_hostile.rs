//! A server that means harm: it gets no token that is not for it, and writes nothing where it should not, nor without an end.

use std::fs;
use std::io::Write;
use std::path::Path;

use tempfile::TempDir;

use crate::hub_server::{
    COMMIT, REPOSITORY, SHARD, Server, announced, entries, refused, reply, snapshot, stderr, succeeded,
};

const TOKEN: (&str, &str) = ("HF_TOKEN", "hf_secret");

/// Bytes of all files below a folder.
fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => bytes_below(&entry.path()),
            kind if kind.is_file() => entry.metadata().unwrap().len(),
            _ => 0,
        })
        .sum()
}

#[test]
fn the_token_goes_to_the_endpoints_own_host_alone() {
    let server = Server::with_checkpoint();
    server.state.lock().unwrap().gated = Some("hf_secret".into());
    let elsewhere = server.twin();
    // Another port, and another name of the same machine.
    for content in [elsewhere.url(), format!("http://localhost:{}", server.port)] {
        server.state.lock().unwrap().content = Some(content.clone());
        let home = TempDir::new().unwrap();
        succeeded(&server.run(home.path(), &["inspect", REPOSITORY], &[TOKEN]));
        succeeded(&server.run(home.path(), &["convert", REPOSITORY, "out"], &[TOKEN]));
        let requests = server.requests();
        let (content, own): (Vec<_>, Vec<_>) =
            requests.iter().partition(|request| request.path.starts_with("/blob/"));
        assert!(content.len() >= 4 && own.len() > 10, "{requests:?}");
        assert!(content.iter().all(|request| request.token.is_none()), "{content:?}");
        assert!(own.iter().all(|request| request.token.as_deref() == Some("hf_secret")), "{own:?}");
        assert!(own.iter().all(|request| request.port == server.port));
    }

    // Whatever is redirected: the question for the revision, for a small file, and the file itself.
    for part in ["/api/models/", "/resolve/"] {
        let moved = elsewhere.url();
        let port = server.port;
        let server = Server { port, state: server.state.clone() };
        server.state.lock().unwrap().hooks.clear();
        server.state.lock().unwrap().gated = None;
        server.state.lock().unwrap().content = None;
        server.hook(move |request, stream| {
            let is_taken = request.port == port && request.path.contains(part);
            if is_taken {
                let location = format!("Location: {moved}{}\r\n", request.path);
                stream.write_all(&reply("307 Temporary Redirect", &location, b"")).unwrap();
            }
            is_taken
        });
        let home = TempDir::new().unwrap();
        let output = server.run(home.path(), &["inspect", REPOSITORY], &[TOKEN]);
        let requests = server.requests();
        assert!(
            requests.iter().any(|request| request.port == elsewhere.port) || part == "/resolve/",
            "{requests:?}"
        );
        for request in requests {
            assert_eq!(request.token.is_some(), request.port == port, "{request:?}: {}", stderr(&output));
        }
    }
}

#[test]
fn a_repository_that_was_renamed_is_followed_with_the_token() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    server.state.lock().unwrap().gated = Some("hf_secret".into());
    server.hook(|request, stream| {
        let Some(place) = request.path.find("old/name") else { return false };
        let (before, after) = (&request.path[..place], &request.path[place + "old/name".len()..]);
        // As the hub gives it: without a host.
        let location = format!("Location: {before}{REPOSITORY}{after}\r\n");
        stream.write_all(&reply("307 Temporary Redirect", &location, b"")).unwrap();
        true
    });
    succeeded(&server.run(home.path(), &["convert", "old/name", "out"], &[TOKEN]));
    assert!(snapshot(home.path(), "old/name").join(SHARD).is_file());
}

#[test]
fn redirects_without_end_or_to_what_is_no_address_are_refused() {
    for (location, found) in [
        ("/api/models/nvidia/small/revision/main", "more than 10 redirects"),
        ("file:///etc/passwd", "another one"),
        ("", "another one"),
    ] {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        let answer = reply("302 Found", &format!("Location: {location}\r\n"), b"");
        server.answer_first(usize::MAX, |request| request.path.starts_with("/api/"), answer);
        let message = refused(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
        assert!(message.contains(found) || location.is_empty(), "{message}");
        assert!(server.requests().len() <= 11);
    }
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused_before_anything_is_asked() {
    let server = Server::with_checkpoint();
    for source in [
        "nvidia/small@../../../x",
        "nvidia/small@/etc/passwd",
        "nvidia/small@a/../../b",
        "nvidia/small@..",
        "nvidia/small@refs//x",
        "nvidia/small@a\nb",
        "nvidia/small@-x",
        "nvidia/sm--all",
        "nvidia/sm..all",
        "nvidia/small.git",
    ] {
        let home = TempDir::new().unwrap();
        let inner = home.path().join("a/b/c");
        fs::create_dir_all(&inner).unwrap();
        for arguments in [
            &["inspect", source][..],
            &["convert", source, "out"],
            &["inspect", source, "--local-files-only"],
        ] {
            let message = refused(&server.run(&inner, arguments, &[]));
            assert!(
                message.contains("expected a branch, a tag or a commit, found")
                    || message.contains("expected `owner/name`, found"),
                "{message}"
            );
            assert!(message.trim_end().chars().all(|c| c == '\n' || !c.is_control()), "{message:?}");
        }
        assert_eq!(server.requests(), []);
        assert_eq!(entries(&inner), Vec::<String>::new());
        assert_eq!(entries(home.path()), ["a"]);
    }
    let home = TempDir::new().unwrap();
    let message = refused(&server.run(home.path(), &["inspect", REPOSITORY, "--code-revision", "../x"], &[]));
    assert!(
        message.contains("`nvidia/code`: expected a branch, a tag or a commit, found `../x`"),
        "{message}"
    );
}

#[test]
fn names_and_commits_of_the_hub_lead_nowhere() {
    for (api, expected) in [
        (r#"{"sha":"../../x","siblings":[]}"#, "expected a commit, found `../../x`"),
        (r#"{"siblings":[]}"#, "expected a commit, found ``"),
        ("no", "expected JSON, found something else"),
    ] {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        server.answer_first(
            9,
            |request| request.path.starts_with("/api/"),
            reply("200 OK", "", api.as_bytes()),
        );
        let message = refused(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
        assert!(message.contains(expected), "{message}");
    }
    for (headers, expected) in [
        (
            format!("X-Repo-Commit: {COMMIT}\r\nETag: \"../../x\"\r\n"),
            "expected a hash as `ETag`, found `../../x`",
        ),
        (format!("X-Repo-Commit: {COMMIT}\r\n"), "expected a hash as `ETag`, found `none`"),
        ("X-Repo-Commit: another\r\nETag: \"x\"\r\n".into(), "by `X-Repo-Commit`, found `another`"),
        ("ETag: \"x\"\r\n".into(), "by `X-Repo-Commit`, found `none`"),
    ] {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        server.answer_first(9, |request| request.is_for("config.json"), reply("200 OK", &headers, b""));
        let message = refused(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
        assert!(message.contains(expected), "{message}");
        assert_eq!(entries(home.path()), ["hub"]);
    }
    // A file of the list whose name leads elsewhere is not asked for.
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    server.change(REPOSITORY, |files| {
        files.insert("../../evil.py".into(), b"".to_vec());
    });
    succeeded(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
    assert!(server.requests().iter().all(|request| !request.path.contains("evil")));
}

#[test]
fn a_body_without_an_end_is_cut_off_where_it_should_have_ended() {
    for (name, most) in [("tokenizer.json", 1 << 16), (SHARD, 1 << 16)] {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        let content = server.file(name);
        server.hook(move |request, stream| {
            let is_taken = request.method == "GET"
                && request.is_for(name)
                && (name != SHARD || request.path.starts_with("/blob/"));
            if is_taken {
                // The file itself, and then no end.
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
                let first = [format!("{:x}\r\n", content.len()).as_bytes(), &content, b"\r\n"].concat();
                let mut sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&first));
                let more = [b"10000\r\n".to_vec(), vec![b'x'; 1 << 16], b"\r\n".to_vec()].concat();
                while sent.is_ok() {
                    sent = stream.write_all(&more);
                }
            }
            is_taken
        });
        let message = refused(&server.run(home.path(), &["convert", REPOSITORY, "out"], &[]));
        let bytes = server.file(name).len();
        assert!(message.contains(&format!("`{name}`: expected {bytes} bytes, found more")), "{message}");
        assert!(bytes_below(home.path()) < bytes_below_of(&server) + most, "{}", bytes_below(home.path()));
        assert!(!snapshot(home.path(), REPOSITORY).join(name).exists());
    }
}

/// Bytes of everything that the server has.
fn bytes_below_of(server: &Server) -> u64 {
    server
        .state
        .lock()
        .unwrap()
        .repositories
        .values()
        .flat_map(|files| files.values())
        .map(|bytes| bytes.len() as u64)
        .sum()
}

#[test]
fn sizes_that_cannot_be_are_refused_before_anything_is_written() {
    let commit = format!("X-Repo-Commit: {COMMIT}\r\nETag: \"abc\"\r\n");
    let head = |length: usize| announced("200 OK", &commit, length, b"");
    // Announced: too large for a small file, for the disk, and another one than is sent.
    for (name, is_head, answer, expected) in [
        ("config.json", true, head(1 << 40), "expected a file of at most 104.86 MB, found one of 1.10 TB"),
        ("config.json", false, announced("200 OK", &commit, 1 << 40, b"{"), "bytes, found more"),
        (
            SHARD,
            true,
            reply(
                "302 Found",
                &format!(
                    "X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{}\"\r\nX-Linked-Size: {}\r\nLocation: /blob/{REPOSITORY}/{SHARD}\r\n",
                    "a".repeat(64),
                    1u64 << 60
                ),
                b"",
            ),
            "expected space in the cache",
        ),
    ] {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        let method = if is_head { "HEAD" } else { "GET" };
        server.answer_first(9, move |request| request.method == method && request.is_for(name), answer);
        let message = refused(&server.run(home.path(), &["convert", REPOSITORY, "out"], &[]));
        assert!(message.contains(expected), "{message}");
        assert!(bytes_below(home.path()) < 1 << 20);
    }
}

#[test]
fn a_small_file_of_unknown_size_ends_at_a_limit_and_weights_are_refused() {
    let endless = |name: &'static str| {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        server.state.lock().unwrap().no_sizes = true;
        let commit = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Repo-Commit: {COMMIT}\r\nETag: \"abc\"\r\n\r\n"
        );
        server.hook(move |request, stream| {
            let is_taken = request.is_for(name) && (name != SHARD || request.path.starts_with("/blob/"));
            if is_taken {
                let mut sent = stream.write_all(commit.as_bytes());
                let more = vec![b'x'; 1 << 20];
                while sent.is_ok() && request.method == "GET" {
                    sent = stream.write_all(&more);
                }
            }
            is_taken
        });
        let message = refused(&server.run(home.path(), &["convert", REPOSITORY, "out"], &[]));
        assert!(bytes_below(home.path()) < 102 << 20, "{}", bytes_below(home.path()));
        message
    };
    let message = endless("tokenizer_config.json");
    assert!(message.contains("expected 104857600 bytes, found more"), "{message}");
    let message = endless(SHARD);
    assert!(
        message.contains("expected its size, by `X-Linked-Size` or `Content-Length`, found none"),
        "{message}"
    );
}
