//! Warnings: what `kubectl describe` and `kubectl get events` show of an object in
//! trouble, in the words of its condition.
//!
//! One is written when the condition is new, so that the API holds all there is to
//! know about what has been told, and an object without trouble costs no write.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::warn;

/// Writes in flight at once.
const PARALLEL_WRITES: usize = 16;
/// Bytes of a note that an API server takes (`events.k8s.io/v1`, `Event.note`).
const NOTE_LIMIT: usize = 1024;

/// Something to tell people about an object.
#[derive(Clone, Debug)]
pub struct Warning {
    /// The object.
    pub about: ObjectReference,
    /// One word for programs: the condition's reason.
    pub reason: String,
    /// One sentence for people: the condition's message.
    pub message: String,
}

/// Writes each as an event. One that cannot be written is logged: the condition
/// says the same.
pub async fn publish(client: &Client, warnings: Vec<Warning>) {
    let writes = warnings.into_iter().map(|warning| async move {
        let event = Event {
            type_: EventType::Warning,
            reason: warning.reason,
            note: Some(shortened(warning.message)),
            action: "Serve".to_owned(),
            secondary: None,
        };
        // A recorder of its own for each: one that remembers would add another
        // message of the same reason to the first event as its repetition.
        let recorder = Recorder::new(client.clone(), Reporter::from("berth-controller"));
        if let Err(error) = recorder.publish(&event, &warning.about).await {
            warn!(about = warning.about.name, %error, "A warning was not written");
        }
    });
    futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect::<()>().await;
}

/// As much of `message` as fits a note.
fn shortened(mut message: String) -> String {
    if message.len() > NOTE_LIMIT {
        let end = message.floor_char_boundary(NOTE_LIMIT - '…'.len_utf8());
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_where_a_note_ends() {
        assert_eq!(shortened("short".to_owned()), "short");
        let long = shortened("ä".repeat(1000));
        assert!(long.len() <= NOTE_LIMIT && long.ends_with("ä…"), "{}", long.len());
    }
}
