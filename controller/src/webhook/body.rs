//! The body of a request: no longer than one may be, and within what all of them
//! together may take.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Why a body was not read.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Unread {
    /// It is longer than it may be.
    TooLong,
    /// It ended early, or is no body.
    Broken,
}

/// A body, and the memory that it takes as long as it is there.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) bytes: Vec<u8>,
    _memory: Option<SemaphorePermit<'a>>,
}

/// Reads a body of at most `longest` bytes, each of which takes one of `memory`: what
/// others have taken is waited for, as it comes in and not as it is announced.
pub(super) async fn read(
    mut body: Incoming,
    longest: usize,
    memory: &Semaphore,
) -> Result<Body<'_>, Unread> {
    let mut bytes = Vec::new();
    let mut taken: Option<SemaphorePermit<'_>> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Unread::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > longest {
            return Err(Unread::TooLong);
        }
        let length = u32::try_from(data.len()).map_err(|_| Unread::TooLong)?;
        let more = memory.acquire_many(length).await.map_err(|_| Unread::Broken)?;
        match &mut taken {
            Some(taken) => taken.merge(more),
            None => taken = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Body { bytes, _memory: taken })
}
