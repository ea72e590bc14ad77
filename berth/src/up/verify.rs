//! The proof: asked inside the guests, over their consoles.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;

use super::machines::Machine;
use super::progress::Progress;
use crate::console::Guest;
use crate::lab::Lab;

/// How long one command in a guest may take.
const COMMAND: Duration = Duration::from_secs(20);

/// Each VM has its addresses on an interface, and reaches every address of the
/// others on its subnet.
pub(super) async fn verify(
    lab: &Lab,
    machines: &[Machine],
    limit: Duration,
    progress: &Progress,
) -> Result<()> {
    try_join_all(machines.iter().map(|machine| verify_one(lab, machine, machines, limit, progress)))
        .await
        .map(drop)
}

async fn verify_one(
    lab: &Lab,
    machine: &Machine,
    all: &[Machine],
    limit: Duration,
    progress: &Progress,
) -> Result<()> {
    let name = &machine.name;
    let node = lab.nodes().into_iter().find(|node| Some(&node.name) == machine.node.as_ref());
    let node = node.with_context(|| format!("{name} is on no node of this lab"))?;
    let socket = node.serial(&name.namespace, &name.name);
    let about = || format!("in the guest of {name}");
    let mut guest = Guest::connect(&socket, limit).await.with_context(about)?;
    guest.wait_for_prompt(limit).await.with_context(about)?;
    let shown = guest.check("ip -o addr", COMMAND).await.with_context(about)?;
    for address in &machine.addresses {
        if !has_address(&shown, address) {
            bail!("{name} does not have {address} inside; `ip addr` there says:\n{shown}");
        }
    }
    progress.say(&format!("{name}: has {} inside", machine.addresses.join(" and ")));

    let others = all.iter().filter(|other| other.name != *name && other.subnet == machine.subnet);
    for other in others {
        for address in &other.addresses {
            ping(&mut guest, address)
                .await
                .with_context(|| format!("{name} does not reach {}", other.name))?;
        }
        progress.say(&format!("{name}: pings {} at {}", other.name, other.addresses.join(" and ")));
    }
    Ok(())
}

/// Whether `ip -o addr` shows the address, with whatever prefix length.
fn has_address(shown: &str, address: &str) -> bool {
    let with_slash = format!("{address}/");
    shown.split_whitespace().any(|word| word.starts_with(&with_slash))
}

async fn ping(guest: &mut Guest, address: &str) -> Result<()> {
    // The other guest may have got its address a moment ago: a few tries.
    let once = format!("ping -c 1 -W 2 {address}");
    let command = [once.as_str(); 4].join(" || ");
    guest.check(&command, COMMAND).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_as_a_whole_and_not_as_a_part() {
        let shown = "2: eth0    inet 10.66.0.10/24 brd 10.66.0.255 scope global eth0\n2: eth0    inet6 fd66::10/128 scope global";
        assert!(has_address(shown, "10.66.0.10") && has_address(shown, "fd66::10"));
        assert!(!has_address(shown, "10.66.0.1") && !has_address(shown, "d66::10"));
    }
}
