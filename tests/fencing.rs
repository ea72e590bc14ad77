//! A controller that has a command make sure that a lost node is off.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cluster::Flavour;
use tests::kinds::{NODE, VM, VMI};
use tests::objects::Vm;
use tests::scratch::Scratch;
use tests::world::{Choice, Setup, World};
use tests::{eventually, same, suite};

use crate::address_life::{another_runs, make_subnets};

/// A lease is valid for 40 s, and looked at each 5 s.
const SILENCE: Duration = Duration::from_secs(75);
const SOON: Duration = Duration::from_secs(45);
const NET: &str = "life-net";

/// A world whose controller runs a script, which writes down what it is run with and has no
/// success before it is let.
pub(super) struct Fenced {
    world: World,
    files: Scratch,
}

impl Fenced {
    fn runs(&self) -> Vec<String> {
        let said = fs::read_to_string(self.files.path().join("runs")).unwrap_or_default();
        said.lines().map(str::to_owned).collect()
    }

    fn let_it_work(&self) -> anyhow::Result<()> {
        Ok(fs::write(self.files.path().join("works"), "")?)
    }
}

fn script(files: &Scratch) -> anyhow::Result<PathBuf> {
    let (dir, path) = (files.path().display(), files.path().join("fence"));
    let text = format!(
        "#!/bin/sh\n[ -n \"$1\" ] && echo \"$*\" >>{dir}/runs\n[ -e {dir}/works ] && exit 0\n\
         echo the plug of $1 is stuck >&2\nexit 1\n"
    );
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

impl suite::World for Fenced {
    type Choice = Flavour;

    fn unavailable(flavour: Flavour) -> Option<String> {
        <World as suite::World>::unavailable(Choice { flavour, guests: false, reviews: false })
    }

    async fn start(flavour: Flavour) -> anyhow::Result<Self> {
        let files = Scratch::new("fence")?;
        let mut setup = Setup::of(Choice { flavour, guests: false, reviews: false });
        setup.controller_args.extend([
            "--fencing=command".to_owned(),
            format!("--fencing-command={}", script(&files)?.display()),
            "--fencing-after=1".to_owned(),
            "--fencing-timeout=2".to_owned(),
        ]);
        Ok(Self { world: World::with(setup).await?, files })
    }

    async fn explain(&mut self) -> String {
        format!("the command was run with {:?}\n{}", self.runs(), self.world.explain().await)
    }

    async fn finish(self) -> anyhow::Result<()> {
        self.world.finish().await
    }
}

pub(super) async fn a_lost_node_is_fenced_and_its_vms_start_elsewhere_only_then(
    fenced: &mut Fenced,
) -> anyhow::Result<()> {
    let world = &fenced.world;
    make_subnets(&world.cluster).await?;
    let mut vm = Vm::named("fenced").on(NET).without_grace().object();
    vm["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n2"});
    world.cluster.create(VM, vm).await?;
    let uid = world.running("fenced").await?["metadata"]["uid"].clone();
    let place = world.place("fenced").await?;
    let anywhere = json!({"spec": {"template": {"spec": {"nodeSelector": null}}}});
    world.cluster.merge(VM, "fenced", anywhere).await?;
    let agent = world.lab().layout().node(2).process("agent");
    world.lab().kill(&agent)?;
    world.lab().stop(&agent).await?;

    // It fails: nothing is ended, and people are told why.
    eventually("the command to be run", SILENCE, async || {
        ensure!(!fenced.runs().is_empty(), "it was not");
        Ok(())
    })
    .await?;
    eventually("its failure to be told", SOON, async || {
        let told = world.cluster.kubectl_ok(&["get", "events", "-A"]).await?;
        ensure!(told.contains("FencingFailed") && told.contains("plug of n2 is stuck"), "{told}");
        Ok(())
    })
    .await?;
    let instance = world.cluster.get(VMI, "fenced").await?;
    same("the instance", &instance["metadata"]["uid"], &uid)?;
    same("its node", &instance["status"]["nodeName"], "n2")?;

    // Tried again it works.
    fenced.let_it_work()?;
    let failed = fenced.runs().len();
    let instance = another_runs(world, "fenced", &uid).await?;
    same("its node", &instance["status"]["nodeName"], "n1")?;
    same("its place", &world.place("fenced").await?, &place)?;
    let runs = fenced.runs();
    ensure!(runs.iter().all(|one| one == "n2"), "it was run with {runs:?}");
    ensure!(runs.len() == failed + 1, "once it worked it was run again: {runs:?} of {failed}");
    let told = world.cluster.kubectl_ok(&["get", "events", "-A"]).await?;
    ensure!(told.contains("NodeFenced"), "{told}");

    // It is back: what was started elsewhere stays there, and it serves again.
    world.lab().start(&agent).await?;
    eventually("the node to serve again", SOON, async || {
        let node = world.cluster.get(NODE, "n2").await?;
        let taints = node["spec"]["taints"].to_string();
        ensure!(!taints.contains("out-of-service"), "{taints}");
        Ok(())
    })
    .await?;
    let now: Value = world.running("fenced").await?;
    same("the instance", &now["metadata"]["uid"], &instance["metadata"]["uid"])?;
    world.cluster.delete(VM, "fenced").await?;
    world.cluster.gone(VMI, "fenced", SOON).await.context("what was made for it")
}
