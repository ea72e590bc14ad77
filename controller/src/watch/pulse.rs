//! Which nodes are heard of: their leases, which an agent or a kubelet renews.
//!
//! A lease says a time by its node's clock, which may be any. So it counts when a lease
//! was last seen to change, by ours, as Kubernetes' own node controller has it. While the
//! API is away nobody can renew: what was heard before counts as heard when it is back.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::Events;
use crate::lost::Heartbeats;
use crate::world::Event;

/// How often leases are looked at.
const EVERY: Duration = Duration::from_secs(5);
/// How long the API may take to list them.
const LIMIT: Duration = Duration::from_secs(20);
/// The validity of a lease that does not say its own, a kubelet's.
const VALID: Duration = Duration::from_secs(40);
/// Where leases of nodes are.
const NAMESPACE: &str = "kube-node-lease";

/// Tells of each change of who is heard; ends when nobody wants to know.
pub(super) async fn follow(client: Client, events: Events) {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut pulse = Pulse::default();
    let mut told = None;
    let mut timer = interval(EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    while !events.sender.is_closed() {
        timer.tick().await;
        let list = match timeout(LIMIT, leases.list(&ListParams::default())).await {
            Ok(Ok(list)) => list.items,
            failed => {
                if !std::mem::replace(&mut failing, true) {
                    let error = failed.map_or_else(
                        |late| late.to_string(),
                        |answer| match answer {
                            Err(error) => error.to_string(),
                            Ok(_) => String::new(),
                        },
                    );
                    warn!(
                        error,
                        "Leases of nodes cannot be listed: whether agents live is not known meanwhile"
                    );
                }
                pulse.pause();
                continue;
            }
        };
        failing = false;
        let now = pulse.take_in(&list, Instant::now());
        if told.as_ref() == Some(&now) {
            continue;
        }
        if !now.silent.is_empty() {
            info!(silent = ?now.silent, "Agents that are not heard of");
        }
        told = Some(now.clone());
        if !events.tell(Event::Heartbeats(now)).await {
            return;
        }
    }
}

/// When each lease was last seen to change.
#[derive(Debug, Default)]
struct Pulse {
    renewed: HashMap<String, (Option<MicroTime>, Instant)>,
}

impl Pulse {
    /// Nothing can be seen for now: all that was seen counts as seen when that is over.
    fn pause(&mut self) {
        self.renewed.clear();
    }

    fn take_in(&mut self, leases: &[Lease], now: Instant) -> Heartbeats {
        let mut heartbeats = Heartbeats::default();
        let mut renewed = HashMap::new();
        for lease in leases {
            let spec = lease.spec.as_ref();
            let said = spec.and_then(|spec| spec.renew_time.clone());
            let valid = spec.and_then(|spec| spec.lease_duration_seconds);
            let valid = valid.and_then(|seconds| u64::try_from(seconds).ok());
            let valid = valid.map_or(VALID, Duration::from_secs);
            let name = lease.name_any();
            let before = self.renewed.remove(&name).filter(|(before, _)| *before == said);
            let since = before.map_or(now, |(_, since)| since);
            let is_heard = now.duration_since(since) <= valid;
            let one = if is_heard { &mut heartbeats.heard } else { &mut heartbeats.silent };
            one.insert(name.clone());
            renewed.insert(name, (said, since));
        }
        self.renewed = renewed;
        heartbeats
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(node: &str, renewed: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": node, "namespace": NAMESPACE},
            "spec": {"leaseDurationSeconds": 40, "renewTime": renewed},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_is_silent_once_its_lease_has_not_changed_for_as_long_as_it_is_valid() {
        let mut pulse = Pulse::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        // Their clocks differ from each other and from ours.
        let (old, new) = ("1999-01-01T00:00:00.000000Z", "2049-01-01T00:00:00.000000Z");
        let both = [lease("n1", old), lease("n2", old)];
        assert_eq!(pulse.take_in(&both, start).silent.len(), 0);
        assert_eq!(pulse.take_in(&both, after(40)).silent.len(), 0);
        let one_renewed = [lease("n1", old), lease("n2", new)];
        let seen = pulse.take_in(&one_renewed, after(41));
        assert_eq!((seen.silent, seen.heard), (["n1".to_owned()].into(), ["n2".to_owned()].into()));
        // Of whose lease is gone nothing is said at all.
        assert_eq!(pulse.take_in(&one_renewed[1..], after(42)).silent.len(), 0);
    }

    #[test]
    fn while_the_api_is_away_nobody_falls_silent() {
        let mut pulse = Pulse::default();
        let start = Instant::now();
        let leases = [lease("n1", "2026-01-01T00:00:00.000000Z")];
        pulse.take_in(&leases, start);
        pulse.pause();
        assert!(pulse.take_in(&leases, start + Duration::from_secs(90)).silent.is_empty());
    }
}
