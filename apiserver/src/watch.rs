//! Watches: a list that goes on.
//!
//! ```text
//!              sendInitialEvents        no version, or 0          a version
//!                     │                        │                      │
//!                     ▼                        ▼                      │
//!             ADDED… BOOKMARK(end)          ADDED…                    │
//!                     └──────────────┬─────────┴──────────────────────┘
//!                                    ▼
//!                     ADDED MODIFIED DELETED BOOKMARK …   until timeout or shutdown
//! ```
//!
//! The stream is pulled by the connection: it reads the store's log from where it stands, so a slow
//! client costs nothing but its own delay, and one that is slower than the log is long is told to
//! list again. Too old a version is answered with 200 and an `ERROR` event of code 410, also at the
//! start: client libraries relist on that, while some retry an HTTP 410 for ever.
//!
//! With a selector the events are those of the selected set: an object that begins to match is
//! `ADDED`, one that ceases to is `DELETED`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::http::{Rendering, Server, Shape};
use crate::object;
use crate::registry::Resource;
use crate::selector::Selector;
use crate::status::ApiError;
use crate::store::{Event, EventKind, Key, Stored};

/// Events sent in one piece.
const PIECE: usize = 128;
/// How often a silent watch says up to which version there was nothing.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// How long a watch lasts if the client does not say.
const LONGEST: Duration = Duration::from_secs(45 * 60);

/// From where a watch tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// The objects there are, then changes.
    WithList,
    /// The same, with a bookmark that says where the list ends.
    WithMarkedList,
    /// Changes from now on.
    FromNow,
    /// Changes after this version.
    After(u64),
}

/// One watch request.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
    pub(crate) rendering: Rendering,
    pub(crate) start: Start,
    pub(crate) bookmarks: bool,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
}

impl Watch {
    fn wants(&self, key: &Key) -> bool {
        key.collection == self.resource.collection
            && self.namespace.as_deref().is_none_or(|namespace| *key.namespace == *namespace)
            && self.selector.name().is_none_or(|name| *key.name == *name)
    }

    fn selects(&self, stored: &Stored) -> bool {
        self.selector.is_everything() || self.selector.matches(&self.resource.view(stored.value()))
    }

    /// What an event means for the selected set.
    fn kind(&self, event: &Event) -> Option<&'static str> {
        let is_in = event.kind != EventKind::Deleted && self.selects(&event.object);
        let was_in = event.previous.as_ref().is_some_and(|previous| self.selects(previous));
        match (was_in, is_in) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }

    /// One line, `{"type":…,"object":…}`.
    fn line(&self, kind: &str, stored: &Stored, first: bool, out: &mut BytesMut) {
        put_line(kind, &self.rendering.one(&self.resource, stored, first), out);
    }

    /// For an object that left the selected set: its last state inside, at the version of the
    /// change that took it out.
    fn left(&self, event: &Event) -> Option<Stored> {
        if event.kind == EventKind::Deleted {
            return None;
        }
        let mut object = event.previous.as_ref()?.value();
        object::metadata_mut(&mut object)
            .insert("resourceVersion".to_owned(), event.version.to_string().into());
        Some(Stored { version: event.version, json: Bytes::from(object.to_string()) })
    }

    fn bookmark(&self, version: u64, ends_list: bool, out: &mut BytesMut) {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if ends_list {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api_version) = match self.rendering.shape {
            Shape::Object => (self.resource.kind.clone(), self.resource.api_version()),
            Shape::Partial => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
            Shape::Table(version) => ("Table".to_owned(), format!("meta.k8s.io/{version}")),
        };
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if let Shape::Table(_) = self.rendering.shape {
            object["columnDefinitions"] = Value::Null;
            object["rows"] = json!([]);
        }
        put_line("BOOKMARK", object.to_string().as_bytes(), out);
    }
}

fn put_line(kind: &str, object: &[u8], out: &mut BytesMut) {
    out.reserve(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}

/// The events of a watch, in pieces of whole lines.
pub(crate) fn stream(server: Arc<Server>, watch: Watch) -> impl Stream<Item = Bytes> + Send {
    let timeout = watch.timeout.map_or(LONGEST, Duration::from_secs).min(LONGEST);
    let now = Instant::now();
    let follower = Follower {
        versions: server.store.versions(),
        next_bookmark: now + BOOKMARK_EVERY,
        end: now + timeout,
        position: Position::Start,
        told_columns: false,
        server,
        watch,
    };
    futures::stream::unfold(follower, |mut follower| async move {
        let piece = follower.next().await?;
        Some((piece, follower))
    })
}

#[derive(Debug)]
enum Position {
    Start,
    /// Objects of the initial list that are still to be sent, all of them at this version.
    Listing(VecDeque<Arc<Stored>>, u64),
    /// Everything up to this version has been sent.
    After(u64),
    Ended,
}

/// One running watch.
struct Follower {
    server: Arc<Server>,
    watch: Watch,
    versions: tokio::sync::watch::Receiver<u64>,
    position: Position,
    next_bookmark: Instant,
    end: Instant,
    /// Tables carry their columns once.
    told_columns: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match std::mem::replace(&mut self.position, Position::Ended) {
                Position::Ended => return None,
                Position::Start => self.position = self.begin(),
                Position::Listing(objects, version) => {
                    if let Some(piece) = self.list(objects, version) {
                        return Some(piece);
                    }
                }
                Position::After(version) => {
                    if let Some(piece) = self.follow(version).await {
                        return Some(piece);
                    }
                }
            }
        }
    }

    fn begin(&self) -> Position {
        match self.watch.start {
            Start::After(version) => Position::After(version),
            Start::FromNow => Position::After(self.server.store.version()),
            Start::WithList | Start::WithMarkedList => {
                let Watch { resource, namespace, selector, .. } = &self.watch;
                let (store, namespace) = (&self.server.store, namespace.as_deref());
                let (mut objects, version) =
                    store.list(&resource.collection, namespace, selector.name());
                objects.retain(|stored| self.watch.selects(stored));
                Position::Listing(objects.into(), version)
            }
        }
    }

    fn list(&mut self, mut objects: VecDeque<Arc<Stored>>, version: u64) -> Option<Bytes> {
        let mut out = BytesMut::new();
        let count = objects.len().min(PIECE);
        for stored in objects.drain(..count) {
            self.watch.line("ADDED", &stored, !self.told_columns, &mut out);
            self.told_columns = true;
        }
        if objects.is_empty() {
            if self.watch.start == Start::WithMarkedList {
                self.watch.bookmark(version, true, &mut out);
            }
            self.position = Position::After(version);
        } else {
            self.position = Position::Listing(objects, version);
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    /// Sends what is new, or waits for something to send.
    async fn follow(&mut self, version: u64) -> Option<Bytes> {
        // Marked before reading, so that a change after the reading wakes us.
        self.versions.borrow_and_update();
        let read = self.server.store.events_after(version, PIECE, |key| self.watch.wants(key));
        let (events, upto) = match read {
            Ok(read) => read,
            Err(too_old) => {
                let mut out = BytesMut::new();
                let error = ApiError::expired(version, too_old.oldest);
                put_line("ERROR", error.body().to_string().as_bytes(), &mut out);
                return Some(out.freeze());
            }
        };
        self.position = Position::After(upto);
        let mut out = BytesMut::new();
        for event in &events {
            let Some(kind) = self.watch.kind(event) else { continue };
            let left = if kind == "DELETED" { self.watch.left(event) } else { None };
            let object = left.as_ref().unwrap_or(&event.object);
            self.watch.line(kind, object, !self.told_columns, &mut out);
            self.told_columns = true;
        }
        if !out.is_empty() {
            return Some(out.freeze());
        }
        if !events.is_empty() {
            return None;
        }
        self.wait(upto).await
    }

    async fn wait(&mut self, version: u64) -> Option<Bytes> {
        tokio::select! {
            changed = self.versions.changed() => {
                if changed.is_err() {
                    self.position = Position::Ended;
                }
                None
            }
            () = self.server.shutdown.cancelled() => {
                self.position = Position::Ended;
                None
            }
            () = sleep_until(self.end) => {
                self.position = Position::Ended;
                self.marked(version)
            }
            () = sleep_until(self.next_bookmark) => {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                self.marked(version)
            }
        }
    }

    fn marked(&self, version: u64) -> Option<Bytes> {
        let mut out = BytesMut::new();
        if self.watch.bookmarks {
            self.watch.bookmark(version, false, &mut out);
        }
        (!out.is_empty()).then(|| out.freeze())
    }
}
