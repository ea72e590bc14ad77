//! A real ovsdb-server of the test's own, in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ovn::nb;
use ovn::ovsdb::{Client, Config, Remote, Replica, Timing};
use tempfile::TempDir;

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// Longer than anything here takes on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// An `ovsdb-server` with the northbound schema; killed by pid when dropped.
pub struct Server {
    dir: TempDir,
    child: Child,
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
        Self::listen(dir).await
    }

    /// One more member of the cluster that `other` is a member of.
    pub async fn join(other: &Self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (own, others) = (raft(&dir), raft(&other.dir));
        tool(&dir, &["join-cluster", DB, nb::DATABASE, &own, &others]);
        Self::listen(dir).await
    }

    async fn listen(dir: TempDir) -> Self {
        let child = spawn(dir.path());
        let server = Self { dir, child };
        server.listening().await;
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("nb.sock")
    }

    /// Ends it as a crash would, and begins it anew on the same database.
    pub async fn crash_and_restart(&mut self) {
        self.kill();
        self.child = spawn(self.dir.path());
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

    pub fn config(&self) -> Config {
        config(&self.socket())
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

fn raft(dir: &TempDir) -> String {
    format!("unix:{}", dir.path().join("raft.sock").display())
}

fn tool(dir: &TempDir, args: &[&str]) {
    let made = Command::new("ovsdb-tool").args(args).current_dir(dir.path()).output();
    let made = made.unwrap_or_else(|error| panic!("{MISSING} (ovsdb-tool: {error})"));
    assert!(made.status.success(), "{MISSING} ({})", String::from_utf8_lossy(&made.stderr));
}

fn spawn(dir: &Path) -> Child {
    let arg = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
    Command::new("ovsdb-server")
        .arg(format!("--remote=punix:{}", dir.join("nb.sock").display()))
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
