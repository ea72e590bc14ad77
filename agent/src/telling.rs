//! What happened to a guest, as events in KubeVirt's words: what `kubectl describe vmi` shows
//! of how it came to be as it is.
//!
//! Statuses say what is; nothing relies on these. So they are written beside everything else, a
//! few at a time, and one for which there is no room, or that the API does not take, is
//! lost. A new agent tells nothing of what it only finds.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::hypervisor::PauseReason;
use crate::vm::{End, State};

/// Writes in flight at once: a burst of starts has more urgent ones.
const PARALLEL_WRITES: usize = 2;
/// How many may wait.
const WAITING: usize = 2048;
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Something that happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deed {
    pub is_bad: bool,
    /// One word for programs.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: &'static str,
}

/// What happened when a VM went from one state to another, if that is worth an event.
#[must_use]
pub fn deed(before: &State, after: &State) -> Option<Deed> {
    let good = |reason, message| Some(Deed { is_bad: false, reason, message });
    let bad = |reason, message| Some(Deed { is_bad: true, reason, message });
    match (before, after) {
        // Of a start that is tried again all this was said before.
        (State::Defining { attempt: 0 }, State::Starting { .. }) => {
            good("Created", "VirtualMachineInstance defined.")
        }
        (State::Starting { .. } | State::Waiting { .. }, State::Attaching { .. }) => {
            good("Started", "VirtualMachineInstance started.")
        }
        (State::Stopping { .. }, State::Stopping { .. }) => None,
        (_, State::Stopping { .. }) => good("ShuttingDown", "Signaled Graceful Shutdown"),
        (State::Destroying { .. }, State::Destroying { .. }) => None,
        (_, State::Destroying { end: End::Succeeded | End::Failed(_) }) => {
            good("Deleted", "Signaled Deletion")
        }
        // What is not known to have run has not ended.
        (State::Serving { .. } | State::Preparing { .. } | State::Defining { .. }, _)
        | (State::Starting { .. } | State::Waiting { .. }, _)
        | (State::Cleaning { .. } | State::Unseen { .. }, _) => None,
        (_, State::Cleaning { end: End::Succeeded }) => {
            good("Stopped", "The VirtualMachineInstance was shut down.")
        }
        (_, State::Cleaning { end: End::Failed(_) }) => {
            bad("Stopped", "The VirtualMachineInstance crashed.")
        }
        (
            State::Running { paused, .. },
            State::Running { paused: Some(PauseReason::IoError), .. },
        ) if *paused != Some(PauseReason::IoError) => {
            bad("IOerror", "VM Paused due to IO error; it is resumed again and again by itself")
        }
        _ => None,
    }
}

/// Who writes them; a cheap handle. The task ends with the last.
#[derive(Clone, Debug)]
pub struct Teller(mpsc::Sender<(ObjectReference, Deed)>);

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
            let written = deeds
                .for_each_concurrent(PARALLEL_WRITES, |(about, deed)| write(&client, about, deed));
            written.await;
        });
        Self(sender)
    }

    /// Has it told of this object, if there is room.
    pub fn tell(&self, about: ObjectReference, deed: Deed) {
        if let Err(error) = self.0.try_send((about, deed)) {
            tracing::debug!(%error, "An event is not told");
        }
    }
}

async fn write(client: &Client, about: ObjectReference, deed: Deed) {
    let event = Event {
        type_: if deed.is_bad { EventType::Warning } else { EventType::Normal },
        reason: deed.reason.to_owned(),
        note: Some(deed.message.to_owned()),
        action: "Run".to_owned(),
        secondary: None,
    };
    let recorder = Recorder::new(client.clone(), Reporter::from("berth-agent"));
    match timeout(LIMIT, recorder.publish(&event, &about)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(about = about.name, %error, "An event was not written"),
        Err(_) => tracing::debug!(about = about.name, "The API does not answer to an event"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(states: &[State]) -> Vec<&'static str> {
        let steps = states.windows(2).filter_map(|pair| deed(&pair[0], &pair[1]));
        steps.map(|deed| deed.reason).collect()
    }

    #[test]
    fn a_life_is_told_once_and_in_order() {
        let running = State::Running { paused: None, resumes: 0 };
        let left = |seconds| State::Stopping { left: Duration::from_secs(seconds) };
        let life = [
            State::Unseen { attempt: 0 },
            State::Serving { attempt: 0 },
            State::Preparing { attempt: 0 },
            State::Defining { attempt: 0 },
            State::Starting { attempt: 0 },
            State::Attaching { attempt: 0 },
            State::Adjusting { paused: None },
            running.clone(),
            left(10),
            left(5),
            State::Cleaning { end: End::Succeeded },
            State::Undefining { end: End::Succeeded, reported: false },
        ];
        assert_eq!(said(&life), ["Created", "Started", "ShuttingDown", "Stopped"]);
        let killed = [
            running,
            State::Destroying { end: End::Succeeded },
            State::Cleaning { end: End::Succeeded },
        ];
        assert_eq!(said(&killed), ["Deleted", "Stopped"]);
    }

    #[test]
    fn nothing_is_told_of_a_guest_that_moves_or_was_only_found() {
        let found = [
            State::Unseen { attempt: 0 },
            State::Attaching { attempt: 0 },
            State::Adjusting { paused: None },
            State::Running { paused: None, resumes: 0 },
            State::Attaching { attempt: 0 },
            State::Departing,
            State::Cleaning { end: End::Left },
        ];
        assert_eq!(said(&found), [""; 0]);
        let again = [State::Defining { attempt: 2 }, State::Starting { attempt: 2 }];
        assert_eq!(said(&again), [""; 0]);
    }
}
