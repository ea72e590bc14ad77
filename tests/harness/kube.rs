//! A real Kubernetes control plane on this machine: etcd, kube-apiserver and
//! kube-controller-manager, with certificates and a token of its own.
//!
//! No kubelet, no scheduler: nodes are ours, and the controller-manager runs
//! for what our code leans on, garbage collection and namespaces.

mod assets;
mod audit;
mod pki;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

pub use assets::{Assets, Unavailable, kubectl, virtctl};
pub use audit::Write;
use pki::{FRONT_PROXY, Pki};

use crate::eventually;
use crate::process::Process;

/// How long a control plane may take to be ready; about 5 s on two idle cores.
const READY: Duration = Duration::from_secs(60);

/// The three processes and how to reach them. They end when this is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    assets: Assets,
    dir: PathBuf,
    logs: PathBuf,
    api_port: u16,
    etcd_port: u16,
    pki: Pki,
    kubeconfig: PathBuf,
    audit: bool,
    manager: Option<Process>,
    apiserver: Option<Process>,
    /// Last, so that it ends last.
    etcd: Process,
}

impl ControlPlane {
    /// Starts all three with their data in `dir`, and waits until the API is ready.
    ///
    /// # Errors
    /// When one of them cannot start or is not ready in time; its log is quoted.
    pub async fn start(
        assets: &Assets,
        dir: &Path,
        logs: &Path,
        audit: bool,
    ) -> anyhow::Result<Self> {
        let (etcd_port, peer_port, api_port) = (free_port()?, free_port()?, free_port()?);
        let etcd = Process::start(
            "etcd",
            &assets.etcd,
            &[
                format!("--data-dir={}", dir.join("etcd").display()),
                format!("--listen-client-urls=http://127.0.0.1:{etcd_port}"),
                format!("--advertise-client-urls=http://127.0.0.1:{etcd_port}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
                "--log-level=warn".into(),
            ],
            logs,
        )?;
        let pki = Pki::create(&dir.join("pki")).context("making certificates")?;
        if audit {
            audit::write_policy(dir)?;
        }
        let kubeconfig = dir.join("kubeconfig");
        std::fs::write(&kubeconfig, pki.kubeconfig(&format!("https://127.0.0.1:{api_port}")))?;

        let mut plane = Self {
            assets: assets.clone(),
            dir: dir.to_owned(),
            logs: logs.to_owned(),
            api_port,
            etcd_port,
            pki,
            kubeconfig,
            audit,
            manager: None,
            apiserver: None,
            etcd,
        };
        plane.start_api()?;
        plane.ready().await?;
        plane.manager = Some(plane.start_manager()?);
        Ok(plane)
    }

    /// The kubeconfig of an administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// kill -9 of kube-apiserver. Etcd and the controller-manager stay.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill_api(&mut self) -> anyhow::Result<()> {
        let mut api = self.apiserver.take().context("kube-apiserver is not running")?;
        api.kill()?;
        Ok(())
    }

    /// Starts kube-apiserver, as the first time or after `kill_api`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_api(&mut self) -> anyhow::Result<()> {
        self.apiserver = Some(Process::start(
            "kube-apiserver",
            &self.assets.apiserver,
            &self.api_args(),
            &self.logs,
        )?);
        Ok(())
    }

    /// Waits until the API answers and the namespace `default` is there.
    ///
    /// # Errors
    /// When it does not in time, or a process has ended.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let client = crate::cluster::client(&self.kubeconfig).await?;
        eventually("kube-apiserver to be ready", READY, async || {
            self.etcd.check_running()?;
            self.apiserver.as_mut().context("not started")?.check_running()?;
            let readyz = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(readyz).await?;
            let default = http::Request::get("/api/v1/namespaces/default").body(Vec::new())?;
            client.request_text(default).await?;
            Ok(())
        })
        .await
    }

    /// The writing requests so far that were neither Kubernetes' own nor kubectl's;
    /// none unless started with `audit`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn audited(&self) -> anyhow::Result<Vec<Write>> {
        audit::read(&self.dir).await
    }

    fn api_args(&self) -> Vec<String> {
        let pki = &self.pki;
        let mut args = if self.audit { audit::args(&self.dir) } else { vec![] };
        args.extend([
            "--bind-address=127.0.0.1".into(),
            // Nothing in this cluster dials the API's service address.
            "--endpoint-reconciler-type=none".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={}", self.api_port),
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--tls-cert-file={}", pki.path("server.crt").display()),
            format!("--tls-private-key-file={}", pki.path("server.key").display()),
            format!("--client-ca-file={}", pki.path("ca.crt").display()),
            format!("--token-auth-file={}", pki.path("tokens.csv").display()),
            "--authorization-mode=RBAC".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", pki.path("accounts.pub").display()),
            format!("--service-account-signing-key-file={}", pki.path("accounts.key").display()),
            "--service-cluster-ip-range=10.96.0.0/24".into(),
            format!("--requestheader-client-ca-file={}", pki.path("front-ca.crt").display()),
            format!("--requestheader-allowed-names={FRONT_PROXY}"),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--proxy-client-cert-file={}", pki.path("front.crt").display()),
            format!("--proxy-client-key-file={}", pki.path("front.key").display()),
            "--profiling=false".into(),
        ]);
        args
    }

    fn start_manager(&self) -> anyhow::Result<Process> {
        let kubeconfig = self.kubeconfig.display();
        Process::start(
            "kube-controller-manager",
            &self.assets.manager,
            &[
                format!("--kubeconfig={kubeconfig}"),
                format!("--authentication-kubeconfig={kubeconfig}"),
                format!("--authorization-kubeconfig={kubeconfig}"),
                "--controllers=garbage-collector-controller,namespace-controller,\
                 persistentvolume-binder-controller,persistentvolume-protection-controller,\
                 persistentvolumeclaim-protection-controller,\
                 disruption-controller,serviceaccount-controller"
                    .into(),
                "--leader-elect=false".into(),
                "--bind-address=127.0.0.1".into(),
                format!("--secure-port={}", free_port()?),
                format!("--cert-dir={}", self.dir.join("manager").display()),
            ],
            &self.logs,
        )
    }
}

/// A kubeconfig for one server, one authority and one bearer token.
fn kubeconfig(server: &str, ca_base64: &str, token: &str) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "berth",
        "clusters": [{"name": "berth", "cluster":
            {"server": server, "certificate-authority-data": ca_base64}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "berth", "context": {"cluster": "berth", "user": "admin"}}],
    });
    // JSON is YAML, and kubectl reads it as such.
    format!("{config:#}\n")
}

/// A loopback port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
