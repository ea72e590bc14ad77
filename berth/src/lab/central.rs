//! OVN central: the two databases and northd, in the fabric's namespace, reached
//! through Unix sockets. The databases are files of the data directory, so what
//! is in them survives the lab.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use super::command::{run, word};
use super::files::private_dir;
use super::layout::Layout;
use super::news::News;
use super::process::{Prepare, Process, Spec};

/// How long a database or a daemon may take to answer.
pub(crate) const READY: Duration = Duration::from_secs(20);

/// Starts the databases and northd and waits until they serve.
pub(crate) async fn start(layout: &Layout, news: &News) -> Result<Vec<Process>> {
    let dir = layout.central();
    private_dir(&dir)?;
    let mut processes = Vec::new();
    for (name, short, schema) in [("ovsdb-nb", "nb", "ovn-nb"), ("ovsdb-sb", "sb", "ovn-sb")] {
        let database = dir.join(format!("{short}.db"));
        create_database(&database, &format!("/usr/share/ovn/{schema}.ovsschema")).await?;
        let server = database_server(layout, name, short, &database);
        processes.push(Process::start(server, news));
    }
    for process in &processes {
        process.ready(READY).await?;
    }
    run(&["ovn-nbctl", &format!("--db={}", layout.northbound()), "init"]).await?;
    run(&["ovn-sbctl", &format!("--db={}", layout.southbound()), "init"]).await?;
    processes.push(Process::start(northd(layout), news));
    Ok(processes)
}

/// Makes an empty database from its schema, or brings an old one up to it.
pub(crate) async fn create_database(database: &Path, schema: &str) -> Result<()> {
    if !database.exists() {
        // Under another name first: the tool may be ended in the middle.
        let draft = database.with_extension("new");
        let _ = std::fs::remove_file(&draft);
        run(&["ovsdb-tool", "create", word(&draft), schema]).await?;
        return Ok(std::fs::rename(&draft, database)?);
    }
    let database = word(database);
    // A killed ovsdb-server leaves its lock file, which is no lock by itself.
    match run(&["ovsdb-tool", "needs-conversion", database, schema]).await?.trim() {
        "yes" => run(&["ovsdb-tool", "convert", database, schema]).await.map(drop),
        _ => Ok(()),
    }
}

fn database_server(layout: &Layout, name: &str, short: &str, database: &Path) -> Spec {
    let dir = layout.central();
    let socket = dir.join(format!("{short}.sock"));
    let words = [
        "ovsdb-server".to_owned(),
        format!("--remote=punix:{}", socket.display()),
        format!("--unixctl={}", dir.join(format!("{short}.ctl")).display()),
        format!("--pidfile={}", dir.join(format!("{short}.pid")).display()),
        "-vsyslog:off".to_owned(),
        "-vfile:off".to_owned(),
        "-vconsole:info".to_owned(),
        word(database).to_owned(),
    ];
    Spec {
        name: name.to_owned(),
        words: in_namespace(&layout.fabric(), words),
        env: rundir(&dir),
        log: layout.log(name),
        lab: layout.dir.clone(),
        prepare: Some(answers(socket)),
    }
}

fn northd(layout: &Layout) -> Spec {
    let dir = layout.central();
    let words = [
        "ovn-northd".to_owned(),
        format!("--ovnnb-db={}", layout.northbound()),
        format!("--ovnsb-db={}", layout.southbound()),
        format!("--unixctl={}", dir.join("northd.ctl").display()),
        format!("--pidfile={}", dir.join("northd.pid").display()),
        "-vsyslog:off".to_owned(),
        "-vfile:off".to_owned(),
        "-vconsole:info".to_owned(),
    ];
    Spec {
        name: "northd".to_owned(),
        words: in_namespace(&layout.fabric(), words),
        env: rundir(&dir),
        log: layout.log("northd"),
        lab: layout.dir.clone(),
        prepare: None,
    }
}

/// The same command, run in a namespace. `ip` replaces itself by the command,
/// so the process id stays that of the child.
pub(crate) fn in_namespace(
    namespace: &str,
    words: impl IntoIterator<Item = String>,
) -> Vec<String> {
    ["ip", "netns", "exec", namespace].map(str::to_owned).into_iter().chain(words).collect()
}

/// Keeps every file that the OVS and OVN programs make without being told where.
pub(crate) fn rundir(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    ["OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR", "OVS_DBDIR", "OVN_DBDIR"]
        .map(|name| (name, dir.to_owned()))
        .into()
}

/// Ready when somebody accepts connections at `socket`.
pub(crate) fn answers(socket: PathBuf) -> Prepare {
    Arc::new(move || {
        let socket = socket.clone();
        Box::pin(async move { wait_for_socket(&socket).await })
    })
}

/// Waits until somebody accepts connections at `socket`.
pub(crate) async fn wait_for_socket(socket: &Path) -> Result<()> {
    let connected = async {
        while let Err(error) = tokio::net::UnixStream::connect(socket).await {
            tracing::trace!(%error, "Not yet");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(READY, connected).await.is_err() {
        bail!("nobody answers at {}", socket.display());
    }
    Ok(())
}
