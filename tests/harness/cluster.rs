//! One Kubernetes API, embedded or real, and the ways to talk to it.
//!
//! Scenarios are written against this type, so that each runs on both.

mod kubectl;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DynamicObject;
use kube::{Api, Client, Config};
use serde_json::Value;

pub use self::kubectl::kubectl_command;
use crate::kinds::Kind;
use crate::kube::{Assets, ControlPlane, Write, free_port, kubectl};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::suite::World;
use crate::{berth_binary, eventually, manifests};

/// How long the embedded API may take to be ready.
const READY: Duration = Duration::from_secs(20);

/// Which API a scenario runs against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flavour {
    /// `berth apiserver`.
    Embedded,
    /// etcd, kube-apiserver and kube-controller-manager.
    Real,
}

impl Flavour {
    /// Why this machine cannot have it, if so.
    #[must_use]
    pub fn unavailable(self) -> Option<String> {
        let needs = match self {
            Self::Embedded => kubectl().map(drop),
            Self::Real => Assets::find().map(drop),
        };
        needs.err().map(|missing| missing.0)
    }

    /// As it appears in the names of tests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Real => "real",
        }
    }
}

/// An API that is up, with a client and a kubeconfig.
pub struct Cluster {
    flavour: Flavour,
    server: Server,
    kubeconfig: PathBuf,
    client: Client,
    scratch: Scratch,
    /// Directories of what runs on top of this API.
    others: Vec<Scratch>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Server {
    Embedded {
        process: Option<Process>,
        args: Vec<String>,
    },
    Real(Box<ControlPlane>),
    /// Somebody else's to start and stop.
    Elsewhere,
}

impl Cluster {
    /// Starts an API of this flavour, with nothing in it but what it brings itself.
    ///
    /// # Errors
    /// When it does not become ready, or the real one's programs are missing.
    pub async fn start(flavour: Flavour) -> anyhow::Result<Self> {
        match flavour {
            Flavour::Embedded => Self::embedded().await,
            Flavour::Real => Self::real(false).await,
        }
    }

    /// Starts `berth apiserver`.
    ///
    /// # Errors
    /// When it does not become ready; its log is quoted.
    pub async fn embedded() -> anyhow::Result<Self> {
        Self::embedded_with(&[]).await
    }

    /// The same with further flags.
    ///
    /// # Errors
    /// As [`Cluster::embedded`].
    pub async fn embedded_with(flags: &[&str]) -> anyhow::Result<Self> {
        let mut scratch = Scratch::new("embedded")?;
        let data = scratch.path().join("api");
        let mut args = vec![
            "apiserver".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--listen=127.0.0.1:{}", free_port()?),
        ];
        args.extend(flags.iter().map(ToString::to_string));
        let mut process = start_embedded(&args, &scratch)?;
        let kubeconfig = data.join("kubeconfig");
        let client = eventually("the embedded API to be ready", READY, async || {
            process.check_running()?;
            answering(&kubeconfig).await
        })
        .await;
        let client = scratch.keep_on_error(client)?;
        let server = Server::Embedded { process: Some(process), args };
        Ok(Self { flavour: Flavour::Embedded, server, kubeconfig, client, scratch, others: vec![] })
    }

    /// Starts a real control plane, which keeps an audit log if asked to.
    ///
    /// # Errors
    /// When its programs are missing or it does not become ready; logs are quoted.
    pub async fn real(audit: bool) -> anyhow::Result<Self> {
        let assets = Assets::find().map_err(|missing| anyhow::anyhow!(missing.0))?;
        let mut scratch = Scratch::new("real")?;
        let plane = ControlPlane::start(&assets, scratch.path(), &scratch.logs(), audit).await;
        let plane = scratch.keep_on_error(plane)?;
        let kubeconfig = plane.kubeconfig().to_owned();
        let client = client(&kubeconfig).await?;
        let server = Server::Real(Box::new(plane));
        Ok(Self { flavour: Flavour::Real, server, kubeconfig, client, scratch, others: vec![] })
    }

    /// An API that runs already, such as a lab's.
    ///
    /// # Errors
    /// When its kubeconfig cannot be used.
    pub async fn attached(
        flavour: Flavour,
        kubeconfig: &Path,
        scratch: Scratch,
    ) -> anyhow::Result<Self> {
        let client = client(kubeconfig).await?;
        let kubeconfig = kubeconfig.to_owned();
        Ok(Self { flavour, server: Server::Elsewhere, kubeconfig, client, scratch, others: vec![] })
    }

    /// Which API this is.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// A kubeconfig of an administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Lets another directory share the fate of this one.
    pub fn also_keep(&mut self, other: Scratch) {
        self.others.push(other);
    }

    /// Keeps data and logs after this value is gone, and says where; call it when
    /// something failed.
    pub fn keep(&mut self) -> Vec<String> {
        let all = std::iter::once(&mut self.scratch).chain(&mut self.others);
        all.map(|scratch| {
            scratch.keep();
            scratch.path().display().to_string()
        })
        .collect()
    }

    /// kill -9 of the API's process; connections break, data stay.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill_api(&mut self) -> anyhow::Result<()> {
        match &mut self.server {
            Server::Embedded { process, .. } => {
                process.take().context("the API is not running")?.kill()?;
                Ok(())
            }
            Server::Real(plane) => plane.kill_api(),
            Server::Elsewhere => anyhow::bail!("this API is not ours to kill"),
        }
    }

    /// Starts the API again after `kill_api`, on the same port and data.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_api(&mut self) -> anyhow::Result<()> {
        match &mut self.server {
            Server::Embedded { process, args } => {
                let process = process.insert(start_embedded(args, &self.scratch)?);
                eventually("the embedded API to be ready again", READY, async || {
                    process.check_running()?;
                    answering(&self.kubeconfig).await
                })
                .await?;
                Ok(())
            }
            Server::Real(plane) => {
                plane.start_api()?;
                plane.ready().await
            }
            Server::Elsewhere => anyhow::bail!("this API is not ours to start"),
        }
    }

    /// The writing requests so far that were neither Kubernetes' own nor kubectl's.
    ///
    /// # Errors
    /// When this API keeps no audit log.
    pub async fn audited(&self) -> anyhow::Result<Vec<Write>> {
        match &self.server {
            Server::Real(plane) => plane.audited().await,
            _ => anyhow::bail!("this API keeps no audit log"),
        }
    }

    /// Applies `manifests/crds` and `manifests/cdi` with kubectl and waits until all are served.
    ///
    /// # Errors
    /// When kubectl refuses, or a CRD does not become Established.
    pub async fn apply_crds(&self) -> anyhow::Result<()> {
        for dir in ["crds", "cdi"] {
            let dir = manifests(dir);
            self.kubectl_ok(&["apply", "-f", &dir.to_string_lossy()]).await?;
        }
        self.kubectl_ok(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"])
            .await?;
        Ok(())
    }

    /// The objects of one kind, in namespace `default` where it has namespaces.
    #[must_use]
    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        api(&self.client, kind)
    }

    /// Creates an object from `objects`.
    ///
    /// # Errors
    /// What the API answers.
    pub async fn create(&self, kind: Kind, object: Value) -> anyhow::Result<DynamicObject> {
        let object: DynamicObject = serde_json::from_value(object)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        self.api(kind)
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("creating {} {name}", kind.singular()))
    }

    /// An object as JSON, if it exists.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn find(&self, kind: Kind, name: &str) -> anyhow::Result<Option<Value>> {
        match self.api(kind).get_opt(name).await? {
            Some(object) => Ok(Some(serde_json::to_value(object)?)),
            None => Ok(None),
        }
    }

    /// An object as JSON.
    ///
    /// # Errors
    /// When it does not exist or the API does not answer.
    pub async fn get(&self, kind: Kind, name: &str) -> anyhow::Result<Value> {
        let found = self.find(kind, name).await?;
        found.with_context(|| format!("there is no {} {name}", kind.singular()))
    }

    /// All objects of a kind (in namespace `default`) as JSON.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn list(&self, kind: Kind) -> anyhow::Result<Vec<Value>> {
        let list = self.api(kind).list(&ListParams::default()).await?;
        list.items.into_iter().map(|item| Ok(serde_json::to_value(item)?)).collect()
    }

    /// Applies a JSON merge patch.
    ///
    /// # Errors
    /// What the API answers.
    pub async fn merge(&self, kind: Kind, name: &str, patch: Value) -> anyhow::Result<()> {
        self.api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("patching {} {name}", kind.singular()))?;
        Ok(())
    }

    /// Asks for an object's deletion, without waiting; absent is as good.
    ///
    /// # Errors
    /// When the API refuses or does not answer.
    pub async fn delete(&self, kind: Kind, name: &str) -> anyhow::Result<()> {
        match self.api(kind).delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("deleting {} {name}", kind.singular()))
            }
        }
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub async fn gone(&self, kind: Kind, name: &str, limit: Duration) -> anyhow::Result<()> {
        eventually(&format!("{} {name} to be gone", kind.singular()), limit, async || {
            match self.find(kind, name).await? {
                None => Ok(()),
                Some(object) => anyhow::bail!(
                    "it exists, with deletionTimestamp {} and finalizers {}",
                    object["metadata"]["deletionTimestamp"],
                    object["metadata"]["finalizers"]
                ),
            }
        })
        .await
    }
}

impl World for Cluster {
    type Choice = Flavour;

    fn unavailable(flavour: Flavour) -> Option<String> {
        flavour.unavailable()
    }

    async fn start(flavour: Flavour) -> anyhow::Result<Self> {
        let cluster = Self::start(flavour).await?;
        cluster.apply_crds().await?;
        Ok(cluster)
    }

    async fn explain(&mut self) -> String {
        format!("data and logs are kept in {}", self.keep().join(", "))
    }
}

/// The objects of one kind through any client.
#[must_use]
pub fn api(client: &Client, kind: Kind) -> Api<DynamicObject> {
    let resource = kind.resource();
    if kind.namespaced {
        Api::namespaced_with(client.clone(), "default", &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    }
}

/// A client from a kubeconfig file.
///
/// # Errors
/// When the file cannot be read or used.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(20));
    Ok(Client::try_from(config)?)
}

async fn answering(kubeconfig: &Path) -> anyhow::Result<Client> {
    let client = client(kubeconfig).await?;
    client.apiserver_version().await?;
    Ok(client)
}

fn start_embedded(args: &[String], scratch: &Scratch) -> anyhow::Result<Process> {
    Process::start("apiserver", &berth_binary()?, args, &scratch.logs())
}
