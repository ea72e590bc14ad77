//! One kind as the API tells of it: all that there is, then what changes.
//!
//! ```text
//!  list ──► All ──► follow ──► Now, Gone … ──┐
//!    ▲                ▲  the stream ended    │
//!    │                └──────────────────────┤
//!    └──────────── that version is too old ──┘
//! ```
//!
//! The list comes by the watch itself where the server can do that (Kubernetes from 1.34
//! on with an etcd from 3.4.31 on, and our own API): it is served from memory there, object by object, and so it is
//! read here; at no time is more of it in memory than one object's text. From other
//! servers it comes in pages. Both are lists of the newest state, not of a cache's: what
//! is not in them is gone.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::{ObjectList, Request};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::read::Read;
use crate::shelf::Seen;

/// Objects in a page of a list.
const PAGE: u32 = 500;
/// A stream that says nothing for so long is begun anew. The server ends it sooner.
const SILENCE: Duration = Duration::from_secs(320);
/// Delay before the API is asked again after a failure; doubles up to the next.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// The longest such delay.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A stream that ends so soon after it began was none.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Doubts that are enough to ask a server for pages from then on.
const CERTAIN: u32 = 2;
/// Said by a bookmark that ends a list.
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// Why a list or a stream went no further.
#[derive(Debug, Error)]
enum Interruption {
    /// The API could not be reached, or refused.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The list by watch ended before its end was marked.
    #[error("the list ended early")]
    Unmarked,
    /// A stream ended as soon as it began.
    #[error("the stream ended at once")]
    Ended,
    /// A list without a version, after which nothing can be followed.
    #[error("a list without a version")]
    NoVersion,
}

type Events<K> = BoxStream<'static, Result<WatchEvent<Read<K>>, kube::Error>>;

/// How far it is.
enum State<K: Clone> {
    /// Nothing is known.
    Nothing,
    /// All up to this version is known.
    Upto(String),
    /// The same, and what changes arrives here since then.
    Following(String, Events<K>, Instant),
}

/// What the API tells of one kind.
pub(super) struct Feed<K: Clone> {
    client: Client,
    request: Request,
    kind: String,
    state: State<K>,
    /// Whether the list comes by the watch.
    by_watch: bool,
    /// How sure it is that it cannot.
    doubts: u32,
    failures: u32,
    /// The API is not asked again before.
    pause: Option<Duration>,
    /// Whether that it may not be read is told like that it is not served.
    forbidden_counts: bool,
}

/// That the API does not serve a kind: its definition is not installed. Or, where that
/// [counts](Feed::even_if_forbidden), that it may not be read.
#[derive(Debug, Error)]
#[error("the API serves no {0}")]
pub(super) struct NotServed(String);

impl<K> Feed<K>
where
    K: Resource + Clone + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    pub(super) fn new(client: &Client) -> Self {
        let of = K::DynamicType::default();
        Self {
            client: client.clone(),
            request: Request::new(K::url_path(&of, None)),
            kind: K::kind(&of).into_owned(),
            state: State::Nothing,
            by_watch: true,
            doubts: 0,
            failures: 0,
            pause: None,
            forbidden_counts: false,
        }
    }

    /// Of a kind that may as well not be served where it may not be read.
    pub(super) const fn even_if_forbidden(mut self) -> Self {
        self.forbidden_counts = true;
        self
    }

    /// The next that there is to tell, however long that takes.
    ///
    /// # Errors
    /// When the API says that there is no such kind. It may be asked again.
    pub(super) async fn next(&mut self) -> Result<Seen<K>, NotServed> {
        loop {
            if let Some(pause) = self.pause.take() {
                sleep(pause).await;
            }
            match self.step().await {
                Ok(Some(seen)) => {
                    self.failures = 0;
                    return Ok(seen);
                }
                // That a stream opens says nothing yet: what it says does.
                Ok(None) => {}
                Err(error) => {
                    let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(10));
                    self.failures += 1;
                    self.pause = Some(pause.min(LONGEST_RETRY));
                    if is_not_served(&error) {
                        return Err(NotServed(self.kind.clone()));
                    }
                    if is_forbidden(&error) {
                        warn!(kind = self.kind, %error, "A kind may not be read; it is asked for again: allow get, list and watch of it");
                        if self.forbidden_counts {
                            return Err(NotServed(self.kind.clone()));
                        }
                    } else {
                        warn!(kind = self.kind, %error, "A watch was interrupted; it goes on");
                    }
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Seen<K>>, Interruption> {
        match std::mem::replace(&mut self.state, State::Nothing) {
            State::Nothing if self.by_watch => match self.list_by_watch().await {
                Err(error) => match doubts(&error) {
                    Some(doubts) => {
                        self.doubts += doubts;
                        if self.doubts >= CERTAIN {
                            debug!(kind = self.kind, %error, "The server lists in pages only");
                            self.by_watch = false;
                        }
                        Ok(None)
                    }
                    None => Err(error),
                },
                Ok(listed) => {
                    self.doubts = 0;
                    Ok(Some(listed))
                }
            },
            State::Nothing => self.list_in_pages().await.map(Some),
            State::Upto(version) => {
                let events = self.watch(&WatchParams::default(), &version).await;
                // What is known stays known; only a version too old makes it nothing.
                self.state = match &events {
                    Err(Interruption::Api(kube::Error::Api(status))) if status.code == 410 => {
                        State::Nothing
                    }
                    _ => State::Upto(version.clone()),
                };
                self.state = State::Following(version, events?, Instant::now());
                Ok(None)
            }
            State::Following(version, events, since) => self.follow(version, events, since).await,
        }
    }

    async fn list_by_watch(&mut self) -> Result<Seen<K>, Interruption> {
        let listing = WatchParams { send_initial_events: true, ..WatchParams::default() };
        let mut events = self.watch(&listing, "").await?;
        let mut listed = Listed::default();
        while let Ok(Some(event)) = timeout(SILENCE, events.next()).await {
            match event? {
                WatchEvent::Added(object) => listed.take(object),
                WatchEvent::Modified(object) => {
                    listed.forget(&object);
                    listed.take(object);
                }
                WatchEvent::Deleted(object) => listed.forget(&object),
                WatchEvent::Bookmark(mark)
                    if mark.metadata.annotations.contains_key(END_OF_LIST) =>
                {
                    let version = mark.metadata.resource_version;
                    self.state = State::Following(version, events, Instant::now());
                    return Ok(listed.all());
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            }
        }
        Err(Interruption::Unmarked)
    }

    async fn list_in_pages(&mut self) -> Result<Seen<K>, Interruption> {
        let mut listed = Listed::default();
        let mut page = ListParams { limit: Some(PAGE), ..ListParams::default() };
        loop {
            let request = self.request.list(&page).map_err(kube::Error::BuildRequest)?;
            let list: ObjectList<Read<K>> = self.client.request(request).await?;
            list.items.into_iter().for_each(|object| listed.take(object));
            page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if page.continue_token.is_none() {
                let version = list.metadata.resource_version.ok_or(Interruption::NoVersion)?;
                self.state = State::Upto(version);
                return Ok(listed.all());
            }
        }
    }

    async fn watch(
        &mut self,
        params: &WatchParams,
        version: &str,
    ) -> Result<Events<K>, Interruption> {
        let request = self.request.watch(params, version).map_err(kube::Error::BuildRequest)?;
        Ok(self.client.request_events(request).await?.boxed())
    }

    async fn follow(
        &mut self,
        version: String,
        mut events: Events<K>,
        since: Instant,
    ) -> Result<Option<Seen<K>>, Interruption> {
        let Ok(Some(event)) = timeout(SILENCE, events.next()).await else {
            self.state = State::Upto(version);
            return if since.elapsed() < AT_ONCE { Err(Interruption::Ended) } else { Ok(None) };
        };
        let event = match event {
            Ok(WatchEvent::Error(status)) if status.code == 410 => {
                debug!(kind = self.kind, "What changed is no longer known; listing again");
                return Ok(None);
            }
            Ok(WatchEvent::Error(status)) => Err(kube::Error::Api(status)),
            event => event,
        };
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                self.state = State::Upto(version);
                return Err(error.into());
            }
        };
        let (version, seen) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                (object.version(), Some(Seen::from(object)))
            }
            WatchEvent::Deleted(object) => (object.version(), Some(object.gone())),
            WatchEvent::Bookmark(mark) => (mark.metadata.resource_version, None),
            WatchEvent::Error(_) => (version, None),
        };
        self.failures = 0;
        self.state = State::Following(version, events, since);
        Ok(seen)
    }
}

/// Whether there is no such kind. One that may not be read may well be there.
fn is_not_served(error: &Interruption) -> bool {
    has_code(error, 404)
}

fn is_forbidden(error: &Interruption) -> bool {
    has_code(error, 403)
}

fn has_code(error: &Interruption, code: u16) -> bool {
    matches!(error, Interruption::Api(kube::Error::Api(status)) if status.code == code)
}

/// How sure it is that a server which answers so to a list by watch must be asked for
/// pages: it says that it knows no such list, or fails, as one does whose etcd cannot say
/// how far its watches are (before 3.4.31 and 3.5.13). Any server fails once.
fn doubts(error: &Interruption) -> Option<u32> {
    match error {
        Interruption::Unmarked => Some(1),
        Interruption::Api(kube::Error::Api(status)) => match status.code {
            400 | 422 => Some(CERTAIN),
            500 => Some(1),
            _ => None,
        },
        _ => None,
    }
}

/// A list that is being read.
struct Listed<K> {
    objects: Vec<K>,
    unreadable: Vec<ObjectMeta>,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self { objects: Vec::new(), unreadable: Vec::new() }
    }
}

impl<K: Resource> Listed<K> {
    fn take(&mut self, object: Read<K>) {
        match object {
            Read::Object(object) => self.objects.push(*object),
            Read::Unreadable(meta) => self.unreadable.push(*meta),
        }
    }

    /// Takes out what changed before the end of the list was marked. It seldom does.
    fn forget(&mut self, object: &Read<K>) {
        let other = |meta: &ObjectMeta| meta.uid != object.meta().uid;
        self.objects.retain(|one| other(one.meta()));
        self.unreadable.retain(other);
    }

    fn all(self) -> Seen<K> {
        Seen::All { objects: self.objects, unreadable: self.unreadable }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use crds::kubeovn::Vpc;
    use http::Response;
    use kube::ResourceExt;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API that is asked just this, in this order, by what the query has; with what it
    /// answers, a line each.
    fn feed(script: Vec<(&'static str, u16, Vec<Value>)>) -> Feed<Vpc> {
        let script = Mutex::new(VecDeque::from(script));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (wanted, code, lines) = script.lock().unwrap().pop_front().unwrap();
            let query = request.uri().query().unwrap_or_default();
            assert!(query.contains(wanted), "{query} instead of {wanted}");
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let response =
                Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        Feed::new(&Client::new(service, "default"))
    }

    fn vpc(name: &str, version: &str) -> Value {
        let metadata = json!({"name": name, "uid": name, "resourceVersion": version});
        json!({"apiVersion": "kubeovn.io/v1", "kind": "Vpc", "metadata": metadata, "spec": {}})
    }

    fn event(kind: &str, object: &Value) -> Value {
        json!({"type": kind, "object": object})
    }

    fn end_of_list(version: &str) -> Value {
        let mut mark = vpc("", version);
        mark["metadata"]["annotations"] = json!({END_OF_LIST: "true"});
        event("BOOKMARK", &mark)
    }

    fn refusal(code: u16) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "", "code": code})
    }

    /// What is told next, in words.
    async fn told(feed: &mut Feed<Vpc>) -> String {
        match feed.next().await.unwrap() {
            Seen::All { objects, unreadable } => {
                let names: Vec<_> = objects.iter().map(ResourceExt::name_any).collect();
                format!("all: {} and {} unreadable", names.join(" "), unreadable.len())
            }
            Seen::Now(vpc) => format!("now: {}", vpc.name_any()),
            Seen::Unreadable(meta) => format!("unreadable: {:?}", meta.name),
            Seen::Gone(meta) => format!("gone: {}", meta.name.unwrap_or_default()),
        }
    }

    #[tokio::test]
    async fn a_list_comes_by_the_watch_and_goes_on_and_is_made_anew_when_it_is_too_old() {
        let mut odd = vpc("odd", "4");
        odd["spec"] = json!({"namespaces": 7});
        let all = vec![
            event("ADDED", &vpc("a", "1")),
            event("ADDED", &vpc("b", "2")),
            event("ADDED", &odd),
            // What happens before the end is marked counts.
            event("DELETED", &vpc("a", "5")),
            end_of_list("5"),
            event("MODIFIED", &vpc("b", "6")),
            event("DELETED", &vpc("b", "7")),
        ];
        let anew = vec![event("ADDED", &vpc("c", "9")), end_of_list("9")];
        let mut feed = feed(vec![
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=", 200, all),
            ("resourceVersion=7", 200, vec![event("ERROR", &refusal(410))]),
            ("sendInitialEvents=true", 200, anew),
        ]);
        assert_eq!(told(&mut feed).await, "all: b and 1 unreadable");
        assert_eq!(told(&mut feed).await, "now: b");
        assert_eq!(told(&mut feed).await, "gone: b");
        assert_eq!(told(&mut feed).await, "all: c and 0 unreadable");
    }

    #[tokio::test]
    async fn a_server_that_fails_once_is_asked_for_the_same_again() {
        let all = vec![event("ADDED", &vpc("a", "1")), end_of_list("1")];
        let mut feed = feed(vec![
            ("sendInitialEvents=true", 500, vec![refusal(500)]),
            ("sendInitialEvents=true", 200, all),
        ]);
        assert_eq!(told(&mut feed).await, "all: a and 0 unreadable");
    }

    #[tokio::test]
    async fn a_kind_that_is_not_served_is_said_to_be_and_found_when_it_is() {
        let mut feed = feed(vec![
            ("sendInitialEvents=true", 404, vec![refusal(404)]),
            ("sendInitialEvents=true", 200, vec![event("ADDED", &vpc("a", "1")), end_of_list("1")]),
        ]);
        assert_eq!(feed.next().await.unwrap_err().to_string(), "the API serves no Vpc");
        assert_eq!(told(&mut feed).await, "all: a and 0 unreadable");
    }

    #[tokio::test]
    async fn a_stream_that_ends_at_once_is_not_begun_again_at_once() {
        let all = vec![event("ADDED", &vpc("a", "1")), end_of_list("1")];
        let mut script = vec![("sendInitialEvents=true", 200, all)];
        script.extend([("resourceVersion=1", 200, Vec::new())]);
        script.push(("resourceVersion=1", 200, vec![event("ADDED", &vpc("b", "2"))]));
        let mut feed = feed(script);
        assert_eq!(told(&mut feed).await, "all: a and 0 unreadable");
        let started = Instant::now();
        assert_eq!(told(&mut feed).await, "now: b");
        assert!(started.elapsed() >= FIRST_RETRY * 3, "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_kind_that_may_not_be_read_is_not_taken_for_one_that_is_not_there() {
        let mut feed = feed(vec![
            ("sendInitialEvents=true", 403, vec![refusal(403)]),
            ("sendInitialEvents=true", 200, vec![event("ADDED", &vpc("a", "1")), end_of_list("1")]),
        ]);
        assert_eq!(told(&mut feed).await, "all: a and 0 unreadable");
    }

    #[tokio::test]
    async fn a_server_that_lists_in_pages_only_is_asked_for_pages() {
        let page = |name: &str, more: &str| {
            let metadata = json!({"resourceVersion": "3", "continue": more});
            let items = [vpc(name, "1")];
            vec![
                json!({"kind": "VpcList", "apiVersion": "kubeovn.io/v1", "metadata": metadata, "items": items}),
            ]
        };
        // As Kubernetes refuses it that cannot do it, and as one does whose etcd cannot.
        for (code, times) in [(422, 1), (500, 2)] {
            let refused = ("sendInitialEvents=true", code, vec![refusal(code)]);
            let mut script = vec![refused; times];
            script.extend([
                ("limit=500", 200, page("a", "more")),
                ("continue=more", 200, page("b", "")),
                ("resourceVersion=3", 200, vec![event("ADDED", &vpc("c", "4"))]),
            ]);
            let mut feed = feed(script);
            assert_eq!(told(&mut feed).await, "all: a b and 0 unreadable");
            assert_eq!(told(&mut feed).await, "now: c");
        }
    }
}
