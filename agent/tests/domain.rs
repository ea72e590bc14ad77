//! VMIs and the domains they become, compared with the files in `golden/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p agent --test domain` writes them anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::fs;
use std::path::{Path, PathBuf};

use agent::domain::{self, DomainError, Emulation, OwnCpu, Place, Port, Seat};
use agent::volumes::{DiskFile, Format, Kernel, Login, Medium, Portal, Remote};
use crds::kubevirt::{VirtualMachineInstance, ignored};
use net::MacAddr;

/// A place as the lab's nodes are; that of a `kvm-*` file as a real host is.
fn place(vmi: &VirtualMachineInstance, kvm: bool) -> Place {
    let name = vmi.metadata.name.as_deref().unwrap();
    let namespace = vmi.metadata.namespace.as_deref().unwrap();
    let domain = net::names::domain(namespace, name);
    let home = PathBuf::from("/var/lib/berth/vms").join(&domain);
    let disks = vmi.spec.volumes.iter().map(|volume| {
        let qcow2 = volume.container_disk.is_some()
            || volume.empty_disk.is_some()
            || volume.ephemeral.is_some();
        let (format, suffix) = if qcow2 { (Format::Qcow2, "qcow2") } else { (Format::Raw, "iso") };
        let path = home.join(format!("{}.{suffix}", volume.name));
        let own = DiskFile::own(&volume.name, path, format);
        if let Some(disk) = &volume.host_disk {
            let medium = Medium::File { direct: !disk.path.starts_with("/tmp") };
            return DiskFile { path: disk.path.clone().into(), medium, ..own };
        }
        // Claims of block devices are called so.
        match volume.claim() {
            Some(("nfs", _)) => {
                let (server, path) = ("files.example".to_owned(), "/vms/a/disk.img".to_owned());
                DiskFile::remote(
                    &volume.name,
                    Remote::Nfs { server, path, user: 107, group: 7 },
                    false,
                )
            }
            Some(("iscsi", _)) => {
                let remote = Remote::Iscsi {
                    portal: Portal { host: "fd00::1".to_owned(), port: 3261 },
                    iqn: "iqn.2026-01.example:a".to_owned(),
                    lun: 2,
                    initiator: Some("iqn.2026-01.example:me".to_owned()),
                    login: Some(Login {
                        user: "alice".to_owned(),
                        password: b"never shown".to_vec(),
                        secret: uuid::Uuid::nil(),
                    }),
                };
                DiskFile::remote(&volume.name, remote, true)
            }
            Some((claim, _)) if claim.starts_with("block") => {
                let path = PathBuf::from("/dev").join(claim);
                DiskFile { path, medium: Medium::Device, ..own }
            }
            Some((claim, _)) if volume.ephemeral.is_none() => {
                let path = PathBuf::from("/srv").join(claim).join("disk.img");
                let claim = volume.persistent_volume_claim.as_ref();
                let read_only = claim.and_then(|claim| claim.read_only).unwrap_or(false);
                DiskFile { path, medium: Medium::File { direct: true }, read_only, ..own }
            }
            _ => own,
        }
    });
    let ports = vmi.spec.networks.iter().map(|network| {
        let provider = if network.pod.is_some() { "ovn" } else { &network.name };
        let port = net::names::port(name, namespace, provider);
        let interface = vmi.spec.domain.devices.interfaces.iter().find(|i| i.name == network.name);
        let mac = interface.and_then(|interface| interface.mac_address.as_deref());
        Port {
            network: network.name.clone(),
            tap: net::names::tap(&port),
            mac: mac.map_or_else(|| MacAddr::derived_from(&[&port]), |mac| mac.parse().unwrap()),
            mtu: 1400,
            name: port,
        }
    });
    Place {
        emulation: if kvm { Emulation::Kvm } else { Emulation::Software },
        checksum_offload: kvm,
        serial_socket: format!("/run/berth/{domain}/serial").into(),
        vnc_socket: format!("/run/berth/{domain}/vnc").into(),
        console_log: home.join("console.log"),
        disks: disks.collect(),
        kernel: kernel(vmi),
        nvram: home.join("nvram.fd"),
        ports: ports.collect(),
        seat: seat(vmi, kvm),
    }
}

/// Of a real host the first two processors are for all; of the rest every third is of another
/// NUMA node.
fn seat(vmi: &VirtualMachineInstance, kvm: bool) -> Seat {
    let wanted = domain::dedicated(&vmi.spec.domain).unwrap_or(0);
    let own = (2..).take(wanted).map(|cpu| OwnCpu { cpu, node: u32::from(cpu % 3 == 0) });
    Seat { shared: (kvm && wanted > 0).then(|| "0-1".to_owned()), own: own.collect() }
}

/// A kernel as it would have been unpacked.
fn kernel(vmi: &VirtualMachineInstance) -> Kernel {
    let boot = vmi.spec.domain.firmware.as_ref().and_then(|one| one.kernel_boot.as_ref());
    let container = boot.and_then(|boot| boot.container.clone()).unwrap_or_default();
    let file =
        |path: Option<String>| path.map(|path| format!("/var/lib/berth/images{path}").into());
    Kernel { kernel: file(container.kernel_path), initrd: file(container.initrd_path) }
}

fn read(path: &Path) -> VirtualMachineInstance {
    let yaml = fs::read_to_string(path).unwrap();
    serde_norway::from_str(&yaml).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn every_golden_instance_becomes_its_golden_domain() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut compared = 0;
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let vmi = read(&path);
        let name = path.file_stem().unwrap().to_str().unwrap();
        let xml = domain::xml(&vmi, &place(&vmi, name.starts_with("kvm-"))).unwrap();
        let ignored = ignored(&vmi.spec, "spec").into_iter();
        let ignored: String = ignored.map(|field| format!("<!-- ignored: {field} -->\n")).collect();
        let got = format!("{ignored}{xml}");
        let expected = path.with_extension("xml");
        if update {
            fs::write(&expected, &got).unwrap();
        }
        let want = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(got, want, "{name}: UPDATE_GOLDEN=1 accepts the new text");
        compared += 1;
    }
    assert!(compared >= 4, "only {compared} golden files found");
}

/// The lab guest after `change`, at a place made for it before the change.
fn changed(change: impl FnOnce(&mut VirtualMachineInstance)) -> Result<String, DomainError> {
    let mut vmi = read(&golden().join("lab-guest.yaml"));
    let place = place(&vmi, false);
    change(&mut vmi);
    domain::xml(&vmi, &place)
}

fn refusal(change: impl FnOnce(&mut VirtualMachineInstance)) -> String {
    changed(change).unwrap_err().to_string()
}

#[test]
fn an_instance_without_memory_is_refused_in_kubevirts_words() {
    let refused = refusal(|vmi| vmi.spec.domain.memory = None);
    assert_eq!(
        refused,
        "no memory requested, at least one of 'spec.domain.memory.guest', \
         'spec.domain.memory.hugepages.size' or 'spec.domain.resources.requests.memory' must be set"
    );
}

#[test]
fn memory_comes_from_the_request_when_no_guest_memory_is_written() {
    let xml = changed(|vmi| {
        let mut resources = crds::kubevirt::Resources::default();
        resources.requests.insert("memory".into(), "64M".into());
        vmi.spec.domain.memory = None;
        vmi.spec.domain.resources = Some(resources);
    });
    assert!(xml.unwrap().contains("<memory unit='KiB'>62500</memory>"));
}

#[test]
fn memory_beyond_the_limit_is_refused() {
    let refused = refusal(|vmi| {
        let mut resources = crds::kubevirt::Resources::default();
        resources.limits.insert("memory".into(), "64Mi".into());
        vmi.spec.domain.resources = Some(resources);
    });
    assert_eq!(
        refused,
        "spec.domain.memory.guest '128Mi' must be equal to or less than the memory limit \
         spec.domain.resources.limits.memory '64Mi'"
    );
}

#[test]
fn sockets_come_from_the_cpu_limit_when_no_topology_is_written() {
    let xml = changed(|vmi| {
        let mut resources = crds::kubevirt::Resources::default();
        resources.requests.insert("cpu".into(), "1".into());
        resources.limits.insert("cpu".into(), "1500m".into());
        vmi.spec.domain.resources = Some(resources);
        vmi.spec.domain.cpu = None;
    });
    assert!(xml.unwrap().contains("<topology sockets='2' cores='1' threads='1'/>"));
}

#[test]
fn a_machine_that_is_not_q35_is_refused() {
    let refused = refusal(|vmi| {
        vmi.spec.domain.machine =
            Some(crds::kubevirt::Machine { r#type: Some("pc-i440fx-7.2".into()) });
    });
    assert_eq!(
        refused,
        "spec.domain.machine.type is not supported: pc-i440fx-7.2 \
         (allowed values: [q35* pc-q35*])"
    );
}

#[test]
fn a_disk_without_a_volume_and_an_interface_without_a_port_are_refused() {
    let refused = refusal(|vmi| vmi.spec.domain.devices.disks[0].name = "other".into());
    assert_eq!(refused, "spec.domain.devices.disks[0].name 'other' not found.");
    let refused = refusal(|vmi| vmi.spec.domain.devices.interfaces[0].name = "other".into());
    assert_eq!(refused, "spec.domain.devices.interfaces[0].name 'other' not found.");
}

#[test]
fn two_devices_cannot_be_booted_from_first() {
    let refused = refusal(|vmi| {
        vmi.spec.domain.devices.disks[0].boot_order = Some(1);
        vmi.spec.domain.devices.interfaces[0].boot_order = Some(1);
    });
    assert_eq!(
        refused,
        "Boot order for spec.domain.devices.interfaces[0].bootOrder already set for a different \
         device."
    );
}

#[test]
fn a_firmware_uuid_cannot_smuggle_in_options() {
    let refused = refusal(|vmi| {
        let firmware = crds::kubevirt::Firmware {
            uuid: Some("x,file=/etc/shadow".into()),
            ..Default::default()
        };
        vmi.spec.domain.firmware = Some(firmware);
    });
    assert_eq!(refused, "spec.domain.firmware.uuid 'x,file=/etc/shadow' is not a uuid");
}

#[test]
fn a_way_to_start_that_there_is_not_is_refused_in_kubevirts_words() {
    let refused = refusal(|vmi| vmi.spec.start_strategy = Some("Later".into()));
    assert_eq!(refused, "spec.startStrategy is set with an unrecognized option: Later");
    let refused = refusal(|vmi| {
        vmi.spec.start_strategy = Some("Paused".into());
        let probe = crds::kubevirt::Probe {
            guest_agent_ping: Some(Default::default()),
            ..Default::default()
        };
        vmi.spec.liveness_probe = Some(Box::new(probe));
    });
    assert!(refused.contains("Pausing VMI with LivenessProbe is not supported"), "{refused}");
}

#[test]
fn a_volume_without_a_disk_gets_one_as_kubevirt_does() {
    let xml = changed(|vmi| vmi.spec.domain.devices.disks.clear()).unwrap();
    assert!(xml.contains("<target dev='sda' bus='sata'/>"), "{xml}");
    assert!(xml.contains("<target dev='sdb' bus='sata'/>"), "{xml}");
}

#[test]
fn a_socket_path_that_the_kernel_would_cut_is_refused() {
    let vmi = read(&golden().join("lab-guest.yaml"));
    let mut place = place(&vmi, false);
    place.serial_socket = format!("/run/{}", "x".repeat(103)).into();
    assert!(matches!(domain::xml(&vmi, &place), Err(DomainError::PathTooLong(_))));
    place.serial_socket = format!("/run/{}", "x".repeat(102)).into();
    domain::xml(&vmi, &place).unwrap();
}

#[test]
fn all_starts_of_a_vm_show_the_guest_the_same_uuid() {
    let mut vmi = read(&golden().join("lab-guest.yaml"));
    let first = domain::firmware_uuid(&vmi);
    assert_eq!(first, vmi.metadata.owner_references.as_ref().unwrap()[0].uid);
    vmi.metadata.uid = Some("5e0f4b2e-0000-4000-8000-000000000002".into());
    assert_eq!(domain::firmware_uuid(&vmi), first);
    vmi.metadata.owner_references = None;
    assert_eq!(domain::firmware_uuid(&vmi), "5e0f4b2e-0000-4000-8000-000000000002");
}

#[test]
fn a_time_zone_that_libvirts_schema_would_choke_on_is_named() {
    let refused = refusal(|vmi| {
        let clock = serde_norway::from_str("{timezone: \"'Berlin'\"}").unwrap();
        vmi.spec.domain.clock = Some(clock);
    });
    assert_eq!(
        refused,
        "spec.domain.clock.timezone ''Berlin'' is not the name of a time zone, such as Europe/Berlin"
    );
}
