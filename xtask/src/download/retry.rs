//! What headers say about ranges, validators and waiting; and how long to wait without them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::HeaderMap;

/// `Content-Range: bytes first-last/total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    /// `None` for `*`.
    pub(super) total: Option<u64>,
}

pub(super) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let (range, total) = text(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let range = ContentRange {
        first: first.trim().parse().ok()?,
        last: last.trim().parse().ok()?,
        total: match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        },
    };
    let in_order = range.first <= range.last && range.total.is_none_or(|total| range.last < total);
    in_order.then_some(range)
}

/// The length in `Content-Range: bytes */total`, which comes with 416.
pub(super) fn unsatisfied_total(headers: &HeaderMap) -> Option<u64> {
    let total = text(headers, "content-range")?.strip_prefix("bytes */")?;
    total.trim().parse().ok()
}

/// What can stand in `If-Range`: a strong entity tag, else the date of the last change (RFC 9110, 13.1.5).
pub(super) fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, "etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| text(headers, "last-modified")).map(str::to_owned)
}

/// `Retry-After` in seconds or as a date; a date in the past is no wait.
pub(super) fn after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, "retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = UNIX_EPOCH + Duration::from_secs(http_date(value)?);
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers may send.
fn http_date(value: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = value.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = MONTHS.find(words.next()?)? as u64 / 3 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|n| n.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next()? != "GMT" || !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from a year that begins in March, so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    const DAYS_TO_1970: u64 = 719_468; // The same count for 1 January 1970.
    Some((days - DAYS_TO_1970) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Exponential back-off with jitter: between half and all of `first * 2^(failures - 1)`, at most `max`.
///
/// The jitter keeps many machines that failed together from coming back together.
pub(super) fn backoff(first: Duration, max: Duration, failures: u32) -> Duration {
    let full = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max);
    // The hasher's keys are random in each process: good enough to spread waits, and no dependency.
    let bits = RandomState::new().build_hasher().finish();
    full.mul_f64(0.5 + 0.5 * (bits >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn ranges_are_read_or_refused() {
        let read = |value| content_range(&headers("content-range", value));
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(read("bytes 5-9/10"), range(5, 9, Some(10)));
        assert_eq!(read("bytes 5-9/*"), range(5, 9, None));
        for bad in ["bytes 9-5/10", "bytes 5-10/10", "items 5-9/10", "bytes */10", "bytes 5-/10"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(unsatisfied_total(&headers("content-range", "bytes */10")), Some(10));
    }

    #[test]
    fn weak_tags_cannot_vouch_for_ranges() {
        assert_eq!(validator(&headers("etag", "\"a1\"")).as_deref(), Some("\"a1\""));
        assert_eq!(validator(&headers("etag", "W/\"a1\"")), None);
    }

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        assert_eq!(http_date("06 Nov 1994"), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(after(&headers("retry-after", "7")), Some(Duration::from_secs(7)));
        let past = after(&headers("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(past, Some(Duration::ZERO));
        assert_eq!(after(&headers("retry-after", "soon")), None);
    }

    #[test]
    fn backoff_doubles_within_its_jitter_and_stops_at_the_cap() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(2));
        for failures in 1..40 {
            let full = Duration::from_millis(100 << (failures - 1).min(10)).min(max);
            let wait = backoff(first, max, failures);
            assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
        }
    }
}
