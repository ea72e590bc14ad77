//! Routes to what is behind a port: rows of a router that belong to the port, come with
//! it and go with it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Plan, ROUTER, cells, rows};
use crate::nb::{PortRoute, StaticRoute, Table as _, port_of};
use crate::ovsdb::Replica;

const COLUMN: &str = "static_routes";

/// The routes that are there, by their ports.
pub(super) fn observed(replica: &Replica) -> BTreeMap<String, Vec<Uuid>> {
    let mut found = BTreeMap::<String, Vec<Uuid>>::new();
    for (uuid, row) in replica.rows(StaticRoute::TABLE) {
        if let Some(port) = port_of(row) {
            found.entry(port.to_owned()).or_default().push(uuid);
        }
    }
    found
}

impl Plan<'_> {
    /// Makes the routes of a port what is wanted. Of routers in `deleted` nothing need be
    /// taken.
    pub(super) fn port_routes(
        &mut self,
        port: &str,
        want: &BTreeSet<PortRoute>,
        deleted: &BTreeSet<Uuid>,
    ) {
        let mut missing = want.clone();
        for uuid in self.port_routes.remove(port).unwrap_or_default() {
            for router in self.replica.holders(ROUTER, uuid).collect::<Vec<_>>() {
                let is_wanted = self.route(router, uuid).is_some_and(|one| missing.remove(&one));
                if !is_wanted && !deleted.contains(&router) {
                    self.children.remove(ROUTER, router, COLUMN, uuid);
                }
            }
        }
        for route in missing {
            let parent = self.parent(ROUTER, &route.router);
            let (table, cells) = (StaticRoute::TABLE, rows::port_route(port, &route));
            let named = cells::insert(&mut self.txn, self.replica, table, cells);
            self.children.add(ROUTER, parent, COLUMN, named);
        }
    }

    /// What a route says that a router has; none if that is more than a port's may say.
    fn route(&self, router: Uuid, uuid: Uuid) -> Option<PortRoute> {
        let router = self.replica.row(ROUTER, router)?;
        let said = StaticRoute::by_uuid(self.replica, uuid)?.route;
        let bare = crate::nb::StaticRouteWant::new(&said.ip_prefix, &said.nexthop);
        (said == bare).then(|| PortRoute {
            router: router.str("name").to_owned(),
            ip_prefix: said.ip_prefix,
            nexthop: said.nexthop,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{ids, kinds, observed as seen, port, switch_and_port, uuid};
    use super::super::{Scope, between};
    use super::*;
    use crate::nb::{Desired, RouterWant, VENDOR, VENDOR_KEY, ours};

    fn route(router: &str, prefix: &str) -> PortRoute {
        let (router, ip_prefix) = (router.to_owned(), prefix.to_owned());
        PortRoute { router, ip_prefix, nexthop: "fd00::5".to_owned() }
    }

    /// Router `v1` with a route to what is behind `p1`, and router `v2`.
    fn rows() -> Vec<(&'static str, u32, serde_json::Value)> {
        let mut rows = switch_and_port();
        let of_port = ids(&[(PortRoute::PORT, "p1")]);
        let said = json!({"ip_prefix": "fd10::/64", "nexthop": "fd00::5", "external_ids": of_port});
        rows.push((ROUTER, 8, json!({"name": "v1", COLUMN: uuid(9), "external_ids": ids(&[])})));
        rows.push((ROUTER, 7, json!({"name": "v2", "external_ids": ids(&[])})));
        rows.push((StaticRoute::TABLE, 9, said));
        rows
    }

    fn wanted(routes: &[PortRoute]) -> Desired {
        let mut desired = port(&["n1"]);
        desired.ports.get_mut("p1").unwrap().routes = routes.iter().cloned().collect();
        desired
    }

    #[test]
    fn a_route_comes_with_its_port_stays_with_it_and_goes_with_it() {
        let there = seen(&rows());
        assert!(
            between(&there, &Scope::default(), &wanted(&[route("v1", "fd10::/64")])).is_empty()
        );
        let plan =
            between(&seen(&rows()[..3]), &Scope::default(), &wanted(&[route("v1", "fd10::/64")]));
        let (insert, add) = (&plan.to_json()[1], &plan.to_json()[2]);
        assert_eq!(
            insert["row"]["external_ids"],
            json!(["map", [["lsp", "p1"], [VENDOR_KEY, VENDOR]]])
        );
        assert_eq!(add["mutations"], json!([[COLUMN, "insert", ["named-uuid", "row0"]]]));
        for plan in [
            between(&there, &Scope::default(), &wanted(&[])),
            between(&there, &Scope::port("p1"), &Desired::default()),
        ] {
            let gone = json!([[COLUMN, "delete", uuid(9)]]);
            assert!(plan.to_json().iter().any(|op| op["mutations"] == gone), "{:?}", kinds(&plan));
        }
    }

    #[test]
    fn one_on_another_router_or_to_another_network_is_taken_away_in_the_same_transaction() {
        for other in [route("v2", "fd10::/64"), route("v1", "fd11::/64")] {
            let plan = between(&seen(&rows()), &Scope::default(), &wanted(&[other]));
            let ops = plan.to_json();
            let mutations = ops.iter().flat_map(|op| op["mutations"].as_array().cloned());
            let verbs: Vec<_> = mutations.flatten().map(|one| one[1].clone()).collect();
            assert!(
                verbs.contains(&json!("delete")) && verbs.contains(&json!("insert")),
                "{verbs:?}"
            );
        }
    }

    #[test]
    fn the_router_takes_none_of_a_port_for_its_own() {
        let mut desired = Desired::default();
        desired.routers.insert("v1".to_owned(), RouterWant::default());
        assert!(between(&seen(&rows()), &Scope::default(), &desired).is_empty());
    }

    #[test]
    fn a_route_whose_port_is_gone_is_still_found() {
        let mut rows = rows();
        rows.remove(1);
        rows[0].2["ports"] = json!(["set", []]);
        let there = seen(&rows);
        assert!(ours(&there).ports.contains("p1"));
        let plan = between(
            &there,
            &Scope::from(ours(&there)),
            &Desired {
                routers: [("v1".to_owned(), RouterWant::default())].into(),
                ..Desired::default()
            },
        );
        let gone = json!([[COLUMN, "delete", uuid(9)]]);
        assert!(plan.to_json().iter().any(|op| op["mutations"] == gone));
    }
}
