//! What cannot be is refused when it is written, by an API that looks.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::kinds::{Kind, SUBNET, VPC};
use tests::objects::{Subnet, vpc};

/// Expects an answer that refuses and holds these words.
fn refused<T>(what: &str, answer: anyhow::Result<T>, words: &[&str]) -> anyhow::Result<()> {
    let error = answer.err().with_context(|| format!("{what} was taken"))?;
    let said = format!("{error:#}");
    for word in words {
        ensure!(said.contains(word), "{what}: {said:?} does not say {word:?}");
    }
    Ok(())
}

/// The cluster of the group reviews nothing; this story starts one that does.
pub(super) async fn an_api_that_reviews_refuses_what_one_that_does_not_takes(
    lenient: &mut Cluster,
) -> anyhow::Result<()> {
    let strict = Cluster::embedded_with(&["--admission=own"]).await?;
    strict.apply_crds().await?;

    let of = |name: &str, cidr: &str| Subnet::named(name).of(cidr).object();
    let mut far = of("far", "10.0.0.0/24");
    far["spec"]["gateway"] = "10.1.0.1".into();
    let mut routed = vpc("routed");
    let route = |cidr: &str| json!([{"cidr": cidr, "nextHopIP": "10.0.0.1"}]);
    routed["spec"] = json!({"staticRoutes": route("10.0.0.0/33")});
    let table: [(Kind, Value, &[&str]); 4] = [
        (SUBNET, of("none", ""), &["spec.cidrBlock", "write a network"]),
        (SUBNET, of("long", "10.0.0.0/33"), &["spec.cidrBlock", "10.0.0.0/33"]),
        (SUBNET, far, &["spec.gateway", "10.1.0.1", "choose"]),
        (VPC, routed, &["spec.staticRoutes[0].cidr", "10.0.0.0/33", "write a network"]),
    ];
    for (kind, object, words) in table {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        refused(&name, strict.create(kind, object.clone()).await, words)?;
        ensure!(strict.find(kind, &name).await?.is_none(), "{name} was stored");
        lenient.create(kind, object).await?;
        lenient.delete(kind, &name).await?;
    }

    // An edit is looked at like a new object, and what was stored stays.
    strict.create(SUBNET, of("good", "10.0.0.0/24")).await?;
    let bad = json!({"spec": {"cidrBlock": "x"}});
    refused("an edit", strict.merge(SUBNET, "good", bad).await, &["spec.cidrBlock", "x"])?;
    strict.merge(SUBNET, "good", json!({"metadata": {"labels": {"a": "b"}}})).await?;
    let kept = strict.get(SUBNET, "good").await?;
    ensure!(kept["spec"]["cidrBlock"] == "10.0.0.0/24", "{kept}");
    Ok(())
}
