//! Which node's agent fills a claim: one that has its volume, and that of the claim which it is
//! a copy of. Pure.

use crds::cdi::notes::{CLONE, PHASE, SELECTED_NODE, SOURCE};
use crds::kubevirt::SCHEDULABLE_LABEL;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use super::known::Known;
use super::status::Hitch;
use crate::ledger::VmKey;
use crds::affinity::{meets, terms};

/// The node that fills `claim`, which is bound to `volume`.
pub(super) fn choose(
    known: &Known,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Result<String, Hitch> {
    let mut volumes = vec![volume];
    if claim.annotations().contains_key(CLONE) {
        volumes.push(source(known, claim)?);
    }
    let nodes = known.nodes.iter().map(|(_, node)| &**node);
    let nodes = nodes.filter(|node| {
        node.labels().get(SCHEDULABLE_LABEL).is_some_and(|text| text == "true")
            && node.metadata.deletion_timestamp.is_none()
    });
    let mut nodes: Vec<&Node> = nodes.collect();
    nodes.sort_by_key(|node| node.name_any());
    for volume in &volumes {
        is_usable(volume, nodes.len())?;
    }
    let chosen = claim.annotations().get(SELECTED_NODE);
    let serves = |node: &&Node| {
        let is_there = |volume: &&PersistentVolume| {
            terms(volume).is_none_or(|terms| terms.iter().any(|term| meets(node, term)))
        };
        volumes.iter().all(is_there)
    };
    let mut fit: Vec<_> = nodes.into_iter().filter(serves).map(ResourceExt::name_any).collect();
    if let Some(at) = chosen.and_then(|chosen| fit.iter().position(|name| name == chosen)) {
        return Ok(fit.swap_remove(at));
    }
    fit.into_iter().next().ok_or_else(|| {
        let names: Vec<_> = volumes.iter().map(|volume| volume.name_any()).collect();
        Hitch::Waits(format!("no node with an agent has {}", names.join(" and ")))
    })
}

/// The volume of the claim that is copied.
fn source<'a>(
    known: &'a Known,
    claim: &PersistentVolumeClaim,
) -> Result<&'a PersistentVolume, Hitch> {
    let said = claim.annotations().get(CLONE).map_or("", String::as_str);
    let (namespace, name) = said.split_once('/').unwrap_or_default();
    let key = VmKey { namespace: namespace.to_owned(), name: name.to_owned() };
    let source = known.claims.get(&key);
    let source = source.ok_or_else(|| Hitch::Waits(format!("Source PVC {said} not found")))?;
    let notes = source.annotations();
    if notes.contains_key(SOURCE) && notes.get(PHASE).is_none_or(|phase| phase != "Succeeded") {
        return Err(Hitch::Waits(format!("Source PVC {said} is being filled")));
    }
    known.volume_of(source).ok_or_else(|| Hitch::Waits(format!("Source PVC {said} is not bound")))
}

/// Whether agents can use a volume, and whether what one writes there is what others find.
fn is_usable(volume: &PersistentVolume, nodes: usize) -> Result<(), Hitch> {
    let name = volume.name_any();
    let spec = volume.spec.clone().unwrap_or_default();
    if spec.local.is_none() && spec.host_path.is_none() {
        return Err(Hitch::Wrong(format!(
            "persistentvolume {name:?} is not filled without CDI, since it is on no node: use one \
             of hostPath or local, or put the disk there and use the claim as it is"
        )));
    }
    let is_shared = || {
        let modes = spec.access_modes.iter().flatten();
        modes.into_iter().any(|mode| mode == "ReadWriteMany")
    };
    if nodes > 1 && terms(volume).is_none() && !is_shared() {
        return Err(Hitch::Wrong(format!(
            "persistentvolume {name:?} does not say of which node it is: give it nodeAffinity"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::shelf::Seen;
    use crate::storage::News;
    use crate::world::Event;

    fn volume(name: &str, spec: Value) -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    fn of_node(node: &str) -> Value {
        let terms = json!([{"matchExpressions":
            [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]);
        json!({"local": {"path": "/d"}, "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}})
    }

    fn claim(name: &str, notes: Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "red", "annotations": notes},
            "spec": {"volumeName": format!("of-{name}")}, "status": {"phase": "Bound"},
        }))
        .unwrap()
    }

    /// Two nodes, and a claim `a` on `n2`, which something fills.
    fn known(phase: &str) -> Known {
        let mut known = Known::default();
        let node = |name: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": name, "labels":
                {"kubernetes.io/hostname": name, SCHEDULABLE_LABEL: "true"}}}))
            .unwrap()
        };
        known.apply(&Event::Node(Seen::all(vec![node("n1"), node("n2")])));
        let source = claim("a", json!({SOURCE: "http", PHASE: phase}));
        known.apply(&Event::Storage(News::Claim(Seen::all(vec![source]))));
        known.apply(&Event::Storage(News::Volume(Seen::all(vec![volume("of-a", of_node("n2"))]))));
        known
    }

    #[test]
    fn it_is_a_node_that_has_the_volume() {
        let known = known("Succeeded");
        let plain = claim("b", json!({}));
        assert_eq!(choose(&known, &plain, &volume("v", of_node("n2"))), Ok("n2".to_owned()));
        let told = choose(&known, &plain, &volume("v", of_node("n3")));
        assert_eq!(told, Err(Hitch::Waits("no node with an agent has v".to_owned())));
        let shared = json!({"hostPath": {"path": "/s"}, "accessModes": ["ReadWriteMany"]});
        assert_eq!(choose(&known, &plain, &volume("v", shared.clone())), Ok("n1".to_owned()));
        let chosen = claim("b", json!({SELECTED_NODE: "n2"}));
        assert_eq!(choose(&known, &chosen, &volume("v", shared)), Ok("n2".to_owned()));
    }

    #[test]
    fn a_volume_that_would_be_another_on_each_node_is_refused() {
        let known = known("Succeeded");
        for (spec, words) in [
            (json!({"hostPath": {"path": "/s"}}), "give it nodeAffinity"),
            (json!({"nfs": {"server": "s", "path": "/"}}), "use one of hostPath or local"),
        ] {
            match choose(&known, &claim("b", json!({})), &volume("v", spec)) {
                Err(Hitch::Wrong(why)) => assert!(why.contains(words), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_copy_is_made_where_its_source_is_and_once_that_is_whole() {
        let copy = claim("b", json!({CLONE: "red/a"}));
        let shared = json!({"hostPath": {"path": "/s"}, "accessModes": ["ReadWriteMany"]});
        let target = volume("v", shared);
        assert_eq!(choose(&known("Succeeded"), &copy, &target), Ok("n2".to_owned()));
        let waits = choose(&known("Running"), &copy, &target);
        assert_eq!(waits, Err(Hitch::Waits("Source PVC red/a is being filled".to_owned())));
        let absent = choose(&known("Succeeded"), &claim("b", json!({CLONE: "red/c"})), &target);
        assert_eq!(absent, Err(Hitch::Waits("Source PVC red/c not found".to_owned())));
        let foreign = choose(&known("Succeeded"), &claim("b", json!({CLONE: "blue/a"})), &target);
        assert_eq!(foreign, Err(Hitch::Waits("Source PVC blue/a not found".to_owned())));
    }
}
