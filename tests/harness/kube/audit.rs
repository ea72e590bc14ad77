//! Who wrote what: kube-apiserver's audit log.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

/// One writing request, answered, whether it was refused or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// The plural, with the subresource if there is one: `virtualmachines/status`.
    pub resource: String,
    /// The object's name, where the request had one.
    pub name: String,
}

const LOG: &str = "audit.log";
const POLICY: &str = "audit-policy.json";

pub(super) fn write_policy(dir: &Path) -> anyhow::Result<()> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata", "verbs": ["create", "update", "patch", "delete"]}],
    });
    Ok(std::fs::write(dir.join(POLICY), policy.to_string())?)
}

pub(super) fn args(dir: &Path) -> Vec<String> {
    vec![
        format!("--audit-policy-file={}", dir.join(POLICY).display()),
        format!("--audit-log-path={}", dir.join(LOG).display()),
        // Each line is there before the answer is, so that a reader misses none.
        "--audit-log-mode=blocking-strict".to_owned(),
    ]
}

/// The requests that were neither Kubernetes' own nor kubectl's.
pub(super) async fn read(dir: &Path) -> anyhow::Result<Vec<Write>> {
    let log = tokio::fs::read_to_string(dir.join(LOG)).await.context("no audit log")?;
    let events: Result<Vec<Value>, _> = log.lines().map(serde_json::from_str).collect();
    Ok(events?.iter().filter(|event| is_of_ours(event)).map(write).collect())
}

fn is_of_ours(event: &Value) -> bool {
    let agent = event["userAgent"].as_str().unwrap_or_default();
    !agent.starts_with("kube-") && !agent.starts_with("kubectl") || agent.starts_with("kube-rs")
}

fn write(event: &Value) -> Write {
    let field = |name: &str| event["objectRef"][name].as_str().unwrap_or_default().to_owned();
    let mut resource = field("resource");
    let subresource = field("subresource");
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    let verb = event["verb"].as_str().unwrap_or_default().to_owned();
    Write { verb, resource, name: field("name") }
}
