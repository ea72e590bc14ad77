//! A model check of guests that move between nodes while anything may die.
//!
//! One VM, two nodes, one API, and a network between them that may do its worst. The
//! decisions are those that run: the controller's ([`controller::migration::step`] and
//! `chassis`), both agents' ([`agent::vm::step`], what a driver learns from its object,
//! what is written to it) and those of the source that sends (`agent::sending::order`).
//! The API, the watches, OVN, libvirt's protocol ([`libvirt`]) and the loops around the
//! decisions are modelled. It is here, and not with either side, as it needs both.
//!
//! Every order of these events is tried, from a VM that runs on the first node and a
//! migration that was just made:
//!
//! - an agent sees the newest object, or lists domains, as late as it likes; it carries
//!   out an action, or that fails; it writes, for the version that it has read; a timer of
//!   its runs out, though nothing else has stopped;
//! - the source writes that it begins, calls libvirt, asks where the guest is;
//! - libvirt goes on with the move; a connection between the two breaks at any moment;
//! - an agent or a libvirtd dies at any moment and begins anew; a write of one that died,
//!   or that was sent twice, arrives later;
//! - the controller decides, and writes one object after the other; it dies in between,
//!   or a write of it arrives late; it has waited for too long; a second one decides once,
//!   on views of instance and migrations that are as old as they like;
//! - the user calls the move off, deletes the VM, or asks for another move.
//!
//! Promised in every state: no two copies of the guest run, but where libvirt itself
//! cannot know (see [`libvirt`]); the guest is not lost; it runs only where its port is
//! bound; no files are changed under it; nobody starts it anew; its object does not say
//! that it has ended. And from every state, if nothing more fails, the guest runs in one
//! place, which is the one that the instance, its migrations and OVN say, nothing is left
//! of it on the other node, and every migration is over; or all is gone with a deleted VM.
//!
//! Two versions of an object are one if they say the same: who writes on such a one writes
//! what he would write after reading it again.
//!
//! A second controller with an old view may take the port from under the guest for a
//! moment, until the first puts it back: OVN is told by no version of an object. So with two
//! of them the port is looked at only in the end.
//!
//! Not covered: more than the bounds of each test say, three nodes, guests that end by
//! themselves, QEMUs and hosts that die, a stale list that is delivered a second time,
//! limits of how many move at once, and how long anything takes. A timer
//! counts as a fault where something else could still happen.

#[path = "../../controller/src/ledger/model/explore.rs"]
mod explore;
mod libvirt;
mod node;
mod shelf;
mod world;

use self::explore::{Counterexample, Explored, explore};
use self::node::Rules;
use self::world::{Bounds, LOST, Step, UNBOUND, UNDER_IT, UNTRUE, World};

const DESIGN: Rules =
    Rules { precondition: true, ready: true, begun: true, meant: true, asks: true };
const QUIET: Bounds = Bounds { controllers: 1, faults: 0, deaths: false, wishes: 0, again: false };

fn told(mut world: World) -> Result<Explored, Counterexample<Step>> {
    let begun = std::time::Instant::now();
    let outcome = explore(&mut world);
    match &outcome {
        Ok(explored) => println!("{explored:?} in {:?}", begun.elapsed()),
        Err(found) => {
            println!("after {} steps: {}\n{:#?}", found.trace.len(), found.promise, found.trace);
        }
    }
    outcome
}

/// That no promise was broken, in as many states as there are within the bounds.
fn holds_in(states: usize, bounds: Bounds) {
    let explored = told(World::new(DESIGN, bounds)).expect("no promise is broken");
    assert_eq!(explored.states, states, "see that what was added or is missing is meant to be");
}

/// That this promise was broken.
fn breaks(promise: &'static str, rules: Rules, bounds: Bounds) {
    let found = told(World::new(rules, bounds).for_only(promise)).expect_err("it is broken");
    assert!(found.promise.contains(promise), "{} is not: {promise}", found.promise);
}

#[test]
fn whatever_fails_once_the_guest_is_in_one_place_and_all_say_so() {
    holds_in(107_684, Bounds { faults: 1, ..QUIET });
}

#[test]
fn whichever_two_die_the_guest_is_in_one_place_and_all_say_so() {
    holds_in(374_542, Bounds { faults: 2, deaths: true, ..QUIET });
}

#[test]
fn a_second_controller_with_old_views_does_no_harm() {
    holds_in(555_420, Bounds { controllers: 2, faults: 1, ..QUIET });
}

#[test]
fn a_user_may_call_off_or_delete_at_any_moment() {
    holds_in(116_511, Bounds { wishes: 1, ..QUIET });
}

#[test]
fn a_user_may_ask_for_another_move_at_any_moment() {
    holds_in(297_961, Bounds { wishes: 1, again: true, ..QUIET });
}

#[test]
fn an_api_that_does_not_compare_versions_has_guests_lost() {
    let rules = Rules { precondition: false, ..DESIGN };
    breaks(LOST, rules, Bounds { faults: 1, wishes: 1, ..QUIET });
}

#[test]
fn a_source_that_does_not_wait_for_its_target_sends_a_guest_to_where_its_port_is_not_bound() {
    breaks(UNBOUND, Rules { ready: false, ..DESIGN }, QUIET);
}

#[test]
fn a_source_that_believes_its_old_view_ends_the_guest_that_it_has_sent() {
    breaks(LOST, Rules { begun: false, ..DESIGN }, Bounds { faults: 1, ..QUIET });
}

#[test]
fn a_target_that_says_of_the_next_migration_what_it_meant_for_the_last_is_sent_a_guest_too_early() {
    let bounds = Bounds { wishes: 2, again: true, ..QUIET };
    breaks(UNDER_IT, Rules { meant: false, ..DESIGN }, bounds);
}

#[test]
fn a_controller_that_does_not_ask_says_of_a_move_under_way_that_it_has_failed() {
    let bounds = Bounds { controllers: 2, faults: 1, ..QUIET };
    breaks(UNTRUE, Rules { asks: false, ..DESIGN }, bounds);
}
