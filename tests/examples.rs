//! Each file of `manifests/examples/features` shows one thing, and its guest finds out whether
//! it has it: it says `example: ok` on its console, or what is otherwise. So an example that
//! people copy is one that works, and a feature without an example is one that nobody saw.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::join_all;
use serde_json::Value;
use tests::kinds::{VM, VMI};
use tests::world::World;
use tests::{eventually, repository};

/// Guests that boot at once: as many as two cores take.
const AT_ONCE: usize = 6;
/// From apply to what the last of them says.
const LIMIT: Duration = Duration::from_secs(90);
/// As many as there have to be.
const FEWEST: usize = 40;

pub(super) async fn what_the_examples_up_to_h_show_is_found_in_their_guests(
    world: &mut World,
) -> anyhow::Result<()> {
    are_true(world, |name| name < "i").await
}

pub(super) async fn what_the_examples_from_i_on_show_is_found_in_their_guests(
    world: &mut World,
) -> anyhow::Result<()> {
    are_true(world, |name| name >= "i").await
}

/// Those whose files are `chosen` by name.
async fn are_true(world: &World, chosen: fn(&str) -> bool) -> anyhow::Result<()> {
    let dir = repository().join("manifests/examples/features");
    let network = dir.join("network.yaml");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)?
        .map(|file| file.map(|file| file.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| *file != network);
    files.sort();
    ensure!(files.len() >= FEWEST, "only {} examples", files.len());
    let name =
        |file: &PathBuf| file.file_name().is_some_and(|name| chosen(&name.to_string_lossy()));
    files.retain(name);
    kubectl(world, "apply", &network).await?;
    let wait = ["wait", "subnet/examples", "--for=condition=Ready", "--timeout=30s"];
    world.cluster.kubectl_ok(&wait).await?;
    for some in files.chunks(AT_ONCE) {
        let words: Vec<&str> = some.iter().flat_map(|file| ["-f", path(file)]).collect();
        world.cluster.kubectl_ok(&[&["apply"], &words[..]].concat()).await?;
        let shown = join_all(some.iter().map(|file| shown(world, file))).await;
        let wrong = shown.into_iter().filter_map(Result::err).map(|error| format!("{error:#}"));
        let wrong: Vec<_> = wrong.collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        // The next need not wait for them.
        world.cluster.kubectl_ok(&[&["delete", "--wait=false"], &words[..]].concat()).await?;
    }
    eventually("all guests to be gone", LIMIT, async || {
        let left = world.cluster.list(VMI).await?.len();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
    .await?;
    kubectl(world, "delete", &network).await
}

async fn kubectl(world: &World, verb: &str, file: &Path) -> anyhow::Result<()> {
    world.cluster.kubectl_ok(&[verb, "-f", path(file)]).await?;
    Ok(())
}

fn path(file: &Path) -> &str {
    file.to_str().expect("names of our own")
}

/// Waits until every guest of a file has said that all is well.
async fn shown(world: &World, file: &Path) -> anyhow::Result<()> {
    let names = guests_of(file)?;
    ensure!(!names.is_empty(), "no VM in it");
    for name in names {
        let what = format!("what {name} says");
        let said = eventually(&what, LIMIT, async || {
            let log = world.console_log(&name).await?;
            // The shell may have written its prompt to the same line.
            let said = log.lines().filter_map(|line| line.split_once("example: ")).next_back();
            said.map(|(_, said)| said.trim_end().to_owned()).context("nothing yet")
        });
        let said = match said.await {
            Ok(said) => said,
            Err(error) => {
                bail!(
                    "{error:#}: {}",
                    world.cluster.find(VM, &name).await?.unwrap_or_default()["status"]
                )
            }
        };
        ensure!(said == "ok", "{name}: {said}");
        for kind in [VM, VMI] {
            let object = world.cluster.find(kind, &name).await?.unwrap_or_default();
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let is_told = |one: &&Value| {
                let kind = one["type"].as_str().unwrap_or_default();
                ["FieldsWithoutEffect", "Failure"].contains(&kind) && one["status"] == "True"
            };
            let told: Vec<_> = conditions.filter(is_told).collect();
            ensure!(told.is_empty(), "{name}: {told:?}");
        }
    }
    Ok(())
}

/// The names of the VMs and instances in a file.
fn guests_of(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file)?;
    let guests = text.split("\n---\n").filter(|one| one.contains("\nkind: VirtualMachine"));
    let name = |one: &str| {
        let line = one.lines().find_map(|line| line.strip_prefix("  name: "));
        line.map(str::to_owned).context("a VM without a name")
    };
    guests.map(name).collect()
}
