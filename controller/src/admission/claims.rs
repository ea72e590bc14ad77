//! IPAMClaims: by themselves, and as a VM's template refers to them.

use crds::cni::IpamClaim;

use super::{Findings, Index};
use crate::claims::{self, names_of, said};
use crate::flaw::Flaw;
use crate::ledger::VmKey;
use crate::request::{Lender, Request};

/// What a claim says no more and must: of which network its addresses are.
pub(super) fn edits(old: &IpamClaim, new: &IpamClaim) -> Vec<Flaw> {
    let Some((subnet, addresses)) = said(old) else { return Vec::new() };
    let (was, is) = (old.spec.network.trim(), new.spec.network.trim());
    let advice = || {
        format!(
            "it has {} of subnet {subnet:?} and stays of network {was:?}: write that again, or make another claim",
            net::listed::text(&addresses)
        )
    };
    let changed = was != is && !was.is_empty();
    changed.then(|| Flaw::new("network".to_owned(), is, advice())).into_iter().collect()
}

/// What a claim waits for. It may be another network's than ours, unless it is of none.
pub(super) fn judged(index: &Index, claim: &IpamClaim) -> Findings {
    let flaws: Vec<Flaw> = claims::nameless(claim).into_iter().collect();
    let of = claim.spec.network.trim();
    let serves = |name: &String| name == of;
    let is_served =
        || index.networks().values().any(|network| names_of(network).iter().any(serves));
    if !flaws.is_empty() || is_served() {
        return Findings { flaws, ..Findings::default() };
    }
    let advice = "no Subnet in force is of that attachment: the claim has no effect here before there is one";
    Findings::waiting(Flaw::new("network".to_owned(), of, advice))
}

/// What of a claim that lends the port of `request` its addresses is in the way: for
/// good, or until it is otherwise.
pub(super) fn of_request(
    index: &Index,
    namespace: &str,
    request: &Request,
) -> Option<Result<String, String>> {
    let Some(Lender::Claim(name)) = &request.lender else { return None };
    let key = VmKey { namespace: namespace.to_owned(), name: name.clone() };
    let told = |why: &str| format!("network {:?}: IPAMClaim {name:?} {why}", request.network);
    let Some(claim) = index.claims.get(&key) else {
        let unreadable = index.claims.is_unreadable(&key);
        let why = if unreadable { claims::MISFIT } else { claims::ABSENT };
        return Some(Ok(told(why)));
    };
    let holder = said(claim).and_then(|(subnet, addresses)| {
        addresses.iter().find_map(|one| index.holders.of(&subnet, *one))
    });
    let is_its = holder.as_ref().is_some_and(|holder| holder.port == request.port);
    let network = index.networks().get(&request.subnet);
    if let Some(why) = claims::unfit(claim, network, request, is_its) {
        let why = told(&why);
        // One made anew under the name may be waited for.
        let leaves = claim.metadata.deletion_timestamp.is_some();
        return Some(if leaves { Ok(why) } else { Err(why) });
    }
    let other = holder.filter(|holder| !is_its && holder.vm.claim().is_none())?;
    Some(Ok(told(&format!(
        "is lent to {}: it is waited for until that port gives it back",
        other.port
    ))))
}

#[cfg(test)]
mod tests {
    use crds::cni::{IpamClaimSpec, IpamClaimStatus};
    use kube::ResourceExt as _;

    use super::*;

    #[test]
    fn a_claim_with_addresses_stays_of_its_network() {
        let claim = |network: &str, ips: &[&str]| {
            let network = network.to_owned();
            let spec = IpamClaimSpec { network, interface: String::new() };
            let mut claim = IpamClaim::new("c", spec);
            let noted = crds::annotations::CLAIM_SUBNET.to_owned();
            claim.annotations_mut().insert(noted, "s".to_owned());
            let ips = ips.iter().map(|one| (*one).to_owned()).collect();
            claim.status = Some(IpamClaimStatus { ips, ..IpamClaimStatus::default() });
            claim
        };
        let told = |old: &IpamClaim, new: &IpamClaim| {
            edits(old, new).iter().map(ToString::to_string).collect::<String>()
        };
        let told_of = told(&claim("net1", &["10.0.0.5/24"]), &claim("net2", &[]));
        for words in ["spec.network is \"net2\"", "10.0.0.5", "net1", "make another claim"] {
            assert!(told_of.contains(words), "{told_of:?} without {words:?}");
        }
        assert_eq!(told(&claim("net1", &[]), &claim("net2", &[])), "");
        assert_eq!(told(&claim("net1", &["10.0.0.5/24"]), &claim(" net1", &[])), "");
    }
}
