//! Requests to the hub. The token goes to the endpoint's own host and to nobody else; every request ends, whatever the server
//! does; what may be a passing trouble is tried again.

use std::io::{ErrorKind, Read};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ureq::http::HeaderMap;
use ureq::{Agent, Body};

use super::address::{joined, origin, wait_of};
use super::settings::HubSettings;

/// How often a request is made that fails by a trouble that may pass.
pub(super) const ATTEMPTS: u32 = 5;
/// How often one is made that is not answered in time: each costs that time.
const ATTEMPTS_IN_VAIN: u32 = 2;
/// How long to wait before the second attempt; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait that a server may ask for: the hub counts requests by five minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How many redirects are followed.
const REDIRECTS: usize = 10;
/// Fewer bytes a second than this are no download.
const LEAST_RATE: u64 = 1024;
/// The most of a message of the hub that is told.
const MESSAGE_CHARS: usize = 300;

/// Asks the hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    pub(super) timeout: Duration,
    metadata_timeout: Duration,
}

/// An answer.
pub(super) struct Answer {
    /// Its status: below 400.
    pub(super) status: u16,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// The URL that it is an answer of.
    pub(super) url: String,
    body: Body,
}

/// Why a request gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The hub said no.
    Status {
        /// 400 or above.
        status: u16,
        /// `X-Error-Code`.
        code: String,
        /// `X-Error-Message`.
        message: String,
        /// How long to wait before the next request, by the hub.
        wait: Option<Duration>,
    },
    /// Nobody is there.
    Unreachable(String),
    /// It took too long.
    Slow(String),
    /// The connection ended in the middle.
    Broken(String),
    /// The answer makes no sense: what was expected, and what was found.
    Nonsense(String, String),
}

impl Failure {
    /// Whether it may be otherwise soon.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Slow(_) | Self::Broken(_) => true,
            Self::Unreachable(_) | Self::Nonsense(..) => false,
        }
    }

    /// Whether the hub knows the repository, and not what was asked for.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Status { status: 404, code, .. } if code == "RevisionNotFound" || code == "EntryNotFound")
    }

    /// Whether the next question to the hub would end in the same way, whatever it is.
    pub(super) fn is_of_the_hub(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Slow(_))
    }

    /// How long to wait before attempt number `attempt + 1`; nothing where that would be of no use.
    pub(super) fn wait(&self, attempt: u32) -> Option<Duration> {
        let most = if matches!(self, Self::Slow(_)) { ATTEMPTS_IN_VAIN } else { ATTEMPTS };
        let asked = match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        };
        let wait = asked.unwrap_or(FIRST_WAIT * 2u32.pow(attempt - 1));
        (self.may_pass() && attempt < most && wait <= LONGEST_WAIT).then_some(wait)
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Slow("none in time".into()),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Self::Unreachable(error.to_string()),
            ureq::Error::Io(error) => Self::from(error),
            error => Self::Nonsense("an answer".into(), error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // Of the transport, inside an error of reading.
            _ if error
                .get_ref()
                .is_some_and(|inner| matches!(inner.downcast_ref(), Some(ureq::Error::Timeout(_)))) =>
            {
                Self::Slow("none in time".into())
            }
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Slow("none in time".into()),
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable => Self::Unreachable(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl Client {
    /// A client as `settings` say.
    pub(super) fn new(settings: &HubSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here, where it is known who may have the token.
            .max_redirects(0)
            .user_agent(concat!("nvl-convert/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(settings.timeout))
            .timeout_connect(Some(settings.timeout))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .timeout_per_write(Some(settings.timeout))
            .build();
        Self {
            agent: config.into(),
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
            timeout: settings.timeout,
            metadata_timeout: settings.metadata_timeout,
        }
    }

    /// Does `ask` again where its failure may pass; `note` is told of a wait that is felt.
    pub(super) fn retried<T>(
        &self,
        note: &dyn Fn(&str),
        mut ask: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut attempt = 1;
        loop {
            let failure = match ask() {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let Some(wait) = failure.wait(attempt) else { return Err(failure) };
            if wait >= Duration::from_secs(5) {
                note(&format!("the hub asks to wait for {} s", wait.as_secs()));
            }
            sleep(wait);
            attempt += 1;
        }
    }

    /// The JSON at `url`, of no more than `limit` bytes.
    pub(super) fn json(&self, url: &str, limit: u64) -> Result<serde_json::Value, Failure> {
        let send = |url: &str| self.send("GET", url, None, Some(self.metadata_timeout));
        let mut answer = follow(url, send, |_, _| true)?;
        let mut bytes = Vec::new();
        answer.body.as_reader().take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(Failure::Nonsense(format!("at most {limit} bytes"), "more".into()));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Nonsense("JSON".into(), format!("something else: {error}")))
    }

    /// The headers of the file at `url`: of the endpoint's own answer, which a redirect to another host may be.
    pub(super) fn head(&self, url: &str) -> Result<Answer, Failure> {
        let send = |url: &str| {
            let ask = |method| self.send(method, url, None, Some(self.metadata_timeout));
            match ask("HEAD") {
                // A server that knows only the one; its body is left where it is.
                Err(Failure::Status { status: 405 | 501, .. }) => ask("GET"),
                answer => answer,
            }
        };
        follow(url, send, |answer, location| {
            self.is_own(location) && !answer.headers.contains_key("x-linked-etag")
        })
    }

    /// The bytes of the file at `url` from `from` on, up to `to` where that is given; without ranges, where a server knows none,
    /// all of them.
    pub(super) fn get(&self, url: &str, from: u64, to: Option<u64>) -> Result<Answer, Failure> {
        let range = match to {
            Some(to) => Some(format!("bytes={from}-{}", to.saturating_sub(1))),
            None if from > 0 => Some(format!("bytes={from}-")),
            None => None,
        };
        follow(url, |url| self.send("GET", url, range.as_deref(), None), |_, _| true)
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        range: Option<&str>,
        whole: Option<Duration>,
    ) -> Result<Answer, Failure> {
        let request = if method == "HEAD" { self.agent.head(url) } else { self.agent.get(url) };
        let mut request = request
            .config()
            .timeout_global(whole)
            .build()
            // The size of what is sent is that of the file.
            .header("Accept-Encoding", "identity");
        if let Some(token) = self.token.as_ref().filter(|_| self.is_own(url)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        let response = request.call()?;
        let status = response.status().as_u16();
        let (parts, body) = response.into_parts();
        let answer = Answer { status, headers: parts.headers, url: url.to_string(), body };
        if status < 400 {
            return Ok(answer);
        }
        let text = |name: &str| answer.header(name).unwrap_or_default().chars().take(MESSAGE_CHARS).collect();
        Err(Failure::Status {
            status,
            code: text("x-error-code"),
            message: text("x-error-message"),
            wait: wait_of(&answer.headers),
        })
    }

    /// Whether a URL is the endpoint's own: by scheme, host and port.
    fn is_own(&self, url: &str) -> bool {
        origin(url).is_some_and(|of_url| Some(of_url) == origin(&self.endpoint))
    }
}

impl Answer {
    /// A header, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// Where a redirect leads.
    pub(super) fn location(&self) -> Result<Option<String>, Failure> {
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let expected = "a redirect to an address of HTTP";
        let Some(location) = self.header("location") else {
            return Err(Failure::Nonsense(expected.into(), "one to nowhere".into()));
        };
        let location = joined(&self.url, location);
        match origin(&location) {
            Some(_) => Ok(Some(location)),
            None => Err(Failure::Nonsense(expected.into(), "another one".into())),
        }
    }

    /// The first and the last byte of a part, and the size of the whole where it is known.
    pub(super) fn range(&self) -> Option<(u64, u64, Option<u64>)> {
        let (range, whole) = self.header("content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?, whole.parse().ok()))
    }

    /// How much is announced.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.content_length()
    }

    /// The body, which is refused when it comes too slowly.
    pub(super) fn reader(&mut self, timeout: Duration) -> Paced<impl Read + '_> {
        Paced { inner: self.body.as_reader(), timeout, since: Instant::now(), bytes: 0 }
    }
}

/// A body on its way. Each read ends in time by the connection's own limit; this one counts what they bring.
pub(super) struct Paced<R> {
    inner: R,
    timeout: Duration,
    since: Instant,
    bytes: u64,
}

impl<R: Read> Paced<R> {
    /// Reads some bytes; none at the end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        let bytes = self.inner.read(into)?;
        self.bytes += bytes as u64;
        let elapsed = self.since.elapsed();
        if elapsed >= self.timeout && bytes > 0 {
            let least = LEAST_RATE * elapsed.as_secs().max(1);
            if self.bytes < least {
                let found = format!("{} bytes in {} s", self.bytes, elapsed.as_secs());
                return Err(Failure::Slow(found));
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(bytes)
    }

    /// Fills `into`.
    pub(super) fn read_exact(&mut self, into: &mut [u8]) -> Result<(), Failure> {
        let mut filled = 0;
        while filled < into.len() {
            match self.read(&mut into[filled..])? {
                0 => return Err(Failure::Broken(format!("the end {} bytes too early", into.len() - filled))),
                bytes => filled += bytes,
            }
        }
        Ok(())
    }
}

/// What `send` gives for `url`, or for where it leads; a redirect that `leads_on` says no to is the answer itself.
fn follow(
    url: &str,
    send: impl Fn(&str) -> Result<Answer, Failure>,
    leads_on: impl Fn(&Answer, &str) -> bool,
) -> Result<Answer, Failure> {
    let mut at = url.to_string();
    for _ in 0..=REDIRECTS {
        let answer = send(&at)?;
        match answer.location()? {
            Some(location) if leads_on(&answer, &location) => at = location,
            _ => return Ok(answer),
        }
    }
    Err(Failure::Nonsense("a file".into(), format!("more than {REDIRECTS} redirects")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_no_longer_than_a_limit() {
        let status = |status, wait| Failure::Status { status, code: "".into(), message: "".into(), wait };
        for code in [408, 429, 500, 502, 503, 504] {
            assert_eq!(status(code, None).wait(1), Some(FIRST_WAIT));
            assert_eq!(status(code, None).wait(3), Some(FIRST_WAIT * 4));
            assert_eq!(status(code, None).wait(ATTEMPTS), None);
        }
        assert_eq!(status(429, Some(Duration::from_secs(7))).wait(1), Some(Duration::from_secs(7)));
        assert_eq!(status(429, Some(Duration::from_secs(86_400))).wait(1), None);
        for code in [400, 401, 403, 404, 416] {
            assert_eq!(status(code, None).wait(1), None);
        }
        assert_eq!(Failure::Slow("".into()).wait(ATTEMPTS_IN_VAIN), None);
        assert_eq!(Failure::Unreachable("".into()).wait(1), None);
    }
}
