//! `host/install.sh` on hosts of its own: a root directory and a package manager
//! that only write down what they are asked. The real ones serve `make test`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/host/install.sh");
const POLICY: &str = "usr/sbin/policy-rc.d";
const OWN_POLICY: &str = "#!/bin/sh\n# the owner's\nexit 104\n";
const WANTS: &str = "etc/systemd/system/multi-user.target.wants";

/// Installs by writing the names down and enabling a unit, as postinst does, of the
/// package and of one that it needs. Whether a service would start is asked as
/// invoke-rc.d asks. With a file `hang` it never comes back, with `fail` it fails
/// halfway.
const APT_GET: &str = r#"#!/bin/sh
echo "$*" >>"$HOST/apt-get.log"
case " $* " in
*" install "*) ;;
*" download "*) until [ "$1" = download ]; do shift; done; shift; for word in "$@"; do touch "$word.deb"; done; exit 0 ;;
*) exit 0 ;;
esac
"$BERTH_INSTALL_ROOT/usr/sbin/policy-rc.d" ovn-central start || echo "policy $?" >>"$HOST/apt-get.log"
for unit in ovn-central needed; do
    ln -sf "/lib/systemd/system/$unit.service" "$BERTH_INSTALL_ROOT/etc/systemd/system/multi-user.target.wants/$unit.service"
done
touch "$BERTH_INSTALL_ROOT/etc/init.d/ovn-central"
if [ -e "$HOST/fail" ]; then echo "E: no space" >&2; exit 100; fi
for word in "$@"; do echo "$word" >>"$HOST/installed"; done
if [ -e "$HOST/hang" ]; then mkfifo "$HOST/fifo"; echo >"$HOST/hanging"; read -r never <"$HOST/fifo"; fi
"#;
const DPKG_QUERY: &str = r#"#!/bin/sh
for word in "$@"; do :; done
grep -qx -e "$word" "$HOST/installed" && echo installed
"#;

const DPKG_DEB: &str = r#"#!/bin/sh
case $2 in
*qemu-guest-agent*) file=usr/sbin/qemu-ga ;;
*) file=boot/${2##*/} ;;
esac
mkdir -p "$3/${file%/*}"
touch "$3/$file"
"#;

/// A host on which nothing is installed.
struct Host(tempfile::TempDir);

impl Host {
    fn new(os_release: &str) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for dir in ["bin", "root/usr/sbin", "root/var/lib", "root/etc/init.d"] {
            fs::create_dir_all(host.path(dir)).unwrap();
        }
        fs::create_dir_all(host.root(WANTS)).unwrap();
        fs::write(host.root("etc/os-release"), os_release).unwrap();
        fs::write(host.path("installed"), "").unwrap();
        for (name, script) in [
            ("apt-get", APT_GET),
            ("dpkg-query", DPKG_QUERY),
            ("dpkg", "#!/bin/sh\necho amd64\n"),
            ("dpkg-deb", DPKG_DEB),
            ("apt-cache", "#!/bin/sh\necho linux-image; echo '  Depends: linux-image-6.1-cloud'\n"),
            ("id", "#!/bin/sh\necho ${FAKE_UID:-0}\n"),
            ("update-rc.d", "#!/bin/sh\necho \"$*\" >>\"$HOST/update-rc.d.log\"\n"),
            ("systemctl", "#!/bin/sh\necho \"$*\" >>\"$HOST/systemctl.log\"\n"),
        ] {
            let path = host.path("bin").join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // A unit that the owner wants, and one that he does not.
        symlink("/lib/systemd/system/ssh.service", host.root(WANTS).join("ssh.service")).unwrap();
        symlink("/dev/null", host.root("etc/systemd/system/masked.service")).unwrap();
        host
    }

    fn debian() -> Self {
        Self::new("ID=debian\nVERSION_ID=12\nPRETTY_NAME='Debian GNU/Linux 12'\n")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn root(&self, name: &str) -> PathBuf {
        self.path("root").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("env");
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command
            // Whoever runs the tests may ignore these signals, as nohup does, and a shell
            // cannot trap what was ignored when it began.
            .args(["--default-signal=HUP,INT,TERM", "sh", SCRIPT])
            .env("PATH", path)
            .env("HOST", self.0.path())
            .env("BERTH_INSTALL_ROOT", self.path("root"));
        command
    }

    fn install(&self) -> Output {
        self.command().output().unwrap()
    }

    /// Starts an installation and returns in the middle of it.
    fn hanging(&self) -> Child {
        fs::write(self.path("hang"), "").unwrap();
        let mut child = self.command().process_group(0).stdout(Stdio::null()).spawn().unwrap();
        while !self.path("hanging").exists() {
            assert!(child.try_wait().unwrap().is_none(), "{}", self.read("apt-get.log"));
            std::thread::yield_now();
        }
        fs::remove_file(self.path("hang")).unwrap();
        child
    }

    fn owners_policy(&self) {
        fs::write(self.root(POLICY), OWN_POLICY).unwrap();
        fs::set_permissions(self.root(POLICY), fs::Permissions::from_mode(0o750)).unwrap();
    }

    /// That nothing starts by itself but what did, and that nothing of ours is left.
    fn assert_as_before(&self, policy: Option<&str>) {
        assert_eq!(names(&self.root(WANTS)), ["ssh.service"]);
        assert_eq!(
            names(&self.root("etc/systemd/system")),
            ["masked.service", "multi-user.target.wants"]
        );
        assert_eq!(self.read("update-rc.d.log"), "ovn-central disable\n");
        assert_eq!(names(&self.root("var/lib")), [""; 0]);
        match policy {
            None => assert_eq!(names(&self.root("usr/sbin")), [""; 0]),
            Some(text) => {
                assert_eq!(names(&self.root("usr/sbin")), ["policy-rc.d"]);
                assert_eq!(self.read("root/usr/sbin/policy-rc.d"), text);
                let mode = fs::metadata(self.root(POLICY)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o750);
            }
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn end(mut child: Child, signal: Signal) -> Option<i32> {
    killpg(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn what_is_missing_is_installed_and_nothing_of_it_starts_by_itself() {
    let host = Host::debian();
    fs::write(host.path("installed"), "qemu-utils\niproute2\n").unwrap();
    let output = host.install();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = host.read("apt-get.log");
    assert!(log.contains("--no-install-recommends ovn-central") && !log.contains("qemu-utils"));
    assert!(log.contains("policy 101"), "services would have been started: {log}");
    host.assert_as_before(None);

    let again = host.install();
    assert!(String::from_utf8_lossy(&again.stdout).contains("all Debian packages are present"));
    assert_eq!(host.read("apt-get.log"), log);
}

#[test]
fn what_the_guest_is_made_of_is_unpacked_unless_it_is_installed() {
    let host = Host::debian();
    assert!(host.install().status.success());
    let log = host.read("apt-get.log");
    let installed = log.lines().find(|line| line.contains(" install ")).unwrap();
    assert!(!installed.contains("linux-image") && !installed.contains("busybox"), "{installed}");
    assert!(log.contains("download linux-image-6.1-cloud busybox-static"), "{log}");
    let guest = host.root("usr/local/lib/berth/guest");
    assert_eq!(names(&guest), ["boot", "usr"]);
    assert_eq!(names(&guest.join("boot")), ["busybox-static.deb", "linux-image-6.1-cloud.deb"]);
    assert_eq!(names(&guest.join("usr/sbin")), ["qemu-ga"]);

    let host = Host::debian();
    let all = "linux-image-cloud-amd64\nbusybox-static\nqemu-guest-agent\n";
    fs::write(host.path("installed"), all).unwrap();
    assert!(host.install().status.success());
    assert!(!host.read("apt-get.log").contains("download"));
    assert!(!host.root("usr/local/lib/berth").exists());

    // What an earlier version has unpacked stays, and what it did not is added.
    let host = Host::debian();
    let boot = host.root("usr/local/lib/berth/guest/boot");
    fs::create_dir_all(&boot).unwrap();
    fs::write(boot.join("vmlinuz"), "").unwrap();
    assert!(host.install().status.success());
    assert_eq!(names(&boot), ["vmlinuz"]);
    assert!(host.root("usr/local/lib/berth/guest/usr/sbin/qemu-ga").exists());

    // For the tests it is installed, but for the guest agent: udev would start that where the
    // host is a guest itself.
    let host = Host::debian();
    assert!(host.command().arg("tests").status().unwrap().success());
    let log = host.read("apt-get.log");
    assert!(log.contains(" linux-image-cloud-amd64 busybox-static "));
    assert!(!log.lines().any(|line| line.contains(" install ") && line.contains("guest-agent")));
    assert_eq!(names(&host.root("usr/local/lib/berth/guest")), ["usr"]);
    assert!(host.command().arg("tests").status().unwrap().success());
    assert_eq!(host.read("apt-get.log").matches(" install ").count(), 1);
}

#[test]
fn a_policy_of_the_owners_comes_back_as_it_was() {
    let host = Host::debian();
    host.owners_policy();
    assert!(host.install().status.success());
    assert!(host.read("apt-get.log").contains("policy 101"), "ours was in force meanwhile");
    host.assert_as_before(Some(OWN_POLICY));

    // It may be a link, also one that leads nowhere now.
    let host = Host::debian();
    symlink("/etc/alternatives/none", host.root(POLICY)).unwrap();
    assert!(host.install().status.success());
    assert_eq!(fs::read_link(host.root(POLICY)).unwrap(), Path::new("/etc/alternatives/none"));
}

#[test]
fn an_installation_that_fails_or_is_interrupted_puts_everything_back() {
    let host = Host::debian();
    host.owners_policy();
    fs::write(host.path("fail"), "").unwrap();
    let output = host.install();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no space"));
    host.assert_as_before(Some(OWN_POLICY));

    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let host = Host::debian();
        host.owners_policy();
        assert_eq!(end(host.hanging(), signal), Some(status));
        host.assert_as_before(Some(OWN_POLICY));
    }
}

#[test]
fn after_a_killed_installation_the_next_run_puts_everything_back() {
    for policy in [None, Some(OWN_POLICY)] {
        let host = Host::debian();
        if policy.is_some() {
            host.owners_policy();
        }
        end(host.hanging(), Signal::SIGKILL);
        assert!(host.root(POLICY).exists(), "it was killed too late");
        // All packages are there by now: nothing is to be installed, but to be put back.
        let next = host.install();
        assert!(!String::from_utf8_lossy(&next.stdout).contains("installing"));
        host.assert_as_before(policy);
    }
}

#[test]
fn another_system_is_told_what_it_needs() {
    let others = [
        "ID=fedora\nVERSION_ID=41\nPRETTY_NAME='Fedora Linux 41'\n",
        "ID=debian\nVERSION_ID=13\nPRETTY_NAME='Debian 13'\n",
        "",
    ];
    for os in others {
        let host = Host::new(os);
        let output = host.install();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("install the equivalents of: ovn-central ovn-host"), "{said}");
        assert_eq!(host.read("apt-get.log"), "");
    }
}

#[test]
fn a_plain_user_is_told_what_is_missing() {
    let host = Host::debian();
    let output = host.command().env("FAKE_UID", "1000").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("run as root, to install: ovn-central"), "{said}");
    assert_eq!(host.read("apt-get.log"), "");
}
