//! Work in threads that ends once nobody waits for it any more.
//!
//! A task that is aborted is dropped where it waits; a thread that it waits for runs on. What is
//! long in a thread therefore looks at a flag with each piece, and nothing that others would take
//! for finished is made by a thread that has been left.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fault::Fault;

/// Whether whoever waited has left; a cheap handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut(Arc<AtomicBool>);

impl Cut {
    /// That somebody still waits.
    ///
    /// # Errors
    /// `Over`.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.0.load(Ordering::Relaxed) { Err(Fault::Over) } else { Ok(()) }
    }

    /// What is read from there breaks off once nobody waits for it.
    pub(super) fn reading<R: Read>(&self, from: R) -> Reading<R> {
        Reading { from, cut: self.clone() }
    }
}

/// What breaks off once nobody waits for it.
#[derive(Debug)]
pub(super) struct Reading<R> {
    from: R,
    cut: Cut,
}

impl<R: Read> Read for Reading<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let cut = |fault| io::Error::new(io::ErrorKind::ConnectionAborted, fault);
        self.cut.check().map_err(cut)?;
        self.from.read(buffer)
    }
}

#[cfg(test)]
impl Cut {
    /// Of somebody who has left.
    pub(super) fn dropped() -> Self {
        let cut = Self::default();
        drop(Waiting(cut.clone()));
        cut
    }
}

/// Whoever waits. Leaving is being dropped.
struct Waiting(Cut);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` in a thread, and has it told when this is dropped.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&Cut) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let waiting = Waiting(Cut::default());
    let cut = waiting.0.clone();
    let work = move || {
        // It may have been left before there was a thread for it.
        cut.check()?;
        work(&cut)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(Fault::passing("a step was not done"))?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_nobody_waits_for_ends() {
        let (begun, has_begun) = mpsc::channel();
        let (ended, has_ended) = mpsc::channel();
        let waits = tokio::spawn(blocking(move |cut| {
            begun.send(()).unwrap();
            while cut.check().is_ok() {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
            Ok(())
        }));
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        waits.abort();
        let end = move || has_ended.recv_timeout(Duration::from_secs(10));
        tokio::task::spawn_blocking(end).await.unwrap().unwrap();
        let done = blocking(|cut| cut.check().map(|()| 7)).await.unwrap();
        assert_eq!(done, 7, "who is waited for is not told to end");
    }

    #[test]
    fn what_is_read_for_nobody_breaks_off() {
        let read = |cut: &Cut| {
            let mut all = Vec::new();
            cut.reading(&b"boot"[..]).read_to_end(&mut all).map(|_| all)
        };
        assert_eq!(read(&Cut::default()).unwrap(), b"boot");
        assert_eq!(read(&Cut::dropped()).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
