//! A server of one's own, in this process or as a child, and clients for it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Names a kubeconfig: the tests then ask the API behind it what it does, each in a namespace of
/// its own and one after the other (`--test-threads 1`), instead of starting ours. So they can be
/// checked against a real kube-apiserver; those in `restart` and `security` make no sense there.
const OTHER: &str = "BLACKBOX_KUBECONFIG";

/// A server in this process; stops when dropped.
pub(crate) struct Server {
    dir: TempDir,
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        match std::env::var_os(OTHER) {
            None => Self::start_in(dir).await,
            Some(kubeconfig) => {
                move_in(Path::new(&kubeconfig), dir.path()).await;
                Self { dir, shutdown: CancellationToken::new(), task: None }
            }
        }
    }

    async fn start_in(dir: TempDir) -> Self {
        std::fs::remove_file(dir.path().join("kubeconfig")).ok();
        let shutdown = CancellationToken::new();
        let args = args(dir.path());
        let task = tokio::spawn(apiserver::run(args, shutdown.clone()));
        let server = Self { dir, shutdown, task: Some(task) };
        await_file(&server.kubeconfig()).await;
        server
    }

    /// Stops in an orderly way and serves the same directory again.
    pub(crate) async fn restart(mut self) -> Self {
        self.shutdown.cancel();
        let Some(task) = self.task.take() else { return self };
        tokio::time::timeout(LIMIT, task).await.expect("stops in time").unwrap().unwrap();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::start_in(dir).await
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.kubeconfig()).await
    }

    /// Runs kubectl and returns what it printed; panics if it fails.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args, "").await;
        assert!(
            output.status.success(),
            "kubectl {args:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// `kubectl … -f -` with this input.
    pub(crate) async fn kubectl_with(&self, args: &[&str], input: &str) -> String {
        let output = self.try_kubectl(args, input).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?} failed: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn try_kubectl(&self, args: &[&str], input: &str) -> Output {
        use tokio::io::AsyncWriteExt;
        let mut child = self.kubectl_command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("in time").unwrap()
    }

    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("HOME", self.dir())
            .env("KUBECONFIG", self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.dir().join("cache"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Installs the widget definition and waits until it is served.
    pub(crate) async fn with_widgets(self) -> Self {
        let client = self.client().await;
        let definitions: Api<CustomResourceDefinition> = Api::all(client);
        let definition = serde_json::from_value(widget_definition()).unwrap();
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        await_served(&widgets(&self.client().await)).await;
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Whether the tests look at another API than ours.
pub(crate) fn is_other() -> bool {
    std::env::var_os(OTHER).is_some()
}

/// Prepares another API: no widgets, a fresh namespace, and a kubeconfig in `dir` that names it.
async fn move_in(kubeconfig: &Path, dir: &Path) {
    let namespaces: Api<Namespace> = Api::all(client(kubeconfig).await);
    let definitions: Api<CustomResourceDefinition> = Api::all(client(kubeconfig).await);
    definitions.delete("widgets.example.io", &DeleteParams::default()).await.ok();
    eventually("no widgets", || async {
        definitions.get_opt("widgets.example.io").await.unwrap().is_none()
    })
    .await;
    let fresh = json!({"metadata": {"generateName": "blackbox-"}});
    let fresh = serde_json::from_value(fresh).unwrap();
    let fresh = namespaces.create(&PostParams::default(), &fresh).await.unwrap();
    let mut config = Kubeconfig::read_from(kubeconfig).unwrap();
    let context = config.contexts[0].context.as_mut().unwrap();
    context.namespace = fresh.metadata.name;
    std::fs::write(dir.join("kubeconfig"), serde_norway::to_string(&config).unwrap()).unwrap();
}

fn args(dir: &Path) -> apiserver::Args {
    apiserver::Args { data_dir: dir.to_owned(), listen: "127.0.0.1:0".parse().unwrap() }
}

/// A server in a process of its own, to be killed.
pub(crate) struct Process {
    child: Child,
    kubeconfig: PathBuf,
}

impl Process {
    pub(crate) async fn start(dir: &Path) -> Self {
        let kubeconfig = dir.join("kubeconfig");
        std::fs::remove_file(&kubeconfig).ok();
        let test = std::env::current_exe().unwrap();
        let serve = test.parent().unwrap().parent().unwrap().join("examples/serve");
        let child = Command::new(serve)
            .arg("--data-dir")
            .arg(dir)
            .args(["--listen", "127.0.0.1:0"])
            .kill_on_drop(true)
            .spawn()
            .expect("`cargo test` has built the example");
        await_file(&kubeconfig).await;
        Self { child, kubeconfig }
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.kubeconfig).await
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn await_file(path: &Path) {
    eventually("the kubeconfig appears", || async { path.exists() }).await;
}

/// Ours serves a definition at once; others take a moment.
pub(crate) async fn await_served(api: &Api<DynamicObject>) {
    eventually("the kind is served", || async { api.list(&Default::default()).await.is_ok() })
        .await;
}

/// Waits for a condition, with a limit.
pub(crate) async fn eventually<F, R>(what: &str, mut holds: F)
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let wait = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        while !holds().await {
            pause.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "not in time: {what}");
}

/// The next value of a stream, with a limit.
pub(crate) async fn next<S>(stream: &mut S) -> S::Item
where
    S: futures::Stream + Unpin,
{
    use futures::StreamExt;
    tokio::time::timeout(LIMIT, stream.next()).await.expect("in time").expect("the stream goes on")
}

pub(crate) fn widgets(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("example.io", "v1", "Widget");
    Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind))
}

pub(crate) fn widget(name: &str, spec: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "example.io/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": spec,
    }))
    .unwrap()
}

/// A kind with a bit of everything.
pub(crate) fn widget_definition() -> Value {
    serde_norway::from_str(include_str!("widgets.yaml")).unwrap()
}
