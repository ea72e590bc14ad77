//! Translation: a table of nftables of our own, put in place in one step.
//!
//! Whatever other tables hold is not touched. One of them that drops what is
//! forwarded goes on doing so.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Stdio;

use ipnetwork::IpNetwork;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::wanted::Wanted;

/// How much of what a failed `nft` printed is shown.
const SHOWN: usize = 300;

/// Why the table is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum NftError {
    #[error("nft cannot be run: {0}: install the package nftables")]
    Program(#[from] std::io::Error),
    #[error("nft refused: {0}")]
    Refused(String),
}

/// The table, as it was when it was last put in place.
#[derive(Debug, Default)]
pub(super) struct Table {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// One that an earlier agent has made may be there.
    #[default]
    Unknown,
    Absent,
    /// Made of this ruleset, and listed like this.
    Present {
        ruleset: String,
        listing: String,
    },
}

impl Table {
    /// Makes the table what `ruleset` says, unless it is.
    ///
    /// # Errors
    /// See [`NftError`].
    pub(super) async fn hold(&mut self, ruleset: &str) -> Result<(), NftError> {
        if let State::Present { ruleset: made_of, listing } = &self.state
            && made_of == ruleset
            && list().await?.as_ref() == Some(listing)
        {
            return Ok(());
        }
        // How nft lists what it was given is its own; so what is there is compared
        // with what was listed after it was made.
        self.state = State::Unknown;
        load(ruleset).await?;
        if let Some(listing) = list().await? {
            self.state = State::Present { ruleset: ruleset.to_owned(), listing };
            tracing::info!("Translating what goes out");
        }
        Ok(())
    }

    /// Makes the table absent, unless it is.
    ///
    /// # Errors
    /// See [`NftError`].
    pub(super) async fn remove(&mut self) -> Result<(), NftError> {
        if matches!(self.state, State::Absent) {
            return Ok(());
        }
        match list().await {
            // Where there is no nft, nobody has made a table.
            Err(NftError::Program(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Ok(None) => {}
            Ok(Some(_)) => load("delete table inet berth\n").await?,
            Err(error) => return Err(error),
        }
        self.state = State::Absent;
        Ok(())
    }
}

/// The table in the words of nft(8). Loaded at once or not at all, whether or not an
/// older one is there.
#[must_use]
pub(super) fn ruleset(wanted: &Wanted) -> String {
    let mut text = "table inet berth\ndelete table inet berth\ntable inet berth {\n".to_owned();
    let mut rules = String::new();
    for (v4, family, kind) in [(true, "ip", "ipv4_addr"), (false, "ip6", "ipv6_addr")] {
        let of_family = |one: &&IpNetwork| one.is_ipv4() == v4;
        let translated: BTreeSet<_> = wanted.translated.iter().filter(of_family).collect();
        if translated.is_empty() {
            continue;
        }
        let inside = wanted.routed.iter().chain(&wanted.own).chain(translated.iter().copied());
        let inside: BTreeSet<_> = inside.filter(of_family).collect();
        for (set, networks) in [("translated", &translated), ("inside", &inside)] {
            let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
            let networks = networks.join(", ");
            let _ = writeln!(
                text,
                "\tset {set}_{family} {{ type {kind}; flags interval; auto-merge; elements = {{ {networks} }}; }}"
            );
        }
        let _ = writeln!(
            rules,
            "\t\t{family} saddr @translated_{family} {family} daddr != @inside_{family} masquerade"
        );
    }
    let hook = "type nat hook postrouting priority srcnat; policy accept;";
    let _ = write!(text, "\tchain out {{\n\t\t{hook}\n{rules}\t}}\n}}\n");
    text
}

/// The table as it is; none if there is none.
async fn list() -> Result<Option<String>, NftError> {
    let output = command(&["list", "table", "inet", "berth"]).output().await?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No such file or directory") { Ok(None) } else { Err(refused(&said)) }
}

async fn load(ruleset: &str) -> Result<(), NftError> {
    let mut command = command(&["-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(ruleset.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused(&String::from_utf8_lossy(&output.stderr)))
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new("nft");
    command.args(words).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(said: &str) -> NftError {
    NftError::Refused(said.trim().chars().take(SHOWN).collect())
}

#[cfg(test)]
mod tests {
    use super::super::wanted::tests::{join, node};
    use super::*;

    fn of(routed: &str, translated: &str) -> String {
        ruleset(&Wanted::of(&node(), &join(routed, translated)).unwrap().unwrap())
    }

    #[test]
    fn what_goes_out_is_translated_and_what_stays_inside_is_not() {
        let text = of("10.1.0.0/24,10.2.0.0/24,fd0a::/64", "10.1.0.0/24");
        assert!(text.contains("elements = { 10.1.0.0/24 }"), "{text}");
        assert!(text.contains("elements = { 10.1.0.0/24, 10.2.0.0/24, 100.64.0.0/16 }"), "{text}");
        let rule = "ip saddr @translated_ip ip daddr != @inside_ip masquerade";
        assert!(text.contains(rule), "{text}");
        assert!(!text.contains("ip6"), "nothing of that family goes out: {text}");
    }

    #[test]
    fn an_older_table_is_replaced_in_the_same_step() {
        let text = of("10.1.0.0/24", "");
        assert!(text.starts_with("table inet berth\ndelete table inet berth\ntable inet berth {"));
        assert!(!text.contains("masquerade") && text.contains("hook postrouting"));
    }
}
