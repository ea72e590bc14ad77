//! Every state that can be reached, the nearest first.
//!
//! States are known by 64 bits of hash: that among a million of them two are taken for
//! one has a probability of one in 30 million.

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher as _};

/// Steps, and where each leads.
pub(super) type Steps<S> = Vec<(<S as System>::Step, Result<<S as System>::State, String>)>;

/// A system to explore.
pub(super) trait System: Sized {
    type State: Clone + Hash;
    type Step: Copy + Debug;

    fn start(&mut self) -> Self::State;

    /// What may happen next, and what it leads to: a state, or a promise that was
    /// broken.
    fn steps(&mut self, state: &Self::State) -> Steps<Self>;

    /// What is wrong with a state that was reached.
    fn check(&mut self, state: &Self::State) -> Result<(), String>;
}

/// How many states there are, all of which were looked at, and how far the last is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) depth: usize,
}

/// A broken promise, and the shortest way to it.
#[derive(Debug)]
pub(super) struct Counterexample<Step> {
    pub(super) promise: String,
    pub(super) trace: Vec<Step>,
}

pub(super) fn explore<S: System>(system: &mut S) -> Result<Explored, Counterexample<S::Step>> {
    let start = system.start();
    let mut known = HashSet::from([fingerprint(&start)]);
    // Where each state came from, by order of arrival.
    let mut arrivals: Vec<Option<(usize, S::Step)>> = vec![None];
    let mut waiting = VecDeque::from([(0, 0, start)]);
    let mut deepest = 0;
    while let Some((arrival, depth, state)) = waiting.pop_front() {
        deepest = depth;
        if let Err(promise) = system.check(&state) {
            return Err(Counterexample { promise, trace: trace(&arrivals, arrival) });
        }
        for (step, next) in system.steps(&state) {
            match next {
                Ok(next) if known.insert(fingerprint(&next)) => {
                    arrivals.push(Some((arrival, step)));
                    waiting.push_back((arrivals.len() - 1, depth + 1, next));
                }
                Ok(_) => {}
                Err(promise) => {
                    let mut trace = trace(&arrivals, arrival);
                    trace.push(step);
                    return Err(Counterexample { promise, trace });
                }
            }
        }
    }
    assert_eq!(known.len(), arrivals.len());
    Ok(Explored { states: arrivals.len(), depth: deepest })
}

fn trace<Step: Copy>(arrivals: &[Option<(usize, Step)>], mut at: usize) -> Vec<Step> {
    let mut trace = Vec::new();
    while let Some((before, step)) = arrivals[at] {
        trace.push(step);
        at = before;
    }
    trace.reverse();
    trace
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
