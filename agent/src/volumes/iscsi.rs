//! Asks an iSCSI server whether a disk is there, before QEMU does: QEMU would wait for it, and
//! libvirt for QEMU, without an end.
//!
//! By `qemu-img`, with the same driver, as nobody and with bounds, since a server may say anything.
//! A password reaches it in memory that has no name, and no argument.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};

use super::remote::{Login, Portal, Remote, Target};

/// How long one portal may take.
const LIMIT: Duration = Duration::from_secs(8);
/// How much of what a failed program printed is shown, in characters.
const SHOWN: usize = 300;

/// The way to a disk that answers.
///
/// # Errors
/// What is wrong, for people.
pub(super) async fn find(target: &Target, login: Option<Login>) -> Result<Remote, String> {
    let mut wrong = Vec::new();
    for portal in &target.portals {
        match ask(target, portal, login.as_ref()).await {
            Ok(()) => {
                return Ok(Remote::Iscsi {
                    portal: portal.clone(),
                    iqn: target.iqn.clone(),
                    lun: target.lun,
                    initiator: target.initiator.clone(),
                    login,
                });
            }
            Err(why) => wrong.push(format!("iscsi portal {portal}: {why}")),
        }
    }
    Err(wrong.join("; "))
}

async fn ask(target: &Target, portal: &Portal, login: Option<&Login>) -> Result<(), String> {
    let secret = login.map(|login| nameless(&login.password)).transpose();
    let secret = secret.map_err(|error| format!("cannot hand over the password: {error}"))?;
    let mut command = crate::imports::confined("qemu-img", Some(0));
    command.args(["info", "--output=json", "-U"]);
    if secret.is_some() {
        command.args(["--object", "secret,id=chap,file=/dev/stdin"]);
    }
    command.arg(format!("json:{}", driver(target, portal, login)));
    command.stdin(secret.map_or_else(Stdio::null, Stdio::from));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let running = command.kill_on_drop(true).spawn();
    let running = running.map_err(|error| format!("cannot run qemu-img: {error}"))?;
    let late = |_| format!("it did not answer within {} s", LIMIT.as_secs());
    let ended = tokio::time::timeout(LIMIT, running.wait_with_output()).await.map_err(late)?;
    let ended = ended.map_err(|error| format!("qemu-img: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(said(&String::from_utf8_lossy(&ended.stderr)))
}

/// QEMU's words for the disk.
fn driver(target: &Target, portal: &Portal, login: Option<&Login>) -> Value {
    let mut driver = json!({
        "driver": "iscsi",
        "transport": "tcp",
        "portal": portal.to_string(),
        "target": target.iqn,
        "lun": target.lun,
    });
    if let Some(name) = &target.initiator {
        driver["initiator-name"] = json!(name);
    }
    if let Some(login) = login {
        driver["user"] = json!(login.user);
        driver["password-secret"] = json!("chap");
    }
    json!({ "driver": "raw", "file": driver })
}

/// A file that only its openers can read, at its beginning.
fn nameless(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"secret", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// What QEMU says is wrong, without what it was told.
fn said(printed: &str) -> String {
    let printed = printed.trim();
    let why = printed.rsplit_once("': ").map_or(printed, |(_, why)| why);
    let why: String = why.chars().take(SHOWN).collect();
    if why.contains("Unknown driver") || why.contains("Unknown protocol") {
        return format!("{why}: install QEMU's block drivers (Debian: qemu-block-extra)");
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_in_no_argument_and_what_is_wrong_is_told_without_them() {
        let target = Target {
            portals: vec![],
            iqn: "iqn.2026-01.example:a".to_owned(),
            lun: 3,
            initiator: Some("iqn.2026-01.example:me".to_owned()),
            secret: None,
            read_only: false,
        };
        let portal = Portal { host: "fd00::1".to_owned(), port: 3260 };
        let login = Login {
            user: "alice".to_owned(),
            password: b"s3cret".to_vec(),
            secret: uuid::Uuid::nil(),
        };
        let told = driver(&target, &portal, Some(&login)).to_string();
        assert!(told.contains("[fd00::1]:3260") && told.contains("alice"), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
        let printed =
            "qemu-img: Could not open 'json:{\"user\": \"alice\"}': iSCSI: Failed to log in\n";
        assert_eq!(said(printed), "iSCSI: Failed to log in");
    }
}
