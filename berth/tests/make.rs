//! The Makefile's commands for people, with stubs for who asks and what is built.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const MAKE: &str = "/usr/bin/make";
const MAKEFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Makefile");

/// A work tree with nothing in it but the Makefile, and programs that say their name.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::copy(MAKEFILE, tree.0.path().join("Makefile")).unwrap();
        tree.program("bin/id", "[ $1 = -un ] && echo somebody || echo $FAKE_UID");
        tree
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn make(&self, goal: &str, uid: u32) -> Output {
        let bin = self.0.path().join("bin");
        Command::new(MAKE)
            .arg(goal)
            .current_dir(self.0.path())
            // Without cargo, wherever it is.
            .env("PATH", bin)
            .env("FAKE_UID", uid.to_string())
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL")
            .output()
            .unwrap()
    }
}

fn said(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn has_make() -> bool {
    let has = Path::new(MAKE).exists();
    if !has {
        eprintln!("skipped: there is no make");
    }
    has
}

#[test]
fn a_plain_user_is_told_that_it_needs_root_before_that_rust_is_missing() {
    if !has_make() {
        return;
    }
    let tree = Tree::new();
    for goal in ["run", "test", "bench", "clean-lab"] {
        let output = tree.make(goal, 1000);
        let reason = said(&output.stderr);
        assert!(!output.status.success());
        assert!(reason.contains(&format!("make {goal} needs root")), "{reason}");
        assert!(!reason.contains("Rust"), "{reason}");
    }
    let reason = said(&tree.make("run", 0).stderr);
    assert!(reason.contains("Rust is missing for user somebody"), "{reason}");
}

#[test]
fn cleaning_up_builds_nothing_where_something_is_built() {
    if !has_make() {
        return;
    }
    let tree = Tree::new();
    tree.program(
        "bin/cargo",
        "echo cargo $*; /bin/mkdir -p target/debug; /bin/cp bin/built target/debug/berth",
    );
    tree.program("bin/built", "echo debug $*");
    let clean = || said(&tree.make("clean-lab", 0).stdout);
    assert_eq!(clean(), "cargo build --package berth\ndebug clean --data-dir /var/lib/berth\n");
    assert_eq!(clean(), "debug clean --data-dir /var/lib/berth\n");
    tree.program("target/release/berth", "echo release $*");
    assert_eq!(clean(), "release clean --data-dir /var/lib/berth\n");
}
