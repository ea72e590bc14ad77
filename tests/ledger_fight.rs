//! Two controllers at once over one small subnet, of which one or the other is killed
//! all the time: no address may be had by two, and every VM that fits has one.
//!
//! There are more VMs than addresses. Which come, which go, and who is killed follows
//! from a seed, which is printed; `BERTH_SEED` repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::Flavour;
use tests::kinds::{BLOCK, IP, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Choice, Setup, World, port_of};
use tests::{Hopeless, eventually, same, suite};

use crate::churn::{delete_everything, nothing_is_left};

/// How many VMs there may be; the subnet has room for fewer.
const NAMES: u64 = 18;
/// IPv4 addresses of a /28, without network, broadcast and gateway.
const ROOM: usize = 13;
const ROUNDS: usize = 20;
/// VMs made or deleted in each round.
const CHANGES: u64 = 6;
/// How long a VM may take to go, while a controller is killed.
const GONE: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(60);
const CONTROLLERS: [&str; 2] = ["controller", "controller-2"];

/// A world with two controllers.
pub(super) struct Rivals(World);

impl suite::World for Rivals {
    type Choice = Flavour;

    fn unavailable(flavour: Flavour) -> Option<String> {
        <World as suite::World>::unavailable(Choice { flavour, guests: false, reviews: false })
    }

    async fn start(flavour: Flavour) -> anyhow::Result<Self> {
        let setup = Setup::of(Choice { flavour, guests: false, reviews: false });
        let controller_args = vec!["--ip-quarantine".to_owned(), "1".to_owned()];
        Ok(Self(World::with(Setup { controllers: 2, controller_args, ..setup }).await?))
    }

    async fn explain(&mut self) -> String {
        self.0.explain().await
    }

    async fn finish(self) -> anyhow::Result<()> {
        self.0.finish().await
    }
}

/// A small generator (splitmix64), so that a seed says all.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

pub(super) async fn two_controllers_never_give_an_address_twice(
    rivals: &mut Rivals,
) -> anyhow::Result<()> {
    let world = &rivals.0;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = std::env::var("BERTH_SEED").ok().map_or(Ok(now), |seed| seed.parse())?;
    println!("BERTH_SEED={seed}");
    world.cluster.create(VPC, vpc("fight")).await?;
    let subnet = Subnet::named("ring").in_vpc("fight").of("10.72.0.0/28,fd72::/124");
    world.cluster.create(SUBNET, subnet.object()).await?;
    let mut dice = Dice(seed);
    let (mut there, mut kills) = (BTreeSet::new(), 0);
    for round in 0..ROUNDS {
        let killed = change(world, &mut dice, &mut there).await;
        kills += usize::from(killed.with_context(|| format!("round {round}, seed {seed}"))?);
        eventually("every VM to have its place or a reason", SETTLED, async || {
            nothing_is_had_twice(world).await?;
            all_that_fit_are_served(world, &there).await
        })
        .await
        .with_context(|| format!("round {round}, seed {seed}, VMs {there:?}"))?;
    }
    ensure!(kills > ROUNDS / 2, "only {kills} kills in {ROUNDS} rounds");
    for name in &there {
        world.cluster.delete(VM, name).await?;
    }
    nothing_is_left(world).await.with_context(|| format!("seed {seed}"))?;
    delete_everything(world).await
}

/// Some VMs come and some go, and amid that one of the controllers; whether it did.
async fn change(
    world: &World,
    dice: &mut Dice,
    there: &mut BTreeSet<String>,
) -> anyhow::Result<bool> {
    let victim = dice.below(2);
    let killed_at = dice.below(CHANGES);
    let mut killed = false;
    for number in 0..CHANGES {
        if number == killed_at {
            killed = kill(world, usize::try_from(victim)?);
        }
        let name = format!("fight-{}", dice.below(NAMES));
        if there.remove(&name) {
            world.cluster.delete(VM, &name).await?;
        } else {
            // One that goes is there until its guest is not.
            world.cluster.gone(VM, &name, GONE).await?;
            world.cluster.create(VM, Vm::named(&name).on("ring").object()).await?;
            there.insert(name);
        }
    }
    Ok(killed)
}

/// Kills one of the two, or the other one if that is still about to come back, which
/// both may be.
fn kill(world: &World, victim: usize) -> bool {
    let lab = world.lab();
    lab.kill(CONTROLLERS[victim]).or_else(|_| lab.kill(CONTROLLERS[1 - victim])).is_ok()
}

/// Within each kind that says who has which address or MAC, none is said twice, at any
/// time.
async fn nothing_is_had_twice(world: &World) -> anyhow::Result<()> {
    let mut said: Vec<(&str, String, String)> = Vec::new();
    for block in world.cluster.list(BLOCK).await? {
        for (address, holder) in block["spec"]["held"].as_object().into_iter().flatten() {
            said.push(("ledger", address.clone(), text(&holder["port"])));
        }
    }
    for ip in world.cluster.list(IP).await? {
        let fields = ["v4IpAddress", "v6IpAddress", "macAddress"];
        let addresses = fields.map(|field| text(&ip["spec"][field]));
        let name = text(&ip["metadata"]["name"]);
        said.extend(addresses.map(|address| ("IP objects", address, name.clone())));
    }
    for (name, port) in world.northbound().vm_ports().await? {
        // Its MAC is the first.
        let words: Vec<&str> = port.addresses.iter().flat_map(|line| line.split(' ')).collect();
        let words = words.into_iter();
        said.extend(words.map(|address| ("logical ports", address.to_owned(), name.clone())));
    }
    for instance in world.cluster.list(VMI).await? {
        let noted = text(&instance["metadata"]["annotations"]["ovn.kubernetes.io/ip_address"]);
        let name = text(&instance["metadata"]["name"]);
        let noted = noted.split(',').map(str::to_owned);
        said.extend(noted.map(|address| ("instances", address, name.clone())));
    }
    let mut owners = BTreeMap::new();
    for (place, address, owner) in said.into_iter().filter(|(_, address, _)| !address.is_empty()) {
        if let Some(other) = owners.insert((place, address.clone()), owner.clone()) {
            let twice = format!("{address} is said by {place} to be of {other} and of {owner}");
            return Err(Hopeless(twice).into());
        }
    }
    Ok(())
}

/// As many VMs as there is room for run, each where ledger, IP object, port and
/// instance say the same; the others say why they do not.
async fn all_that_fit_are_served(world: &World, there: &BTreeSet<String>) -> anyhow::Result<()> {
    let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for block in world.cluster.list(BLOCK).await? {
        for (address, holder) in block["spec"]["held"].as_object().into_iter().flatten() {
            held.entry(text(&holder["port"])).or_default().insert(address.clone());
        }
    }
    let ports = world.northbound().vm_ports().await?;
    let instances = by_name(world.cluster.list(VMI).await?);
    let ips = by_name(world.cluster.list(IP).await?);
    let machines = by_name(world.cluster.list(VM).await?);
    same("the VMs", machines.keys().collect::<Vec<_>>(), there.iter().collect::<Vec<_>>())?;
    let mut served = 0;
    for (name, machine) in &machines {
        let Some(instance) = instances.get(name) else {
            let conditions = machine["status"]["conditions"].as_array();
            let why = conditions.into_iter().flatten().find(|one| one["type"] == "Failure");
            let why = why.with_context(|| format!("{name} has neither place nor reason"))?;
            ensure!(text(&why["message"]).contains("subnet \"ring\""), "{name}: {why}");
            continue;
        };
        served += 1;
        let uid = &instance["metadata"]["ownerReferences"][0]["uid"];
        same("the instance's owner", uid, &machine["metadata"]["uid"])?;
        same("its phase", &instance["status"]["phase"], "Running")?;
        let noted = text(&instance["metadata"]["annotations"]["ovn.kubernetes.io/ip_address"]);
        let noted: BTreeSet<String> = noted.split(',').map(str::to_owned).collect();
        same("the number of its addresses", noted.len(), 2)?;
        let port = port_of(name);
        same(&format!("what {name} holds"), held.get(&port), Some(&noted))?;
        let ip = ips.get(&port).with_context(|| format!("{name} has no IP object"))?;
        let shown = [&ip["spec"]["v4IpAddress"], &ip["spec"]["v6IpAddress"]].map(text);
        same("its IP object", BTreeSet::from(shown), noted.clone())?;
        let row = ports.get(&port).with_context(|| format!("{name} has no port"))?;
        let row: BTreeSet<String> = row
            .addresses
            .iter()
            .flat_map(|line| line.split(' '))
            .skip(1)
            .map(str::to_owned)
            .collect();
        same("its port's addresses", row, noted)?;
    }
    same("the VMs that have a place", served, there.len().min(ROOM))?;
    same("the ports that hold something", held.len(), served)?;
    same("the logical ports", ports.len(), served)?;
    same("the IP objects", ips.len(), served)
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects.into_iter().map(|object| (text(&object["metadata"]["name"]), object)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
