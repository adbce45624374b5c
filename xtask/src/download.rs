//! One file over HTTP(S): resumed where it broke off, retried with care, never longer than asked for.
//!
//! Knows nothing of what it fetches. What arrives whole is not yet what was meant: the caller checks the content.

mod head;
mod part;
mod retry;
#[cfg(test)]
mod tests;

use crate::progress::{Progress, bytes};
pub(crate) use head::head;
use part::Part;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::{Response, StatusCode};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

/// Limits of one download.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// A longer body is refused.
    pub(crate) max_bytes: u64,
    /// Time for name, connection and TLS.
    pub(crate) connect: Duration,
    /// Time for each read; a server that sends nothing for so long is given up and tried anew.
    pub(crate) read: Duration,
    /// Time for everything, waits included.
    pub(crate) total: Duration,
    /// Failed tries in a row, counted from the last one that brought a new byte.
    pub(crate) tries: u32,
    /// First wait between tries; doubled each time, up to `backoff_max`, each with jitter.
    pub(crate) backoff: Duration,
    /// Longest wait of our own, and longest `Retry-After` that is honoured.
    pub(crate) backoff_max: Duration,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are followed.
    pub(crate) proxy: ProxyFrom,
    /// What proves who asks; sent to the address itself, not to where it redirects.
    pub(crate) token: Option<Token>,
    /// What becomes of a part that no validator speaks for.
    pub(crate) unproven: Unproven,
}

/// A secret, which shows itself to a server alone.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Where the proxy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyFrom {
    /// The usual environment variables.
    Environment,
    /// No proxy; for tests, which talk to this machine only.
    #[cfg(test)]
    Nowhere,
}

/// What becomes of a part that no validator of the server speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// It goes on: the whole is checked against a hash, and fetched anew if that is wrong.
    GoesOn,
    /// It is thrown away: nothing would tell that it is of another file.
    Anew,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            connect: Duration::from_secs(15),
            read: Duration::from_secs(30),
            total: Duration::from_secs(3600),
            tries: 6,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            proxy: ProxyFrom::Environment,
            token: None,
            unproven: Unproven::GoesOn,
        }
    }
}

/// A download that failed. What had arrived stays in the `.part` file, except after [`Error::TooLarge`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// Something else than `http://` or `https://`.
    #[error("`{}` is not an address of the form http://... or https://...", without_secrets(url))]
    NotHttp { url: String },
    /// Not one byte ever came from the server.
    #[error("cannot reach `{}`", without_secrets(url))]
    Unreachable { url: String, source: ureq::Error },
    /// The server's answer makes another try pointless.
    #[error("`{}` answered {status}{}", without_secrets(url), said.as_deref().map(|said| format!(": {said}")).unwrap_or_default())]
    Refused { url: String, status: StatusCode, said: Option<String> },
    /// TLS, redirects or the address are at fault; another try would fail the same way.
    #[error("cannot fetch `{}`", without_secrets(url))]
    Request { url: String, source: ureq::Error },
    /// Every try failed.
    #[error("gave up `{}` after {tries} tries without a new byte, at {}", without_secrets(url), bytes(*at))]
    GaveUp { url: String, tries: u32, at: u64, source: Box<Fault> },
    /// The time for the whole download is over.
    #[error("gave up `{}` after {} s, at {}", without_secrets(url), limit.as_secs(), bytes(*at))]
    TooSlow { url: String, limit: Duration, at: u64, source: Box<Fault> },
    /// The body is longer than allowed.
    #[error("`{}` has {} or more, the limit is {}", without_secrets(url), bytes(*at_least), bytes(*limit))]
    TooLarge { url: String, at_least: u64, limit: u64 },
    /// The disk refused.
    #[error("cannot {what} `{}` at byte {at}", path.display())]
    Disk { what: &'static str, path: PathBuf, at: u64, source: std::io::Error },
}

/// What made one try fail in a way that another may not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Fault {
    /// No answer.
    #[error("no answer")]
    NoAnswer(#[source] ureq::Error),
    /// 408, 425, 429 or 5xx.
    #[error("the server answered {status}")]
    Busy { status: StatusCode, retry_after: Option<Duration> },
    /// The connection broke inside the body.
    #[error("the connection broke at {}", bytes(*at))]
    Cut { at: u64, source: std::io::Error },
    /// The body ended before its stated length.
    #[error("the body ended at {} of {}", bytes(*at), bytes(*expected))]
    Short { at: u64, expected: u64 },
    /// The answer does not continue what is there; begun anew.
    #[error("the server's file does not continue what had arrived: begun anew")]
    Changed,
    /// The server asked for a longer pause than we are ready to wait.
    #[error("the server asks to come back in {} s", .0.as_secs())]
    AskedToWait(Duration),
}

/// A finished download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Downloaded {
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Whether it began with bytes that an earlier run had left.
    pub(crate) resumed: bool,
}

/// Fetches `url` to `to` by way of `<to>.part`, which an earlier run may have left.
///
/// The caller holds a lock: two downloads to one path at once would spoil each other.
///
/// # Errors
///
/// See [`Error`]. Nothing is ever left at `to` unless the server said that the body is whole.
pub(crate) fn download(url: &str, to: &Path, options: &Options, progress: &mut Progress) -> Result<Downloaded, Error> {
    let agent = agent(url, options, Redirects::Followed)?;
    let mut part = Part::open(to, url, options.unproven)?;
    let left_by_earlier_run = part.len();
    let deadline = Instant::now() + options.total;
    // Only a new highest byte counts as progress: a server that always begins anew and
    // breaks off at the same place would otherwise keep us for ever.
    let (mut highest, mut failures, mut reached) = (part.len(), 0, false);
    let job = Try { url, agent: &agent, options, deadline };
    loop {
        let fault = match job.run(&mut part, progress, &mut reached) {
            Ok(()) => break,
            Err(TryError::Fatal(error)) => return Err(part.abandon(error)),
            Err(TryError::Again(fault)) => fault,
        };
        if part.len() > highest {
            (highest, failures) = (part.len(), 0);
        }
        failures += 1;
        if let Err(error) = job.pause(Failure { fault, failures, reached, at: part.len() }, progress) {
            return Err(part.abandon(error));
        }
    }
    let resumed = left_by_earlier_run > 0 && !part.restarted();
    let bytes = part.finish(to)?;
    progress.finish();
    Ok(Downloaded { bytes, resumed })
}

/// What is done about an answer that the file is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Redirects {
    Followed,
    Shown,
}

fn agent(url: &str, options: &Options, redirects: Redirects) -> Result<Agent, Error> {
    let scheme = url.split_once("://").map(|(s, _)| s.to_ascii_lowercase());
    let https = match scheme.as_deref() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(Error::NotHttp { url: url.into() }),
    };
    let config = Agent::config_builder()
        // What begins encrypted stays so: this holds for each redirect as well.
        .https_only(https)
        .http_status_as_error(false)
        .max_redirects(if redirects == Redirects::Followed { 10 } else { 0 })
        .timeout_resolve(Some(options.connect))
        .timeout_connect(Some(options.connect))
        .timeout_per_read(Some(options.read))
        .timeout_recv_response(Some(options.read))
        .max_idle_connections(0)
        .user_agent(concat!("cn-xtask/", env!("CARGO_PKG_VERSION")));
    let config = match options.proxy {
        ProxyFrom::Environment => config, // ureq reads the variables by itself.
        #[cfg(test)]
        ProxyFrom::Nowhere => config.proxy(None),
    };
    Ok(config.build().new_agent())
}

enum TryError {
    Again(Fault),
    Fatal(Error),
}

impl From<Error> for TryError {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// Where an answer's body belongs.
struct Placed {
    /// Length of the whole file, where the server says.
    total: Option<u64>,
}

/// A try that failed, and those before it.
struct Failure {
    fault: Fault,
    /// Failures in a row, this one included.
    failures: u32,
    /// Some try had an answer.
    reached: bool,
    /// Bytes so far.
    at: u64,
}

struct Try<'a> {
    url: &'a str,
    agent: &'a Agent,
    options: &'a Options,
    deadline: Instant,
}

impl Try<'_> {
    /// One request and its body.
    fn run(&self, part: &mut Part, progress: &mut Progress, reached: &mut bool) -> Result<(), TryError> {
        let response = self.request(part)?;
        *reached = true;
        let placed = match response.status() {
            StatusCode::OK => self.place_whole(&response, part)?,
            StatusCode::PARTIAL_CONTENT => self.place_rest(&response, part)?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // Perhaps only the rename was missing: the part is as long as the whole.
                if retry::unsatisfied_total(response.headers()) == Some(part.len()) {
                    return Ok(());
                }
                part.restart()?;
                return Err(TryError::Again(Fault::Changed));
            }
            status if is_passing(status) => {
                let retry_after = retry::after(response.headers());
                return Err(TryError::Again(Fault::Busy { status, retry_after }));
            }
            _ => return Err(refused(self.url, &response).into()),
        };
        progress.set_total(placed.total);
        progress.start_at(part.len());
        self.read_body(response, part, &placed, progress)
    }

    fn request(&self, part: &Part) -> Result<Response<Body>, TryError> {
        let mut request = self.prepare(self.agent.get(self.url));
        if part.len() > 0 {
            request = request.header("Range", format!("bytes={}-", part.len()));
            if let Some(validator) = part.validator() {
                request = request.header("If-Range", validator);
            }
        }
        request.call().map_err(|source| self.no_answer(source))
    }

    /// What every request has.
    fn prepare(&self, request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let request = request
            .config()
            .timeout_global(Some(left.max(Duration::from_millis(1))))
            .build()
            // A compressed transfer would make byte positions meaningless.
            .header("Accept-Encoding", "identity");
        match &self.options.token {
            Some(Token(token)) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn no_answer(&self, source: ureq::Error) -> TryError {
        match source {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::Protocol(_)
            | ureq::Error::BodyStalled => TryError::Again(Fault::NoAnswer(source)),
            _ => TryError::Fatal(Error::Request { url: self.url.into(), source }),
        }
    }

    /// 200: the body is the whole file, whatever we had asked for.
    fn place_whole(&self, response: &Response<Body>, part: &mut Part) -> Result<Placed, TryError> {
        let total = response.body().content_length();
        self.check_size(total.unwrap_or(0))?;
        if part.len() > 0 {
            part.restart()?;
        }
        part.describe(retry::validator(response.headers()), total)?;
        Ok(Placed { total })
    }

    /// 206: the body must go on where the part ends, in the same file.
    fn place_rest(&self, response: &Response<Body>, part: &mut Part) -> Result<Placed, TryError> {
        let range = retry::content_range(response.headers());
        let validator = retry::validator(response.headers());
        let fits =
            range.is_some_and(|r| r.first == part.len() && part.may_be(r.total)) && part.agrees(validator.as_deref());
        let Some(range) = range.filter(|_| fits) else {
            part.restart()?;
            return Err(TryError::Again(Fault::Changed));
        };
        self.check_size(range.total.unwrap_or(range.last))?;
        if part.len() == 0 {
            part.describe(validator, range.total)?;
        }
        Ok(Placed { total: range.total })
    }

    fn check_size(&self, at_least: u64) -> Result<(), TryError> {
        if at_least > self.options.max_bytes {
            return Err(Error::TooLarge { url: self.url.into(), at_least, limit: self.options.max_bytes }.into());
        }
        Ok(())
    }

    fn read_body(
        &self,
        response: Response<Body>,
        part: &mut Part,
        placed: &Placed,
        progress: &mut Progress,
    ) -> Result<(), TryError> {
        let mut reader = response.into_body().into_reader();
        let mut chunk = vec![0; 64 << 10];
        loop {
            let n = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let at = part.len();
                    return Err(TryError::Again(Fault::Cut { at, source }));
                }
            };
            if let Err(error) = self.check_size(part.len() + n as u64) {
                part.restart()?;
                return Err(error);
            }
            part.append(&chunk[..n])?;
            progress.at(part.len());
        }
        match placed.total {
            Some(expected) if part.len() < expected => Err(TryError::Again(Fault::Short { at: part.len(), expected })),
            Some(expected) if part.len() > expected => {
                part.restart()?;
                Err(TryError::Again(Fault::Changed))
            }
            _ => Ok(()),
        }
    }

    /// Sleeps before the next try, or says that there is none.
    fn pause(&self, failure: Failure, progress: &mut Progress) -> Result<(), Error> {
        let Failure { fault, failures, reached, at } = failure;
        let url = || self.url.to_owned();
        // A machine without a network should learn so in seconds.
        let tries = if reached { self.options.tries } else { self.options.tries.min(3) };
        let asked = match &fault {
            Fault::Busy { retry_after, .. } => *retry_after,
            _ => None,
        };
        if let Some(asked) = asked.filter(|asked| *asked > self.options.backoff_max) {
            let source = Box::new(Fault::AskedToWait(asked));
            let tries = failures;
            return Err(Error::GaveUp { url: url(), tries, at, source });
        }
        let own = retry::backoff(self.options.backoff, self.options.backoff_max, failures);
        let wait = asked.map_or(own, |asked| asked.max(own));
        if failures >= tries {
            return Err(match fault {
                Fault::NoAnswer(source) if !reached => Error::Unreachable { url: url(), source },
                fault => Error::GaveUp { url: url(), tries, at, source: Box::new(fault) },
            });
        }
        if Instant::now() + wait >= self.deadline {
            return Err(Error::TooSlow { url: url(), limit: self.options.total, at, source: Box::new(fault) });
        }
        let seconds = wait.as_secs_f64();
        progress.note(&format!("{fault}; trying again in {seconds:.1} s"));
        std::thread::sleep(wait);
        Ok(())
    }
}

/// An address without what may be a secret in it: user, password, query.
pub(crate) fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit('@').next().unwrap_or_default();
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
}

/// A final no, with what the server says about it, as hubs do.
fn refused(url: &str, response: &Response<Body>) -> Error {
    let said = response.headers().get("x-error-message").and_then(|text| text.to_str().ok());
    let said = said.map(|text| text.chars().take(200).collect());
    Error::Refused { url: url.into(), status: response.status(), said }
}

/// Answers that a later try may better.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
