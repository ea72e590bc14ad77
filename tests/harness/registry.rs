//! A registry on the loopback of one node: Debian's `docker-registry` with a login, behind a
//! door that can be left half open, and what it takes to push an image there.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::eventually;
use crate::namespace::inside;
use crate::process::Process;

/// What images of it are called; all agents of a lab ask it without TLS.
pub const HOST: &str = "127.0.0.1:7015";

const DOOR: u16 = 7015;
const BEHIND: u16 = 7016;

/// The one login.
pub const USER: &str = "puller";
/// Its password.
pub const PASSWORD: &str = "s3cret";
/// The two, as `htpasswd -B` writes them.
const LOGINS: &str = "puller:$2b$05$fRf00zG9HA3cProtmOIiQ.WTM28qMamORuxJSPNdASnNO6GRywSlG\n";

/// A registry, until it is dropped.
#[derive(Debug)]
pub struct Registry {
    namespace: String,
    log: PathBuf,
    /// How many bytes of each answer pass.
    passes: watch::Sender<usize>,
    door: JoinHandle<()>,
    _process: Process,
}

impl Registry {
    /// One in this network namespace, with its files in `dir`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn start(namespace: &str, dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (logins, config) = (dir.join("logins"), dir.join("config.json"));
        std::fs::write(&logins, LOGINS)?;
        // Its YAML is a superset of this.
        let settings = json!({
            "version": 0.1,
            "log": { "accesslog": { "disabled": false }, "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": dir.join("images") } },
            "http": { "addr": format!("127.0.0.1:{BEHIND}") },
            "auth": { "htpasswd": { "realm": "lab", "path": logins } },
        });
        std::fs::write(&config, settings.to_string())?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("no UTF-8");
        let args = ["netns", "exec", namespace, "docker-registry", "serve"].map(str::to_owned);
        let args: Vec<String> = args.into_iter().chain([text(&config)?]).collect();
        let process = Process::start("registry", Path::new("ip"), &args, dir)?;
        let listener = inside(namespace, || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, DOOR))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let (passes, passed) = watch::channel(usize::MAX);
        let door = tokio::spawn(serve(TcpListener::from_std(listener)?, namespace.into(), passed));
        let log = dir.join("registry.log");
        let registry =
            Self { namespace: namespace.to_owned(), log, passes, door, _process: process };
        eventually("the registry to answer", Duration::from_secs(20), async || {
            let (status, _) = registry.ask("GET", "/v2/", "", &[])?;
            ensure!(status == 200, "it says {status}");
            Ok(())
        })
        .await?;
        Ok(registry)
    }

    /// Lets so many bytes of each answer pass, and no more until it is told otherwise.
    pub fn let_pass(&self, bytes: usize) {
        self.passes.send_replace(bytes);
    }

    /// How often blobs of this repository were asked for and given, each with its status.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn blobs_given(&self, repository: &str) -> anyhow::Result<Vec<u16>> {
        let log = std::fs::read_to_string(&self.log)?;
        let asked = format!("\"GET /v2/{repository}/blobs/");
        let status = |line: &str| line.split_once("HTTP/1.1\" ")?.1.split(' ').next()?.parse().ok();
        let given = log.lines().filter(|line| line.contains(&asked)).filter_map(status);
        Ok(given.filter(|status| *status < 300).collect())
    }

    /// Pushes an image of an OCI layout under another name, and as another image: what a node
    /// has of the layout's it need not pull.
    ///
    /// # Errors
    /// When the layout is not there, or the registry refuses it.
    pub fn push(
        &self,
        layout: &Path,
        image: &str,
        repository: &str,
        tag: &str,
    ) -> anyhow::Result<()> {
        let blob = |digest: &Value| -> anyhow::Result<Vec<u8>> {
            let hex = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:"));
            let path = layout.join("blobs/sha256").join(hex.context("no digest")?);
            std::fs::read(&path).with_context(|| path.display().to_string())
        };
        let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json"))?)?;
        let all = index["manifests"].as_array().context("no index")?;
        let is_meant =
            |one: &&Value| one["annotations"]["org.opencontainers.image.ref.name"] == image;
        let found = all.iter().find(is_meant).context("no such image")?;
        let json = blob(&found["digest"])?;
        let mut manifest: Value = serde_json::from_slice(&json)?;
        manifest["annotations"]["org.opencontainers.image.title"] = json!(repository);
        let layers = manifest["layers"].as_array().context("no layers")?;
        for part in layers.iter().chain([&manifest["config"]]) {
            self.push_blob(repository, &part["digest"], &blob(&part["digest"])?)?;
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        let kind = found["mediaType"].as_str().context("no media type")?;
        let (status, _) = self.ask("PUT", &path, kind, &serde_json::to_vec(&manifest)?)?;
        ensure!(status == 201, "the manifest: {status}");
        Ok(())
    }

    fn push_blob(&self, repository: &str, digest: &Value, content: &[u8]) -> anyhow::Result<()> {
        let digest = digest.as_str().context("no digest")?;
        let (status, head) =
            self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[])?;
        ensure!(status == 202, "an upload: {status}");
        let location = head.lines().find_map(|line| line.strip_prefix("Location: "));
        let location = location.context("no location")?.trim();
        let path = location.find("/v2/").map(|at| &location[at..]).context("no path")?;
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{sign}digest={digest}");
        let (status, _) = self.ask("PUT", &path, "application/octet-stream", content)?;
        ensure!(status == 201, "a blob: {status}");
        Ok(())
    }

    /// Asks it past the door; status and head of the answer.
    fn ask(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> anyhow::Result<(u16, String)> {
        let login = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{BEHIND}\r\nConnection: close\r\n\
             Authorization: Basic {login}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = inside(&self.namespace, || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, BEHIND))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        Ok((status.with_context(|| answer.clone())?, head.to_owned()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.door.abort();
    }
}

/// Joins those who come with the registry.
async fn serve(listener: TcpListener, namespace: Arc<str>, passes: watch::Receiver<usize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (namespace, passes) = (Arc::clone(&namespace), passes.clone());
        tokio::spawn(async move {
            // Either side may hang up at any time.
            let _ = join(stream, &namespace, passes).await;
        });
    }
}

async fn join(
    stream: tokio::net::TcpStream,
    namespace: &str,
    mut passes: watch::Receiver<usize>,
) -> anyhow::Result<()> {
    let behind = inside(namespace, || {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, BEHIND))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    })?;
    let (mut from, mut to) = stream.into_split();
    let (mut back, mut there) = tokio::net::TcpStream::from_std(behind)?.into_split();
    let asks = tokio::io::copy(&mut from, &mut there);
    let answers = async {
        let (mut passed, mut piece) = (0, vec![0; 32 << 10]);
        loop {
            let read = tokio::io::AsyncReadExt::read(&mut back, &mut piece).await?;
            if read == 0 {
                return Ok::<_, anyhow::Error>(());
            }
            passed += read;
            passes.wait_for(|most| passed <= *most).await?;
            to.write_all(&piece[..read]).await?;
        }
    };
    tokio::select! {
        asked = asks => { asked?; }
        answered = answers => answered?,
    }
    Ok(())
}
