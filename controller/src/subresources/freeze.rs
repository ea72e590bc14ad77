//! How long a guest's file systems may stand still: `unfreezeTimeout`, as Go writes durations.
//! Pure.
//!
//! What is not said is five minutes, `0s` is for ever. When the time is over stands on the
//! instance before the guest is asked ([`crds::annotations::UNFREEZE_AT`]), and its agent
//! keeps it.

use std::time::Duration;

use crds::annotations::UNFREEZE_AT;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::refusal::Refusal;

/// What holds where nothing is said.
const DEFAULT: Duration = Duration::from_secs(300);
/// The longest time: a guest that waits for its disk does not live as long.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long; `None`: until somebody says so.
///
/// # Errors
/// The body is no such thing.
pub(super) fn read(body: &[u8]) -> Result<Option<Duration>, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Said {
        unfreeze_timeout: Option<String>,
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Some(DEFAULT));
    }
    let said: Option<Said> = serde_json::from_slice(body).map_err(|error| {
        Refusal::bad_request(format!("Can not unmarshal Request body to struct, error: {error}"))
    })?;
    let Some(text) = said.and_then(|said| said.unfreeze_timeout) else { return Ok(Some(DEFAULT)) };
    let time = duration(&text).filter(|time| *time <= LONGEST).ok_or_else(|| {
        let said = net::shown(&text);
        Refusal::bad_request(format!(
            "unfreezeTimeout {said:?}: write a duration of 24h at most, such as 5m or 1m30s"
        ))
    })?;
    Ok((!time.is_zero()).then_some(time))
}

/// The patch of an instance whose guest is to be frozen for so long from now on.
pub(super) fn patch(time: Option<Duration>, uid: &str, now: Timestamp) -> Value {
    let until = time.and_then(|time| SignedDuration::try_from(time).ok());
    let until = until.and_then(|time| now.checked_add(time).ok());
    let until = until.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    json!({ "metadata": { "uid": uid, "annotations": { UNFREEZE_AT: until } } })
}

/// What Go's `time.ParseDuration` reads, but for signs.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() || rest.len() == text.len() {
        let digits = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|one: char| one.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Option<Duration> {
        Some(Duration::from_secs(count))
    }

    #[test]
    fn a_time_is_what_go_writes() {
        for (text, expected) in [
            ("5m0s", seconds(300)),
            ("1h2m3s", seconds(3723)),
            ("1.5m", seconds(90)),
            ("1500ms", Some(Duration::from_millis(1500))),
            ("0", seconds(0)),
            ("", None),
            ("5", None),
            ("m", None),
            ("-5m", None),
            ("5 m", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_five_minutes_and_nothing_is_for_ever() {
        let said = |body: &str| read(body.as_bytes()).unwrap();
        for body in ["", "null", "{}", r#"{"unfreezeTimeout":null}"#] {
            assert_eq!(said(body), Some(DEFAULT), "{body}");
        }
        assert_eq!(said(r#"{"unfreezeTimeout":"30s"}"#), seconds(30));
        assert_eq!(said(r#"{"unfreezeTimeout":"0s"}"#), None);
        for body in [r#"{"unfreezeTimeout":"soon"}"#, r#"{"unfreezeTimeout":"25h"}"#, "["] {
            assert_eq!(read(body.as_bytes()).unwrap_err().code, 400, "{body}");
        }
    }

    #[test]
    fn when_the_time_is_over_stands_on_the_instance() {
        let now = Timestamp::from_second(100).unwrap();
        let at = |time| patch(time, "u1", now)["metadata"]["annotations"][UNFREEZE_AT].clone();
        assert_eq!(at(seconds(20)), json!("1970-01-01T00:02:00Z"));
        assert_eq!(at(None), Value::Null, "an earlier one counts no more");
    }
}
