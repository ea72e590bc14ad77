//! Who may depend on whom, as the manifests have it.
//!
//! ```text
//! berth ──▶ controller ──▶ ipam ovn ──┐
//!   │  ╲                               ├──▶ net
//!   │   └─▶ agent ──▶ dhcp ovn ────────┘
//!   └─▶ apiserver     crds (of controller, agent, berth)
//! ```
//!
//! - A crate uses what its row of [`ALLOWED`] names and nothing else of ours.
//! - Dev-dependencies are free, as tests may put crates side by side, except that
//!   none leads up: to a crate that may use, itself or through others, the one that
//!   is tested. Such a test belongs into `tests/`.
//! - Nothing uses `tests` or `benches`; these two use anything.
//! - Only crates of [`KUBERNETES`] know it: the others work, and are tested, without.
//! - Those of [`NO_IO`] are pure, and so have no async runtime.
//! - A feature called `fake` is for tests: only dev-dependencies, `tests` and `benches`
//!   turn it on.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::repository;

/// The layers, from the top.
const ALLOWED: &[(&str, &[&str])] = &[
    ("berth", &["controller", "agent", "apiserver", "dhcp", "crds", "net"]),
    ("controller", &["crds", "ipam", "ovn", "net"]),
    ("agent", &["crds", "dhcp", "ovn", "net"]),
    ("apiserver", &[]),
    ("crds", &[]),
    ("ipam", &["net"]),
    ("dhcp", &["net"]),
    ("ovn", &["net"]),
    ("net", &[]),
];

/// Use anything, are used by nothing.
const OUTSIDE: [&str; 2] = ["tests", "benches"];

const KUBERNETES: [&str; 4] = ["berth", "controller", "agent", "crds"];

const NO_IO: [&str; 2] = ["net", "ipam"];

/// One line of a dependency section.
#[derive(Clone, Debug)]
struct Edge {
    from: String,
    to: String,
    /// Whether `to` is a member of this workspace.
    ours: bool,
    dev: bool,
    features: Vec<String>,
}

pub(super) fn each_crate_depends_only_on_the_layers_below_it() -> anyhow::Result<()> {
    let edges = edges()?;
    for (name, _) in ALLOWED {
        ensure!(edges.iter().any(|edge| edge.from == *name), "{name} is not in the workspace");
    }
    the_rule_catches_what_it_is_for()?;
    let faults: Vec<String> = edges.iter().filter_map(fault).collect();
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// What is wrong with an edge, if anything.
fn fault(edge: &Edge) -> Option<String> {
    let Edge { from, to, ours, dev, features } = edge;
    if OUTSIDE.contains(&from.as_str()) {
        return None;
    }
    let Some(below) = below(from) else {
        return Some(format!("{from} has no row in the layer rule: decide what it may use"));
    };
    if !ours {
        let foreign = ["kube", "k8s-openapi"].contains(&to.as_str()) && !is_in(&KUBERNETES, from);
        let runtime = to == "tokio" && is_in(&NO_IO, from);
        return match (dev, foreign, runtime) {
            (false, true, _) => Some(format!("{from} uses {to}, but is not to know Kubernetes")),
            (false, _, true) => Some(format!("{from} uses {to}, but is to be pure")),
            _ => None,
        };
    }
    if is_in(&OUTSIDE, to) {
        return Some(format!("{from} uses {to}, which nothing may use"));
    }
    if *dev {
        return reaches(to, from).then(|| {
            format!("the tests of {from} use {to}, a layer above it: they belong into tests/")
        });
    }
    if features.iter().any(|feature| feature == "fake") {
        return Some(format!("{from} turns on the fake of {to} outside its tests"));
    }
    (!below.contains(&to.as_str())).then(|| format!("{from} uses {to}; it may use {below:?}"))
}

fn is_in(names: &[&str], name: &str) -> bool {
    names.contains(&name)
}

fn below(name: &str) -> Option<&'static [&'static str]> {
    let rules: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    rules.get(name).copied()
}

/// Whether `upper` may use `lower`, directly or through others.
fn reaches(upper: &str, lower: &str) -> bool {
    below(upper).into_iter().flatten().any(|next| *next == lower || reaches(next, lower))
}

/// A check that never fails proves nothing: faults planted here must be found.
fn the_rule_catches_what_it_is_for() -> anyhow::Result<()> {
    let edge = |from: &str, to: &str, ours, dev, feature: &str| Edge {
        from: from.to_owned(),
        to: to.to_owned(),
        ours,
        dev,
        features: vec![feature.to_owned()],
    };
    for (planted, wrong) in [
        (edge("ipam", "net", true, false, ""), false),
        (edge("ipam", "crds", true, false, ""), true),
        (edge("ipam", "crds", true, true, ""), false),
        (edge("net", "berth", true, true, ""), true),
        (edge("agent", "tests", true, true, ""), true),
        (edge("tests", "berth", true, false, ""), false),
        (edge("novel", "net", true, false, ""), true),
        (edge("ovn", "kube", false, false, ""), true),
        (edge("apiserver", "kube", false, true, ""), false),
        (edge("ipam", "tokio", false, false, ""), true),
        (edge("controller", "ovn", true, false, "fake"), true),
        (edge("controller", "ovn", true, true, "fake"), false),
    ] {
        ensure!(fault(&planted).is_some() == wrong, "misjudged: {planted:?}");
    }
    Ok(())
}

/// Every dependency that a manifest of the workspace states, whatever its section and
/// also when renamed: cargo reads the manifests for us.
fn edges() -> anyhow::Result<Vec<Edge>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut edges = Vec::new();
    for package in list(&metadata, "packages")? {
        for dependency in list(package, "dependencies")? {
            edges.push(Edge {
                from: text(package, "name")?,
                to: text(dependency, "name")?,
                ours: dependency["path"].is_string(),
                dev: dependency["kind"] == "dev",
                features: serde_json::from_value(dependency["features"].clone())?,
            });
        }
    }
    Ok(edges)
}

fn list<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("cargo metadata has no list {key}"))
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    Ok(value[key].as_str().with_context(|| format!("cargo metadata has no {key}"))?.to_owned())
}
