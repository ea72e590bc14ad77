//! A disk in an image of a registry: pulled as that of a containerDisk, so that the node has it
//! once for both, and then copied.

use std::fs::File;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::cut::blocking;
use super::fault::Fault;
use super::given::Given;
use super::order::Image;
use super::pipe::Progress;
use super::place::Place;
use super::{Bench, OVERHEAD, decoded, fetch};
use crate::registry::{Keyring, Reference, architecture};
use crate::volumes::{Policy, VolumeError, Wanted};

/// Brings the disk of `image` to where `place` has what came from elsewhere.
pub(super) async fn pull(
    bench: &Bench,
    claim: &PersistentVolumeClaim,
    image: &Image,
    place: &Place,
    progress: &Progress,
) -> Result<(), Fault> {
    check_architecture(image.architecture.as_deref())?;
    let reference = Reference::parse(&image.name).map_err(|error| {
        Fault::Final(format!("{:?} is no image's name: {error}", net::shown(&image.name)))
    })?;
    // As with every other source, if anybody is asked; whom the administrator names is asked
    // wherever that is.
    if !bench.images.asks_plainly(reference.host())
        && !bench.images.has(&image.name).await.map_err(fault)?
    {
        fetch::check_for_all(reference.api(), 443).await?;
    }
    let given = Given::to(&bench.client, claim);
    let keyring = keyring(&given, image, &reference).await?;
    let certificates = certificates(&given, image).await?;
    let way = certificates.map(|all| bench.images.trusting(all));
    let holder = claim.uid().unwrap_or_default();
    let wanted = Wanted {
        image: &image.name,
        path: None,
        policy: image.policy,
        keyring: &keyring,
        holder: &holder,
        way: way.as_ref(),
    };
    let disk = bench.images.disk(&wanted).await.map_err(fault)?;
    let (to, limit, progress) =
        (place.source(), place.room.saturating_add(OVERHEAD), progress.clone());
    blocking(move |cut| {
        // Held, so that it does not have to make room for others meanwhile.
        let _pin = disk.pin;
        let file = File::open(&disk.path).map_err(Fault::passing(disk.path.display()))?;
        progress.expect(file.metadata()?.len());
        decoded::write(cut.reading(progress.counting(file)), &to, limit, None)
    })
    .await
}

/// That an image which is for certain machines only is for those of this node: of an index
/// that is what a node takes.
fn check_architecture(wanted: Option<&str>) -> Result<(), Fault> {
    match wanted.filter(|wanted| *wanted != architecture()) {
        None => Ok(()),
        Some(other) => Err(Fault::Final(format!(
            "source.registry.platform.architecture {:?}: a node pulls what is for its own \
             machines, {}: leave it out, or have the volume on another node",
            net::shown(other),
            architecture()
        ))),
    }
}

async fn keyring(
    given: &Given<'_>,
    image: &Image,
    reference: &Reference,
) -> Result<Keyring, Fault> {
    let mut keyring = Keyring::default();
    let Some(name) = &image.secret else { return Ok(keyring) };
    let held = given.secret(name).await?;
    match held.login()? {
        Some((user, password)) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
            keyring.add_login(&held.uid, reference.host(), text(user), text(password));
        }
        None => keyring.add(name, &held.uid, &held.data),
    }
    Ok(keyring)
}

/// Who alone may vouch for the registry, if that is said.
async fn certificates(
    given: &Given<'_>,
    image: &Image,
) -> Result<Option<Vec<CertificateDer<'static>>>, Fault> {
    let Some(name) = image.certificates.as_deref() else { return Ok(None) };
    let mut all = Vec::new();
    for pem in given.certificates(Some(name)).await? {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        all.extend(found.map_err(|_| {
            Fault::Final(format!("configmap {name:?} holds something else than certificates"))
        })?);
    }
    if all.is_empty() {
        return Err(Fault::Passing(format!("configmap {name:?} holds no certificate")));
    }
    Ok(Some(all))
}

fn fault(error: VolumeError) -> Fault {
    match error {
        VolumeError::File { action, path, source } => {
            Fault::Passing(format!("cannot {action} {}: {source}", path.display()))
        }
        error if error.is_retryable() => Fault::Passing(error.to_string()),
        error => Fault::Final(error.to_string()),
    }
}

/// When the registry is asked, by CDI's word: a pod's import asks always, and a node's goes by
/// what the node has.
pub(super) fn policy(method: Option<&str>) -> Policy {
    if method == Some("node") { Policy::ByName } else { Policy::Always }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_for_other_machines_is_refused() {
        check_architecture(None).unwrap();
        check_architecture(Some(architecture())).unwrap();
        let told = check_architecture(Some("vax")).unwrap_err();
        assert!(matches!(&told, Fault::Final(why) if why.contains("\"vax\"")), "{told}");
    }
}
