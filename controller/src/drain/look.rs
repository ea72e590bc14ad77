//! What is missing of the pods and budgets that should be there. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, Pod, PodSpec, SeccompProfile, SecurityContext, Toleration,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::Place;

/// The label of both: the uid of the node that they hold.
pub(super) const HOLDS: &str = "berth.io/holds-node";

/// The longest name of a pod.
const LONGEST: usize = 253;

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Budget(Box<PodDisruptionBudget>),
    Pod(Box<Pod>),
    /// Says that a pod runs of which no kubelet would.
    Runs {
        name: String,
        status: Value,
    },
    NoPod {
        name: String,
        uid: String,
    },
    NoBudget {
        name: String,
        uid: String,
    },
}

/// What to write, in this order: a pod never stands without its budget.
pub(super) fn missing(
    held: &BTreeMap<String, Place>,
    image: &str,
    pods: &[Pod],
    budgets: &[PodDisruptionBudget],
) -> Vec<Write> {
    let mut writes = Vec::new();
    let wanted = |labels: &BTreeMap<String, String>| {
        labels.get(HOLDS).is_some_and(|uid| held.values().any(|place| place.uid == *uid))
    };
    for pod in pods.iter().filter(|pod| !wanted(pod.labels()) || is_over(pod)) {
        // One that is going already goes when its kubelet lets it.
        if pod.metadata.deletion_timestamp.is_none() {
            let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
            writes.push(Write::NoPod { name, uid });
        }
    }
    for budget in budgets.iter().filter(|budget| !wanted(budget.labels())) {
        let (name, uid) = (budget.name_any(), budget.uid().unwrap_or_default());
        writes.push(Write::NoBudget { name, uid });
    }
    for (node, place) in held {
        let is_its = |labels: &BTreeMap<String, String>| labels.get(HOLDS) == Some(&place.uid);
        if !budgets.iter().any(|one| is_its(one.labels())) {
            writes.push(Write::Budget(Box::new(budget(node, place))));
        }
        match pods.iter().find(|one| is_its(one.labels())) {
            None => writes.push(Write::Pod(Box::new(pod(node, place, image)))),
            Some(one) if !place.has_kubelet && !runs(one) && !is_over(one) => {
                writes.push(Write::Runs { name: one.name_any(), status: running(one) });
            }
            Some(_) => {}
        }
    }
    writes
}

/// A kubelet has refused or ended it; the next look makes another.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

fn runs(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    is_ready && phase == Some("Running")
}

/// A budget counts what is `Ready`, and nobody's budget holds what is `Pending`.
fn running(pod: &Pod) -> Value {
    let since = pod.metadata.creation_timestamp.clone();
    json!({
        "metadata": { "uid": pod.uid() },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": since,
                "message": "no kubelet is on this node; it stands for the guests there" }],
        },
    })
}

fn metadata(node: &str, place: &Place) -> ObjectMeta {
    let name = format!("berth-guests-{node}");
    let name = if name.len() > LONGEST { format!("berth-guests-{}", place.uid) } else { name };
    let says = "there are guests on this node that move when it is drained: kubectl get vmi -A \
                -l kubevirt.io/nodeName";
    ObjectMeta {
        name: Some(name),
        labels: Some(BTreeMap::from([(HOLDS.to_owned(), place.uid.clone())])),
        annotations: Some(BTreeMap::from([(
            "berth.io/holds".to_owned(),
            format!("{says}={node}"),
        )])),
        // Without one `kubectl drain` refuses to evict it, and with the node it goes.
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.to_owned(),
            uid: place.uid.clone(),
            controller: Some(true),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    }
}

fn budget(node: &str, place: &Place) -> PodDisruptionBudget {
    let metadata = metadata(node, place);
    PodDisruptionBudget {
        spec: Some(PodDisruptionBudgetSpec {
            // A number: a share would be one of what its owner wants, and a Node wants none.
            min_available: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: metadata.labels.clone(),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        metadata,
        ..PodDisruptionBudget::default()
    }
}

fn pod(node: &str, place: &Place, image: &str) -> Pod {
    let security = SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(65_535),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    };
    Pod {
        metadata: metadata(node, place),
        spec: Some(PodSpec {
            node_name: Some(node.to_owned()),
            containers: vec![Container {
                name: "guests".to_owned(),
                image: Some(image.to_owned()),
                security_context: Some(security),
                ..Container::default()
            }],
            // Whatever the node says of itself: the guests are there.
            tolerations: Some(vec![Toleration {
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            }]),
            // It needs no address, and the node may have nobody who gives one to pods.
            host_network: Some(true),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(0),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;

    use super::*;

    fn held(has_kubelet: bool) -> BTreeMap<String, Place> {
        BTreeMap::from([("n1".to_owned(), Place { uid: "u1".to_owned(), has_kubelet })])
    }

    /// As the API has what was made.
    fn made(writes: &[Write]) -> (Vec<Pod>, Vec<PodDisruptionBudget>) {
        let (mut pods, mut budgets) = (Vec::new(), Vec::new());
        for write in writes {
            match write {
                Write::Pod(pod) => {
                    let mut pod = Pod::clone(pod);
                    pod.metadata.uid = Some("p1".to_owned());
                    pod.status = Some(PodStatus {
                        phase: Some("Pending".to_owned()),
                        ..PodStatus::default()
                    });
                    pods.push(pod);
                }
                Write::Budget(budget) => {
                    let mut budget = PodDisruptionBudget::clone(budget);
                    budget.metadata.uid = Some("b1".to_owned());
                    budgets.push(budget);
                }
                other => panic!("{other:?}"),
            }
        }
        (pods, budgets)
    }

    #[test]
    fn a_node_with_guests_that_move_has_a_budget_before_it_has_a_pod() {
        let writes = missing(&held(true), "pause", &[], &[]);
        assert!(matches!(&writes[..], [Write::Budget(_), Write::Pod(_)]), "{writes:?}");
        let (pods, budgets) = made(&writes);
        let selected = budgets[0].spec.as_ref().unwrap().selector.as_ref().unwrap();
        assert_eq!(selected.match_labels.as_ref(), Some(pods[0].labels()));
        let spec = pods[0].spec.as_ref().unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("n1"));
        let owner = &pods[0].owner_references()[0];
        assert_eq!((owner.kind.as_str(), owner.controller), ("Node", Some(true)));
        assert_eq!(missing(&held(true), "pause", &pods, &budgets), [], "and the kubelet runs it");
    }

    #[test]
    fn where_no_kubelet_is_the_pod_is_said_to_run_once() {
        let (mut pods, budgets) = made(&missing(&held(false), "pause", &[], &[]));
        let writes = missing(&held(false), "pause", &pods, &budgets);
        let [Write::Runs { status, .. }] = &writes[..] else { panic!("{writes:?}") };
        pods[0].status = Some(serde_json::from_value(status["status"].clone()).unwrap());
        assert_eq!(missing(&held(false), "pause", &pods, &budgets), []);
    }

    #[test]
    fn when_the_last_guest_has_left_the_pod_goes_and_then_its_budget() {
        let (mut pods, budgets) = made(&missing(&held(true), "pause", &[], &[]));
        let gone = missing(&BTreeMap::new(), "pause", &pods, &budgets);
        let [Write::NoPod { uid, .. }, Write::NoBudget { .. }] = &gone[..] else {
            panic!("{gone:?}")
        };
        assert_eq!(uid, "p1");
        let mut anew = held(true);
        anew.get_mut("n1").unwrap().uid = "u2".to_owned();
        let writes = missing(&anew, "pause", &pods, &budgets);
        assert_eq!(writes.len(), 4, "a Node that was made anew is another one: {writes:?}");
        pods[0].status.as_mut().unwrap().phase = Some("Failed".to_owned());
        let over = missing(&held(true), "pause", &pods, &budgets);
        assert!(matches!(&over[..], [Write::NoPod { .. }]), "{over:?}");
    }
}
