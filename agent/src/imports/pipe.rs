//! Bytes from a task that waits for the network to a thread that unpacks them.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Bytes;
use tokio::sync::mpsc;

/// Pieces that may wait.
const WAITING: usize = 16;

/// The end that is written to.
pub(crate) type Sender = mpsc::Sender<Option<Bytes>>;

/// The end that is read from. It ends where [`None`] was sent; without that it was cut off.
#[derive(Debug)]
pub(crate) struct Pipe {
    pieces: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    ended: bool,
}

pub(crate) fn pipe() -> (Sender, Pipe) {
    let (sender, pieces) = mpsc::channel(WAITING);
    (sender, Pipe { pieces, piece: Bytes::new(), ended: false })
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.ended = true,
                None => {
                    let why = "what is sent broke off";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
                }
            }
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// How far something is; a cheap handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    done: Arc<AtomicU64>,
    all: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn expect(&self, bytes: u64) {
        self.all.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: usize) {
        self.done.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts what is read from there.
    pub(super) fn counting<R: Read>(&self, from: R) -> Counting<R> {
        Counting { from, progress: self.clone() }
    }

    /// `12.34%`, if it is known of how much. What is not whole is never 100 %.
    pub(super) fn text(&self) -> Option<String> {
        let (done, all) = (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
        let hundredths = u128::from(done) * 10_000 / u128::from(all.max(1));
        let hundredths = hundredths.min(9_999);
        (all > 0).then(|| format!("{}.{:02}%", hundredths / 100, hundredths % 100))
    }
}

/// What is counted as it is read.
#[derive(Debug)]
pub(super) struct Counting<R> {
    from: R,
    progress: Progress,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.progress.add(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_ends_where_its_end_was_sent_and_is_broken_without() {
        let read = |end: bool| {
            let (sender, mut pipe) = pipe();
            sender.blocking_send(Some(Bytes::from_static(b"ab"))).unwrap();
            sender.blocking_send(Some(Bytes::from_static(b"c"))).unwrap();
            if end {
                sender.blocking_send(None).unwrap();
            }
            drop(sender);
            let mut all = String::new();
            pipe.read_to_string(&mut all).map(|_| all)
        };
        assert_eq!(read(true).unwrap(), "abc");
        assert_eq!(read(false).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn progress_has_two_digits_and_is_never_all_of_it() {
        let progress = Progress::default();
        assert_eq!(progress.text(), None);
        progress.expect(10_000);
        assert_eq!(progress.text().as_deref(), Some("0.00%"));
        progress.add(1_234);
        assert_eq!(progress.text().as_deref(), Some("12.34%"));
        progress.add(100_000);
        assert_eq!(progress.text().as_deref(), Some("99.99%"));
    }
}
