//! What a round writes to OVN: one transaction for all that anybody wants. Where OVN
//! refuses it, as few more as it takes to find whose rows those are ([`ovn::apart`]);
//! these stay as they are, their owner says why, and all others are carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ovn::apart::{self, Why};
use ovn::nb::{self, Desired, Table as _};
use ovn::ovsdb::TransactError;
use ovn::plan::{self, Scope};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Rounds;
use crate::decide::Decision;
use crate::ledger::VmKey;
use crate::machine::{self, Trouble};
use crate::rows::Whose;
use crate::{port_names, rows, vips};

/// The wait before rows that OVN refused are tried again as they are; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

type Part = apart::Part<Whose>;

/// Whose rows a round looks at, beside those of the guests that it decides for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    /// Nobody's, but the virtual ports of addresses that others may send from now.
    Guests,
    /// Those of VPCs and subnets, which ports of guests are on. Who may send from which
    /// address is not known of all yet.
    Networks,
    /// Everybody's, and what is marked as ours and is nobody's goes.
    All,
}

/// One whose rows stay as they are, and why.
type Spared = (Part, String);

/// What OVN has refused.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeMap<Whose, Attempt>);

#[derive(Debug)]
struct Attempt {
    wanted: Desired,
    why: String,
    again: Instant,
    tries: u32,
}

impl Refused {
    /// Why these rows need not be tried now: they are what was refused.
    fn is_known(&self, part: &Part, now: Instant) -> Option<&str> {
        let last = self.0.get(&part.whose)?;
        (last.wanted == part.wants && now < last.again).then_some(&last.why)
    }

    /// Takes note of a refusal.
    fn note(&mut self, part: &Part, why: &str, now: Instant) {
        let known = self.0.get(&part.whose).filter(|last| last.wanted == part.wants);
        let tries = known.map_or(0, |last| last.tries + 1);
        let wait = FIRST_WAIT.saturating_mul(1 << tries.min(10)).min(LONGEST_WAIT);
        let (wanted, why) = (part.wants.clone(), why.to_owned());
        self.0.insert(part.whose.clone(), Attempt { wanted, why, again: now + wait, tries });
    }

    /// When these are to be tried again, if that has its time.
    fn again(&self, whose: &Whose) -> Option<Instant> {
        self.0.get(whose).map(|last| last.again)
    }
}

impl Rounds {
    /// Brings OVN's rows to what the decisions want, and as much of all others as is to be
    /// looked at. Returns the guests whose rows are not there, and why.
    ///
    /// # Errors
    /// When nothing is known of what has happened, or it was nobody's rows.
    pub(super) async fn write_rows(
        &mut self,
        decisions: &[Decision],
        extent: Extent,
        moved: &BTreeSet<(String, IpAddr)>,
    ) -> Result<Vec<(VmKey, Trouble)>, TransactError> {
        let (parts, scope) = self.wanted(decisions, extent, moved);
        let (parts, mut spared) = self.new_ones(parts);
        let joined = |replica: &_| apart::join(replica, &Desired::default(), parts);
        let (wanted, left) = self.edge.ovn.read(joined);
        spared.extend(left.into_iter().map(|(part, why)| (part, told(&why))));
        match self.transact(wanted, &scope, &spared, decisions.len()).await {
            Ok(()) => {}
            Err(TransactError::Rejected { error, details }) => {
                warn!(error, details, "OVN did not take the plan; finding out whose rows it is");
                let (parts, _) = self.wanted(decisions, extent, moved);
                spared = self.write_apart(parts, &scope, decisions.len()).await?;
            }
            Err(error) => return Err(error),
        }
        if extent == Extent::All {
            self.world.set_aside.clear();
            let waits: BTreeSet<&Whose> = spared.iter().map(|(part, _)| &part.whose).collect();
            self.refused.0.retain(|whose, _| waits.contains(whose));
        }
        Ok(self.tell_owners(spared))
    }

    /// What is wanted, those whose rows others lean on first; and what may go.
    fn wanted(
        &self,
        decisions: &[Decision],
        extent: Extent,
        moved: &BTreeSet<(String, IpAddr)>,
    ) -> (Vec<Part>, Scope) {
        let mut scope = Scope::default();
        let mut parts = Vec::with_capacity(decisions.len());
        if extent != Extent::Guests {
            self.edge.ovn.read(|replica| {
                let mac_of = |port: &str| nb::LogicalRouterPort::by_name(replica, port)?.mac;
                parts.extend(rows::topology(&self.world, mac_of));
            });
        }
        match extent {
            Extent::Guests if moved.is_empty() => {}
            Extent::Guests => parts.extend(vips::rows(&self.world, Some(moved))),
            Extent::Networks => {}
            Extent::All => {
                parts.extend(vips::rows(&self.world, None));
                let ownerless = |replica: &_| rows::ownerless(nb::ours(replica), &self.world);
                scope = Scope::from(self.edge.ovn.read(ownerless));
            }
        }
        let surplus = decisions.iter().flat_map(|decision| &decision.surplus);
        scope = scope.and(Scope::ports(surplus));
        for Decision { vm, ports, .. } in decisions {
            let of_vm = ports.iter().map(|port| (Whose::Holder(vm.clone()), rows::port(port)));
            parts.extend(of_vm);
        }
        (parts.into_iter().map(|(whose, wants)| Part { whose, wants }).collect(), scope)
    }

    /// Those that are to be tried, and those that need not be.
    fn new_ones(&self, parts: Vec<Part>) -> (Vec<Part>, Vec<Spared>) {
        let now = Instant::now();
        let (mut tried, mut spared) = (Vec::with_capacity(parts.len()), Vec::new());
        for part in parts {
            let named = || self.name_of_another(&part);
            match self.refused.is_known(&part, now).map(str::to_owned).or_else(named) {
                Some(why) => spared.push((part, why)),
                None => tried.push(part),
            }
        }
        (tried, spared)
    }

    /// That a port of a guest would have another's name: others may want nothing in this
    /// round and have it all the same.
    fn name_of_another(&self, part: &Part) -> Option<String> {
        let key = part.whose.guest()?;
        let networks = self.world.ledger.networks();
        part.wants.ports.keys().find_map(|port| {
            let owner = port_names::other(&self.world, networks, key, port)?;
            Some(format!("port {port:?} would have the name of {owner}: rename one of the two"))
        })
    }

    /// Carries out one plan; nothing of those that are spared goes.
    async fn transact(
        &mut self,
        wanted: Desired,
        scope: &Scope,
        spared: &[Spared],
        vms: usize,
    ) -> Result<(), TransactError> {
        let without = |scope: Scope, (part, _): &Spared| scope.without(&part.wants);
        let scope = spared.iter().fold(scope.clone(), without);
        let plan = self.edge.ovn.read(|replica| plan::between(replica, &scope, &wanted));
        if plan.is_empty() {
            return Ok(());
        }
        let operations = plan.len();
        self.edge.ovn.transact(plan).await?;
        self.edge.metrics.ovn_transactions.inc();
        info!(operations, vms, "Wrote to OVN");
        Ok(())
    }

    /// Writes what can be, then lets go of what nobody wants. Returns those that are spared.
    async fn write_apart(
        &mut self,
        parts: Vec<Part>,
        scope: &Scope,
        vms: usize,
    ) -> Result<Vec<Spared>, TransactError> {
        let (parts, mut spared) = self.new_ones(parts);
        let written = apart::write(&self.edge.ovn, parts).await?;
        self.edge.metrics.ovn_transactions.inc_by(written.transactions);
        for (part, why) in written.left {
            let message = told(&why);
            if matches!(why, Why::Refused { .. }) {
                warn!(whose = %part.whose, %why, "Rows are set aside");
                if part.whose.guest().is_none() {
                    self.refused.note(&part, &message, Instant::now());
                }
            }
            spared.push((part, message));
        }
        self.transact(written.there, scope, &spared, vms).await?;
        Ok(spared)
    }

    /// Has owners say why their rows are not there; the guests among them are returned.
    fn tell_owners(&mut self, spared: Vec<Spared>) -> Vec<(VmKey, Trouble)> {
        let mut guests = Vec::new();
        for (part, message) in spared {
            if let Some(key) = part.whose.guest() {
                guests
                    .push((key.clone(), Trouble { reason: machine::PORT_NOT_AVAILABLE, message }));
                continue;
            }
            let now = Instant::now();
            let again = self.refused.again(&part.whose).filter(|again| *again > now);
            self.resync_at = self.resync_at.into_iter().chain(again).min();
            self.world.set_aside.insert(part.whose, message);
        }
        guests
    }
}

/// What an owner is told whose rows are not there.
fn told(why: &Why) -> String {
    match why {
        Why::Clash(clash) => format!("{clash} in OVN: rename one of the two"),
        Why::Lacks(name) => format!(
            "switch or router {name:?} is not in OVN: see what the Subnet or Vpc of that name says"
        ),
        Why::Refused { error, details } => format!(
            "OVN refuses its rows ({error}: {details}): change what it says; meanwhile they are tried again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, switch: &str) -> Part {
        let switches = [(switch.to_owned(), nb::SwitchWant::default())].into();
        let wants = Desired { switches, ..Desired::default() };
        Part { whose: Whose::Subnet(name.to_owned()), wants }
    }

    #[test]
    fn what_was_refused_is_tried_again_ever_later_and_at_once_when_it_is_changed() {
        let mut refused = Refused::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(refused.is_known(&part("s", "s"), now), None);
            refused.note(&part("s", "s"), "no", now);
            let again = refused.again(&Whose::Subnet("s".to_owned())).unwrap();
            waits.push((again - now).as_secs());
            assert_eq!(refused.is_known(&part("s", "s"), now), Some("no"));
            assert_eq!(refused.is_known(&part("s", "other"), now), None, "it is another wish");
            assert_eq!(refused.is_known(&part("t", "s"), now), None, "it is another's");
            now = again;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        refused.note(&part("s", "other"), "no", now);
        let again = refused.again(&Whose::Subnet("s".to_owned())).unwrap();
        assert_eq!((again - now).as_secs(), 1);
    }
}
