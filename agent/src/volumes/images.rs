//! Disks out of images: of the node's own image layout, or of a registry.
//!
//! ```text
//!   wanted ─► in the layout by this very name? ── yes ──────────────► unpack ─► disk
//!                │ no                                                   ▲
//!                ├─ here, and need not be asked for (policy, names) ────┤
//!                └─ manifest from the registry ─► layers that are not here
//! ```
//!
//! An image is known by the digest of its manifest, and each disk is unpacked once for all
//! VMs of the node. Those who want the same blob or the same disk at once wait for the one
//! that brings it; if it fails, or nobody waits for it any more, the next goes on from where
//! it was left. But whether it may have an image each asks by itself, with its own login.

mod backoff;
mod download;
mod names;
mod pull;
mod slots;
mod store;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use self::backoff::BackOffs;
use self::names::Name;
use self::slots::Slots;
pub use self::store::Pin;
pub(super) use self::store::unpacked;
use self::store::{PASSABLE, Store, publish};
use super::layout::{Image, Layout};
use super::unpack::{Base, Limits, Unpacking, existing, key, unpack};
use super::{Format, VolumeError, blocking};
use crate::registry::{Http, Keyring, Reference};

/// What an agent is told about images.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Hosts, with their ports, whose registries are asked without TLS.
    pub plain: Vec<String>,
    /// Who may vouch for registries, beside the system's certificates.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Bytes of the node's disk for images.
    pub cache_bytes: u64,
    /// Bytes that one image may unpack to.
    pub image_bytes: u64,
    /// How many come at once.
    pub parallel: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let (plain, authorities) = (Vec::new(), Vec::new());
        Self { plain, authorities, cache_bytes: 64 << 30, image_bytes: 256 << 30, parallel: 3 }
    }
}

/// All images of the node; a cheap handle.
#[derive(Clone, Debug)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The agent's `--image-dir`.
    layout: PathBuf,
    store: Arc<Store>,
    http: Http,
    image_bytes: u64,
    slots: Slots,
    back_offs: Mutex<BackOffs>,
    /// Who makes what at this moment, by its name.
    makers: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// One disk that somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The image's name, as the user wrote it.
    pub image: &'a str,
    /// The disk in it; none: the only file in `/disk`.
    pub path: Option<&'a str>,
    pub policy: Policy,
    /// The logins of whoever wants it.
    pub keyring: &'a Keyring,
    /// The uid of whoever wants it: who has failed waits before it asks again.
    pub holder: &'a str,
    /// Another way to the registry than the node's: [`Images::trusting`]. What comes on it is
    /// known by its digest, but its name is nobody else's to go by.
    pub way: Option<&'a Http>,
}

/// When a registry is asked for an image that may be here.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Policy {
    /// `Always` for the newest one, else `IfNotPresent`.
    #[default]
    ByName,
    Always,
    IfNotPresent,
    Never,
}

/// A disk, unpacked and read-only, which stays as long as this lives.
#[derive(Debug)]
pub struct Disk {
    pub path: PathBuf,
    pub format: Format,
    /// While nothing on the disk says that it is used.
    pub pin: Pin,
}

impl Policy {
    /// # Errors
    /// It is no policy; the rule, for people.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text.unwrap_or_default() {
            "" => Ok(Self::ByName),
            "Always" => Ok(Self::Always),
            "IfNotPresent" => Ok(Self::IfNotPresent),
            "Never" => Ok(Self::Never),
            other => Err(format!(
                "has unsupported value {:?}, supported values: \"Always\", \"IfNotPresent\", \
                 \"Never\"",
                net::shown(other)
            )),
        }
    }

    fn of(self, image: &Reference) -> Self {
        match self {
            Self::ByName if image.is_latest() => Self::Always,
            Self::ByName => Self::IfNotPresent,
            policy => policy,
        }
    }
}

impl Images {
    /// Images in `layout`, and those that are kept below `state`.
    #[must_use]
    pub fn new(state: &Path, layout: PathBuf, settings: Settings) -> Self {
        let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
        let Settings { plain, authorities, cache_bytes, image_bytes, parallel } = settings;
        Self(Arc::new(Inner {
            layout,
            store: Arc::new(Store::new(state, cache_bytes)),
            http: Http::new(plain, authorities),
            image_bytes,
            slots: Slots::new(parallel),
            back_offs: Mutex::default(),
            makers: Mutex::default(),
        }))
    }

    /// The disk of an image, brought and unpacked now if it is not here. May take as long as
    /// that takes; dropped, it leaves what has come to whoever wants it next.
    ///
    /// # Errors
    /// `InvalidImage`, `BadImage`, `PullFailed`, `PullBackOff`, `NeverPulled`, `File`.
    pub async fn disk(&self, wanted: &Wanted<'_>) -> Result<Disk, VolumeError> {
        if let Some(disk) = self.of_layout(wanted).await? {
            return Ok(disk);
        }
        let reference = Reference::parse(wanted.image).map_err(|error| {
            let image = net::shown(wanted.image);
            VolumeError::InvalidImage { image, problem: error.to_string() }
        })?;
        self.make().await?;
        let known = self.name(&reference).await;
        let policy = wanted.policy.of(&reference);
        if policy != Policy::Always
            && wanted.way.is_none()
            && let Some(name) = known.filter(|name| name.is_for(wanted.keyring))
            && let Some(digest) = name.digest()
            && let Some(disk) = self.present(wanted, &digest).await?
        {
            return Ok(disk);
        }
        if policy == Policy::Never {
            return Err(VolumeError::NeverPulled { image: wanted.image.to_owned() });
        }
        let waits = (wanted.holder.to_owned(), reference.to_string());
        if let Some((left, problem)) = self.0.back_offs.lock().left(&waits, Instant::now()) {
            let image = wanted.image.to_owned();
            return Err(VolumeError::PullBackOff { image, problem, again: left });
        }
        let disk = self.of_registry(wanted, &reference).await;
        let mut back_offs = self.0.back_offs.lock();
        match disk {
            Err(VolumeError::PullFailed { image, problem, .. }) => {
                let again = back_offs.failed(waits, &problem, Instant::now());
                Err(VolumeError::PullFailed { image, problem, again })
            }
            disk => {
                back_offs.succeeded(&waits);
                disk
            }
        }
    }

    /// Whether the node's own layout has an image of this very name: then nobody is asked.
    ///
    /// # Errors
    /// `File`.
    pub async fn has(&self, image: &str) -> Result<bool, VolumeError> {
        let (layout, image) = (self.0.layout.clone(), image.to_owned());
        let found = blocking(move || Layout::new(&layout, &image).find()).await?;
        Ok(found.is_some())
    }

    /// Whether the registry at this host is asked without TLS, as the administrator has said.
    #[must_use]
    pub fn asks_plainly(&self, host: &str) -> bool {
        self.0.http.asks_plainly(host)
    }

    /// A way to registries on which nobody but these may vouch for one.
    #[must_use]
    pub fn trusting(&self, authorities: Vec<CertificateDer<'static>>) -> Http {
        self.0.http.trusting(authorities)
    }

    /// What the node's own layout has under this very name: that is what its administrator
    /// means by the name, and nobody else is asked.
    async fn of_layout(&self, wanted: &Wanted<'_>) -> Result<Option<Disk>, VolumeError> {
        let (layout, image) = (self.0.layout.clone(), wanted.image.to_owned());
        let found = blocking(move || Layout::new(&layout, &image).find()).await?;
        let Some(found) = found else { return Ok(None) };
        let pin = self.pin(vec![key(&found.digest, wanted.path)]).await;
        let layout = self.0.layout.clone();
        let base = self.unpacked(wanted, layout, found).await?.map_err(|why| {
            let problem = match why {
                Unpacking::Damaged(layer) => format!("the layer {} is damaged", layer.hex()),
                Unpacking::Unusable(problem) => problem,
                Unpacking::File(error) => return error,
            };
            VolumeError::BadImage { image: wanted.image.to_owned(), problem }
        })?;
        Ok(Some(Disk { path: base.path, format: base.format, pin }))
    }

    /// The disk of an image whose layers are in `layout`, unpacked now if it was not before.
    async fn unpacked(
        &self,
        wanted: &Wanted<'_>,
        layout: PathBuf,
        image: Image,
    ) -> Result<Result<Base, Unpacking>, VolumeError> {
        self.make().await?;
        let name = key(&image.digest, wanted.path);
        let alone = self.alone(&name).await;
        let target = self.0.store.disks().join(&name);
        if let Some(base) = self.used(target.clone()).await {
            return Ok(Ok(base));
        }
        let _slot = self.0.slots.take().await;
        let stopped = Stopped::default();
        let flag = Arc::clone(&stopped.0);
        let (images, text) = (self.clone(), wanted.image.to_owned());
        let path = wanted.path.map(str::to_owned);
        let done = tokio::task::spawn_blocking(move || {
            let layout = Layout::new(&layout, &text);
            let done = images.unpack_to(&target, &layout, &image, path.as_deref(), &flag);
            drop(alone);
            done
        });
        Ok(done.await.expect("it does not panic, and is never aborted"))
    }

    /// Blocks.
    fn unpack_to(
        &self,
        target: &Path,
        layout: &Layout<'_>,
        image: &Image,
        path: Option<&str>,
        stopped: &AtomicBool,
    ) -> Result<Base, Unpacking> {
        let store = &self.0.store;
        let limits =
            Limits { unpacked: self.0.image_bytes, take: &|bytes| store.take(bytes), stopped };
        let partial = target.with_extension("partial");
        let failed = Unpacking::file;
        // What a killed process left.
        store::remove(&partial).map_err(failed("remove", &partial))?;
        let made = fs::DirBuilder::new().mode(PASSABLE).create(&partial);
        made.map_err(failed("make the directory", &partial))?;
        let done = unpack(layout, image, path, &partial, &limits).and_then(|()| {
            publish(&partial, target).map_err(failed("move a directory to", target))
        });
        if done.is_err() {
            store::remove(&partial).map_err(failed("remove", &partial))?;
        }
        done?;
        tracing::info!(digest = image.digest.hex(), "Unpacked a container disk");
        let vanished = || Unpacking::Unusable("its disk vanished after unpacking".to_owned());
        existing(target).ok_or_else(vanished)
    }

    /// The disk that is there, and is used now.
    async fn used(&self, target: PathBuf) -> Option<Base> {
        let look = move || existing(&target).inspect(|_| Store::touch(&target));
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    async fn make(&self) -> Result<(), VolumeError> {
        let store = Arc::clone(&self.0.store);
        blocking(move || store.make()).await
    }

    async fn pin(&self, names: Vec<String>) -> Pin {
        let store = Arc::clone(&self.0.store);
        let pinned = tokio::task::spawn_blocking(move || store.pin(names)).await;
        pinned.expect("it does not panic, and is never aborted")
    }

    async fn name(&self, reference: &Reference) -> Option<Name> {
        let (store, reference) = (Arc::clone(&self.0.store), reference.clone());
        tokio::task::spawn_blocking(move || Name::read(&store, &reference)).await.ok().flatten()
    }

    /// Waits until nobody else makes what has this name.
    async fn alone(&self, name: &str) -> OwnedMutexGuard<()> {
        let maker = {
            let mut makers = self.0.makers.lock();
            makers.retain(|_, maker| maker.strong_count() > 0);
            let maker = makers.get(name).and_then(Weak::upgrade).unwrap_or_default();
            makers.insert(name.to_owned(), Arc::downgrade(&maker));
            maker
        };
        maker.lock_owned().await
    }
}

/// Set once nobody waits any more.
#[derive(Default)]
struct Stopped(Arc<AtomicBool>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
