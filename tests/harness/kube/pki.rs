//! Certificates, keys and the token of one control plane.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The administrator's token. The server listens on loopback only and lives as
/// long as a test, so that it need not be a secret.
const TOKEN: &str = "berth-tests";

/// The name by which the server is known to those who serve groups of their own.
pub(super) const FRONT_PROXY: &str = "berth-tests-front-proxy-client";

/// A directory of PEM files.
#[derive(Debug)]
pub(super) struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Writes an authority, a server certificate for loopback, the keys
    /// of service accounts, the token file, and by what the server is known to those who
    /// serve groups of their own.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(rcgen::DnType::CommonName, "berth-tests");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc"];
        let server_key = KeyPair::generate()?;
        let server =
            CertificateParams::new(names.map(String::from))?.signed_by(&server_key, &authority)?;

        let mut front = CertificateParams::default();
        front.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        front.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        front.distinguished_name.push(rcgen::DnType::CommonName, "berth-tests-front-proxy");
        let front = CertifiedIssuer::self_signed(front, KeyPair::generate()?)?;
        let proxy_key = KeyPair::generate()?;
        let mut proxy = CertificateParams::default();
        proxy.distinguished_name = rcgen::DistinguishedName::new();
        proxy.distinguished_name.push(rcgen::DnType::CommonName, FRONT_PROXY);
        proxy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let proxy = proxy.signed_by(&proxy_key, &front)?;
        fs::write(dir.join("front-ca.crt"), front.pem())?;
        fs::write(dir.join("front.crt"), proxy.pem())?;
        fs::write(dir.join("front.key"), proxy_key.serialize_pem())?;

        fs::write(dir.join("ca.crt"), authority.pem())?;
        fs::write(dir.join("server.crt"), server.pem())?;
        fs::write(dir.join("server.key"), server_key.serialize_pem())?;
        let accounts_key = KeyPair::generate()?;
        fs::write(dir.join("accounts.key"), accounts_key.serialize_pem())?;
        fs::write(dir.join("accounts.pub"), accounts_key.public_key_pem())?;
        fs::write(dir.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// One of the files.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The administrator's kubeconfig for `server`.
    pub(super) fn kubeconfig(&self, server: &str) -> String {
        let ca = fs::read(self.path("ca.crt")).unwrap_or_default();
        super::kubeconfig(server, &STANDARD.encode(ca), TOKEN)
    }
}
