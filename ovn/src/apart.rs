//! Rows of several owners, so that one whose rows cannot be holds up no other.
//!
//! ```text
//!  parts ─► joined ─► one transaction ─► done
//!             │            └► refused: the halves, and so on down to one part
//!             └► left out: a name that an earlier part has, a parent that is not there
//! ```

use crate::nb::{Clash, Desired};
use crate::ovsdb::{Client, Replica, TransactError};
use crate::plan::{self, Scope};

/// The rows that one owner wants.
#[derive(Clone, Debug)]
pub struct Part<K> {
    /// The owner.
    pub whose: K,
    /// Its rows.
    pub wants: Desired,
}

/// Why rows are not there: their owner, or that of another part, must change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Why {
    /// An earlier part wants a row of the name otherwise.
    #[error(transparent)]
    Clash(#[from] Clash),
    /// They are to be on a switch or router that is not there, and nobody makes it.
    #[error("switch or router {0:?} is not there")]
    Lacks(String),
    /// The server refuses them.
    #[error("the database refuses them: {error}: {details}")]
    Refused {
        /// The `<error>` tag of RFC 7047, such as `constraint violation`.
        error: String,
        /// What the server says about it.
        details: String,
    },
}

/// What [`write()`] did.
#[derive(Debug)]
pub struct Written<K> {
    /// What is there now of all that was wanted.
    pub there: Desired,
    /// The parts that are not, and why. Their rows are as they were.
    pub left: Vec<(Part<K>, Why)>,
    /// How many transactions it took.
    pub transactions: u64,
}

/// All of `parts` that can be wanted together beside what is `there`, and the others.
/// Of two that want one name the earlier has it; a part must come after those that make
/// its parents.
#[must_use]
pub fn join<K>(
    replica: &Replica,
    there: &Desired,
    parts: Vec<Part<K>>,
) -> (Desired, Vec<(Part<K>, Why)>) {
    let (mut joined, mut left) = (Desired::default(), Vec::new());
    for part in parts {
        let lacks = part.wants.lacks(replica, &joined).map(|name| Why::Lacks(name.to_owned()));
        let clash = || [there, &joined].iter().find_map(|all| all.clash(&part.wants));
        match lacks.or_else(|| clash().map(Why::Clash)) {
            Some(why) => left.push((part, why)),
            None => joined.extend(part.wants).expect("no name of it is another's"),
        }
    }
    (joined, left)
}

/// Writes what can be of `parts`: all at once, or, where the server refuses that, halves
/// and halves of these. Deletes nothing. Of so many parts with one bad among them this
/// takes about twice their binary logarithm of transactions.
///
/// # Errors
/// When the outcome is unknown, or others changed rows in between: plan anew. What was
/// written till then is there.
pub async fn write<K: Clone>(
    client: &Client,
    parts: Vec<Part<K>>,
) -> Result<Written<K>, TransactError> {
    let mut done = Written { there: Desired::default(), left: Vec::new(), transactions: 0 };
    let mut open = vec![parts];
    while let Some(mut parts) = open.pop() {
        let (joined, left) = client.read(|replica| join(replica, &done.there, parts.clone()));
        let plan = client.read(|replica| plan::between(replica, &Scope::default(), &joined));
        done.transactions += u64::from(!plan.is_empty());
        match client.transact(plan).await {
            Ok(_) => {
                done.left.extend(left);
                done.there.extend(joined).expect("it was joined beside what is there");
            }
            Err(TransactError::Rejected { error, details }) if parts.len() == 1 => {
                done.left.push((parts.remove(0), Why::Refused { error, details }));
            }
            Err(TransactError::Rejected { .. }) => {
                let second = parts.split_off(parts.len() / 2);
                open.extend([second, parts]);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
