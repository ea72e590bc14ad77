//! What was done for an object, as normal events in KubeVirt's words: what `kubectl describe`
//! shows of how it came to be as it is.
//!
//! Statuses say what is; these say what happened, and nothing relies on them. So they are
//! written beside everything else, a few at a time, and one for which there is no room, or
//! that the API does not take, is lost. What is wrong is told by [`crate::warning`].

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

/// Writes in flight at once: a burst of starts has more urgent ones.
const PARALLEL_WRITES: usize = 2;
/// How many may wait: two for each VM of a large burst.
const WAITING: usize = 4096;
/// How long one may take: a server that lost power may never answer, and two would end all.
const LIMIT: Duration = Duration::from_secs(10);

/// The VM has been started.
pub const CREATED: &str = "SuccessfulCreate";
/// The VM has been stopped.
pub const DELETED: &str = "SuccessfulDelete";

/// Something that was done.
#[derive(Clone, Debug)]
pub struct Deed {
    /// For which object.
    pub about: ObjectReference,
    /// One word for programs.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// Who writes them. The task ends with it.
#[derive(Debug)]
pub struct Teller(mpsc::Sender<Deed>);

impl Teller {
    /// One that writes to this API.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let (sender, deeds) = mpsc::channel(WAITING);
        let client = client.clone();
        tokio::spawn(async move {
            let deeds = futures::stream::unfold(deeds, |mut deeds| async {
                Some((deeds.recv().await?, deeds))
            });
            deeds.for_each_concurrent(PARALLEL_WRITES, |deed| write(&client, deed)).await;
        });
        Self(sender)
    }

    /// Has it told, if there is room.
    pub fn tell(&self, deed: Deed) {
        if let Err(error) = self.0.try_send(deed) {
            debug!(%error, "An event is not told");
        }
    }
}

async fn write(client: &Client, deed: Deed) {
    let event = Event {
        type_: EventType::Normal,
        reason: deed.reason.to_owned(),
        note: Some(deed.message),
        action: "Serve".to_owned(),
        secondary: None,
    };
    let recorder = Recorder::new(client.clone(), Reporter::from("berth-controller"));
    match timeout(LIMIT, recorder.publish(&event, &deed.about)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(about = deed.about.name, %error, "An event was not written"),
        Err(_) => debug!(about = deed.about.name, "The API does not answer to an event"),
    }
}
