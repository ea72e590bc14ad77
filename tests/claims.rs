//! IPAMClaims: addresses that are lent to the VM whose network refers to them.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kinds::{CLAIM, CRD, IP, VM, VMI};
use tests::objects::Vm;
use tests::world::{Part, World};
use tests::{eventually, same};

use crate::admission::says;
use crate::attachments::{NAD, attached, make_subnets, places, port};

const SOON: Duration = Duration::from_secs(30);

fn claim(name: &str, network: &str) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1alpha1",
        "kind": "IPAMClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"network": network, "interface": "more"},
    })
}

/// A VM whose network `more` refers to this claim.
fn referring(vm: &str, claim: &str) -> Value {
    let list = json!([{"name": NAD, "ipam-claim-reference": claim}]).to_string();
    let vm = Vm::named(vm).on("quay-first").without_grace();
    attached(&vm.annotated("k8s.v1.cni.cncf.io/networks", &list), &["more"])
}

/// Waits until a claim has one address, and is this VM's; returns it.
async fn lent_to(world: &World, claim: &str, vm: Option<&str>) -> anyhow::Result<String> {
    eventually(&format!("IPAMClaim {claim} to be lent to {vm:?}"), SOON, async || {
        let status = world.cluster.get(CLAIM, claim).await?["status"].clone();
        same("who has it", status["ownerPod"]["name"].as_str(), vm)?;
        let ip = status["ips"][0].as_str().context("it has no address")?;
        same("its length", ip.split('/').nth(1), Some("24"))?;
        Ok(ip.split('/').next().unwrap_or_default().to_owned())
    })
    .await
}

/// Waits until the network of a VM has this address.
async fn has(world: &World, vm: &str, address: &str) -> anyhow::Result<()> {
    world.running(vm).await?;
    let places = places(world, vm, &[""]).await?;
    same("its address", places[&port(vm, "")].0.as_str(), address)
}

pub(super) async fn a_claim_is_the_address_of_whoever_refers_to_it_one_at_a_time(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let cluster = &world.cluster;
    cluster.create(VM, referring("claims-one", "kept")).await?;
    says(cluster, VM, "claims-one", ("Failure", "True"), "does not exist: create it").await?;
    cluster.create(CLAIM, claim("kept", NAD)).await?;
    world.running("claims-one").await?;
    let address = lent_to(world, "kept", Some("claims-one")).await?;
    has(world, "claims-one", &address).await?;

    // One at a time, over a stop and a killed controller.
    cluster.create(VM, referring("claims-two", "kept")).await?;
    let why = "claims-one.default.quay.default.ovn has it";
    says(cluster, VM, "claims-two", ("Failure", "True"), why).await?;
    cluster.merge(VM, "claims-one", json!({"spec": {"runStrategy": "Halted"}})).await?;
    cluster.gone(VMI, "claims-one", SOON).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let cluster = &world.cluster;
    cluster.merge(VM, "claims-one", json!({"spec": {"runStrategy": "Always"}})).await?;
    has(world, "claims-one", &address).await?;
    says(cluster, VM, "claims-two", ("Failure", "True"), why).await?;

    // It outlives its VM: one made anew under the name, or another, has the same.
    cluster.delete(VM, "claims-one").await?;
    has(world, "claims-two", &address).await?;
    lent_to(world, "kept", Some("claims-two")).await?;
    cluster.delete(VM, "claims-two").await?;
    cluster.gone(IP, &port("claims-two", ""), SOON).await?;
    same("kept for nobody", lent_to(world, "kept", None).await?, address.clone())?;
    let thief = Vm::named("claims-thief").on("quay-first").without_grace();
    let thief = thief.annotated("quay.default.ovn.kubernetes.io/ip_address", &address);
    cluster.create(VM, attached(&thief, &["more"])).await?;
    let held = "is held by IPAMClaim default/kept";
    says(cluster, VM, "claims-thief", ("Failure", "True"), held).await?;
    cluster.create(VM, referring("claims-one", "kept")).await?;
    has(world, "claims-one", &address).await?;

    // Deleted in use it waits, then its address is anybody's.
    cluster.delete(CLAIM, "kept").await?;
    eventually("the claim to say what it waits for", SOON, async || {
        let conditions = cluster.get(CLAIM, "kept").await?["status"]["conditions"].clone();
        let waits = conditions.as_array().into_iter().flatten();
        let mut waits = waits.filter(|one| one["type"] == "DeletionBlocked");
        let text = waits.next().context("it does not")?["message"].to_string();
        ensure!(text.contains("delete VirtualMachine default/claims-one"), "{text}");
        Ok(())
    })
    .await?;
    cluster.delete(VM, "claims-one").await?;
    cluster.gone(CLAIM, "kept", SOON).await?;
    has(world, "claims-thief", &address).await?;
    cluster.delete(VM, "claims-thief").await?;
    cluster.gone(IP, &port("claims-thief", ""), SOON).await
}

pub(super) async fn a_claim_that_cannot_be_used_is_told_on_the_vm_and_one_named_after_it_is_its(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let cluster = &world.cluster;
    cluster.create(CLAIM, claim("of-another", "elsewhere")).await?;
    cluster.create(CLAIM, claim("of-none", "")).await?;
    for (vm, claim, why) in [
        ("claims-wrong", "of-another", "this one is"),
        ("claims-unclear", "of-none", "in its spec.network"),
    ] {
        cluster.create(VM, referring(vm, claim)).await?;
        says(cluster, VM, vm, ("Failure", "True"), why).await?;
    }
    // As KubeVirt's extension names it: by VM and network.
    cluster.create(CLAIM, claim("claims-named.more", NAD)).await?;
    let vm = Vm::named("claims-named").on("quay-first").without_grace();
    cluster.create(VM, attached(&vm, &["more"])).await?;
    world.running("claims-named").await?;
    let address = lent_to(world, "claims-named.more", Some("claims-named")).await?;
    has(world, "claims-named", &address).await?;
    for vm in ["claims-named", "claims-wrong", "claims-unclear"] {
        cluster.delete(VM, vm).await?;
    }
    for claim in ["claims-named.more", "of-another", "of-none"] {
        cluster.delete(CLAIM, claim).await?;
        cluster.gone(CLAIM, claim, SOON).await?;
    }
    cluster.gone(IP, &port("claims-named", ""), SOON).await
}

pub(super) async fn without_the_definition_of_claims_all_else_is_served(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let definition = "ipamclaims.k8s.cni.cncf.io";
    world.cluster.delete(CRD, definition).await?;
    world.cluster.gone(CRD, definition, SOON).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let cluster = &world.cluster;
    cluster.create(VM, referring("claims-early", "later")).await?;
    let why = "this API serves no IPAMClaims: install their definition";
    says(cluster, VM, "claims-early", ("Failure", "True"), why).await?;
    cluster.create(VM, Vm::named("claims-none").on("quay-first").without_grace().object()).await?;
    world.running("claims-none").await?;

    cluster.apply_crds().await?;
    cluster.create(CLAIM, claim("later", NAD)).await?;
    let address = eventually("the claim to be found", 3 * SOON, async || {
        lent_to(world, "later", Some("claims-early")).await
    })
    .await?;
    has(world, "claims-early", &address).await?;
    for vm in ["claims-early", "claims-none"] {
        cluster.delete(VM, vm).await?;
    }
    cluster.delete(CLAIM, "later").await?;
    cluster.gone(CLAIM, "later", SOON).await
}
