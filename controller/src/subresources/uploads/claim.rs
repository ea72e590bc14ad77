//! Whether a claim takes a disk, by what it says; pure. Words are CDI's
//! (`pkg/uploadproxy/uploadproxy.go`) where it has some.

use crds::cdi::notes::{IMPORTER, PHASE, READY, RUNNING_MESSAGE, UPLOAD};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;

use super::Target;

/// What a claim says.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It does not take any, and why not.
    Never(String),
    /// It will, and what is missing.
    NotYet(String),
    /// Here.
    Waits(Target),
}

/// What the claim of this name says.
pub(super) fn state(name: &str, claim: Option<&PersistentVolumeClaim>) -> State {
    let Some(claim) = claim else {
        return State::Never(format!("rejecting Upload Request for PVC {name} that doesn't exist"));
    };
    let note = |key: &str| claim.annotations().get(key).map_or("", String::as_str);
    if !claim.annotations().contains_key(UPLOAD) {
        return State::Never(format!("PVC {name} is not an upload target"));
    }
    match note(PHASE) {
        "Succeeded" => {
            return State::Never(format!(
                "rejecting Upload Request for PVC {name} that already finished uploading"
            ));
        }
        "Failed" => {
            let why = note(RUNNING_MESSAGE);
            return State::Never(format!("PVC {name} has failed, make it anew: {why}"));
        }
        _ => {}
    }
    match claim.labels().get(IMPORTER) {
        Some(node) if note(READY) == "true" => {
            State::Waits(Target { node: node.clone(), uid: claim.uid().unwrap_or_default() })
        }
        _ => State::NotYet(format!("PVC {name} is not ready for an upload yet")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(notes: Value, node: Option<&str>) -> State {
        let labels = node.map(|node| json!({ IMPORTER: node }));
        let claim = serde_json::from_value(json!({"metadata":
            {"name": "root", "uid": "u1", "annotations": notes, "labels": labels}}));
        state("root", Some(&claim.unwrap()))
    }

    #[test]
    fn a_claim_takes_a_disk_while_an_agent_says_so() {
        let ready = json!({ UPLOAD: "", PHASE: "Running", READY: "true" });
        let here = Target { node: "n1".to_owned(), uid: "u1".to_owned() };
        assert_eq!(of(ready.clone(), Some("n1")), State::Waits(here));
        for (notes, node) in [
            (ready, None),
            (json!({ UPLOAD: "", PHASE: "Pending" }), Some("n1")),
            (json!({ UPLOAD: "", PHASE: "Running", READY: "false" }), Some("n1")),
        ] {
            assert!(matches!(of(notes.clone(), node), State::NotYet(_)), "{notes}");
        }
    }

    #[test]
    fn what_takes_none_says_why() {
        let told = |state| match state {
            State::Never(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(told(state("root", None)).contains("doesn't exist"));
        let ready = json!({ PHASE: "Running", READY: "true" });
        assert!(told(of(ready, Some("n1"))).contains("is not an upload target"));
        let done = json!({ UPLOAD: "", PHASE: "Succeeded" });
        assert!(told(of(done, None)).contains("already finished uploading"));
        let failed = json!({ UPLOAD: "", PHASE: "Failed", RUNNING_MESSAGE: "too large" });
        assert!(told(of(failed, None)).contains("too large"));
    }
}
