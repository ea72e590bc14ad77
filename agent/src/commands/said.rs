//! What a guest said on its console, for who asks afterwards: also once it has ended.

use std::io;

use serde_json::{Value, json};

use crate::consoles;
use crate::volumes::{self, Dirs};

/// The most that is told of the start that runs, in bytes.
const MOST: u64 = 1 << 20;

/// Whose console is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Asked {
    namespace: String,
    name: String,
    /// The instance.
    uid: String,
    /// The VM, or the instance again where there is none.
    owner: String,
}

/// What a path asks for, if it is this.
pub(super) fn parse(path: &str) -> Option<Asked> {
    match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["v1", "namespaces", namespace, "instances", name, uid, "consolelog", owner] => {
            let [namespace, name, uid, owner] = [namespace, name, uid, owner].map(str::to_owned);
            Some(Asked { namespace, name, uid, owner })
        }
        _ => None,
    }
}

/// What it said since its start, and at the start before. Blocks.
///
/// # Errors
/// The disk.
pub(super) fn answer(dirs: &Dirs, asked: &Asked) -> io::Result<Value> {
    let domain = net::names::domain(&asked.namespace, &asked.name);
    let nothing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(error),
    };
    let is_its =
        volumes::uid_of(&dirs.of_domain(&domain)).or_else(nothing)? == asked.uid.as_bytes();
    let now = if is_its { consoles::said(dirs, &domain, MOST).or_else(nothing)? } else { vec![] };
    let before = consoles::said_before(dirs, &domain, &asked.owner).or_else(nothing)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(json!({ "said": text(&now), "saidBefore": text(&before) }))
}

#[cfg(test)]
mod tests {
    use crds::commands::path;

    use super::*;
    use crate::volumes::{Images, Settings};

    #[test]
    fn a_guest_is_heard_by_who_asks_for_that_very_one() {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().to_owned();
        let images = Images::new(&state, state.clone(), Settings::default());
        let dirs = Dirs { state, images, host_disks: vec![] };
        let asked = |uid: &str, owner: &str| {
            parse(&path("shop", "till", uid, &format!("consolelog/{owner}"))).unwrap()
        };
        let nothing = json!({ "said": "", "saidBefore": "" });
        assert_eq!(answer(&dirs, &asked("u1", "vm")).unwrap(), nothing);

        let home = dirs.of_domain("shop_till");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::create_dir_all(scratch.path().join("consoles")).unwrap();
        std::fs::write(home.join("vmi-uid"), "u1").unwrap();
        std::fs::write(home.join("console.log"), b"login: \xff").unwrap();
        std::fs::write(scratch.path().join("consoles/shop_till.vm.log"), "panic").unwrap();
        let all = json!({ "said": "login: \u{fffd}", "saidBefore": "panic" });
        assert_eq!(answer(&dirs, &asked("u1", "vm")).unwrap(), all);
        let another = answer(&dirs, &asked("u2", "other")).unwrap();
        assert_eq!(another, nothing, "of a name that somebody else had");
        assert_eq!(answer(&dirs, &asked("u1", "..")).unwrap()["saidBefore"], "");
        assert_eq!(parse(&path("shop", "till", "u1", "console")), None);
    }
}
