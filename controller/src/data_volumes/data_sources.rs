//! What DataSources stand for, and what they say of themselves. Pure; words are CDI's
//! (`pkg/controller/datasource-controller.go`).

use crds::cdi::{DataSource, DataSourceSource, DataSourceStatus, PvcSource, SourceRef};
use crds::kubevirt::{Condition, ConditionStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Write;
use super::known::Known;
use super::status::{self, Hitch};
use crate::ledger::VmKey;

/// Why a DataSource is not ready: one word, and a sentence.
type NotReady = (String, String);

/// Those that say something else than they should.
pub(super) fn missing(known: &Known, now: Timestamp) -> Vec<Write> {
    let stale = known.data_sources.iter().filter_map(|(key, data_source)| {
        if data_source.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let wanted = status(known, key, data_source, now);
        if data_source.status.as_ref() == Some(&wanted) {
            return None;
        }
        let mut told = DataSource::clone(data_source);
        told.status = Some(wanted);
        Some(Write::DataSource(Box::new(told)))
    });
    stale.collect()
}

/// The claim that a DataVolume of `namespace` is copied from.
pub(super) fn resolved(known: &Known, namespace: &str, of: &SourceRef) -> Result<PvcSource, Hitch> {
    let wrong = |why: String| Err(Hitch::Wrong(why));
    let SourceRef { kind, namespace: other, name, rest } = of;
    match kind.as_str() {
        "DataSource" => {}
        "" => return wrong("Missing sourceRef kind: write DataSource".to_owned()),
        kind => {
            let kind = net::shown(kind);
            return wrong(format!(
                "Unsupported sourceRef kind {kind}, currently only DataSource is supported"
            ));
        }
    }
    if name.is_empty() {
        return wrong("Missing sourceRef name".to_owned());
    }
    if let Some(field) = rest.keys().next() {
        let field = net::shown(field);
        return wrong(format!("sourceRef.{field} is not served without CDI: leave it out"));
    }
    let namespace = other.as_deref().filter(|other| !other.is_empty()).unwrap_or(namespace);
    let key = VmKey { namespace: namespace.to_owned(), name: name.clone() };
    let found = known.data_sources.get(&key);
    let found = found.ok_or_else(|| {
        Hitch::Waits(format!("DataSource {}/{} not found", key.namespace, key.name))
    })?;
    ready(known, &key, found).map_err(|(_, why)| {
        Hitch::Waits(format!("DataSource {}/{} is not ready: {why}", key.namespace, key.name))
    })
}

fn status(
    known: &Known,
    key: &VmKey,
    data_source: &DataSource,
    now: Timestamp,
) -> DataSourceStatus {
    let old = data_source.status.clone().unwrap_or_default();
    let of = |status| Condition::new("Ready", status);
    let (source, ready) = match ready(known, key, data_source) {
        Ok(pvc) => {
            let source = DataSourceSource { pvc: Some(pvc), ..DataSourceSource::default() };
            let why = "DataSource is ready to be consumed";
            (source, of(ConditionStatus::True).because("Ready", why))
        }
        Err((reason, why)) => {
            let ready = of(ConditionStatus::False).because(&reason, why);
            (DataSourceSource::default(), ready)
        }
    };
    let mut conditions = old.conditions;
    ready.merge_into(&mut conditions, Time(now));
    DataSourceStatus { source, conditions, rest: old.rest }
}

/// The claim that it stands for, once that can be copied.
fn ready(known: &Known, key: &VmKey, data_source: &DataSource) -> Result<PvcSource, NotReady> {
    let no = |reason: &str, why: &str| Err((reason.to_owned(), why.to_owned()));
    let mut at = key.clone();
    let mut source = &data_source.spec.source;
    if let Some(other) = &source.data_source {
        let namespace = other.namespace.as_deref().unwrap_or(&key.namespace);
        at = VmKey { namespace: namespace.to_owned(), name: other.name.clone() };
        if at.namespace != key.namespace {
            let why = "DataSource cannot reference a DataSource in another namespace";
            return no("CrossNamespaceReference", why);
        }
        if at == *key {
            return no("SelfReference", "DataSource cannot self-reference");
        }
        match known.data_sources.get(&at) {
            Some(found) => source = &found.spec.source,
            None => {
                return no(
                    "NotFound",
                    &format!("DataSource {}/{} not found", at.namespace, at.name),
                );
            }
        }
        if source.data_source.is_some() {
            let why = "DataSource reference chain exceeds maximum depth of 1";
            return no("MaxReferenceDepthReached", why);
        }
    }
    if source.snapshot.is_some() {
        let why = "source.snapshot is not served without CDI: make a claim of it, and name that";
        return no("NoSource", why);
    }
    let Some(pvc) = &source.pvc else { return no("NoSource", "No source PVC set") };
    let namespace = pvc.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or(at.namespace);
    let key = VmKey { namespace: namespace.clone(), name: pvc.name.clone() };
    match known.data_volumes.get(&key) {
        Some(data_volume) if status::phase(data_volume) == "Succeeded" => {}
        Some(data_volume) => {
            let phase = status::phase(data_volume);
            let reason = if phase.is_empty() { "Pending" } else { phase };
            return no(reason, &format!("Import DataVolume phase {phase}"));
        }
        None if known.claims.meta(&key).is_none() => return no("NotFound", "PVC not found"),
        None => {}
    }
    Ok(PvcSource { namespace: Some(namespace), name: pvc.name.clone(), ..PvcSource::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::shelf::Seen;
    use crate::storage::News;
    use crate::world::Event;

    fn data_source(namespace: &str, name: &str, source: Value) -> DataSource {
        serde_json::from_value(json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataSource",
            "metadata": {"namespace": namespace, "name": name}, "spec": {"source": source},
        }))
        .unwrap()
    }

    /// A DataVolume `golden/base` in this phase, and these DataSources.
    fn known(phase: &str, sources: Vec<DataSource>) -> Known {
        let mut known = Known::default();
        let base = json!({"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"namespace": "golden", "name": "base"}, "spec": {},
            "status": {"phase": phase}});
        let base = serde_json::from_value(base).unwrap();
        known.apply(&Event::Storage(News::DataVolume(Seen::all(vec![base]))));
        known.apply(&Event::Storage(News::DataSource(Seen::all(sources))));
        known
    }

    fn told(known: &Known, name: &str) -> (String, String) {
        let key = VmKey { namespace: "golden".to_owned(), name: name.to_owned() };
        let found = known.data_sources.get(&key).unwrap();
        let status = status(known, &key, found, Timestamp::UNIX_EPOCH);
        let ready = status.conditions[0].clone();
        (ready.reason.unwrap_or_default(), ready.message.unwrap_or_default())
    }

    #[test]
    fn a_name_is_ready_once_what_it_stands_for_is_filled() {
        let sources = || {
            vec![
                data_source("golden", "plain", json!({"pvc": {"name": "base"}})),
                data_source("golden", "alias", json!({"dataSource": {"name": "plain"}})),
                data_source("golden", "far", json!({"dataSource": {"name": "alias"}})),
                data_source("golden", "own", json!({"dataSource": {"name": "own"}})),
                data_source(
                    "golden",
                    "out",
                    json!({"dataSource": {"namespace": "a", "name": "b"}}),
                ),
                data_source("golden", "absent", json!({"pvc": {"name": "none"}})),
                data_source("golden", "empty", json!({})),
                data_source("golden", "shot", json!({"snapshot": {"name": "s", "namespace": "a"}})),
            ]
        };
        let filled = known("Succeeded", sources());
        for (name, reason, words) in [
            ("plain", "Ready", "ready to be consumed"),
            ("alias", "Ready", "ready to be consumed"),
            ("far", "MaxReferenceDepthReached", "maximum depth of 1"),
            ("own", "SelfReference", "self-reference"),
            ("out", "CrossNamespaceReference", "in another namespace"),
            ("absent", "NotFound", "PVC not found"),
            ("empty", "NoSource", "No source PVC set"),
            ("shot", "NoSource", "not served without CDI"),
        ] {
            let (why, message) = told(&filled, name);
            assert!(why == reason && message.contains(words), "{name}: {why} {message}");
        }
        let filling = known("ImportInProgress", sources());
        let (why, message) = told(&filling, "alias");
        assert_eq!(why, "ImportInProgress");
        assert_eq!(message, "Import DataVolume phase ImportInProgress");
    }

    #[test]
    fn a_data_volume_is_copied_from_what_the_name_stands_for() {
        let known = known(
            "Succeeded",
            vec![data_source("golden", "plain", json!({"pvc": {"name": "base"}}))],
        );
        let of = |of: Value| {
            let found = resolved(&known, "shop", &serde_json::from_value(of).unwrap());
            found.map(|pvc| format!("{}/{}", pvc.namespace.unwrap(), pvc.name))
        };
        let full = json!({"kind": "DataSource", "namespace": "golden", "name": "plain"});
        assert_eq!(of(full), Ok("golden/base".to_owned()));
        let here = of(json!({"kind": "DataSource", "name": "plain"}));
        assert_eq!(here, Err(Hitch::Waits("DataSource shop/plain not found".to_owned())));
        for (wrong, words) in [
            (json!({"name": "a"}), "Missing sourceRef kind"),
            (json!({"kind": "Pod", "name": "a"}), "only DataSource is supported"),
            (json!({"kind": "DataSource"}), "Missing sourceRef name"),
            (json!({"kind": "DataSource", "name": "a", "uid": "b"}), "sourceRef.uid"),
        ] {
            match of(wrong.clone()) {
                Err(Hitch::Wrong(why)) => assert!(why.contains(words), "{wrong}: {why}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
