//! The node's own port: a link of ovs-vswitchd's making on the integration bridge,
//! bound to the node's logical port.

use net::MacAddr;
use ovn::ovsdb::{Condition, Mutation, Replica, Transaction, Value};

use super::{TapError, Taps, remove_where};

/// The link, as Kube-OVN calls it.
pub const GATEWAY_LINK: &str = "ovn0";

/// Key in an OVS Interface's `external_ids`: that it is this port.
const GATEWAY_KEY: &str = "berth-gateway";

/// The port as it is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gateway {
    /// The logical port.
    pub name: String,
    pub mac: MacAddr,
    pub mtu: u16,
}

impl Taps {
    /// Makes the bridge have the node's port. ovs-vswitchd makes its link soon after.
    ///
    /// # Errors
    /// See [`TapError`].
    pub async fn plug_gateway(&self, gateway: &Gateway) -> Result<(), TapError> {
        self.synced().await?;
        let is_new = |replica: &Replica| replica.by_name("Interface", GATEWAY_LINK).is_none();
        if self.ovsdb.read(is_new) {
            self.caught_up().await?;
        }
        let plan = self.ovsdb.read(|replica| plan(replica, &self.bridge, gateway));
        let plan = plan.ok_or_else(|| TapError::NoBridge(self.bridge.clone()))?;
        if plan.is_empty() { Ok(()) } else { self.transact(plan).await }
    }

    /// Removes the node's port, if there is one of ours.
    ///
    /// # Errors
    /// `Away` or `Refused`.
    pub async fn unplug_gateway(&self) -> Result<(), TapError> {
        self.synced().await?;
        let plan = self.ovsdb.read(|replica| {
            remove_where(replica, |row| row.key("external_ids", GATEWAY_KEY).is_some())
        });
        if plan.is_empty() { Ok(()) } else { self.transact(plan).await }
    }

    /// The kernel's links.
    #[must_use]
    pub const fn links(&self) -> &rtnetlink::Handle {
        &self.links
    }
}

/// What makes the bridge have the port; `None` where there is no such bridge. A port
/// that another has made under the name is taken over.
pub(super) fn plan(replica: &Replica, bridge: &str, gateway: &Gateway) -> Option<Transaction> {
    let (bridge, bridge_row) = replica.by_name("Bridge", bridge)?;
    let Gateway { name, mac, mtu } = gateway;
    let (mac, mtu) = (mac.to_string(), i64::from(*mtu));
    let ids = [("iface-id", name.as_str()), (GATEWAY_KEY, "true")];
    let mut plan = Transaction::new();
    let interface = replica.by_name("Interface", GATEWAY_LINK);
    let holder = interface.and_then(|(uuid, _)| replica.holders("Port", uuid).next());
    let here = holder.is_some_and(|port| bridge_row.uuids("ports").any(|one| one == port));
    let columns = || {
        vec![
            ("type", Value::from("internal")),
            ("mac", Value::from(&mac)),
            ("mtu_request", Value::from(mtu)),
        ]
    };
    let Some((uuid, row)) = interface.filter(|_| here) else {
        if let Some(stray) = holder {
            super::remove_port(&mut plan, replica, stray);
        }
        let name = || Value::from(GATEWAY_LINK);
        let mut interface = columns();
        interface.extend([("name", name()), ("external_ids", Value::map(ids))]);
        let interface = plan.insert("Interface", interface);
        let port = vec![("name", name()), ("interfaces", Value::from(interface))];
        let port = plan.insert("Port", port);
        plan.mutate("Bridge", Condition::row(bridge), vec![Mutation::insert("ports", port)]);
        return Some(plan);
    };
    let is_so = row.str("type") == "internal"
        && row.optional_str("mac") == Some(&mac)
        && row.integer("mtu_request") == Some(mtu);
    if !is_so {
        plan.update("Interface", Condition::row(uuid), columns());
    }
    if ids.iter().any(|(key, value)| row.key("external_ids", key) != Some(value)) {
        let keys = Value::set(ids.iter().map(|(key, _)| *key));
        let change = vec![
            Mutation::delete("external_ids", keys),
            Mutation::insert("external_ids", Value::map(ids)),
        ];
        plan.mutate("Interface", Condition::row(uuid), change);
    }
    Some(plan)
}
