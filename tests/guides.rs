//! What the guides show is true: their YAML, pasted as it stands, is let in by a
//! server that looks, comes into force and has nothing to complain of.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::kinds::{CLAIM, POOL, SUBNET, VIP, VM, VPC};
use tests::repository;
use tests::world::World;
use tests::{eventually, same};

const SOON: Duration = Duration::from_secs(60);
/// In the order in which they are read.
const GUIDES: [&str; 2] = ["docs/networks.md", "docs/addresses.md"];
/// Conditions that tell of a mistake.
const COMPLAINTS: [&str; 5] =
    ["Error", "Failure", "FieldsWithoutEffect", "InvalidDHCPOptions", "DeletionBlocked"];

/// The YAML blocks of a guide, in their order.
fn yaml_of(guide: &'static str) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(repository().join(guide)).context(guide)?;
    let blocks = text.split("```yaml\n").skip(1);
    blocks
        .map(|block| {
            let (yaml, _) = block.split_once("```").context("a block without an end")?;
            Ok(yaml.to_owned())
        })
        .collect()
}

/// What an object complains of.
fn complaints(object: &Value) -> Vec<&Value> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let complains = |one: &&Value| {
        let kind = one["type"].as_str().unwrap_or_default();
        (COMPLAINTS.contains(&kind) && one["status"] == "True")
            || (["Ready", "Validated"].contains(&kind) && one["reason"] == "Refused")
    };
    conditions.filter(complains).collect()
}

pub(super) async fn what_the_guides_show_comes_into_force_as_it_stands(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let mut shown = 0;
    for guide in GUIDES {
        for yaml in yaml_of(guide)? {
            cluster
                .kubectl_with(&["apply", "-f", "-"], &yaml)
                .await
                .with_context(|| yaml.clone())?;
            shown += yaml.matches("apiVersion:").count();
        }
    }
    ensure!(shown >= 15, "only {shown} objects were found in the guides");

    for name in ["shop-front", "shop-back", "office", "storage"] {
        eventually(&format!("subnet {name} to be in force"), SOON, async || {
            let subnet = cluster.get(SUBNET, name).await?;
            let conditions = subnet["status"]["conditions"].as_array().cloned().unwrap_or_default();
            ensure!(
                conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"),
                "{conditions:?}"
            );
            Ok(())
        })
        .await?;
    }
    // What is named is held from the start.
    same("the address", world.place("till").await?.v4.as_str(), "10.20.0.10")?;
    for kind in [VPC, SUBNET, POOL, VIP, VM, CLAIM] {
        for object in cluster.list(kind).await? {
            let said = complaints(&object);
            ensure!(said.is_empty(), "{}: {said:?}", object["metadata"]["name"]);
        }
    }
    Ok(())
}
