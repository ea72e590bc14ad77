//! A node with a libvirtd and an OVS of its own, in namespaces of their own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take: a guest boots in five seconds, on a machine that
/// also compiles in more.
const LIMIT: Duration = Duration::from_secs(90);

/// The node; all its processes end with the value, or with the test process.
#[derive(Debug)]
pub(crate) struct Node {
    dir: TempDir,
    /// `unshare`, whose death kills the PID namespace.
    holder: Child,
    /// The first process within.
    init: u32,
    kernel: String,
}

impl Node {
    /// Brings a node up.
    pub(crate) fn new() -> Self {
        let kernel = kernel();
        let dir = tempfile::Builder::new().prefix("berth-libvirt").tempdir().unwrap();
        run(Command::new("sh")
            .args(["-c", GUEST, "guest"])
            .arg(dir.path().join("initrd"))
            .arg(&kernel));
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--uts", "--pid"])
            .args(["--fork", "--kill-child", "--mount-proc", "bash", "-c", NODE, "node"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("node.log")).unwrap())
            .spawn()
            .unwrap();
        let mut node = Self { dir, holder, init: 0, kernel };
        node.wait_for("the node is up", || node.path("up").exists());
        let id = node.holder.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        node.init = children.trim().parse().unwrap();
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.path("run/libvirt-sock").display())
    }

    /// Makes the domain boot our kernel rather than its disk.
    pub(crate) fn boots(&self, xml: &str) -> String {
        let boot = format!(
            "<kernel>/boot/vmlinuz-{}</kernel><initrd>{}</initrd>\
             <cmdline>console=ttyS0 quiet</cmdline></os>",
            self.kernel,
            self.path("initrd").display()
        );
        xml.replace("</os>", &boot)
    }

    /// Runs a command inside the node and returns what it printed.
    pub(crate) fn inside(&self, command: &str) -> String {
        run(&mut self.shell(command))
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("nsenter");
        shell.args(["-t", &self.init.to_string(), "-m", "-n", "-u", "-p"]);
        shell.args(["sh", "-c", command]);
        shell
    }

    pub(crate) fn ovs_vsctl(&self, arguments: &str) -> String {
        let db = self.path("ovs/db.sock");
        run(Command::new("ovs-vsctl")
            .arg(format!("--db=unix:{}", db.display()))
            .args(arguments.split_whitespace()))
    }

    pub(crate) fn kill_libvirtd(&self) {
        self.inside("kill -KILL $(cat /run/libvirt/libvirtd.pid)");
    }

    /// Starts libvirtd and waits until it listens.
    pub(crate) fn start_libvirtd(&self) {
        // One that was just killed holds its pid file until the last of its threads is gone.
        self.wait_for("libvirtd starts", || {
            let started = self.shell("libvirtd -d --pid-file /run/libvirt/libvirtd.pid").output();
            started.is_ok_and(|started| started.status.success())
        });
        let socket = self.path("run/libvirt-sock");
        self.wait_for("libvirtd listens", || UnixStream::connect(&socket).is_ok());
    }

    /// Waits until `condition` holds; shows the node's logs if it never does.
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < LIMIT, "waited in vain until {what}\n{}", self.logs());
            // The condition is in another process, which tells nobody.
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn logs(&self) -> String {
        let logs = fs::read_dir(self.path("log/qemu")).into_iter().flatten().flatten();
        let logs = logs.map(|entry| entry.path()).chain([self.path("node.log")]);
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            format!("--- {}\n{text}\n", path.display())
        };
        logs.map(read).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing can be done about an error here; the namespace is gone or not ours.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The image layout with the demonstration guest; made once, in a few seconds.
pub(crate) fn guest_image() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../berth/host/guest-image.sh");
    let layout = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-image");
    run(Command::new("sh").arg(script).arg(&layout));
    layout
}

const NODE: &str = include_str!("node.sh");
const GUEST: &str = include_str!("guest.sh");

/// The newest of Debian's cloud kernels here.
fn kernel() -> String {
    let names = fs::read_dir("/boot").unwrap().flatten().map(|entry| entry.file_name());
    let mut versions: Vec<_> = names
        .filter_map(|name| Some(name.to_str()?.strip_prefix("vmlinuz-")?.to_owned()))
        .filter(|version| Path::new("/lib/modules").join(version).exists())
        .collect();
    versions.sort();
    versions.pop().expect("a kernel is installed: see berth/host/install.sh")
}

/// Runs to the end and returns the output; panics with the error output.
fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}\n{errors}", done.status);
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}
