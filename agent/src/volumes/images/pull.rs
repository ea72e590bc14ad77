//! An image from a registry: who may have it, what of it is not here, and what is said when it
//! cannot be had.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::download::{self, Missing, download};
use super::names::Name;
use super::store::{Store, publish};
use super::{Disk, Images, Inner, Wanted};
use crate::registry::{
    Descriptor, Digest, Document, Keyring, Login, Reference, RegistryError, Session,
};
use crate::volumes::layout::Image;
use crate::volumes::unpack::{Base, Unpacking, existing, key};
use crate::volumes::{VolumeError, blocking};

/// An image of a registry, for somebody who may have it.
struct Given<'a> {
    session: Session<'a>,
    digest: Digest,
    layers: Vec<download::Wanted>,
    /// Whether it took no login.
    public: bool,
}

impl Images {
    /// What the registry gives under this name.
    pub(super) async fn of_registry(
        &self,
        wanted: &Wanted<'_>,
        reference: &Reference,
    ) -> Result<Disk, VolumeError> {
        let failed = |error: RegistryError| pull_failed(wanted, &error.to_string());
        let mut given = self.ask(wanted, reference).await.map_err(failed)?;
        // Until the disk lies there the rest must not go.
        let names = given.layers.iter().map(|layer| layer.digest.hex().to_owned());
        let names = names.chain([key(&given.digest, wanted.path), given.digest.hex().to_owned()]);
        let pin = self.pin(names.collect()).await;
        let base = self.pull(wanted, &mut given).await?;
        if wanted.way.is_none() {
            self.note(reference, &given, wanted.keyring).await?;
        }
        Ok(Disk { path: base.path, format: base.format, pin })
    }

    /// Notes what this name means, and that it was given to who has these logins.
    async fn note(
        &self,
        reference: &Reference,
        given: &Given<'_>,
        keyring: &Keyring,
    ) -> Result<(), VolumeError> {
        let alone = self.alone(&reference.to_string()).await;
        let (store, reference) = (Arc::clone(&self.0.store), reference.clone());
        let (digest, public, keyring) = (given.digest.clone(), given.public, keyring.clone());
        let kept = blocking(move || {
            let before = Name::read(&store, &reference);
            let name = Name::given(before, &reference, &digest, public, &keyring);
            let kept = name.write(&store, &reference);
            drop(alone);
            kept.map_err(VolumeError::file("keep a name in", &store.names()))
        });
        kept.await
    }

    /// The disk of an image that need not be asked for, if all of it is here.
    pub(super) async fn present(
        &self,
        wanted: &Wanted<'_>,
        digest: &Digest,
    ) -> Result<Option<Disk>, VolumeError> {
        let disk = key(digest, wanted.path);
        let pin = self.pin(vec![disk.clone(), digest.hex().to_owned()]).await;
        let (store, digest) = (Arc::clone(&self.0.store), digest.clone());
        let found = blocking(move || {
            let is_unpacked = existing(&store.disks().join(disk)).is_some();
            let layers = if is_unpacked { Some(Vec::new()) } else { held(&store, &digest) };
            Ok(layers.map(|layers| Image { digest, layers }))
        });
        let Some(image) = found.await? else { return Ok(None) };
        let layers = self.pin(image.layers.iter().map(|layer| layer.hex().to_owned()).collect());
        let _layers = layers.await;
        let base = self.unpacked_of_pulled(wanted, image).await?;
        Ok(Some(Disk { path: base.path, format: base.format, pin }))
    }

    /// Asks the registry for the manifest, with one login after the other.
    async fn ask<'a>(
        &'a self,
        wanted: &Wanted<'a>,
        reference: &'a Reference,
    ) -> Result<Given<'a>, RegistryError> {
        let logins = wanted.keyring.logins(reference);
        let logins: Vec<Option<&Login>> =
            if logins.is_empty() { vec![None] } else { logins.into_iter().map(Some).collect() };
        let mut refused = None;
        for login in logins {
            let way = wanted.way.unwrap_or(&self.0.http);
            let mut session = Session::new(way, reference, login);
            let (digest, json) = match session.manifest().await {
                Ok(given) => given,
                Err(error @ RegistryError::Failed(_)) => return Err(error),
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            };
            let layers = layers(&json).map_err(RegistryError::Failed)?;
            self.keep_manifest(&digest, json).await.map_err(RegistryError::Failed)?;
            return Ok(Given { session, digest, layers, public: login.is_none() });
        }
        Err(refused.unwrap_or_else(|| RegistryError::Failed("nobody was asked".to_owned())))
    }

    /// Keeps a manifest as it came.
    async fn keep_manifest(&self, digest: &Digest, json: Vec<u8>) -> Result<(), String> {
        let _alone = self.alone(digest.hex()).await;
        let (store, digest) = (Arc::clone(&self.0.store), digest.clone());
        let keep = move || {
            let (partial, path) = (store.partial(&digest), store.blob(&digest));
            if path.is_file() {
                return Ok(());
            }
            store.take(u64::try_from(json.len()).unwrap_or(u64::MAX))?;
            fs::write(&partial, &json)?;
            fs::File::open(&partial)?.sync_all()?;
            publish(&partial, &path)
        };
        let kept = tokio::task::spawn_blocking(keep).await;
        let kept = kept.expect("it does not panic, and is never aborted");
        kept.map_err(|error: io::Error| format!("its manifest cannot be kept: {error}"))
    }

    /// Brings what is not here of an image, and unpacks its disk.
    async fn pull(&self, wanted: &Wanted<'_>, given: &mut Given<'_>) -> Result<Base, VolumeError> {
        let target = self.0.store.disks().join(key(&given.digest, wanted.path));
        let layers = given.layers.iter().map(|layer| layer.digest.clone()).collect();
        let image = Image { digest: given.digest.clone(), layers };
        if let Some(base) = self.used(target).await {
            return Ok(base);
        }
        let bytes: u64 = given.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        if bytes > self.0.image_bytes {
            let why = format!("its {bytes} bytes are more than the node takes (--image-max-bytes)");
            return Err(pull_failed(wanted, &why));
        }
        let began = Instant::now();
        tracing::info!(
            image = wanted.image,
            digest = given.digest.hex(),
            bytes,
            "Pulling an image"
        );
        for layer in &given.layers {
            let alone = self.alone(layer.digest.hex()).await;
            if tokio::fs::try_exists(self.0.store.blob(&layer.digest)).await.unwrap_or(false) {
                continue;
            }
            let Inner { store, slots, .. } = &*self.0;
            let done = download(store, slots, &mut given.session, layer, alone).await;
            done.map_err(|missing| match missing {
                Missing::Registry(error) => pull_failed(wanted, &error.to_string()),
                Missing::Disk(error) => self.no_room(wanted, &error),
            })?;
        }
        let base = self.unpacked_of_pulled(wanted, image).await?;
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(image = wanted.image, bytes, seconds, "Pulled an image");
        Ok(base)
    }

    /// The disk of an image of which all layers are here.
    async fn unpacked_of_pulled(
        &self,
        wanted: &Wanted<'_>,
        image: Image,
    ) -> Result<Base, VolumeError> {
        let done = self.unpacked(wanted, self.0.store.pulled(), image).await?;
        done.map_err(|why| match why {
            Unpacking::Unusable(problem) => {
                VolumeError::BadImage { image: wanted.image.to_owned(), problem }
            }
            Unpacking::Damaged(layer) => {
                // It comes anew with the next attempt.
                let removed = fs::remove_file(self.0.store.blob(&layer));
                let problem = format!("layer {layer} is damaged on the node's disk");
                tracing::warn!(%layer, ?removed, "A layer was damaged on the disk");
                pull_failed(wanted, &problem)
            }
            Unpacking::File(VolumeError::File { source, .. }) => self.no_room(wanted, &source),
            Unpacking::File(error) => error,
        })
    }

    /// What to say when the node's disk says no.
    fn no_room(&self, wanted: &Wanted<'_>, error: &io::Error) -> VolumeError {
        if error.kind() == io::ErrorKind::StorageFull {
            let store = Arc::clone(&self.0.store);
            tokio::task::spawn_blocking(move || store.shrink());
        }
        pull_failed(wanted, &format!("the node cannot keep it: {error}"))
    }
}

fn pull_failed(wanted: &Wanted<'_>, problem: &str) -> VolumeError {
    let faults = wanted.keyring.faults();
    let faults = faults.map(|faults| format!("; {faults}")).unwrap_or_default();
    let (image, problem) = (wanted.image.to_owned(), format!("{problem}{faults}"));
    VolumeError::PullFailed { image, problem, again: Duration::ZERO }
}

/// The layers of an image whose manifest is this.
fn layers(json: &[u8]) -> Result<Vec<download::Wanted>, String> {
    let Document::Manifest(layers) = Document::parse(json)? else {
        return Err("it is an index".to_owned());
    };
    let layer = |layer: &Descriptor| {
        let size = layer.size.ok_or("a layer of it has no size")?;
        Ok(download::Wanted { digest: layer.digest()?, size })
    };
    layers.iter().map(layer).collect()
}

/// The layers of an image, if it and all of them are here. Blocks.
fn held(store: &Store, digest: &Digest) -> Option<Vec<Digest>> {
    let json =
        fs::read(store.blob(digest)).ok().filter(|json| Digest::of_bytes(json) == *digest)?;
    let layers: Vec<_> = layers(&json).ok()?.into_iter().map(|layer| layer.digest).collect();
    layers.iter().all(|layer| store.blob(layer).is_file()).then_some(layers)
}
