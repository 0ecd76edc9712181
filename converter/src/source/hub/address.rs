//! Addresses and waits, as headers of HTTP give them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::{HeaderMap, Uri};

/// Scheme, host and port of a URL of HTTP.
pub(super) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_lowercase();
    let port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some((scheme, uri.host()?.to_lowercase(), uri.port_u16().unwrap_or(port)))
}

/// The URL that `location` is, where `base` is the one that it was found at.
pub(super) fn joined(base: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_string();
    }
    let Some((scheme, rest)) = base.split_once("://") else { return location.to_string() };
    if let Some(host) = location.strip_prefix("//") {
        return format!("{scheme}://{host}");
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let host = path.split('/').next().unwrap_or_default();
    if location.starts_with('/') {
        return format!("{scheme}://{host}{location}");
    }
    let folder = path.rsplit_once('/').map_or(host, |(folder, _)| folder);
    format!("{scheme}://{folder}/{location}")
}

/// How long the hub asks to wait: by `Retry-After`, or by the end of the time over which it counts requests.
pub(super) fn wait_of(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let by_header = text("retry-after").and_then(|text| {
        let text = text.trim();
        text.parse().ok().or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
            Some(seconds_of(text)?.saturating_sub(now))
        })
    });
    let by_limit = || {
        let mut fields = text("ratelimit")?.split(';').map(str::trim);
        let is_used_up = fields.clone().any(|field| field == "r=0");
        let seconds: u64 = fields.find_map(|field| field.strip_prefix("t="))?.parse().ok()?;
        is_used_up.then_some(seconds + 1)
    };
    by_header.or_else(by_limit).map(Duration::from_secs)
}

/// Seconds since 1970 of a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn seconds_of(date: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, date) = date.split_once(", ")?;
    let fields: Vec<&str> = date.split(' ').collect();
    let [day, month, year, time, "GMT"] = fields[..] else { return None };
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at % 3 == 0)? as u64 / 3 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let parts: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = parts[..] else { return None };
    if !(1970..=9999).contains(&year)
        || !(1..=31).contains(&day)
        || hours > 23
        || minutes > 59
        || seconds > 60
    {
        return None;
    }
    // Years that begin in March have the odd day at their end.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(a).is_some() && origin(a) == origin(b);
        assert!(same("https://huggingface.co", "https://HuggingFace.co:443/a/b?c"));
        for other in [
            "http://huggingface.co/a",
            "https://huggingface.co:444/a",
            "https://cdn.huggingface.co/a",
            "https://huggingface.co.evil.com/a",
            "https://evil.com/huggingface.co",
            "https://huggingface.co@evil.com/a",
            "file:///etc/passwd",
            "/a",
        ] {
            assert!(!same("https://huggingface.co", other), "{other}");
        }
    }

    #[test]
    fn a_location_is_found_from_where_it_was_given() {
        for (location, expected) in [
            ("http://x/y", "http://x/y"),
            ("//x/y", "https://x/y"),
            ("/y?z", "https://h:1/y?z"),
            ("y", "https://h:1/a/y"),
        ] {
            assert_eq!(joined("https://h:1/a/b?c=/d", location), expected);
        }
        assert_eq!(joined("https://h", "y"), "https://h/y");
    }

    #[test]
    fn dates_are_read_as_http_writes_them() {
        assert_eq!(seconds_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds_of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds_of("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for wrong in
            ["", "x", "Sun, 06 Nov 1994", "Sun, 06 anF 1994 08:49:37 GMT", "Sun, 06 Nov 1969 08:49:37 GMT"]
        {
            assert_eq!(seconds_of(wrong), None, "{wrong}");
        }
    }
}
