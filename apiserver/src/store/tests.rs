use serde_json::json;

use super::*;
use crate::AdmitAll;

fn collection() -> Collection {
    Collection::new("example.io", "things")
}

fn key(name: &str) -> Key {
    Key::new(&collection(), "default", name)
}

fn thing(name: &str, text: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "text": text})
}

/// Opens the store; sled may hold on to its lock for a moment after it was closed.
async fn open(dir: &Path) -> (Store, std::thread::JoinHandle<()>) {
    let open = async {
        loop {
            match Store::open(dir, Box::new(|_, _| {}), Arc::new(AdmitAll)) {
                Err(DiskError::InUse(_)) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), open).await.expect("sled lets go")
}

async fn put(store: &Store, name: &str, text: &str) -> Arc<Stored> {
    let value = thing(name, text);
    let outcome = store.mutate(key(name), Mode::Commit, move |_, _| Ok(Change::Put(value))).await;
    match outcome.unwrap() {
        Outcome::Created(stored) | Outcome::Updated(stored) => stored,
        other => panic!("{other:?}"),
    }
}

async fn remove(store: &Store, name: &str) {
    let decide = |_: &View<'_>, current: Option<Value>| Ok(Change::Remove(current.unwrap()));
    store.mutate(key(name), Mode::Commit, decide).await.unwrap();
}

async fn close(store: Store, writer: std::thread::JoinHandle<()>) {
    drop(store);
    tokio::task::spawn_blocking(move || writer.join()).await.unwrap().unwrap();
}

fn kinds(events: &[Arc<Event>]) -> Vec<(EventKind, &str)> {
    events.iter().map(|event| (event.kind, &*event.key.name)).collect()
}

#[tokio::test]
async fn what_was_answered_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = open(dir.path()).await;
    put(&store, "a", "1").await;
    put(&store, "b", "1").await;
    let last = put(&store, "a", "2").await;
    remove(&store, "b").await;
    let version = store.version();
    assert_eq!(version, last.version + 1);
    close(store, writer).await;

    let (store, writer) = open(dir.path()).await;
    assert_eq!(store.version(), version);
    assert_eq!(store.get(&key("a")).unwrap().json, last.json);
    assert!(store.get(&key("b")).is_none());
    close(store, writer).await;
}

#[tokio::test]
async fn objects_of_every_size_grow_and_shrink_without_leaving_parts_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, mut writer) = open(dir.path()).await;
    for size in [10, 1_000, 5_000, 900_000, 3_000, 0] {
        let last = put(&store, "a", &"x".repeat(size)).await;
        put(&store, "ab", "neighbour").await;
        close(store, writer).await;
        (store, writer) = open(dir.path()).await;
        assert_eq!(store.get(&key("a")).unwrap().json, last.json);
        assert_eq!(store.list(&collection(), None, None).0.len(), 2);
    }
    let strays = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
    assert_eq!(strays, 0, "sled does not sync what it keeps outside of its log");
    close(store, writer).await;
}

#[tokio::test]
async fn decisions_made_together_see_each_other_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = open(dir.path()).await;
    let increments = (0..200).map(|_| {
        let decide = |_: &View<'_>, current: Option<Value>| {
            let count = current.map_or(0, |value| value["count"].as_u64().unwrap());
            let mut next = thing("a", "");
            next["count"] = (count + 1).into();
            Ok(Change::Put(next))
        };
        store.mutate(key("a"), Mode::Commit, decide)
    });
    for outcome in futures::future::join_all(increments).await {
        outcome.unwrap();
    }
    assert_eq!(store.get(&key("a")).unwrap().value()["count"], 200);
    close(store, writer).await;
}

#[tokio::test]
async fn a_refusal_or_a_panic_concerns_its_request_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = open(dir.path()).await;
    let refuse = |_: &View<'_>, _: Option<Value>| Err(ApiError::bad_request("no"));
    let panics = |_: &View<'_>, _: Option<Value>| panic!("a bug");
    let (good, refused, broken) = tokio::join!(
        put(&store, "a", "1"),
        store.mutate(key("b"), Mode::Commit, refuse),
        store.mutate(key("c"), Mode::Commit, panics),
    );
    assert_eq!(good.version, 1);
    assert_eq!(refused.map_err(|error| error.code).unwrap_err(), 400);
    assert_eq!(broken.map_err(|error| error.code).unwrap_err(), 500);
    assert_eq!(store.version(), 1);
    close(store, writer).await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = open(dir.path()).await;
    let value = thing("a", "1");
    let tried = store.mutate(key("a"), Mode::DryRun, move |_, _| Ok(Change::Put(value))).await;
    assert!(matches!(tried.unwrap(), Outcome::Created(_)));
    assert!(store.get(&key("a")).is_none());
    assert_eq!(store.version(), 0);
    close(store, writer).await;
}

#[tokio::test]
async fn the_log_tells_every_change_after_a_version_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = open(dir.path()).await;
    let first = put(&store, "a", "1").await;
    put(&store, "b", "1").await;
    put(&store, "a", "2").await;
    remove(&store, "b").await;
    let (events, upto) = store.events_after(first.version, 10, |_| true).unwrap();
    let expected = [(EventKind::Added, "b"), (EventKind::Modified, "a"), (EventKind::Deleted, "b")];
    assert_eq!(kinds(&events), expected);
    assert_eq!(upto, store.version());
    let gone = &events[2];
    assert_eq!(gone.object.value()["metadata"]["resourceVersion"], gone.version.to_string());

    let (events, upto) = store.events_after(0, 2, |key| &*key.name == "a").unwrap();
    assert_eq!(kinds(&events), [(EventKind::Added, "a"), (EventKind::Modified, "a")]);
    assert_eq!(upto, events[1].version);
    close(store, writer).await;
}

#[tokio::test]
async fn a_version_the_log_does_not_know_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = open(dir.path()).await;
    put(&store, "a", "1").await;
    let version = store.version();
    assert_eq!(store.events_after(version + 1, 1, |_| true).unwrap_err(), TooOld { oldest: 0 });
    close(store, writer).await;
    let (store, writer) = open(dir.path()).await;
    assert_eq!(store.events_after(version - 1, 1, |_| true).unwrap_err().oldest, version);
    assert!(store.events_after(version, 1, |_| true).unwrap().0.is_empty());
    close(store, writer).await;
}

#[test]
fn the_log_forgets_by_count() {
    let mut log = log::Log::default();
    let event = |version| {
        let object = Arc::new(Stored { version, json: Bytes::new() });
        let kind = EventKind::Added;
        Arc::new(Event { version, key: key("a"), kind, object, previous: None })
    };
    let count = log::KEPT as u64 + 5;
    for version in 1..=count {
        log.push(event(version));
    }
    assert_eq!(log.after(4, count, 1, |_| true).unwrap_err(), TooOld { oldest: 5 });
    let (events, _) = log.after(5, count, 1, |_| true).unwrap();
    assert_eq!(events[0].version, 6);
}

#[tokio::test]
async fn lists_are_ordered_and_keep_to_their_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = open(dir.path()).await;
    for (namespace, name) in [("b", "x"), ("a", "z"), ("a", "y"), ("ab", "w")] {
        let value = json!({"metadata": {"name": name, "namespace": namespace}});
        let key = Key::new(&collection(), namespace, name);
        store.mutate(key, Mode::Commit, move |_, _| Ok(Change::Put(value))).await.unwrap();
    }
    let names = |namespace| -> Vec<String> {
        let (objects, _) = store.list(&collection(), namespace, None);
        let names = objects.iter().map(|stored| object::name(&stored.value()).to_owned());
        names.collect()
    };
    assert_eq!(names(None), ["y", "z", "w", "x"]);
    assert_eq!(names(Some("a")), ["y", "z"]);
    close(store, writer).await;
}

#[tokio::test]
async fn a_store_has_one_user_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = open(dir.path()).await;
    let second = Store::open(dir.path(), Box::new(|_, _| {}), Arc::new(AdmitAll));
    assert!(matches!(second, Err(DiskError::InUse(_))));
    close(store, writer).await;
}
