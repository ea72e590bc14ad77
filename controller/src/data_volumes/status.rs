//! What a DataVolume says of itself, from what its claim says. Pure.
//!
//! | claim | `pod.phase` | phase |
//! |---|---|---|
//! | none | | `Pending` |
//! | waits for who uses it | | `WaitForFirstConsumer` |
//! | has no volume yet | | `Pending` |
//! | is bound | – | `PVCBound` |
//! | | `Pending` | `ImportScheduled`, `CloneScheduled`, `UploadScheduled` |
//! | | `Running` | `ImportInProgress`, `CloneInProgress`, `UploadReady` once it is |
//! | | `Succeeded` | `Succeeded` |
//! | | `Failed` | `Failed` |
//!
//! Words are CDI's (`pkg/controller/datavolume`), down to those of conditions.

use crds::cdi::notes::{
    CLONE, PHASE, POPULATED, PROGRESS, READY, RESTARTS, RUNNING, RUNNING_MESSAGE, RUNNING_REASON,
    SELECTED_NODE, SOURCE,
};
use crds::cdi::{DataVolume, DataVolumeStatus};
use crds::kubevirt::{Condition, ConditionStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// Why nothing goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Hitch {
    /// Something is to be done about it.
    Wrong(String),
    /// It will pass.
    Waits(String),
}

/// What is seen of a DataVolume.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    pub(super) data_volume: &'a DataVolume,
    /// Its claim, if it has one.
    pub(super) claim: Option<&'a PersistentVolumeClaim>,
    /// The claim gets its volume where its first user is.
    pub(super) waits_for_consumer: bool,
    pub(super) hitch: Option<Hitch>,
}

/// The phase that it has been told to be in.
pub(super) fn phase(data_volume: &DataVolume) -> &str {
    data_volume.status.as_ref().map_or("", |status| status.phase.as_str())
}

/// Whether a claim is not to be filled any more.
pub(super) fn is_filled(claim: &PersistentVolumeClaim) -> bool {
    let phase = note(claim, PHASE);
    phase == "Succeeded" || phase == "Failed" || claim.annotations().contains_key(POPULATED)
}

fn note<'a>(claim: &'a PersistentVolumeClaim, key: &str) -> &'a str {
    claim.annotations().get(key).map_or("", String::as_str)
}

/// The status as it should be.
pub(super) fn status(sight: &Sight<'_>, now: Timestamp) -> DataVolumeStatus {
    let old = sight.data_volume.status.clone().unwrap_or_default();
    let phase = next(sight, &old.phase);
    let mut conditions = old.conditions;
    for condition in [bound(sight), ready(phase, sight), running(sight)] {
        condition.merge_into(&mut conditions, Time(now));
    }
    let restarts = sight.claim.and_then(|claim| note(claim, RESTARTS).parse().ok());
    DataVolumeStatus {
        claim_name: sight.claim.map(ResourceExt::name_any).unwrap_or(old.claim_name),
        phase: phase.to_owned(),
        progress: progress(sight, phase),
        restart_count: restarts.or(old.restart_count),
        conditions,
        rest: old.rest,
    }
}

fn next(sight: &Sight<'_>, old: &str) -> &'static str {
    let Some(claim) = sight.claim else {
        return if old == "Succeeded" { "Succeeded" } else { "Pending" };
    };
    let is_upload = note(claim, SOURCE) == "upload";
    let pick = |import, clone, upload| match () {
        () if is_upload => upload,
        () if note(claim, CLONE).is_empty() => import,
        () => clone,
    };
    let is = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if claim.annotations().contains_key(POPULATED) && is == "Bound" {
        return "Succeeded";
    }
    match (is, note(claim, PHASE)) {
        (_, "Succeeded") => "Succeeded",
        (_, "Failed") | ("Lost", _) => "Failed",
        ("Bound", "Pending") => pick("ImportScheduled", "CloneScheduled", "UploadScheduled"),
        ("Bound", "Running") if is_upload && note(claim, READY) != "true" => "UploadScheduled",
        ("Bound", "Running") => pick("ImportInProgress", "CloneInProgress", "UploadReady"),
        // What it said once is not taken back because the claim has lost a note.
        ("Bound", "") if old == "Succeeded" => "Succeeded",
        ("Bound", _) => "PVCBound",
        _ if sight.waits_for_consumer && note(claim, SELECTED_NODE).is_empty() => {
            "WaitForFirstConsumer"
        }
        _ => "Pending",
    }
}

fn progress(sight: &Sight<'_>, phase: &str) -> String {
    let said = sight.claim.map_or("", |claim| note(claim, PROGRESS));
    match phase {
        "Succeeded" => "100.0%".to_owned(),
        "ImportInProgress" | "CloneInProgress" | "UploadReady" if !said.is_empty() => {
            said.to_owned()
        }
        "Pending" | "WaitForFirstConsumer" => String::new(),
        _ => "N/A".to_owned(),
    }
}

fn bound(sight: &Sight<'_>) -> Condition {
    let of = |status| Condition::new("Bound", status);
    let Some(claim) = sight.claim else {
        return of(ConditionStatus::Unknown).because("NotFound", "No PVC found");
    };
    let name = claim.name_any();
    match claim.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Bound") => of(ConditionStatus::True).because("Bound", format!("PVC {name} Bound")),
        Some("Lost") => of(ConditionStatus::False).because("ClaimLost", "Claim Lost"),
        _ => of(ConditionStatus::False).because("Pending", format!("PVC {name} Pending")),
    }
}

fn ready(phase: &str, sight: &Sight<'_>) -> Condition {
    let is = if phase == "Succeeded" { ConditionStatus::True } else { ConditionStatus::False };
    let mut ready = Condition::new("Ready", is);
    let runs = sight.claim.is_some_and(|claim| note(claim, RUNNING) == "true");
    if runs && is == ConditionStatus::False {
        ready.reason = Some("TransferRunning".to_owned());
    }
    ready
}

fn running(sight: &Sight<'_>) -> Condition {
    let of = |status| Condition::new("Running", status);
    match &sight.hitch {
        Some(Hitch::Wrong(message)) => {
            return of(ConditionStatus::False).because("Error", message.clone());
        }
        Some(Hitch::Waits(message)) => {
            return of(ConditionStatus::False).because("Pending", message.clone());
        }
        None => {}
    }
    let Some(claim) = sight.claim else { return of(ConditionStatus::False) };
    let is =
        if note(claim, RUNNING) == "true" { ConditionStatus::True } else { ConditionStatus::False };
    let mut running = of(is);
    let said = |key| Some(note(claim, key).to_owned()).filter(|text| !text.is_empty());
    (running.reason, running.message) = (said(RUNNING_REASON), said(RUNNING_MESSAGE));
    running
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn data_volume(phase: &str) -> DataVolume {
        serde_json::from_value(json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "root", "namespace": "default"},
            "spec": {}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn claim(phase: &str, notes: Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "root", "annotations": notes}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn told(claim: Option<&PersistentVolumeClaim>, waits_for_consumer: bool) -> DataVolumeStatus {
        let data_volume = data_volume("");
        let sight = Sight { data_volume: &data_volume, claim, waits_for_consumer, hitch: None };
        status(&sight, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_phase_follows_from_the_claim_and_what_its_agent_says() {
        let none = json!({});
        let said = |phase: &str| json!({ PHASE: phase });
        let clone = |phase: &str| json!({ PHASE: phase, CLONE: "default/a" });
        let upload =
            |phase: &str, ready: &str| json!({ PHASE: phase, SOURCE: "upload", READY: ready });
        let table = [
            ("Pending", none.clone(), false, "Pending", ""),
            ("Pending", none.clone(), true, "WaitForFirstConsumer", ""),
            ("Pending", json!({ SELECTED_NODE: "n1" }), true, "Pending", ""),
            ("Bound", none.clone(), true, "PVCBound", "N/A"),
            ("Bound", said("Pending"), true, "ImportScheduled", "N/A"),
            ("Bound", clone("Pending"), true, "CloneScheduled", "N/A"),
            ("Bound", said("Running"), true, "ImportInProgress", "N/A"),
            (
                "Bound",
                json!({ PHASE: "Running", PROGRESS: "12.34%" }),
                false,
                "ImportInProgress",
                "12.34%",
            ),
            ("Bound", clone("Running"), true, "CloneInProgress", "N/A"),
            ("Bound", upload("Pending", ""), true, "UploadScheduled", "N/A"),
            ("Bound", upload("Running", ""), true, "UploadScheduled", "N/A"),
            ("Bound", upload("Running", "true"), true, "UploadReady", "N/A"),
            ("Bound", upload("Succeeded", ""), true, "Succeeded", "100.0%"),
            ("Bound", said("Succeeded"), true, "Succeeded", "100.0%"),
            ("Bound", said("Failed"), true, "Failed", "N/A"),
            ("Bound", json!({ POPULATED: "root" }), false, "Succeeded", "100.0%"),
            ("Lost", said("Running"), false, "Failed", "N/A"),
        ];
        for (is, notes, waits, phase, progress) in table {
            let claim = claim(is, notes.clone());
            let told = told(Some(&claim), waits);
            assert_eq!(
                (told.phase.as_str(), told.progress.as_str()),
                (phase, progress),
                "{is} {notes}"
            );
            assert_eq!(told.claim_name, "root");
        }
        assert_eq!(told(None, false).phase, "Pending");
    }

    #[test]
    fn conditions_are_in_the_importers_words() {
        let one = |status: &DataVolumeStatus, kind: &str| {
            let one = status.conditions.iter().find(|one| one.r#type == kind).unwrap().clone();
            let text = |text: Option<String>| text.unwrap_or_default();
            format!("{:?} {} {}", one.status, text(one.reason), text(one.message))
        };
        let nothing = told(None, false);
        assert_eq!(one(&nothing, "Bound"), "Unknown NotFound No PVC found");
        assert_eq!(one(&nothing, "Ready"), "False  ");
        let at_work = json!({ PHASE: "Running", RUNNING: "true",
            RUNNING_REASON: "Pod is running", RESTARTS: "2" });
        let at_work = told(Some(&claim("Bound", at_work)), false);
        assert_eq!(one(&at_work, "Bound"), "True Bound PVC root Bound");
        assert_eq!(one(&at_work, "Running"), "True Pod is running ");
        assert_eq!(one(&at_work, "Ready"), "False TransferRunning ");
        assert_eq!(at_work.restart_count, Some(2));
        let done = told(Some(&claim("Bound", json!({ PHASE: "Succeeded" }))), false);
        assert_eq!(one(&done, "Ready"), "True  ");
    }

    #[test]
    fn what_keeps_it_is_told_as_an_error_or_as_a_wait() {
        let data_volume = data_volume("");
        let told = |hitch| {
            let sight = Sight {
                data_volume: &data_volume,
                claim: None,
                waits_for_consumer: false,
                hitch: Some(hitch),
            };
            let status = status(&sight, Timestamp::UNIX_EPOCH);
            let running =
                status.conditions.into_iter().find(|one| one.r#type == "Running").unwrap();
            (running.status, running.reason.unwrap())
        };
        let wrong = told(Hitch::Wrong("x".to_owned()));
        assert_eq!(wrong, (ConditionStatus::False, "Error".to_owned()));
        let waits = told(Hitch::Waits("x".to_owned()));
        assert_eq!(waits, (ConditionStatus::False, "Pending".to_owned()));
    }
}
