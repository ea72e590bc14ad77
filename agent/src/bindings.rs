//! What this node's DHCP answers, kept on disk.
//!
//! The one file that knows of sled. A binding is on disk before it is served,
//! so that an agent that starts while the API is away serves the same guests
//! the same way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dhcp::Binding;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

/// One port's binding and whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The domain the port belongs to: [`net::names::domain`].
    pub domain: String,
    /// What the guest is told.
    pub binding: Binding,
}

/// What the store has of one port.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// A record.
    Record(Box<Record>),
    /// One of another version, which this one cannot read and that one may again: it stays
    /// until the API says what the port has now, or the domain is gone.
    Unread {
        /// The domain the port belongs to.
        domain: String,
    },
}

/// The store; a cheap handle.
#[derive(Clone, Debug)]
pub struct Bindings {
    db: sled::Db,
    flushes: Arc<Flushes>,
}

/// Which writes are on disk. One flush at a time serves all who wait: many
/// `flush_async` at once take every thread of sled's own pool, one of which each
/// of them needs to get done, and none ever does.
#[derive(Debug, Default)]
struct Flushes {
    /// Writes made so far.
    made: AtomicU64,
    /// How many of them are on disk.
    kept: Mutex<u64>,
}

/// The store could not be read or written: disk full, file system read-only, or
/// another agent holds it.
#[derive(Debug, thiserror::Error)]
pub enum BindingsError {
    #[error("the store of DHCP bindings failed: {0}")]
    Store(#[from] sled::Error),
    #[error("a binding cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}

impl Bindings {
    /// Opens the store at `dir`, making it if it is not there.
    ///
    /// # Errors
    /// Another process has it open, or the disk says no.
    pub fn open(dir: &Path) -> Result<Self, BindingsError> {
        // The store holds a few hundred bytes a VM.
        let db = sled::Config::new().path(dir).cache_capacity(1 << 20).open()?;
        Ok(Self { db, flushes: Arc::default() })
    }

    /// All ports with what is kept of them, by name.
    ///
    /// # Errors
    /// The disk.
    pub fn all(&self) -> Result<Vec<(String, Kept)>, BindingsError> {
        let mut all = Vec::new();
        for entry in self.db.iter() {
            let (key, value) = entry?;
            let name = String::from_utf8_lossy(&key).into_owned();
            match kept(&value) {
                Ok(kept) => all.push((name, kept)),
                Err(error) => {
                    tracing::warn!(port = name, %error, "Removing what is no DHCP binding");
                    self.db.remove(&key)?;
                }
            }
        }
        Ok(all)
    }

    /// Keeps a port's record. On disk when this returns.
    ///
    /// # Errors
    /// The disk.
    pub async fn put(&self, port: &str, record: &Record) -> Result<(), BindingsError> {
        let value = serde_json::to_vec(record)?;
        if self.db.get(port)?.is_none_or(|old| *old != *value) {
            self.db.insert(port, value)?;
            self.flushes.made.fetch_add(1, Ordering::SeqCst);
        }
        // Also where it was there already: the flush of whoever wrote it may have failed.
        self.flushed().await
    }

    /// Forgets these ports. On disk when this returns.
    ///
    /// # Errors
    /// The disk.
    pub async fn remove(&self, ports: &[String]) -> Result<(), BindingsError> {
        for port in ports {
            self.db.remove(port)?;
        }
        self.flushes.made.fetch_add(1, Ordering::SeqCst);
        self.flushed().await
    }
}

/// # Errors
/// It is nobody's record.
fn kept(value: &[u8]) -> Result<Kept, serde_json::Error> {
    #[derive(Deserialize)]
    struct Whose {
        domain: String,
    }
    match serde_json::from_slice(value) {
        Ok(record) => Ok(Kept::Record(record)),
        Err(error) => {
            let Whose { domain } = serde_json::from_slice(value)?;
            tracing::warn!(domain, %error, "A DHCP binding is not served: it cannot be read");
            Ok(Kept::Unread { domain })
        }
    }
}

impl Bindings {
    /// Waits until every write made before is on disk.
    async fn flushed(&self) -> Result<(), BindingsError> {
        let mine = self.flushes.made.load(Ordering::SeqCst);
        let mut kept = self.flushes.kept.lock().await;
        if *kept >= mine {
            return Ok(());
        }
        let made = self.flushes.made.load(Ordering::SeqCst);
        let db = self.db.clone();
        tokio::task::spawn_blocking(move || db.flush())
            .await
            .map_err(|_| sled::Error::ReportableBug("a flush panicked".to_owned()))??;
        *kept = made;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(domain: &str) -> Record {
        let mac = "02:00:00:00:00:01".parse().unwrap();
        let binding = Binding { mac, hostname: None, v4: None, v6: None, ra: None };
        Record { domain: domain.to_owned(), binding }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_ports_are_kept_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Bindings::open(dir.path()).unwrap();
        let puts = (0..500).map(|index| {
            let store = store.clone();
            tokio::spawn(async move {
                let port = format!("vm{index}.default");
                store.put(&port, &record("default_vm")).await
            })
        });
        let puts = futures::future::join_all(puts);
        let all = tokio::time::timeout(std::time::Duration::from_secs(60), puts).await.unwrap();
        assert!(all.into_iter().all(|put| put.unwrap().is_ok()));
        assert_eq!(store.all().unwrap().len(), 500);
    }

    #[tokio::test]
    async fn a_binding_outlives_the_process_and_goes_when_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Bindings::open(dir.path()).unwrap();
        store.put("web.default", &record("default_web")).await.unwrap();
        store.put("db.default", &record("default_db")).await.unwrap();
        store.remove(&["db.default".to_owned()]).await.unwrap();
        drop(store);

        let again = Bindings::open(dir.path()).unwrap();
        let web = ("web.default".to_owned(), Kept::Record(record("default_web").into()));
        assert_eq!(again.all().unwrap(), [web]);
    }

    #[tokio::test]
    async fn what_a_later_version_says_besides_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Bindings::open(dir.path()).unwrap();
        let later = br#"{"domain": "default_web", "since": 7,
            "binding": {"mac": "02:00:00:00:00:01", "dot1x": {"a": 1}}}"#;
        store.db.insert("web.default", &later[..]).unwrap();
        let web = ("web.default".to_owned(), Kept::Record(record("default_web").into()));
        assert_eq!(store.all().unwrap(), [web]);
    }

    #[tokio::test]
    async fn a_record_of_another_version_stays_until_there_is_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Bindings::open(dir.path()).unwrap();
        let other = br#"{"domain": "default_web", "binding": {"macs": []}}"#;
        store.db.insert("web.default", &other[..]).unwrap();
        let unread = Kept::Unread { domain: "default_web".to_owned() };
        for _ in 0..2 {
            assert_eq!(store.all().unwrap(), [("web.default".to_owned(), unread.clone())]);
        }
        store.put("web.default", &record("default_web")).await.unwrap();
        assert!(matches!(store.all().unwrap()[0].1, Kept::Record(_)));
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Bindings::open(dir.path()).unwrap();
        store.db.insert("bad", b"{").unwrap();
        store.put("web.default", &record("default_web")).await.unwrap();
        assert_eq!(store.all().unwrap().len(), 1);
        assert_eq!(store.db.len(), 1);
    }
}
