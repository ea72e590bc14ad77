//! Disks that lie on a server: what a volume says of one, and how QEMU finds it. Pure.
//!
//! QEMU speaks NFS and iSCSI itself, so nothing of them is mounted or logged in to on the node:
//! there is nothing to be found again by an agent that was killed, to be taken away behind the
//! last guest, or to hang with a server. A guest's connection ends with its process.

use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    ISCSIPersistentVolumeSource, NFSVolumeSource, PersistentVolumeSpec,
};

use super::raw::DISK_FILE;

/// As whom files of NFS servers are used: KubeVirt's user of guests, who owns the disks that are
/// there already.
pub(crate) const NFS_USER: u32 = 107;

/// iSCSI's port.
const ISCSI_PORT: u16 = 3260;

/// Mount options that say what is so anyway.
const GRANTED: [&str; 14] = [
    "rw",
    "ro",
    "hard",
    "nolock",
    "local_lock=all",
    "tcp",
    "proto=tcp",
    "vers=3",
    "nfsvers=3",
    "nfsvers=3.0",
    "sec=sys",
    "noatime",
    "nodiratime",
    "_netdev",
];

/// A directory of an NFS server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Export {
    pub(crate) server: String,
    /// Absolute.
    pub(crate) path: String,
    /// The group as which it is used.
    pub(crate) group: u32,
    pub(crate) read_only: bool,
}

/// A disk of an iSCSI server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// Ways to it; the first that answers is taken.
    pub(crate) portals: Vec<Portal>,
    pub(crate) iqn: String,
    pub(crate) lun: u16,
    /// As whom it is asked, if that is said.
    pub(crate) initiator: Option<String>,
    /// The Secret of a login: its namespace and name.
    pub(crate) secret: Option<(String, String)>,
    pub(crate) read_only: bool,
}

/// Where an iSCSI server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Portal {
    /// A name or an address, this without brackets.
    pub host: String,
    pub port: u16,
}

/// For iSCSI's own form, `host:port`.
impl fmt::Display for Portal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(out, "[{host}]:{port}")
        } else {
            write!(out, "{host}:{port}")
        }
    }
}

/// A disk on a server, as QEMU is told of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remote {
    /// A file; user and group as which it is read and written.
    Nfs { server: String, path: String, user: u32, group: u32 },
    /// A block device.
    Iscsi { portal: Portal, iqn: String, lun: u16, initiator: Option<String>, login: Option<Login> },
}

/// A login of CHAP.
#[derive(Clone, Eq, PartialEq)]
pub struct Login {
    pub user: String,
    pub password: Vec<u8>,
    /// By which libvirt knows the password.
    pub secret: uuid::Uuid,
}

/// Without the password.
impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Remote {
    /// What it is called, by whatever way it is reached.
    #[must_use]
    pub fn name(&self) -> PathBuf {
        PathBuf::from(match self {
            Self::Nfs { server, path, .. } => name("nfs", Some(server), path),
            Self::Iscsi { iqn, lun, .. } => name("iscsi", None, &format!("{iqn}/{lun}")),
        })
    }
}

/// The same of what libvirt says of one: protocol, first host, and what is there.
pub(crate) fn name(protocol: &str, host: Option<&str>, path: &str) -> String {
    match protocol {
        // Which of its portals leads to it makes no difference.
        "iscsi" => format!("iscsi://{path}"),
        other => format!("{other}://{}{path}", host.unwrap_or_default()),
    }
}

/// The NFS directory that a volume is. `annotations`: the volume's own group.
///
/// # Errors
/// Why it cannot be used, for people.
pub(crate) fn export(
    source: &NFSVolumeSource,
    volume: &PersistentVolumeSpec,
    group: Option<&str>,
) -> Result<Export, String> {
    if volume.volume_mode.as_deref() == Some("Block") {
        return Err("nfs has no block devices: leave out volumeMode: Block".to_owned());
    }
    let plain = |host: &str| !host.is_empty() && host.chars().all(is_of_host);
    let server = source.server.trim_start_matches('[').trim_end_matches(']');
    if !plain(server) {
        return Err(format!("nfs.server {:?} is no host name or address", net::shown(server)));
    }
    let path = source.path.trim_end_matches('/');
    if !source.path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("nfs.path {:?} is not an absolute path", net::shown(&source.path)));
    }
    let options = volume.mount_options.iter().flatten();
    let options = options.flat_map(|text| text.split(',')).map(str::trim);
    let mut read_only = source.read_only.unwrap_or(false);
    for option in options.filter(|option| !option.is_empty()) {
        read_only |= option == "ro";
        if !GRANTED.contains(&option) {
            return Err(format!(
                "mountOptions: {:?} has no effect, since nothing is mounted and NFS is spoken in \
                 version 3: take it out",
                net::shown(option)
            ));
        }
    }
    let wrong = |text: &str| format!("annotation {GROUP}: {:?} is no number", net::shown(text));
    let group = group.map(|text| text.parse().map_err(|_| wrong(text))).transpose()?;
    let (server, path) = (server.to_owned(), path.to_owned());
    Ok(Export { server, path, group: group.unwrap_or(NFS_USER), read_only })
}

/// On a volume: the group as which it is used (Kubernetes').
pub(crate) const GROUP: &str = "pv.beta.kubernetes.io/gid";

impl Export {
    /// The disk in it.
    pub(crate) fn disk(&self) -> Remote {
        Remote::Nfs {
            server: self.server.clone(),
            path: format!("{}/{DISK_FILE}", self.path),
            user: NFS_USER,
            group: self.group,
        }
    }
}

/// The iSCSI disk that a volume is.
///
/// # Errors
/// Why it cannot be used, for people.
pub(crate) fn target(
    source: &ISCSIPersistentVolumeSource,
    volume: &PersistentVolumeSpec,
) -> Result<Target, String> {
    if volume.volume_mode.as_deref() != Some("Block") {
        return Err(
            "an iscsi volume is a block device here, and no file system on it is mounted: \
                    make it and its claim volumeMode: Block"
                .to_owned(),
        );
    }
    if let Some(other) =
        source.iscsi_interface.as_deref().filter(|one| !matches!(*one, "" | "default"))
    {
        let shown = net::shown(other);
        return Err(format!("iscsi.iscsiInterface {shown:?} is not served: leave it out"));
    }
    if volume.mount_options.iter().flatten().any(|option| !option.trim().is_empty()) {
        return Err("mountOptions have no effect on a block device: take them out".to_owned());
    }
    for (field, iqn) in
        [("iqn", Some(&source.iqn)), ("initiatorName", source.initiator_name.as_ref())]
    {
        if let Some(iqn) = iqn.filter(|iqn| !is_iqn(iqn)) {
            let shown = net::shown(iqn);
            return Err(format!("iscsi.{field} {shown:?} is no name as iqn.2026-01.example:disk"));
        }
    }
    let lun = u16::try_from(source.lun).ok().filter(|lun| *lun <= 255);
    let lun = lun.ok_or_else(|| format!("iscsi.lun {} is not between 0 and 255", source.lun))?;
    let all = std::iter::once(&source.target_portal).chain(source.portals.iter().flatten());
    let mut portals = Vec::new();
    for text in all {
        let portal = portal(text)
            .ok_or_else(|| format!("iscsi portal {:?} is no host:port", net::shown(text)))?;
        if !portals.contains(&portal) {
            portals.push(portal);
        }
    }
    let secret = match (source.chap_auth_session.unwrap_or(false), &source.secret_ref) {
        (false, _) => None,
        (true, None) => return Err("iscsi.chapAuthSession needs iscsi.secretRef".to_owned()),
        (true, Some(secret)) => {
            let part = |text: &Option<String>, field: &str| {
                text.clone()
                    .filter(|text| !text.is_empty())
                    .ok_or_else(|| format!("iscsi.secretRef.{field} is a required field"))
            };
            Some((part(&secret.namespace, "namespace")?, part(&secret.name, "name")?))
        }
    };
    Ok(Target {
        portals,
        iqn: source.iqn.clone(),
        lun,
        initiator: source.initiator_name.clone().filter(|name| !name.is_empty()),
        secret,
        read_only: source.read_only.unwrap_or(false),
    })
}

/// What a Secret says of a login, in open-iscsi's words as Kubernetes has them.
///
/// # Errors
/// What is missing, for people.
pub(crate) fn login(
    values: &std::collections::BTreeMap<String, Vec<u8>>,
    secret: uuid::Uuid,
) -> Result<Login, String> {
    const USER: &str = "node.session.auth.username";
    const PASSWORD: &str = "node.session.auth.password";
    // Who asks that the server proves itself must not be served without that.
    if values.keys().any(|key| {
        matches!(key.as_str(), "node.session.auth.username_in" | "node.session.auth.password_in")
    }) {
        return Err(
            "asks the server to log in, too (…_in), which QEMU cannot: take these keys out"
                .to_owned(),
        );
    }
    let value = |key: &str| values.get(key).ok_or_else(|| format!("has no key {key}"));
    let user = String::from_utf8(value(USER)?.clone())
        .map_err(|_| format!("has a key {USER} that is no text"))?;
    Ok(Login { user, password: value(PASSWORD)?.clone(), secret })
}

fn portal(text: &str) -> Option<Portal> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
        }
        None if text.matches(':').count() > 1 => {
            text.parse::<std::net::Ipv6Addr>().ok()?;
            (text, "")
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port =
        if port.is_empty() { ISCSI_PORT } else { port.parse().ok().filter(|port| *port > 0)? };
    let is_plain = !host.is_empty() && host.chars().all(is_of_host);
    is_plain.then(|| Portal { host: host.to_owned(), port })
}

/// Whether it may stand in the name of a host or in an address.
fn is_of_host(one: char) -> bool {
    one.is_ascii_alphanumeric() || matches!(one, '.' | '-' | '_' | ':')
}

/// A name of iSCSI (RFC 3720, 3.2.6), of which nothing can be taken for something else.
fn is_iqn(text: &str) -> bool {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '.' | '-' | ':' | '_');
    let kinds = ["iqn.", "eui.", "naa."];
    kinds.iter().any(|kind| text.starts_with(kind))
        && text.len() <= 223
        && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> PersistentVolumeSpec {
        serde_json::from_value(value).unwrap()
    }

    fn nfs(value: Value) -> Result<Export, String> {
        let spec = spec(value);
        export(spec.nfs.as_ref().unwrap(), &spec, None)
    }

    fn iscsi(more: Value) -> Result<Target, String> {
        let mut source =
            json!({"targetPortal": "10.0.0.1", "iqn": "iqn.2026-01.example:a", "lun": 0});
        let mut volume = json!({"volumeMode": "Block"});
        for (key, value) in more.as_object().unwrap() {
            let of = if key.starts_with("volumeMode") || key.starts_with("mount") {
                &mut volume
            } else {
                &mut source
            };
            of[key] = value.clone();
        }
        volume["iscsi"] = source;
        let spec = spec(volume);
        target(spec.iscsi.as_ref().unwrap(), &spec)
    }

    #[test]
    fn a_directory_of_a_server_holds_a_disk_that_is_used_as_kubevirts_user() {
        let found = nfs(
            json!({"nfs": {"server": "s", "path": "/a/b/"}, "mountOptions": ["nfsvers=3", "hard"]}),
        );
        let found = found.unwrap();
        assert!(!found.read_only);
        let remote = found.disk();
        assert_eq!(remote.name(), PathBuf::from("nfs://s/a/b/disk.img"));
        assert!(matches!(remote, Remote::Nfs { user: 107, group: 107, .. }));
        for read_only in [
            json!({"nfs": {"server": "s", "path": "/", "readOnly": true}}),
            json!({"nfs": {"server": "s", "path": "/"}, "mountOptions": ["ro"]}),
        ] {
            assert!(nfs(read_only).unwrap().read_only);
        }
        let of_group = spec(json!({"nfs": {"server": "s", "path": "/"}}));
        let source = of_group.nfs.as_ref().unwrap();
        assert_eq!(export(source, &of_group, Some("2000")).unwrap().group, 2000);
        assert!(export(source, &of_group, Some("staff")).unwrap_err().contains("is no number"));
    }

    #[test]
    fn what_a_server_of_files_cannot_do_is_told() {
        let source = json!({"server": "s", "path": "/a"});
        for (volume, words) in [
            (
                json!({"nfs": source, "mountOptions": ["nfsvers=4.1"]}),
                "\"nfsvers=4.1\" has no effect",
            ),
            (json!({"nfs": source, "mountOptions": ["soft,timeo=5"]}), "\"soft\" has no effect"),
            (json!({"nfs": source, "volumeMode": "Block"}), "no block devices"),
            (json!({"nfs": {"server": "s/x?uid=0", "path": "/a"}}), "is no host name"),
            (json!({"nfs": {"server": "", "path": "/a"}}), "is no host name"),
            (json!({"nfs": {"server": "s", "path": "a"}}), "not an absolute path"),
            (json!({"nfs": {"server": "s", "path": "/a/../.."}}), "not an absolute path"),
        ] {
            let told = nfs(volume).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn a_disk_of_a_server_is_reached_by_any_of_its_portals() {
        let found = iscsi(
            json!({"portals": ["10.0.0.2:3261", "[fd00::1]:99", "fd00::2", "10.0.0.1:3260"]}),
        );
        let portals: Vec<_> = found.unwrap().portals.iter().map(ToString::to_string).collect();
        assert_eq!(portals, ["10.0.0.1:3260", "10.0.0.2:3261", "[fd00::1]:99", "[fd00::2]:3260"]);
        let secret = json!({"chapAuthSession": true, "secretRef": {"name": "a", "namespace": "b"}});
        assert_eq!(iscsi(secret).unwrap().secret, Some(("b".to_owned(), "a".to_owned())));
        let unused = json!({"secretRef": {"name": "a", "namespace": "b"}});
        assert_eq!(iscsi(unused).unwrap().secret, None, "it logs in where that is said");
    }

    #[test]
    fn what_a_server_of_disks_cannot_do_is_told() {
        for (more, words) in [
            (json!({"volumeMode": "Filesystem", "fsType": "ext4"}), "volumeMode: Block"),
            (json!({"iscsiInterface": "iser"}), "\"iser\" is not served"),
            (json!({"iqn": "disk,user=x"}), "is no name as iqn."),
            (json!({"initiatorName": "iqn.2026-01.x y"}), "initiatorName"),
            (json!({"lun": 256}), "not between 0 and 255"),
            (json!({"targetPortal": "a b"}), "no host:port"),
            (json!({"portals": ["h:0"]}), "no host:port"),
            (json!({"chapAuthSession": true}), "needs iscsi.secretRef"),
            (json!({"chapAuthSession": true, "secretRef": {"name": "a"}}), "secretRef.namespace"),
            (json!({"mountOptions": ["noatime"]}), "take them out"),
        ] {
            let told = iscsi(more).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn a_login_is_open_iscsis_and_never_shown() {
        let values = |keys: &[&str]| {
            keys.iter()
                .map(|key| (format!("node.session.auth.{key}"), b"s3cret".to_vec()))
                .collect()
        };
        let uuid = uuid::Uuid::nil();
        let login = |keys: &[&str]| super::login(&values(keys), uuid);
        let found = login(&["username", "password"]).unwrap();
        assert!(!format!("{found:?}").contains("password"), "{found:?}");
        assert!(login(&["username"]).unwrap_err().contains("no key node.session.auth.password"));
        let mutual = login(&["username", "password", "username_in", "password_in"]);
        assert!(mutual.unwrap_err().contains("take these keys out"));
    }
}
