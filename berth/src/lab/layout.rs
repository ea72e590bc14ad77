//! Names and paths of a lab, computed and nothing else.
//!
//! ```text
//! DIR/lab.json              what `berth console` reads from a second shell
//! DIR/log/<process>.log     one per process, appended
//! DIR/api/                  store and kubeconfig of the embedded API
//! DIR/central/              OVN's two databases and their sockets
//! DIR/images/               OCI image layout for containerDisks
//! DIR/<node>/ovs/           the node's Open vSwitch: database, sockets
//! DIR/<node>/libvirt/       what its libvirtd sees as /etc/libvirt and so on
//! DIR/<node>/state|run/     --state-dir and --run-dir of its agent
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Where `berth up` keeps everything unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/berth";

/// The longest data directory that leaves room for the sockets below it: a
/// socket path has 107 bytes at most, `/n1/run/` and `/serial` take 15, and a
/// domain name of 40 shall fit.
pub const LONGEST_DIR: usize = 107 - 15 - 40;

/// Where everything of one lab is.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Distinguishes the namespaces of several labs on one host.
    pub id: String,
    /// The data directory, absolute.
    pub dir: PathBuf,
}

/// The directory, within the lab's, below which hostDisks of VMs may be.
const HOST_DISKS: &str = "host-disks";

/// Where everything of one node is.
#[derive(Clone, Debug)]
pub struct NodeLayout {
    /// Its number, from 1.
    pub number: u8,
    /// Its name: Kubernetes node, OVN chassis and host name alike.
    pub name: String,
    /// Its network namespace.
    pub namespace: String,
    /// Its directory, below the lab's.
    pub dir: PathBuf,
}

impl Layout {
    /// Below which hostDisks of VMs may be: the same on all nodes.
    #[must_use]
    pub fn host_disks(&self) -> PathBuf {
        self.dir.join(HOST_DISKS)
    }

    /// The lab that `berth up` runs in a directory. The default one has an id
    /// that people can type, others a short hash of the path.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        let uuid =
            uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, dir.as_os_str().as_encoded_bytes());
        let id = if dir == Path::new(DEFAULT_DIR) {
            "lab".to_owned()
        } else {
            uuid.simple().to_string()[..6].to_owned()
        };
        Self { id, dir: dir.to_owned() }
    }

    /// The namespace of the fabric, where OVN central runs too.
    #[must_use]
    pub fn fabric(&self) -> String {
        format!("berth-{}-fab", self.id)
    }

    /// What every namespace name of this lab begins with.
    #[must_use]
    pub fn namespace_prefix(&self) -> String {
        format!("berth-{}-", self.id)
    }

    /// The node with this number, counted from 1.
    #[must_use]
    pub fn node(&self, number: u8) -> NodeLayout {
        let name = format!("n{number}");
        let namespace = format!("{}{name}", self.namespace_prefix());
        NodeLayout { number, namespace, dir: self.dir.join(&name), name }
    }

    /// The log of the process of that name.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.dir.join("log").join(format!("{}.log", process.replace('/', "-")))
    }

    /// OVN's databases and their sockets.
    #[must_use]
    pub fn central(&self) -> PathBuf {
        self.dir.join("central")
    }

    /// The northbound database as OVN tools want it.
    #[must_use]
    pub fn northbound(&self) -> String {
        format!("unix:{}", self.central().join("nb.sock").display())
    }

    /// The southbound database as OVN tools want it.
    #[must_use]
    pub fn southbound(&self) -> String {
        format!("unix:{}", self.central().join("sb.sock").display())
    }

    /// The data directory of the embedded API.
    #[must_use]
    pub fn api(&self) -> PathBuf {
        self.dir.join("api")
    }

    /// Where a second shell learns about the running lab.
    #[must_use]
    pub fn facts(&self) -> PathBuf {
        self.dir.join("lab.json")
    }

    /// Exists while `/run/netns` is a mount that this lab made.
    pub(crate) fn netns_mount_marker(&self) -> PathBuf {
        self.dir.join(".netns-mount")
    }
}

impl NodeLayout {
    /// Directory of the database and the sockets of Open vSwitch and
    /// ovn-controller.
    #[must_use]
    pub fn ovs(&self) -> PathBuf {
        self.dir.join("ovs")
    }

    /// The node's Open vSwitch database as its tools want it.
    #[must_use]
    pub fn ovsdb(&self) -> String {
        format!("unix:{}", self.ovs().join("db.sock").display())
    }

    /// What libvirtd sees as its own directories.
    #[must_use]
    pub fn libvirt(&self) -> PathBuf {
        self.dir.join("libvirt")
    }

    /// How to reach the node's libvirtd from anywhere on the host.
    #[must_use]
    pub fn libvirt_uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.libvirt_socket().display())
    }

    pub(crate) fn libvirt_socket(&self) -> PathBuf {
        self.libvirt().join("run/libvirt-sock")
    }

    /// `--state-dir` of the agent.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// `--local-volume-dir` of the agent.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    /// `--run-dir` of the agent.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The socket behind the first serial port of a VM.
    #[must_use]
    pub fn serial(&self, namespace: &str, vm: &str) -> PathBuf {
        self.run().join(net::names::domain(namespace, vm)).join("serial")
    }

    /// The agent's admin socket: GET /ports, GET /metrics.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.run().join("admin.sock")
    }

    /// The node's address on the fabric, from the range for carriers' own use.
    #[must_use]
    pub fn underlay(&self) -> Ipv4Addr {
        Ipv4Addr::new(100, 127, 0, 10 + self.number)
    }

    /// The node's IPv6 address on the fabric, unique local (RFC 4193).
    #[must_use]
    pub fn underlay_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x127, 0, 0, 0, 0, 0, 0x10 + u16::from(self.number))
    }

    /// Name of one of the node's processes.
    #[must_use]
    pub fn process(&self, what: &str) -> String {
        format!("{}/{what}", self.name)
    }
}

/// Whether `dir` can hold a lab, and if not what to choose instead.
///
/// # Errors
///
/// A sentence for the user.
pub fn check_dir(dir: &Path) -> Result<(), String> {
    if !dir.is_absolute() {
        return Err(format!("the data directory must be absolute, {} is not", dir.display()));
    }
    if dir.as_os_str().len() > LONGEST_DIR {
        return Err(format!(
            "the data directory {} is too long for the Unix sockets below it: use at most {LONGEST_DIR} bytes",
            dir.display()
        ));
    }
    // libvirtd gets mounts of its own over these.
    let hidden = [
        "/run",
        "/var/run",
        "/etc/libvirt",
        "/var/lib/libvirt",
        "/var/log/libvirt",
        "/var/cache/libvirt",
    ];
    match hidden.iter().find(|taken| dir.starts_with(taken)) {
        Some(taken) => Err(format!(
            "the data directory must not lie in {taken}: the nodes see another one there"
        )),
        None => Ok(()),
    }
}

/// Whether a directory with these entries may hold a lab: it is new, or held one
/// before. Any other one has an owner who would be surprised.
///
/// # Errors
///
/// A sentence for the user.
pub fn check_entries(dir: &Path, names: &[String]) -> Result<(), String> {
    let ours = ["lab.json", ".netns-mount", "log", "api", "central", "images", "host", HOST_DISKS];
    let is_ours = |name: &String| {
        ours.contains(&name.as_str())
            || name.strip_prefix('n').is_some_and(|number| number.parse::<u8>().is_ok())
    };
    // `central` is made early and is nobody else's word.
    match names.iter().find(|name| !is_ours(name)) {
        Some(other) if !names.iter().any(|name| name == "central") => Err(format!(
            "{} holds other things ({other}), and a data directory is for root only: name one that is empty or does not exist",
            dir.display()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_other_things_in_it_is_not_taken() {
        let check = |names: &[&str]| {
            check_entries(
                Path::new("/srv"),
                &names.iter().map(|&name| name.into()).collect::<Vec<_>>(),
            )
        };
        check(&[]).unwrap();
        check(&["log", "images", "n1"]).unwrap();
        check(&["notes.txt", "central", "log"]).unwrap();
        assert!(check(&["log", "www"]).unwrap_err().contains("(www)"));
        assert!(check(&["news"]).is_err());
    }

    #[test]
    fn a_directory_that_the_nodes_cannot_see_or_name_is_refused() {
        check_dir(Path::new("/var/lib/berth")).unwrap();
        assert!(check_dir(Path::new("berth")).unwrap_err().contains("absolute"));
        assert!(check_dir(Path::new("/run/berth")).unwrap_err().contains("/run"));
        let long = format!("/tmp/{}", "x".repeat(LONGEST_DIR));
        assert!(check_dir(Path::new(&long)).unwrap_err().contains("too long"));
    }

    #[test]
    fn labs_in_different_directories_have_different_ids() {
        let id = |dir: &str| Layout::at(Path::new(dir)).id;
        assert_eq!(id(DEFAULT_DIR), "lab");
        assert_ne!(id("/srv/a"), id("/srv/b"));
        assert_eq!(id("/srv/a").len(), 6);
    }

    #[test]
    fn nodes_have_addresses_and_namespaces_of_their_own() {
        let layout = Layout { id: "t1".to_owned(), dir: "/d".into() };
        let (first, second) = (layout.node(1), layout.node(2));
        assert_eq!(first.namespace, "berth-t1-n1");
        assert_ne!(first.underlay(), second.underlay());
        assert_eq!(layout.log("n1/agent"), Path::new("/d/log/n1-agent.log"));
    }
}
