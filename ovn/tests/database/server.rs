//! A real ovsdb-server of the test's own, in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ovn::nb;
use ovn::ovsdb::{Client, Config, Remote, Replica, Timing};
use serde_json::Value as Json;
use tempfile::TempDir;

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// Longer than anything here takes on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// An `ovsdb-server` with the northbound schema; killed by pid when dropped.
pub struct Server {
    dir: TempDir,
    child: Child,
    /// The port on the loopback address, where it listens there, too.
    tcp: Option<u16>,
}

/// Of one server, or a cluster of one: only clusters keep a history to resume from.
#[derive(Clone, Copy, PartialEq)]
pub enum Model {
    Standalone,
    Clustered,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_as(Model::Standalone).await
    }

    pub async fn start_as(model: Model) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let raft = raft(&dir);
        match model {
            Model::Standalone => tool(&dir, &["create", DB, SCHEMA]),
            Model::Clustered => tool(&dir, &["create-cluster", DB, SCHEMA, &raft]),
        }
        Self::listen(dir, None).await
    }

    /// One whose clients come by TCP.
    pub async fn start_on_tcp() -> Self {
        let dir = tempfile::tempdir().unwrap();
        tool(&dir, &["create", DB, SCHEMA]);
        Self::listen(dir, Some(0)).await
    }

    /// One with a schema of the test's own.
    pub async fn start_with(schema: &Json) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(OWN_SCHEMA), schema.to_string()).unwrap();
        tool(&dir, &["create", DB, OWN_SCHEMA]);
        Self::listen(dir, None).await
    }

    /// Gives the database another schema while it is served, as an upgrade does.
    pub async fn convert(&self, schema: &Json) {
        let file = self.dir.path().join(OWN_SCHEMA);
        std::fs::write(&file, schema.to_string()).unwrap();
        let server = format!("unix:{}", self.socket().display());
        let converting = tokio::process::Command::new("ovsdb-client")
            .args(["convert", &server])
            .arg(&file)
            .output();
        let converted = within(converting).await;
        let converted =
            converted.unwrap_or_else(|error| panic!("{MISSING} (ovsdb-client: {error})"));
        assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));
    }

    /// One more member of the cluster that `other` is a member of.
    pub async fn join(other: &Self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (own, others) = (raft(&dir), raft(&other.dir));
        tool(&dir, &["join-cluster", DB, nb::DATABASE, &own, &others]);
        Self::listen(dir, None).await
    }

    /// `tcp` is the port to listen on, too, 0 for any.
    async fn listen(dir: TempDir, tcp: Option<u16>) -> Self {
        let child = spawn(dir.path(), tcp);
        let mut server = Self { dir, child, tcp };
        server.listening().await;
        if tcp.is_some() {
            until(|| server.logged_port().is_some()).await;
            server.tcp = server.logged_port();
        }
        server
    }

    /// The port that the server says in its log it has taken, once it has said so.
    fn logged_port(&self) -> Option<u16> {
        let log = std::fs::read_to_string(self.dir.path().join("log")).ok()?;
        let (_, after) = log.split_once(": listening on port ")?;
        let (line, _) = after.split_once('\n')?;
        line.trim().parse().ok()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("nb.sock")
    }

    /// Ends it as a crash would, and begins it anew on the same database.
    pub async fn crash_and_restart(&mut self) {
        self.kill();
        self.start_again().await;
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), self.tcp);
        self.listening().await;
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn listening(&self) {
        let socket = self.socket();
        until(|| std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    }

    /// By TCP, where it listens there.
    pub fn config(&self) -> Config {
        let mut config = config(&self.socket());
        config.remotes.splice(.., [self.remote()]);
        config
    }

    pub fn remote(&self) -> Remote {
        let by_tcp = |port| format!("tcp:127.0.0.1:{port}").parse().unwrap();
        self.tcp.map_or_else(|| Remote::Unix(self.socket()), by_tcp)
    }

    /// A client that follows this server.
    pub async fn client(&self) -> Client {
        follow(self.config()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub const MISSING: &str = "these tests need Debian's packages openvswitch-common and ovn-common: \
                       run berth/host/install.sh";

const DB: &str = "nb.db";
const OWN_SCHEMA: &str = "own.ovsschema";

fn raft(dir: &TempDir) -> String {
    format!("unix:{}", dir.path().join("raft.sock").display())
}

fn tool(dir: &TempDir, args: &[&str]) {
    let made = Command::new("ovsdb-tool").args(args).current_dir(dir.path()).output();
    let made = made.unwrap_or_else(|error| panic!("{MISSING} (ovsdb-tool: {error})"));
    assert!(made.status.success(), "{MISSING} ({})", String::from_utf8_lossy(&made.stderr));
}

fn spawn(dir: &Path, tcp: Option<u16>) -> Child {
    let arg = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
    Command::new("ovsdb-server")
        .arg(format!("--remote=punix:{}", dir.join("nb.sock").display()))
        .args(tcp.map(|port| format!("--remote=ptcp:{port}:127.0.0.1")))
        .arg(arg("unixctl", "ctl.sock"))
        .arg(arg("log-file", "log"))
        .arg("--no-chdir")
        .arg(dir.join(DB))
        .env("OVS_RUNDIR", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{MISSING} (ovsdb-server: {error})"))
}

pub fn config(socket: &Path) -> Config {
    Config {
        remotes: vec![Remote::Unix(socket.to_owned())],
        database: nb::DATABASE.to_owned(),
        tables: nb::tables(),
        leader_only: true,
    }
}

/// A client with little patience, once it follows.
pub async fn follow(config: Config) -> Client {
    let client = Client::spawn_with(config, quick());
    within(client.synced()).await;
    client
}

pub fn quick() -> Timing {
    Timing { backoff_max: Duration::from_millis(50), ..Timing::default() }
}

/// The outcome of a future that must come soon.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it happens within the limit")
}

/// Looks every millisecond until it holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    within(async {
        while !holds() {
            ticks.tick().await;
        }
    })
    .await;
}

/// Waits until the client's replica is as it must be.
pub async fn eventually(client: &Client, mut holds: impl FnMut(&Replica) -> bool) {
    within(client.wait_for(|replica| holds(replica).then_some(()))).await;
}
