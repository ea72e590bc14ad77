//! Waiting for conditions: never a fixed time, always a limit.

use std::fmt::{self, Debug};
use std::time::{Duration, Instant};

use anyhow::Context;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(150);
/// How often one is that must not be missed.
const PROMPTLY: Duration = Duration::from_millis(5);

/// What a question answers when waiting longer is of no use.
#[derive(Debug)]
pub struct Hopeless(pub String);

impl fmt::Display for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hopeless {}

/// Asks `question` until it answers, for at most `limit`; the answer is returned.
///
/// A question answers `Ok(value)`, or says in `Err` what it still sees instead;
/// the last such text is in the error when time runs out.
///
/// # Errors
/// When `limit` has passed or the question is `Hopeless`: what was awaited, for how long, and what was seen last.
pub async fn eventually<T, F>(what: &str, limit: Duration, question: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> anyhow::Result<T>,
{
    asked_every(INTERVAL, what, limit, question).await
}

/// The same for what passes quickly: asked with hardly a pause.
///
/// # Errors
/// As [`eventually`].
pub async fn promptly<T, F>(what: &str, limit: Duration, question: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> anyhow::Result<T>,
{
    asked_every(PROMPTLY, what, limit, question).await
}

async fn asked_every<T, F>(
    interval: Duration,
    what: &str,
    limit: Duration,
    mut question: F,
) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> anyhow::Result<T>,
{
    let start = Instant::now();
    loop {
        let seen = match tokio::time::timeout(limit, question()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(seen)) => seen,
            Err(_) => anyhow::anyhow!("no answer to a single question within the limit"),
        };
        if start.elapsed() >= limit || seen.is::<Hopeless>() {
            return Err(seen)
                .with_context(|| format!("waited {:.0?} for: {what}; last seen", start.elapsed()));
        }
        tokio::time::sleep(interval).await;
    }
}

/// Fails with both values unless they are equal; for use in questions.
///
/// # Errors
/// When `seen` differs from `wanted`.
pub fn same<T: PartialEq<U> + Debug, U: Debug>(
    what: &str,
    seen: T,
    wanted: U,
) -> anyhow::Result<()> {
    anyhow::ensure!(seen == wanted, "{what} is {seen:?}, not {wanted:?}");
    Ok(())
}
