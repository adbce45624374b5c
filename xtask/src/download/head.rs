//! What a server says about a file, without its body.

use super::{Error, Failure, Fault, Options, Redirects, Try, TryError, agent, is_passing, refused, retry};
use crate::progress::Progress;
use std::time::Instant;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

/// Relative redirects that are followed: repositories that were renamed, perhaps more than once.
const HOPS: u32 = 5;

/// The headers of the answer to a HEAD request, tried again as a download is.
///
/// A redirect within the server is followed, one to another server is not: its headers are those of the file.
///
/// # Errors
///
/// See [`Error`].
pub(crate) fn head(url: &str, options: &Options, progress: &mut Progress) -> Result<HeaderMap, Error> {
    let agent = agent(url, options, Redirects::Shown)?;
    let deadline = Instant::now() + options.total;
    let (mut url, mut hops, mut failures, mut reached) = (url.to_owned(), 0, 0, false);
    loop {
        let job = Try { url: &url, agent: &agent, options, deadline };
        match ask(&job, &agent, &mut reached) {
            Ok(response) => match within_server(&response) {
                Some(path) if hops < HOPS => {
                    hops += 1;
                    url = joined(&url, path);
                }
                _ => return Ok(response.into_parts().0.headers),
            },
            Err(TryError::Fatal(error)) => return Err(error),
            Err(TryError::Again(fault)) => {
                failures += 1;
                job.pause(Failure { fault, failures, reached, at: 0 }, progress)?;
            }
        }
    }
}

fn ask(job: &Try<'_>, agent: &Agent, reached: &mut bool) -> Result<Response<Body>, TryError> {
    let response = job.prepare(agent.head(job.url)).call().map_err(|source| job.no_answer(source))?;
    *reached = true;
    match response.status() {
        status if is_passing(status) => {
            Err(TryError::Again(Fault::Busy { status, retry_after: retry::after(response.headers()) }))
        }
        status if status.is_success() || status.is_redirection() => Ok(response),
        _ => Err(refused(job.url, &response).into()),
    }
}

/// Where on the same server the file is.
fn within_server(response: &Response<Body>) -> Option<&str> {
    let location = response.headers().get("location").filter(|_| response.status().is_redirection())?;
    location.to_str().ok().filter(|path| path.starts_with('/') && !path.starts_with("//"))
}

/// The address of `path` on the server of `url`.
fn joined(url: &str, path: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    format!("{}{path}", &url[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_behind_the_server() {
        assert_eq!(joined("http://a:1/b/c?d", "/e"), "http://a:1/e");
        assert_eq!(joined("https://a", "/e"), "https://a/e");
    }
}
