//! All that is missing, from all that is known. Pure.

use std::sync::Arc;

use crds::cdi::DataVolume;
use crds::cdi::notes::{IMPORTER, PHASE, SELECTED_NODE, SOURCE, UPLOAD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::grants::Grant;
use super::known::Known;
use super::status::{self, Hitch, Sight};
use super::{Write, claim, data_sources, importer, provision, templates};
use crate::ledger::VmKey;
use crate::storage::{is_owned_by, waits};
use crate::warning::Warning;

pub(super) fn missing(known: &Known, now: Timestamp) -> Vec<Write> {
    let mut writes = templates::missing(known);
    writes.extend(selected(known));
    writes.extend(provision::missing(known));
    if known.has_importer == Some(false) {
        writes.extend(known.claims.iter().filter_map(|(_, claim)| not_taken(claim)));
    }
    if known.has_importer == Some(false) {
        writes.extend(data_sources::missing(known, now));
    }
    if known.serves == Some(true) && known.has_importer == Some(false) {
        for (key, data_volume) in known.data_volumes.iter() {
            if data_volume.metadata.deletion_timestamp.is_none() {
                writes.extend(of_data_volume(known, key, data_volume, now));
            }
        }
    }
    writes
}

/// What the rounds chose and is not written yet.
fn selected(known: &Known) -> Vec<Write> {
    let chosen = known.selections.values().filter_map(|one| {
        let claim = known.claims.get(&one.claim)?;
        let is_it = claim.metadata.uid.as_ref() == Some(&one.uid);
        let is_open = !claim.annotations().contains_key(SELECTED_NODE)
            && claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_none());
        (is_it && is_open)
            .then(|| noted(&one.claim, claim, json!({}), json!({ SELECTED_NODE: one.node })))
    });
    chosen.collect()
}

fn noted(key: &VmKey, claim: &PersistentVolumeClaim, labels: Value, annotations: Value) -> Write {
    Write::Note {
        claim: key.clone(),
        uid: claim.uid().unwrap_or_default(),
        version: claim.resource_version().unwrap_or_default(),
        labels,
        annotations,
    }
}

fn of_data_volume(
    known: &Known,
    key: &VmKey,
    data_volume: &Arc<DataVolume>,
    now: Timestamp,
) -> Vec<Write> {
    let mut writes = Vec::new();
    let claim = known.claims.get(key).map(|claim| &**claim);
    let is_going = claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_some());
    let is_unclear = known.claims.is_unreadable(key);
    let mut hitch = None;
    let mut seen = None;
    match claim {
        Some(claim) if is_ours(data_volume, claim) => {
            seen = Some(claim);
            // Nor is one that was filled, and has lost the note that says so.
            let is_done = status::phase(data_volume) == "Succeeded" && !status::is_filled(claim);
            if is_done {
                let message = "its claim does not say any more that it is filled: it is not \
                               filled again, since what is in it may be in use";
                hitch = Some(Hitch::Wrong(message.to_owned()));
            } else if !is_going {
                hitch = order(known, key, claim, &mut writes);
            }
        }
        Some(claim) if is_of_another(claim) => {
            let message = format!("PVC {} of an earlier DataVolume is being deleted", key.name);
            hitch = Some(Hitch::Waits(message));
            // A garbage collector does that too, in its own time, which for kinds that are
            // new to it is long.
            if !is_going {
                let uid = claim.uid().unwrap_or_default();
                writes.push(Write::RemoveClaim { claim: key.clone(), uid });
            }
        }
        Some(_) => {
            let message =
                format!("Resource {:?} already exists and is not managed by DataVolume", key.name);
            hitch = Some(Hitch::Wrong(message));
        }
        None if is_unclear => {}
        // What succeeded and lost its claim is not filled again behind anybody's back.
        None if status::phase(data_volume) == "Succeeded" => {
            hitch = Some(Hitch::Wrong("its claim was deleted: make it anew".to_owned()));
        }
        None => match claim::of(data_volume, known, now) {
            Ok(claim) => writes.push(Write::Claim(Box::new(claim))),
            Err(why) => {
                writes.extend(question(known, data_volume, now));
                hitch = Some(why);
            }
        },
    }
    let waits_for_consumer = seen.is_some_and(|claim| {
        known.class_of(claim).is_some_and(waits) && !provision::is_immediate(claim)
    });
    let sight = Sight { data_volume, claim: seen, waits_for_consumer, hitch };
    let wanted = status::status(&sight, now);
    if data_volume.status.as_ref() != Some(&wanted) {
        let mut told = DataVolume::clone(data_volume);
        told.status = Some(wanted);
        writes.push(Write::Status(Box::new(told)));
    }
    writes
}

/// What is to be asked before a DataVolume has a claim.
fn question(known: &Known, data_volume: &DataVolume, now: Timestamp) -> Option<Write> {
    let way = claim::way(data_volume, known)?;
    let is_open =
        matches!(known.grants.get(&way, now), Grant::Unknown | Grant::Refused { again: true });
    is_open.then_some(Write::Ask(way))
}

/// What is told of a claim that somebody wants to upload to, and that no DataVolume has made.
/// The reason is one that virtctl looks for: it waits for minutes otherwise.
fn not_taken(claim: &PersistentVolumeClaim) -> Option<Write> {
    let notes = claim.annotations();
    let is_alone = notes.contains_key(UPLOAD) && !notes.contains_key(SOURCE);
    let message = "nothing is uploaded to a claim alone without CDI: delete it, and have \
         a DataVolume make it (virtctl image-upload dv)";
    is_alone.then(|| {
        Write::Tell(Warning {
            about: claim.object_ref(&()),
            reason: "ProvisioningFailed".to_owned(),
            message: message.to_owned(),
        })
    })
}

/// Whether a claim is the one of a DataVolume: made for it, or left for it by who filled it.
fn is_ours(data_volume: &DataVolume, claim: &PersistentVolumeClaim) -> bool {
    let meant = claim.annotations().get(crds::cdi::notes::POPULATED);
    is_owned_by(claim, data_volume.metadata.uid.as_ref())
        || meant == data_volume.metadata.name.as_ref() && meant.is_some()
}

/// Whether a claim goes with a DataVolume that was here before.
fn is_of_another(claim: &PersistentVolumeClaim) -> bool {
    claim.owner_references().iter().any(|owner| owner.kind == "DataVolume")
}

/// Has a claim that is bound filled, by somebody who can; why that cannot be.
fn order(
    known: &Known,
    key: &VmKey,
    claim: &PersistentVolumeClaim,
    writes: &mut Vec<Write>,
) -> Option<Hitch> {
    let named = claim.labels().get(IMPORTER);
    let ended = status::is_filled(claim);
    if ended && named.is_some() {
        // It is the agent's no longer.
        writes.push(noted(key, claim, json!({ IMPORTER: null }), json!({})));
    }
    if ended || named.is_some() {
        return None;
    }
    let volume = known.volume_of(claim)?;
    match importer::choose(known, claim, volume) {
        Ok(node) => {
            let annotations = json!({ PHASE: "Pending" });
            writes.push(noted(key, claim, json!({ IMPORTER: node }), annotations));
            None
        }
        Err(why) => Some(why),
    }
}
