//! How long a guest's file systems may stand still: `unfreezeTimeout`, as Go writes durations.
//! Pure.
//!
//! What is not said is five minutes, `0s` is for ever. When the time is over stands on the
//! instance before the guest is asked ([`crds::annotations::UNFREEZE_AT`]), and the agent of
//! its node keeps it, and takes it off.

use std::time::Duration;

use crds::annotations::{UNFREEZE_AT, UNFREEZE_NEVER};
use crds::kubevirt::VirtualMachineInstance;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
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

/// The patch of an instance whose guest is to be frozen for so long from now on; `None`: it
/// says that already. An earlier time holds: its guest may stand still for somebody else.
pub(super) fn patch(
    found: &VirtualMachineInstance,
    time: Option<Duration>,
    now: Timestamp,
) -> Option<Value> {
    let said = found.annotations().get(UNFREEZE_AT).map(String::as_str);
    let stands = said.and_then(|said| said.parse::<Timestamp>().ok());
    let wanted = time.and_then(|time| SignedDuration::try_from(time).ok());
    let wanted = wanted.and_then(|time| now.checked_add(time).ok());
    let until = stands.into_iter().chain(wanted).min();
    let until = until.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let until = until.as_deref().unwrap_or(UNFREEZE_NEVER);
    (said != Some(until)).then(|| {
        json!({ "metadata": {
            "uid": found.uid(), "resourceVersion": found.resource_version(),
            "annotations": { UNFREEZE_AT: until },
        } })
    })
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
    fn when_the_time_is_over_stands_on_the_instance_and_is_never_put_off() {
        let now = Timestamp::from_second(100).unwrap();
        let at = |said: Option<&str>, time| {
            let found = json!({
                "metadata": { "name": "till", "uid": "u1", "resourceVersion": "7",
                    "annotations": said.map(|said| json!({ UNFREEZE_AT: said })) },
                "spec": { "domain": { "devices": {} } },
            });
            let patch = patch(&serde_json::from_value(found).unwrap(), time, now)?;
            assert_eq!(patch["metadata"]["resourceVersion"], "7", "of what was looked at");
            Some(patch["metadata"]["annotations"][UNFREEZE_AT].as_str()?.to_owned())
        };
        let soon = "1970-01-01T00:02:00Z";
        assert_eq!(at(None, seconds(20)).as_deref(), Some(soon));
        assert_eq!(at(None, None).as_deref(), Some(UNFREEZE_NEVER));
        assert_eq!(at(Some("1970-01-01T00:03:00Z"), seconds(20)).as_deref(), Some(soon));
        assert_eq!(at(Some(UNFREEZE_NEVER), seconds(20)).as_deref(), Some(soon));
        assert_eq!(at(Some(soon), seconds(60)), None, "it may stand still until then already");
        assert_eq!(at(Some(soon), None), None);
        let over = "1970-01-01T00:01:00Z";
        assert_eq!(at(Some(over), seconds(60)), None, "its agent has it go on first");
    }
}
