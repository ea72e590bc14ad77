//! One blob, from a registry to the node's disk.
//!
//! A task that only reads from the network hands what comes to a thread that hashes and
//! writes it. What has come when either ends, by a kill or otherwise, stays, and the next
//! begins behind it. A blob gets its name when all of it is there, is what its digest says,
//! and is on the disk.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::slots::{Slot, Slots};
use super::store::{Store, publish};
use crate::registry::{Digest, RegistryError, Session};

/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(60);

/// How much must come in each such time, in bytes: less is no line but somebody who holds a
/// place.
const LEAST: u64 = 256 << 10;

/// Pieces that wait to be written, each as large as the network gives them.
const AHEAD: usize = 64;

/// What the writer is told.
enum Piece {
    Bytes(Bytes),
    /// The registry begins anew.
    Again,
    /// That was all.
    End,
}

/// Whether there is more to come.
enum Turn {
    Done,
    Over,
}

/// Why a blob is not there.
#[derive(Debug)]
pub(super) enum Missing {
    Registry(RegistryError),
    /// The node's disk said no.
    Disk(io::Error),
}

impl From<RegistryError> for Missing {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

/// What is to come.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Brings a blob that is not there. `alone`: held until nobody writes it any more.
pub(super) async fn download(
    store: &Arc<Store>,
    slots: &Slots,
    session: &mut Session<'_>,
    wanted: &Wanted,
    alone: OwnedMutexGuard<()>,
) -> Result<(), Missing> {
    let (pieces, received) = mpsc::channel(AHEAD);
    let (begun, found) = oneshot::channel();
    let writer = {
        let (store, wanted) = (Arc::clone(store), wanted.clone());
        tokio::task::spawn_blocking(move || {
            let written = write(&store, &wanted, received, begun);
            drop(alone);
            written
        })
    };
    let read = async {
        // Nothing is there if the writer has failed; it tells why.
        let Ok(mut at) = found.await else { return Ok(()) };
        while at < wanted.size {
            let slot = slots.take().await;
            if let Turn::Done = turn(session, wanted, &slot, &pieces, &mut at).await? {
                break;
            }
        }
        let _ = pieces.send(Piece::End).await;
        Ok::<_, RegistryError>(())
    };
    let read = read.await;
    drop(pieces);
    let written = writer.await.expect("it does not panic, and is never aborted");
    read?;
    written
}

/// Reads on from `at` for as long as its turn lasts.
async fn turn(
    session: &mut Session<'_>,
    wanted: &Wanted,
    slot: &Slot<'_>,
    pieces: &mpsc::Sender<Piece>,
    at: &mut u64,
) -> Result<Turn, RegistryError> {
    let mut blob = session.blob(&wanted.digest, *at).await?;
    if blob.from < *at {
        *at = 0;
        if pieces.send(Piece::Again).await.is_err() {
            return Ok(Turn::Done);
        }
    }
    let slow = || RegistryError::Failed(format!("layer {} comes too slowly", wanted.digest));
    let (mut since, mut came) = (Instant::now(), 0);
    while *at < wanted.size {
        let frame = timeout(SILENCE, blob.body.frame()).await.map_err(|_| slow())?;
        let cut = |why: String| RegistryError::Failed(format!("layer {}: {why}", wanted.digest));
        let frame = frame
            .ok_or_else(|| cut(format!("the registry gave {at} of its {} bytes", wanted.size)))?;
        let frame = frame.map_err(|error| cut(error.to_string()))?;
        let Ok(bytes) = frame.into_data() else { continue };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        *at = at.saturating_add(length);
        if *at > wanted.size {
            return Err(cut(format!("it has more than its {} bytes", wanted.size)));
        }
        came += length;
        if pieces.send(Piece::Bytes(bytes)).await.is_err() {
            return Ok(Turn::Done);
        }
        if since.elapsed() >= SILENCE {
            if came < LEAST {
                return Err(slow());
            }
            (since, came) = (Instant::now(), 0);
        }
        // Who cannot go on where it was left would never come to an end.
        if blob.resumes && slot.is_over() {
            return Ok(Turn::Over);
        }
    }
    Ok(Turn::Done)
}

/// Writes what comes until all of it is there. Blocks.
fn write(
    store: &Store,
    wanted: &Wanted,
    mut pieces: mpsc::Receiver<Piece>,
    begun: oneshot::Sender<u64>,
) -> Result<(), Missing> {
    let partial = store.partial(&wanted.digest);
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&partial).map_err(Missing::Disk)?;
    let (mut hash, mut length) = there(&mut file, wanted.size).map_err(Missing::Disk)?;
    let _ = begun.send(length);
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => {
                let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                store.take(count).and_then(|()| file.write_all(&bytes)).map_err(Missing::Disk)?;
                hash.update(&bytes);
                length += count;
            }
            Some(Piece::Again) => {
                file.set_len(0).and_then(|()| file.rewind()).map_err(Missing::Disk)?;
                (hash, length) = (Sha256::new(), 0);
            }
            Some(Piece::End) => break,
            // Whoever read has given up: it says why.
            None => return Ok(()),
        }
    }
    if length != wanted.size || Digest::of(hash) != wanted.digest {
        fs::remove_file(&partial).map_err(Missing::Disk)?;
        let why = format!("layer {} is not what its digest says", wanted.digest);
        return Err(Missing::Registry(RegistryError::Failed(why)));
    }
    let kept = file.sync_all().and_then(|()| publish(&partial, &store.blob(&wanted.digest)));
    kept.map_err(Missing::Disk)
}

/// What of a blob is there already; the file stands behind it.
fn there(file: &mut File, size: u64) -> io::Result<(Sha256, u64)> {
    let length = file.metadata()?.len();
    if length > size {
        file.set_len(0)?;
        return Ok((Sha256::new(), 0));
    }
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hash.update(&chunk[..read]),
        }
    }
    let at = file.seek(SeekFrom::End(0))?;
    Ok((hash, at))
}
