//! One entry of a list in a spec that cannot be in force, while the others can.

use net::shown;

/// How many flaws a message tells in full; the others it counts.
const TOLD: usize = 5;

/// What is wrong with one entry: where it stands, what it says, and what to write
/// instead.
#[derive(Clone, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Flaw(String);

impl Flaw {
    /// Of the field at this path below `spec`, such as `staticRoutes[0].cidr`.
    pub fn new(field: String, value: impl ToString, advice: impl AsRef<str>) -> Self {
        let (value, advice) = (shown(&value.to_string()), advice.as_ref());
        Self(format!("spec.{field} is {value:?}: {advice}"))
    }

    /// That a list of a kind has more entries than it may have, if it has.
    pub fn of_too_many(kind: &str, field: &str, entries: usize) -> Option<Self> {
        let most = crds::kubeovn::most(kind, field);
        (entries > most)
            .then(|| Self(format!("spec.{field} has {entries} entries: write at most {most}")))
    }

    /// Of what does not stand below `spec`: the text names it.
    pub const fn said(text: String) -> Self {
        Self(text)
    }
}

/// All of them in one message of bounded length; none if there are none.
#[must_use]
pub fn told(flaws: &[Flaw]) -> Option<String> {
    let mut told: Vec<String> = flaws.iter().take(TOLD).map(ToString::to_string).collect();
    match flaws.len().saturating_sub(TOLD) {
        0 => {}
        more => told.push(format!("and {more} more")),
    }
    (!told.is_empty()).then(|| told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_first_few_and_counts_the_others() {
        assert_eq!(told(&[]), None);
        let flaws: Vec<_> = (0..9)
            .map(|at| Flaw::new(format!("staticRoutes[{at}].cidr"), "x", "write a network"))
            .collect();
        let message = told(&flaws).unwrap();
        assert!(message.starts_with(r#"spec.staticRoutes[0].cidr is "x": write a network; "#));
        assert!(message.ends_with("; and 4 more"), "{message}");
    }
}
