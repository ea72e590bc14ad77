//! A controller that is started with other flags than usual: addresses that live as long
//! as one start of their VM, and a default subnet that it makes.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cluster::Flavour;
use tests::kinds::{IP, SUBNET, VM, VMI, VPC};
use tests::objects::Vm;
use tests::world::{Choice, Part, Setup, World, port_of};
use tests::{eventually, same, suite};

use crate::address_life::{alone_on, another_runs, runs_alone, set_strategy};
use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
const CIDR: &str = "10.90.0.0/24,fd90::/112";
const NET: &str = "ovn-default";

/// A world whose controller keeps no addresses of VMs that are stopped.
pub(super) struct Fleeting(World);

impl suite::World for Fleeting {
    type Choice = Flavour;

    fn unavailable(flavour: Flavour) -> Option<String> {
        <World as suite::World>::unavailable(Choice { flavour, guests: false, reviews: false })
    }

    async fn start(flavour: Flavour) -> anyhow::Result<Self> {
        let setup = Setup::of(Choice { flavour, guests: false, reviews: false });
        let flags = ["--keep-vm-ip=false", "--ip-quarantine=1"].map(str::to_owned);
        let default = format!("--default-cidr={CIDR}");
        let controller_args = flags.into_iter().chain([default]).collect();
        Ok(Self(World::with(Setup { controller_args, ..setup }).await?))
    }

    async fn explain(&mut self) -> String {
        self.0.explain().await
    }

    async fn finish(self) -> anyhow::Result<()> {
        self.0.finish().await
    }
}

async fn restart(world: &mut World) -> anyhow::Result<()> {
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await
}

pub(super) async fn the_default_subnet_is_made_serves_all_and_is_its_editors(
    fleeting: &mut Fleeting,
) -> anyhow::Result<()> {
    let world = &mut fleeting.0;
    says_ready(world).await?;
    let subnet = world.cluster.get(SUBNET, NET).await?;
    same("its network", &subnet["spec"]["cidrBlock"], CIDR)?;
    same("its Vpc", &subnet["spec"]["vpc"], "ovn-cluster")?;
    // It is written after the Subnet's.
    eventually("the Vpc to say that it is the default one", SOON, async || {
        let status = world.cluster.get(VPC, "ovn-cluster").await?["status"].clone();
        same("default", &status["default"], true)
    })
    .await?;
    // It names no subnet.
    world.cluster.create(VM, Vm::named("anywhere").without_grace().object()).await?;
    world.running("anywhere").await?;
    let place = world.place("anywhere").await?;
    ensure!(place.v4.starts_with("10.90.0.") && place.v6.starts_with("fd90::"), "{place:?}");
    let port = world.northbound().vm_ports().await?.remove(&port_of("anywhere"));
    let said: String = port.context("no port")?.addresses.into_iter().collect();
    same("its port", said, format!("{} {} {}", place.mac, place.v4, place.v6))?;

    // Whoever edits it is right, and whoever deletes it gets it anew.
    world.cluster.merge(SUBNET, NET, json!({"spec": {"mtu": 1400}})).await?;
    restart(world).await?;
    world.cluster.create(VM, Vm::named("after").without_grace().object()).await?;
    world.running("after").await?;
    same("the edit", &world.cluster.get(SUBNET, NET).await?["spec"]["mtu"], 1400)?;
    for vm in ["anywhere", "after"] {
        world.cluster.delete(VM, vm).await?;
        world.cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    world.cluster.delete(SUBNET, NET).await?;
    world.cluster.gone(SUBNET, NET, SOON).await?;
    restart(world).await?;
    says_ready(world).await?;
    let subnet = world.cluster.get(SUBNET, NET).await?;
    ensure!(subnet["spec"]["mtu"] != 1400, "it is the old one: {subnet}");
    Ok(())
}

async fn says_ready(world: &World) -> anyhow::Result<()> {
    eventually("the default subnet", SOON, async || world.cluster.get(SUBNET, NET).await.map(drop))
        .await?;
    says(&world.cluster, SUBNET, NET, ("Ready", "True"), "").await
}

pub(super) async fn without_keep_vm_ip_a_place_lives_as_long_as_one_start(
    fleeting: &mut Fleeting,
) -> anyhow::Result<()> {
    let world = &mut fleeting.0;
    says_ready(world).await?;
    let fixed = Vm::named("fixed").with_address("10.90.0.77,fd90::77").without_grace();
    world.cluster.create(VM, fixed.object()).await?;
    world.cluster.create(VM, Vm::named("any").without_grace().object()).await?;
    let uid = world.running("any").await?["metadata"]["uid"].clone();
    world.running("fixed").await?;
    let before = world.place("any").await?;
    // As long as it runs it is its own.
    restart(world).await?;
    let thief = Vm::named("thief").with_address(&before.v4).without_grace();
    world.cluster.create(VM, thief.object()).await?;
    says(&world.cluster, VM, "thief", ("Failure", "True"), "is held by any").await?;
    same("the place", world.place("any").await?, before.clone())?;

    for vm in ["any", "fixed"] {
        set_strategy(world, vm, "Halted").await?;
        world.cluster.gone(VMI, vm, SOON).await?;
        world.cluster.gone(IP, &port_of(vm), SOON).await?;
        let ports = world.northbound().vm_ports().await?;
        ensure!(!ports.contains_key(&port_of(vm)), "{vm} has kept its port");
    }
    // Anybody may have it now, and the VM starts with another one.
    world.running("thief").await?;
    same("the address", &world.place("thief").await?.v4, &before.v4)?;
    set_strategy(world, "any", "Always").await?;
    another_runs(world, "any", &uid).await?;
    ensure!(world.place("any").await?.v4 != before.v4, "two have {}", before.v4);
    // What the template names it has each time.
    set_strategy(world, "fixed", "Always").await?;
    world.running("fixed").await?;
    same("the address", world.place("fixed").await?.v4.as_str(), "10.90.0.77")?;
    for vm in ["any", "fixed", "thief"] {
        world.cluster.delete(VM, vm).await?;
        world.cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}

pub(super) async fn without_keep_vm_ip_an_instance_alone_keeps_its_place_until_it_is_deleted(
    fleeting: &mut Fleeting,
) -> anyhow::Result<()> {
    let world = &mut fleeting.0;
    says_ready(world).await?;
    let names = ["lone", "of-a-set"];
    let mut set = alone_on(None, "of-a-set", None);
    set["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "pool.kubevirt.io/v1alpha1", "kind": "VirtualMachinePool",
        "name": "fleeting", "uid": "5e7f0c1a-0000-4000-8000-000000000002", "controller": true,
    }]);
    world.cluster.create(VMI, alone_on(None, "lone", None)).await?;
    world.cluster.create(VMI, set).await?;
    let mut before = Vec::new();
    for name in names {
        runs_alone(world, name).await?;
        before.push(world.place(name).await?);
    }
    restart(world).await?;
    world.cluster.create(VM, Vm::named("beside").without_grace().object()).await?;
    world.running("beside").await?;
    for (name, place) in names.iter().zip(&before) {
        same(name, &world.place(name).await?, place)?;
        let thief = format!("thief-of-{name}");
        let vm = Vm::named(&thief).with_address(&place.v4).without_grace();
        world.cluster.create(VM, vm.object()).await?;
        let told = format!("is held by {name}");
        says(&world.cluster, VM, &thief, ("Failure", "True"), &told).await?;
        world.cluster.delete(VMI, name).await?;
        // It is the thief's once nothing is left of who had it.
        world.running(&thief).await?;
        same("the address", &world.place(&thief).await?.v4, &place.v4)?;
        let gone: Option<Value> = world.cluster.find(IP, &port_of(name)).await?;
        ensure!(gone.is_none(), "{gone:?}");
        world.cluster.delete(VM, &thief).await?;
    }
    world.cluster.delete(VM, "beside").await?;
    world.cluster.gone(IP, &port_of("beside"), SOON).await
}
