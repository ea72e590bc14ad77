//! Rounds without a northbound database, over an API that a test makes up.

use kube::Client;
use net::Cidrs;
use ovn::nb;
use ovn::ovsdb::{self, Remote};

use super::{Edge, Rounds};
use crate::decide::Policy;
use crate::metrics::Metrics;
use crate::world::World;

/// Rounds over an empty world.
pub(super) fn rounds(client: Client) -> Rounds {
    let edge = Edge {
        client,
        ovn: ovsdb::Client::spawn(ovsdb::Config {
            remotes: Remote::list("unix:/nonexistent").unwrap(),
            database: nb::DATABASE.to_owned(),
            tables: nb::tables(),
            leader_only: true,
        }),
        metrics: Metrics::new().unwrap(),
        policy: Policy { keep_vm_ip: true },
        join: "100.64.0.0/16".parse::<Cidrs>().unwrap(),
    };
    Rounds::new(World::new(60), edge)
}
