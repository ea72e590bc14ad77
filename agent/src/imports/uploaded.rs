//! A disk that somebody sends. The claim waits for it, however long, and holds up nobody
//! meanwhile. What is no image, or breaks off, is told to who sent it and on the claim, and the
//! claim waits on: whoever sends it tries again.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use tokio::sync::Semaphore;

use super::cut::blocking;
use super::fault::Fault;
use super::job::settle;
use super::pipe::Progress;
use super::place::Place;
use super::told::Told;
use super::uploads::Arrival;
use super::{Bench, OVERHEAD, decoded, image};

/// Waits for the disk and takes it.
pub(super) async fn take(
    bench: &Bench,
    claim: &PersistentVolumeClaim,
    mut place: Place,
    told: &Told,
    places: &Semaphore,
) -> Result<(), Fault> {
    let waiting = bench.uploads.expect(&claim.uid().unwrap_or_default());
    told.ready().await?;
    let Arrival { bytes, length, early, verdict } = waiting.arrival().await?;
    tracing::info!(claim = claim.name_any(), length, "A disk is sent");
    let mut verdict = Some(verdict);
    let taken = async {
        let _place = places.acquire().await.map_err(Fault::passing("it is shut down"))?;
        let place = blocking(move |_| place.begin().map(|()| place)).await?;
        let progress = Progress::default();
        progress.expect(length.unwrap_or(0));
        let (to, limit) = (place.source(), place.room.saturating_add(OVERHEAD));
        let counted = progress.counting(bytes);
        let written = blocking(move |cut| decoded::write(cut.reading(counted), &to, limit, None));
        tokio::select! {
            written = written => written?,
            () = told.keep_saying(&progress) => {}
        }
        let (source, room) = (place.source(), place.room);
        blocking(move |_| image::check(&source, room)).await?;
        if let Some(verdict) = verdict.take_if(|_| early) {
            let _ = verdict.send(Ok(()));
        }
        settle(place).await?;
        told.succeeded().await
    };
    let taken = taken.await;
    if let Some(verdict) = verdict {
        let said = taken.as_ref().copied().map_err(ToString::to_string);
        // Who sent it may be gone.
        let _ = verdict.send(said);
    }
    taken.map_err(|fault| match fault {
        Fault::Final(why) => Fault::Passing(why),
        fault => fault,
    })
}
