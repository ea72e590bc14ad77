//! Events have two faces.
//!
//! kubectl reads `v1` events, today's recorders write `events.k8s.io/v1`. They are one collection,
//! stored in the core form; this is the renaming between the two, field by field.

use serde_json::Value;

/// Field in `v1`, field in `events.k8s.io/v1`.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(crate) fn to_events_v1(event: &mut Value) {
    event["apiVersion"] = "events.k8s.io/v1".into();
    rename(event, |(core, new)| (core, new));
}

pub(crate) fn to_core(event: &mut Value) {
    event["apiVersion"] = "v1".into();
    rename(event, |(core, new)| (new, core));
}

fn rename(
    event: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(event) = event.as_object_mut() else { return };
    for (from, to) in NAMES.iter().copied().map(direction) {
        if let Some(value) = event.shift_remove(from) {
            event.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_keeps_everything_on_the_way_there_and_back() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "message": "hello", "type": "Normal",
            "involvedObject": {"name": "a"}, "reportingComponent": "c", "reportingInstance": "i"});
        let mut event = core.clone();
        to_events_v1(&mut event);
        assert_eq!(event["note"], "hello");
        assert_eq!(event["regarding"]["name"], "a");
        assert!(event.get("message").is_none());
        to_core(&mut event);
        assert_eq!(event, core);
    }
}
