//! What a round writes on Subnets, IPPools and Vpcs: their finalizer and their status; and
//! off which IP objects of no VM it takes the finalizer.

use std::fmt::Debug;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use ovn::nb;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::warn;

use crds::condition::Condition;
use crds::kubeovn::{Ip, IpPool, Subnet, Vip, Vpc};

use super::standalone::difference;
use super::{PARALLEL_WRITES, REPAIR_AFTER, Rounds, STATUS_EVERY, is_not_found};
use crate::network::NetworkError;
use crate::warning::Warning;
use crate::{hold, notices, status};

impl Rounds {
    /// Puts the finalizer on what is in force, Vpcs before their Subnets and both
    /// before any address is given out. What did not take it is not in force.
    pub(super) async fn take_hold(&mut self) {
        for vpc in self.patch_each::<Vpc>(hold::vpcs_to_take(&self.world)).await {
            self.world.put_vpc_meta(vpc);
        }
        for subnet in self.patch_each::<Subnet>(hold::subnets_to_take(&self.world)).await {
            self.world.put_subnet_meta(subnet);
        }
        for vip in self.patch_each::<Vip>(hold::vips_to_take(&self.world)).await {
            self.world.put_vip_meta(vip);
        }
        for name in hold::unheld(&self.world) {
            self.world.refuse(&name, NetworkError::NotHeld);
        }
    }

    /// Takes the finalizer off what is deleted and unused. To be called once OVN
    /// has taken the comparison of everything.
    pub(super) async fn let_go(&mut self) {
        for subnet in self.patch_each::<Subnet>(hold::subnets_to_let_go(&self.world)).await {
            self.world.put_subnet_meta(subnet);
        }
        for vpc in self.patch_each::<Vpc>(hold::vpcs_to_let_go(&self.world)).await {
            self.world.put_vpc_meta(vpc);
        }
        // The watch tells that they are gone.
        self.patch_each::<Vip>(hold::vips_to_let_go(&self.world)).await;
        self.patch_each::<Ip>(hold::ips_to_let_go(&self.world)).await;
        self.patch_each::<IpPool>(hold::pools_to_let_go(&self.world)).await;
    }

    /// Patches the objects named; returns the metadata of those that took it, which
    /// is all that need be readable. After a failure everything is looked at again
    /// soon.
    async fn patch_each<K>(&mut self, patches: Vec<(String, Value)>) -> Vec<ObjectMeta>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::all(self.edge.client.clone());
        let writes = patches.into_iter().map(|(name, patch)| {
            let api = &api;
            async move {
                let patch = Patch::Merge(patch);
                (api.patch_metadata(&name, &PatchParams::default(), &patch).await, name)
            }
        });
        let mut writes = futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES);
        let mut written = Vec::new();
        while let Some((outcome, name)) = writes.next().await {
            self.edge.metrics.api_writes.inc();
            match outcome {
                Ok(object) => written.push(object.metadata),
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    warn!(kind = %K::kind(&()), name, %error, "A finalizer was not written");
                    self.resync_at = Some(Instant::now() + REPAIR_AFTER);
                }
            }
        }
        written
    }

    pub(super) async fn write_network_statuses(&mut self, now: Timestamp) {
        self.statuses_due = None;
        let mac_of = |router_port: &str| {
            self.edge.ovn.read(|replica| {
                use nb::Table as _;
                let port = nb::LogicalRouterPort::by_name(replica, router_port)?;
                port.mac.map(|mac| mac.to_string())
            })
        };
        let subnets = status::subnets(&self.world, mac_of, now);
        let vpcs = status::vpcs(&self.world, now);
        let mut warnings = Vec::new();
        let of_subnet = |name: &String| json!(self.world.subnets.get(name)?.status).into();
        let subnets = changes(subnets, of_subnet);
        for (subnet, name) in self.patch_statuses::<Subnet, _>(subnets).await {
            let old = self.world.subnets.get(&name).map(|old| &**old);
            warnings.extend(news(old, &subnet, |one| {
                one.status.as_ref().map(|status| &status.conditions[..])
            }));
            self.world.put_subnet(subnet);
        }
        for (vpc, name) in self.patch_statuses::<Vpc, _>(vpcs).await {
            let old = self.world.vpcs.get(&name).map(|old| &**old);
            warnings.extend(news(old, &vpc, |one| {
                one.status.as_ref().map(|status| &status.conditions[..])
            }));
            self.world.put_vpc(vpc);
        }
        let of_pool = |name: &String| json!(self.world.pools.get(name)?.status).into();
        let pools = changes(status::ip_pools(&self.world, now), of_pool);
        for (pool, name) in self.patch_statuses::<IpPool, _>(pools).await {
            let old = self.world.pools.get(&name).map(|old| &**old);
            warnings.extend(news(old, &pool, |one| {
                one.status.as_ref().map(|status| &status.conditions[..])
            }));
            self.world.put_pool(pool);
        }
        warnings.extend(self.write_vip_statuses(now).await);
        warnings.extend(self.notices());
        self.warn(warnings).await;
    }

    /// What objects without conditions are to be told, and were not yet.
    fn notices(&mut self) -> Vec<Warning> {
        let all = notices::all(&self.world);
        let key = |one: &Warning| (one.about.uid.clone(), one.message.clone());
        let before = std::mem::replace(&mut self.noticed, all.iter().map(key).collect());
        all.into_iter().filter(|one| !before.contains(&key(one))).collect()
    }

    async fn write_vip_statuses(&mut self, now: Timestamp) -> Vec<Warning> {
        let api: Api<Vip> = Api::all(self.edge.client.clone());
        let mut warnings = Vec::new();
        for (vip, wanted) in status::vips(&self.world, now) {
            let name = vip.name_any();
            let old = vip.status.as_ref().map_or(&[][..], |status| &status.conditions);
            let news = status::new_refusal(&*vip, old, &wanted.conditions);
            // The kind has no status subresource; this very object, not a successor.
            let patch = json!({ "metadata": { "uid": vip.metadata.uid }, "status": wanted });
            self.edge.metrics.api_writes.inc();
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(vip) => {
                    self.world.put_vip(vip);
                    warnings.extend(news);
                }
                Err(error) if is_not_found(&error) => {}
                Err(error) => self.status_failed(&name, &error),
            }
        }
        warnings
    }

    /// Writes these statuses, many at a time; returns the objects that took theirs.
    async fn patch_statuses<K, S>(&mut self, statuses: Vec<(String, S)>) -> Vec<(K, String)>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
        S: serde::Serialize + Debug,
    {
        let api: Api<K> = Api::all(self.edge.client.clone());
        let writes = statuses.into_iter().map(|(name, status)| {
            let api = &api;
            async move {
                let patch = Patch::Merge(StatusOnly { status });
                (api.patch_status(&name, &PatchParams::default(), &patch).await, name)
            }
        });
        let outcomes: Vec<_> =
            futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await;
        let mut written = Vec::new();
        for (outcome, name) in outcomes {
            self.edge.metrics.api_writes.inc();
            match outcome {
                Ok(object) => written.push((object, name)),
                Err(error) if is_not_found(&error) => {}
                Err(error) => self.status_failed(&name, &error),
            }
        }
        written
    }

    fn status_failed(&mut self, name: &str, error: &kube::Error) {
        warn!(name, %error, "A status was not written");
        self.statuses_due = Some(Instant::now() + STATUS_EVERY);
    }
}

/// What a merge must say to make each `old` status into the new one. A field within a
/// field goes only if that is said: one that is empty is not written at all.
fn changes<S: serde::Serialize>(
    statuses: Vec<(String, S)>,
    old: impl Fn(&String) -> Option<Value>,
) -> Vec<(String, Value)> {
    let change = |(name, new): (String, S)| {
        let old = old(&name).filter(Value::is_object).unwrap_or_else(|| json!({}));
        let said = difference(&old, &json!(new)).unwrap_or_else(|| json!({}));
        (name, said)
    };
    statuses.into_iter().map(change).collect()
}

/// What to tell about an object whose status was written over that of `old`.
fn news<K: Resource<DynamicType = ()>>(
    old: Option<&K>,
    new: &K,
    conditions: impl Fn(&K) -> Option<&[Condition]>,
) -> Option<Warning> {
    let before = old.and_then(&conditions).unwrap_or_default();
    status::new_refusal(new, before, conditions(new).unwrap_or_default())
}

/// A merge patch of nothing but a status.
#[derive(Debug, serde::Serialize)]
struct StatusOnly<S> {
    status: S,
}
