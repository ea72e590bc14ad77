//! Copies from one namespace to another: what was asked about them, and when
//! ([`crds::cdi::leave`]). It is asked before a claim is made, and asked again after a no.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// A no is asked about again after so long.
const AGAIN: SignedDuration = SignedDuration::from_secs(15);
/// A yes holds for so long; who copies asks by itself.
const FRESH: SignedDuration = SignedDuration::from_secs(60);

/// From which namespace to which.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Way {
    pub(super) from: String,
    pub(super) to: String,
}

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<Way, (bool, Timestamp)>);

/// What is known of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Grant {
    Given,
    /// It was refused; `again`: that is to be asked once more.
    Refused {
        again: bool,
    },
    Unknown,
}

impl Grants {
    /// Takes in an answer; forgets those that are of no use any more.
    pub(super) fn put(&mut self, way: Way, is_given: bool, now: Timestamp) {
        self.0.retain(|_, (_, at)| now.duration_since(*at) < FRESH * 2);
        self.0.insert(way, (is_given, now));
    }

    pub(super) fn get(&self, way: &Way, now: Timestamp) -> Grant {
        match self.0.get(way) {
            Some((true, at)) if now.duration_since(*at) < FRESH => Grant::Given,
            Some((false, at)) => Grant::Refused { again: now.duration_since(*at) >= AGAIN },
            _ => Grant::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_is_good_for_a_while_and_a_no_is_asked_about_again() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let way = |from: &str| Way { from: from.to_owned(), to: "shop".to_owned() };
        let mut grants = Grants::default();
        assert_eq!(grants.get(&way("a"), at(0)), Grant::Unknown);
        grants.put(way("a"), true, at(0));
        grants.put(way("b"), false, at(0));
        assert_eq!(grants.get(&way("a"), at(59)), Grant::Given);
        assert_eq!(grants.get(&way("a"), at(60)), Grant::Unknown);
        assert_eq!(grants.get(&way("b"), at(14)), Grant::Refused { again: false });
        assert_eq!(grants.get(&way("b"), at(15)), Grant::Refused { again: true });
        grants.put(way("c"), true, at(500));
        assert_eq!(grants.get(&way("b"), at(500)), Grant::Unknown, "it never grows");
    }
}
