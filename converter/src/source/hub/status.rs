//! What a status of the hub, and the hub's own words for it, mean to the user.

use std::time::Duration;

use crate::error::visible;

/// A request that the hub refused.
pub(super) struct Refusal<'a> {
    pub(super) endpoint: &'a str,
    pub(super) repository: &'a str,
    pub(super) has_token: bool,
    pub(super) status: u16,
    /// `X-Error-Code`.
    pub(super) code: &'a str,
    /// `X-Error-Message`.
    pub(super) message: &'a str,
    /// How long to wait before the next request, by the hub.
    pub(super) wait: Option<Duration>,
}

/// What it takes, what there is, and what to do.
pub(super) struct Meaning {
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) hint: String,
}

impl Refusal<'_> {
    /// What it means.
    pub(super) fn meaning(&self) -> Meaning {
        let Self { endpoint, .. } = self;
        let answer = format!("an answer of {endpoint}");
        match self.status {
            401 | 403 => self.of_leave(),
            404 => self.of_absence(),
            429 => {
                let asked = self.wait.map(|wait| format!(", and to wait for {} s", wait.as_secs()));
                let found = format!("{}{}", self.found("too many requests"), asked.unwrap_or_default());
                let hint = "wait some minutes and run it again: what is in the cache is not fetched again";
                Meaning { expected: "an answer of the hub".into(), found, hint: hint.into() }
            }
            500.. => {
                let hint = "run it again in some minutes: it continues where it stopped";
                self.told(&answer, "the hub cannot answer now", hint.into())
            }
            _ => {
                let hint = "check `HF_ENDPOINT`, and any proxy in between";
                self.told(&answer, "the hub does not take the request", hint.into())
            }
        }
    }

    fn of_absence(&self) -> Meaning {
        let Self { endpoint, repository, .. } = self;
        let tree = format!("{endpoint}/{repository}/tree/main");
        match self.code {
            "RevisionNotFound" => self.told(
                "this revision of it",
                "no such branch, tag or commit",
                format!("{tree} lists its branches and tags"),
            ),
            "EntryNotFound" => self.told("it on the hub", "no such file", format!("{tree} lists its files")),
            _ => self.told(
                "it on the hub",
                "no such repository, revision or file",
                format!("check the spelling at {endpoint}"),
            ),
        }
    }

    fn of_leave(&self) -> Meaning {
        let Self { endpoint, repository, has_token, .. } = self;
        let (page, tokens) = (format!("{endpoint}/{repository}"), format!("{endpoint}/settings/tokens"));
        let leave = |hint: String| self.told("leave to read it", "it is gated, private, or not there", hint);
        if *has_token && self.says(&["expired", "invalid credentials", "invalid username", "invalid token"]) {
            let hint = format!("make one at {tokens}, and set `HF_TOKEN` or log in with `hf auth login`");
            return self.told("a token that is valid", "", hint);
        }
        if self.says(&["awaiting", "pending"]) {
            return leave(format!("wait until the repository's authors have answered; {page} shows it"));
        }
        if self.says(&["rejected"]) {
            return leave(format!("ask the repository's authors at {page}"));
        }
        if self.says(&["disabled"]) {
            return leave(format!("the hub has closed it; ask its owners at {page}"));
        }
        // A token that is limited to some repositories, or to some things that may be done with them.
        let is_plain_refusal = self.status == 403 && self.code.is_empty() && !self.message.is_empty();
        if *has_token && (is_plain_refusal || self.says(&["fine-grained", "permission", "scope"])) {
            return leave(format!("let the token read this repository, gated ones included, at {tokens}"));
        }
        if self.code == "RepoNotFound" {
            let hint = match has_token {
                true => "the token's account may not see it",
                false => "for a private one set `HF_TOKEN` or log in with `hf auth login`",
            };
            let hint = format!("check the spelling at {endpoint}; {hint}");
            return self.told("it on the hub", "no such repository, or a private one", hint);
        }
        leave(match has_token {
            true => format!("the account of this token must accept its conditions at {page}"),
            false => {
                format!("accept its conditions at {page}, then set `HF_TOKEN` or log in with `hf auth login`")
            }
        })
    }

    fn told(&self, expected: &str, otherwise: &str, hint: String) -> Meaning {
        Meaning { expected: expected.into(), found: self.found(otherwise), hint }
    }

    /// The status with the hub's own words, or ours where it has none.
    fn found(&self, otherwise: &str) -> String {
        let words = if self.message.is_empty() { otherwise } else { self.message };
        format!("status {}: {}", self.status, visible(words))
    }

    /// Whether one of these is part of what the hub says.
    fn says(&self, parts: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        parts.iter().any(|part| message.contains(part))
    }
}
