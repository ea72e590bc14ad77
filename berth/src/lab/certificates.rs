//! By what the nodes of a lab know each other when guests move between them.
//!
//! An authority is made at each start and forgotten with it; what a node has by it says
//! its name and its address. libvirtd and QEMU ask both sides for theirs, so that nobody
//! else on the fabric sends a guest, takes one, or reads along.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use super::files::private_dir;
use super::layout::NodeLayout;

/// Where a node's libvirtd and QEMU see what the authority gave it.
pub(crate) const SEEN_AT: &str = "/etc/libvirt/pki";

/// The names by which libvirt's client and QEMU look for the same things.
const AUTHORITY: [&str; 2] = ["cacert.pem", "ca-cert.pem"];
const CERTIFICATE: [&str; 4] =
    ["servercert.pem", "clientcert.pem", "server-cert.pem", "client-cert.pem"];
const KEY: [&str; 4] = ["serverkey.pem", "clientkey.pem", "server-key.pem", "client-key.pem"];

/// Whom the nodes of one lab trust.
#[derive(Debug)]
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = named("berth lab");
        let made = CertifiedIssuer::self_signed(params, KeyPair::generate()?);
        made.map(Self).context("cannot make an authority for the nodes")
    }

    /// Writes what a node shows to others and knows them by.
    pub(crate) fn give(&self, node: &NodeLayout) -> Result<()> {
        let dir = node.libvirt().join("etc/pki");
        private_dir(&dir)?;
        let names = vec![node.underlay().to_string(), node.name.clone()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(&node.name);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        write(&dir, &AUTHORITY, &self.0.pem())?;
        write(&dir, &CERTIFICATE, &certificate.pem())?;
        write(&dir, &KEY, &key.serialize_pem())
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
