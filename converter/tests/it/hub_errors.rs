//! What the hub answers when it does not give what it was asked for: tried again where that helps, and told in its own words.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use tempfile::TempDir;

use crate::hub_server::{
    REPOSITORY, Request, SHARD, Server, entries, refused, reply, snapshot, stderr, succeeded,
};

/// A kind of request.
type Kind = (&'static str, fn(&Request) -> bool);

/// Every kind of request that a conversion makes.
const KINDS: [Kind; 4] = [
    ("the revision", |request| request.path.starts_with("/api/models/nvidia/small/")),
    ("what a small file is", |request| request.method == "HEAD" && request.is_for("tokenizer.json")),
    ("a small file", |request| request.method == "GET" && request.is_for("tokenizer.json")),
    ("a file of weights", |request| request.path.starts_with("/blob/") && request.is_for(SHARD)),
];

#[test]
fn one_trouble_that_passes_is_none() {
    for (what, kind) in KINDS {
        for (status, headers) in [
            ("502 Bad Gateway", ""),
            ("503 Service Unavailable", ""),
            ("504 Gateway Timeout", ""),
            ("500 Internal Server Error", ""),
            ("429 Too Many Requests", "Retry-After: 1\r\n"),
            ("429 Too Many Requests", "RateLimit: \"api\";r=0;t=0\r\n"),
        ] {
            let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
            server.answer_first(1, kind, reply(status, headers, b"<html>"));
            let output = server.run(home.path(), &["convert", REPOSITORY, "out"], &[]);
            assert_eq!(output.status.code(), Some(0), "{what}, {status}: {}", stderr(&output));
            assert!(!stderr(&output).contains("hub"), "{}", stderr(&output));
        }
        // The end of the connection instead of an answer.
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        server.answer_first(1, kind, "");
        let output = server.run(home.path(), &["convert", REPOSITORY, "out"], &[]);
        assert_eq!(output.status.code(), Some(0), "{what}: {}", stderr(&output));
    }
}

#[test]
fn a_server_that_says_nothing_once_is_asked_again() {
    for (what, kind) in KINDS {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        let mut times = 1;
        server.hook(move |request, _| {
            let is_taken = times > 0 && kind(request);
            if is_taken {
                times -= 1;
                std::thread::sleep(Duration::from_secs(4));
            }
            is_taken
        });
        let times = [("HF_HUB_ETAG_TIMEOUT", "0.5"), ("HF_HUB_DOWNLOAD_TIMEOUT", "0.5")];
        let output = server.run(home.path(), &["convert", REPOSITORY, "out"], &times);
        assert_eq!(output.status.code(), Some(0), "{what}: {}", stderr(&output));
    }
}

#[test]
fn a_trouble_that_stays_is_told_with_what_helps() {
    for (what, kind) in KINDS {
        for (status, headers, found, hint) in [
            (
                "503 Service Unavailable",
                "",
                "found status 503: the hub cannot answer now",
                "run it again in some minutes",
            ),
            (
                "429 Too Many Requests",
                "Retry-After: 86400\r\n",
                "found status 429: too many requests, and to wait for 86400 s",
                "wait some minutes",
            ),
        ] {
            let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
            server.answer_first(usize::MAX, kind, reply(status, headers, b""));
            let output = server.run(home.path(), &["convert", REPOSITORY, "out"], &[]);
            let message = refused(&output);
            assert!(message.contains(found), "{what}: {message}");
            assert!(message.contains(&format!("hint: {hint}")), "{what}: {message}");
            assert!(!entries(home.path()).contains(&"out".to_string()));
        }
    }
}

/// Status, `X-Error-Code`, `X-Error-Message`, whether there is a token; what is expected, and the hint.
type Refusal = (&'static str, &'static str, &'static str, bool, &'static str, &'static str);

const REFUSALS: [Refusal; 14] = [
    (
        "401 Unauthorized",
        "",
        "",
        false,
        "expected leave to read it",
        "accept its conditions at HUB/nvidia/small, then set",
    ),
    (
        "401 Unauthorized",
        "RepoNotFound",
        "Repository not found",
        false,
        "expected it on the hub",
        "check the spelling at HUB; for a private one set `HF_TOKEN`",
    ),
    (
        "401 Unauthorized",
        "GatedRepo",
        "Access to model nvidia/small is restricted. You must have access to it and be authenticated to access it.",
        false,
        "expected leave to read it",
        "accept its conditions at HUB/nvidia/small, then set `HF_TOKEN`",
    ),
    (
        "401 Unauthorized",
        "",
        "User Access Token \"ci\" is expired",
        true,
        "expected a token that is valid",
        "make one at HUB/settings/tokens",
    ),
    (
        "401 Unauthorized",
        "",
        "Invalid credentials in Authorization header",
        true,
        "expected a token that is valid",
        "make one at HUB/settings/tokens",
    ),
    (
        "401 Unauthorized",
        "RepoNotFound",
        "Repository not found",
        true,
        "expected it on the hub",
        "check the spelling at HUB; the token's account may not see it",
    ),
    (
        "403 Forbidden",
        "",
        "",
        true,
        "expected leave to read it",
        "the account of this token must accept its conditions",
    ),
    (
        "403 Forbidden",
        "GatedRepo",
        "Access to model nvidia/small is restricted and you are not in the authorized list.",
        true,
        "expected leave to read it",
        "the account of this token must accept its conditions",
    ),
    (
        "403 Forbidden",
        "GatedRepo",
        "Your request to access model nvidia/small is awaiting a review from the repo authors.",
        true,
        "expected leave to read it",
        "wait until the repository's authors have answered",
    ),
    (
        "403 Forbidden",
        "GatedRepo",
        "Your request to access model nvidia/small has been rejected by the repo's authors.",
        true,
        "expected leave to read it",
        "ask the repository's authors",
    ),
    (
        "403 Forbidden",
        "GatedRepo",
        "Please enable access to public gated repositories in your fine-grained token settings to view this repository.",
        true,
        "expected leave to read it",
        "let the token read this repository, gated ones included, at HUB/settings/tokens",
    ),
    (
        "403 Forbidden",
        "",
        "This token does not have the required scope",
        true,
        "expected leave to read it",
        "let the token read this repository",
    ),
    (
        "403 Forbidden",
        "",
        "Access to this resource is disabled.",
        true,
        "expected leave to read it",
        "the hub has closed it",
    ),
    ("404 Not Found", "", "", false, "expected it on the hub", "check the spelling at HUB"),
];

#[test]
fn the_hubs_own_words_say_why_it_refuses() {
    for (status, code, message, has_token, expected, hint) in REFUSALS {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        let mut headers = String::new();
        for (name, value) in [("X-Error-Code", code), ("X-Error-Message", message)] {
            if !value.is_empty() {
                headers.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        server.answer_first(usize::MAX, |_| true, reply(status, &headers, b""));
        let token: &[_] = if has_token { &[("HF_TOKEN", "hf_secret")] } else { &[] };
        let output = server.run(home.path(), &["inspect", REPOSITORY], token);
        let told = refused(&output).replace(&server.url(), "HUB");
        assert!(told.starts_with(&format!("error: `nvidia/small`: {expected}, found status ")), "{told}");
        assert!(told.contains(message), "{told}");
        assert!(told.contains(&format!("hint: {hint}")), "{told}");
        assert!(!told.contains("hf_secret"), "a token is nobody's business");
        // Nothing that would be tried in vain is tried again.
        assert_eq!(server.requests().len(), 1, "{told}");
    }
}

#[test]
fn an_absent_file_and_an_absent_revision_are_told_apart() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    server.change(REPOSITORY, |files| drop(files.remove("tokenizer.json")));
    let message = refused(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
    assert!(message.contains(
        "`nvidia/small`: `tokenizer.json`: expected it on the hub, found status 404: Entry not found"
    ));
    assert!(message.contains("/nvidia/small/tree/main lists its files"), "{message}");
    let message = refused(&server.run(home.path(), &["inspect", "nvidia/small@gone"], &[]));
    assert!(
        message.contains("expected this revision of it, found status 404: Invalid rev id: gone"),
        "{message}"
    );
}

#[test]
fn control_characters_of_the_hub_reach_no_terminal() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let headers = format!("X-Error-Message: a\tb {}\r\n", "x".repeat(5000));
    server.answer_first(usize::MAX, |_| true, reply("403 Forbidden", &headers, b""));
    let message = refused(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
    assert!(message.contains("status 403: a\\tb xxx") && message.len() < 1000, "{message}");
}

#[test]
fn a_hub_that_says_nothing_or_says_it_too_slowly_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let home = TempDir::new().unwrap();
    let server = Server::with_checkpoint();
    let limits = [("HF_HUB_ETAG_TIMEOUT", "0.5"), ("HF_HUB_DOWNLOAD_TIMEOUT", "0.5")];
    let variables = [&limits[..], &[("HF_ENDPOINT", endpoint.as_str())]].concat();
    let message = refused(&server.run(home.path(), &["inspect", REPOSITORY], &variables));
    assert!(
        message.contains(&format!("expected an answer of {endpoint} within 0.5 s, found none in time")),
        "{message}"
    );
    assert!(message.contains("`HF_HUB_DOWNLOAD_TIMEOUT`"), "{message}");

    // A byte at a time, for ever: of each kind of answer that has a body.
    for (what, kind) in KINDS.into_iter().filter(|(what, _)| *what != "what a small file is") {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        server.hook(move |request, stream| {
            if !kind(request) {
                return false;
            }
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() {
                std::thread::sleep(Duration::from_millis(50));
                sent = stream.write_all(b"1\r\nx\r\n");
            }
            true
        });
        let message = refused(&server.run(home.path(), &["convert", REPOSITORY, "out"], &limits));
        assert!(message.contains("within 0.5 s, found "), "{what}: {message}");
        assert!(message.contains("hint: run it again"), "{what}: {message}");
    }
}

#[test]
fn a_time_limit_that_is_no_number_is_refused() {
    let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
    let message =
        refused(&server.run(home.path(), &["inspect", REPOSITORY], &[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]));
    assert!(
        message.contains("`HF_HUB_DOWNLOAD_TIMEOUT`: expected a number of seconds, found `soon`"),
        "{message}"
    );
}

#[test]
fn servers_without_ranges_sizes_or_strong_etags_are_taken() {
    for lacks in ["ranges", "sizes", "strong ETags", "HEAD", "all"] {
        let (server, home) = (Server::with_checkpoint(), TempDir::new().unwrap());
        {
            let mut state = server.state.lock().unwrap();
            state.no_ranges = lacks == "ranges" || lacks == "all";
            state.no_sizes = lacks == "sizes" || lacks == "all";
            state.weak_etags = lacks == "strong ETags" || lacks == "all";
        }
        if lacks == "HEAD" || lacks == "all" {
            let no = reply("405 Method Not Allowed", "", b"");
            server.answer_first(usize::MAX, |request| request.method == "HEAD", no);
        }
        // Once in the middle of a file, so that it has to go on or begin anew.
        let bytes = server.file(SHARD);
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len());
        let half = [head.as_bytes(), &bytes[..bytes.len() / 2]].concat();
        server.answer_first(1, |request| request.path.starts_with("/blob/") && request.is_for(SHARD), half);
        let output = server.run(home.path(), &["convert", REPOSITORY, "out"], &[]);
        assert_eq!(output.status.code(), Some(0), "{lacks}: {}", stderr(&output));
        assert_eq!(std::fs::read(snapshot(home.path(), REPOSITORY).join(SHARD)).unwrap(), bytes, "{lacks}");
        // Also where only headers are read.
        let home = TempDir::new().unwrap();
        succeeded(&server.run(home.path(), &["inspect", REPOSITORY], &[]));
    }
}
