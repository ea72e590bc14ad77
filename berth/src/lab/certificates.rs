//! By what the nodes of a lab know each other when guests move between them.
//!
//! Two authorities are made at each start and forgotten with it: one for libvirtd, one for
//! QEMU. What a node has by them says its name and its address. Both ask both sides for
//! theirs, so that nobody else on the fabric sends a guest, takes one, or reads along. They
//! are two since QEMU, which a guest may have taken over, reads its key: with it nobody may
//! speak to another node's libvirtd.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use super::files::{private_dir, qemu};
use super::layout::NodeLayout;

/// Where a node's libvirtd sees what its authority gave it.
pub(crate) const SEEN_AT: &str = "/etc/libvirt/pki";
/// Where its QEMU does.
pub(crate) const SEEN_BY_QEMU: &str = "/etc/libvirt/qemu-pki";

/// The names by which libvirtd and its client look for their things.
const LIBVIRT: Names = Names {
    authority: "cacert.pem",
    certificate: ["servercert.pem", "clientcert.pem"],
    key: ["serverkey.pem", "clientkey.pem"],
};
/// The names by which QEMU does.
const QEMU: Names = Names {
    authority: "ca-cert.pem",
    certificate: ["server-cert.pem", "client-cert.pem"],
    key: ["server-key.pem", "client-key.pem"],
};

/// What the files of one side are called.
struct Names {
    authority: &'static str,
    certificate: [&'static str; 2],
    key: [&'static str; 2],
}

/// Whom the nodes of one lab trust.
#[derive(Debug)]
pub(crate) struct Authorities {
    libvirt: Authority,
    qemu: Authority,
}

impl Authorities {
    pub(crate) fn new() -> Result<Self> {
        let made = || Authority::named("berth lab").context("cannot make an authority");
        Ok(Self { libvirt: made()?, qemu: made()? })
    }

    /// Writes what a node shows to others and knows them by.
    pub(crate) fn give(&self, node: &NodeLayout) -> Result<()> {
        let dir = node.libvirt().join("etc/pki");
        private_dir(&dir)?;
        self.libvirt.give(node, &dir, &LIBVIRT)?;
        let dir = node.libvirt().join("etc/qemu-pki");
        private_dir(&dir)?;
        self.qemu.give(node, &dir, &QEMU)?;
        let Some(user) = qemu() else { return Ok(()) };
        let files = fs::read_dir(&dir)?.map(|file| file.map(|file| (file.path(), 0o640)));
        for file in files.chain([Ok((dir.clone(), 0o710))]) {
            let (path, mode) = file?;
            chown(&path, None, Some(user.gid.as_raw()))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
                .with_context(|| format!("cannot let QEMU read {}", path.display()))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn named(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = named(name);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    fn give(&self, node: &NodeLayout, dir: &Path, names: &Names) -> Result<()> {
        let identity = vec![node.underlay().to_string(), node.name.clone()];
        let mut params = CertificateParams::new(identity)?;
        params.distinguished_name = named(&node.name);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        write(dir, &[names.authority], &self.0.pem())?;
        write(dir, &names.certificate, &certificate.pem())?;
        write(dir, &names.key, &key.serialize_pem())
    }
}

fn write(dir: &Path, names: &[&str], text: &str) -> Result<()> {
    for path in names.iter().map(|name| dir.join(name)) {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
