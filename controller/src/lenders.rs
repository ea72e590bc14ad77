//! What is common to all that holds addresses in order to lend them: Vips and IPAMClaims.
//! The ledger says who has them (`ledger/loans.rs`).

use crate::decide::Decision;
use crate::ledger::Claimant;
use crate::world::World;

/// Has the lender of this decision let go of what it holds by another uid than `stays`.
pub fn let_go(world: &World, decision: &mut Decision, stays: Option<&str>) {
    let over = |(claimant, _): &(Claimant, String)| Some(claimant.uid.as_str()) != stays;
    // What it has lent it holds until that comes back, also when it is gone itself.
    let lent =
        |(claimant, subnet): &(Claimant, String)| world.ledger.borrower(subnet, claimant).is_some();
    let held = world.ledger.held_for(&decision.vm).into_iter();
    for (claimant, subnet) in held.filter(|one| over(one) && !lent(one)) {
        // That it is not lent the entry of its first address says. Only when that is
        // free can nobody have lent it meanwhile, and the others may go.
        match world.ledger.addresses(&subnet, &claimant).as_slice() {
            [first, _, ..] => decision.spare.push((claimant, subnet, *first)),
            _ => decision.release.push((claimant, subnet)),
        }
    }
}
