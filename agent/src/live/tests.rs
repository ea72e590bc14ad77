use std::path::PathBuf;

use crds::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::volumes::{Format, Medium};

fn vmi(disks: &Value, volumes: &Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {"domain": {"devices": {"disks": disks}}, "volumes": volumes},
    }))
    .unwrap()
}

fn claim(name: &str) -> Value {
    json!({"name": name, "persistentVolumeClaim": {"claimName": name, "hotpluggable": true}})
}

fn file(path: &str) -> DiskFile {
    let medium = Medium::File { direct: true };
    DiskFile { medium, ..DiskFile::own("data", PathBuf::from(path), Format::Raw) }
}

fn files(path: &str) -> Files {
    [("data".to_owned(), Ok(file(path)))].into()
}

/// A domain as libvirt 9.0 describes one that runs, cut short.
fn domain(disks: &str) -> Present {
    let root = "<disk type='file' device='disk'><source file='/s/root.qcow2' index='1'/>\
                <target dev='vda' bus='virtio'/><alias name='ua-root'/></disk>";
    let theirs = "<disk type='file' device='disk'><target dev='vdz' bus='virtio'/>\
                  <alias name='virtio-disk9'/></disk>";
    let xml = format!(
        "<domain type='qemu' id='1'><name>default_web</name><vcpu placement='static'>1</vcpu>\
         <devices>{root}{theirs}{disks}</devices></domain>"
    );
    Present::read(&xml).unwrap()
}

const DATA: &str = "<disk type='file' device='disk'><driver name='qemu' type='raw'/>\
    <source file='/c/data/disk.img' index='2'/><backingStore/><target dev='sda' bus='scsi'/>\
    <alias name='ua-data_may_go'/></disk>";

fn drive(medium: &str) -> String {
    format!(
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{medium}\
         <target dev='sdb' bus='sata'/><readonly/><alias name='ua-data_may_go'/></disk>"
    )
}

/// What is to be done, in words.
fn told(vmi: &VirtualMachineInstance, files: &Files, present: &Present) -> Vec<String> {
    changes(vmi, files, present).iter().map(ToString::to_string).collect()
}

fn with_data() -> VirtualMachineInstance {
    vmi(
        &json!([{"name": "data", "disk": {"bus": "scsi"}}]),
        &json!([{"name": "root", "containerDisk": {"image": "os"}}, claim("data")]),
    )
}

fn without() -> VirtualMachineInstance {
    vmi(&json!([]), &json!([{"name": "root", "containerDisk": {"image": "os"}}]))
}

#[test]
fn what_differs_is_done_and_nothing_else() {
    let there = files("/c/data/disk.img");
    assert_eq!(told(&with_data(), &there, &domain("")), ["attach data"]);
    assert_eq!(told(&with_data(), &there, &domain(DATA)), [""; 0]);
    assert_eq!(told(&without(), &Files::new(), &domain(DATA)), ["detach data"]);
    assert_eq!(told(&without(), &Files::new(), &domain("")), [""; 0]);
}

#[test]
fn what_a_guest_began_with_it_keeps_though_its_object_loses_it() {
    let bare = vmi(&json!([]), &json!([]));
    assert_eq!(told(&bare, &Files::new(), &domain("")), [""; 0], "its root");
    let own = DATA.replace("_may_go", "");
    let drive = drive("<source file='/c/old/disk.img'/>").replace("_may_go", "");
    for disk in [&own, &drive] {
        assert_eq!(told(&without(), &Files::new(), &domain(disk)), [""; 0]);
        let other = files("/c/other/disk.img");
        assert_eq!(told(&with_data(), &other, &domain(disk)), [""; 0], "nor by another's name");
    }
    assert_eq!(told(&bare, &Files::new(), &domain(DATA)), ["detach data"]);
}

#[test]
fn another_disk_under_an_old_name_comes_once_the_first_is_gone() {
    let other = files("/c/other/disk.img");
    assert_eq!(told(&with_data(), &other, &domain(DATA)), ["detach data"]);
    assert_eq!(told(&with_data(), &other, &domain("")), ["attach data"]);
}

#[test]
fn what_cannot_be_had_takes_nothing_from_the_guest() {
    let lost: Files = [("data".to_owned(), Err(Trouble::of("PVCNotReady", "no")))].into();
    assert_eq!(told(&with_data(), &lost, &domain(DATA)), [""; 0]);
    assert_eq!(told(&with_data(), &lost, &domain("")), [""; 0]);
}

#[test]
fn a_medium_is_put_into_its_drive_and_taken_out_and_the_drive_stays() {
    let disks = json!([{"name": "data", "cdrom": {"bus": "sata"}}]);
    let full = vmi(&disks, &json!([claim("data")]));
    let empty = vmi(&disks, &json!([]));
    let (none, old) = (drive(""), drive("<source file='/c/old/disk.img'/><backingStore/>"));
    let new = files("/c/data/disk.img");
    let of = |vmi: &VirtualMachineInstance, disk: &str| {
        let mut told = told(vmi, &new, &domain(disk));
        told.retain(|change| !change.contains("root"));
        told
    };
    assert_eq!(of(&full, &none), ["insert data"]);
    assert_eq!(of(&full, &old), ["insert data"]);
    assert_eq!(of(&empty, &old), ["eject data"]);
    assert_eq!(of(&empty, &none), [""; 0]);
    let put = crate::domain::with_medium(&old, Some(&file("/c/it's/disk.img"))).unwrap();
    let drive = domain(&put).disk("data").cloned().unwrap();
    assert_eq!(drive.source, Some(PathBuf::from("/c/it's/disk.img")));
    assert!(put.contains("<readonly/><alias name='ua-data_may_go'/>"), "{put}");
    let opened = put.replace("bus='sata'", "bus='sata' tray='open'");
    let shut = crate::domain::with_medium(&opened, None).unwrap();
    assert!(!shut.contains("tray"), "{shut}");
    let taken = crate::domain::with_medium(&put, None).unwrap();
    assert_eq!(domain(&taken).disk("data").unwrap().source, None);
}

#[test]
fn a_new_disk_has_a_name_that_no_other_has() {
    let vmi = with_data();
    let disk = &vmi.spec.domain.devices.disks[0];
    let mut taken = ["sda", "vdb", "sdc"].map(str::to_owned).into();
    let mut hot =
        || crate::domain::hot_disk(&vmi.spec, disk, &file("/c/disk.img"), &mut taken).unwrap();
    let xml = hot();
    assert!(xml.contains("<target dev='sdb' bus='scsi'/>"), "{xml}");
    assert!(xml.contains("<alias name='ua-data_may_go'/>"), "{xml}");
    assert_eq!(domain(&xml).disk("data").unwrap().source, Some(PathBuf::from("/c/disk.img")));
    let next = hot();
    assert!(next.contains("<target dev='sdd' bus='scsi'/>"), "one that comes with it: {next}");
}

#[test]
fn a_guest_that_ignores_what_it_is_asked_is_asked_for_each_in_turn_and_ever_more_seldom() {
    let more = DATA.replace("ua-data", "ua-more").replace("'sda'", "'sdb'");
    let present = domain(&format!("{DATA}{more}"));
    let wanted = || changes(&without(), &Files::new(), &present);
    let first = |turn| in_turn(wanted(), turn).first().map(ToString::to_string).unwrap();
    assert_eq!([0, 1, 2].map(first), ["detach data", "detach more", "detach data"]);
    assert!(in_turn(Vec::new(), 1).is_empty());
    let asked = &wanted()[0];
    assert!(asked.is_unplug() && asked.is_ignored(&present) && !asked.is_ignored(&domain("")));

    let mut account = Account { ignored: true, ..Account::default() };
    let pauses = [0, 1, 4, 5, u32::MAX].map(|in_vain| account.again(in_vain).as_secs());
    assert_eq!(pauses, [10, 20, 160, 240, 240]);
    account.ignored = false;
    assert_eq!(account.again(9).as_secs(), 10, "objects may come any moment");
}

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(1).unwrap())
}

/// Phase and reason of the volume `data`, and its place.
fn phase(vmi: &VirtualMachineInstance, account: &Account) -> Option<(String, String, String)> {
    let mut status = VirtualMachineInstanceStatus::default();
    say(&mut status, vmi, account, &now());
    let one = status.volume_status.into_iter().find(|one| one.name == "data")?;
    assert!(one.hotplug_volume.is_some());
    Some((one.phase.unwrap_or_default(), one.reason.unwrap_or_default(), one.target))
}

#[test]
fn an_instance_says_how_far_each_volume_is() {
    let says = |phase: &str, reason: &str, target: &str| {
        Some((phase.to_owned(), reason.to_owned(), target.to_owned()))
    };
    let mut account = Account { present: domain(""), ..Account::default() };
    assert_eq!(phase(&with_data(), &account), says("Bound", "PVCNotReady", ""));
    let missing = Trouble::of("FailedPvcNotFound", "PVC data not found");
    account.troubles.insert("data".to_owned(), missing);
    assert_eq!(phase(&with_data(), &account), says("Pending", "FailedPvcNotFound", ""));
    let mut account = Account { present: domain(DATA), ..Account::default() };
    assert_eq!(phase(&with_data(), &account), says("Ready", "VolumeReady", "sda"));
    account.left.insert("data".to_owned());
    assert_eq!(phase(&without(), &account), says("Detaching", "DeviceInUse", "sda"));
    assert_eq!(phase(&with_data(), &account), says("Detaching", "DeviceInUse", "sda"));
    let gone = Account { present: domain(""), ..Account::default() };
    assert_eq!(phase(&without(), &gone), None);
}

#[test]
fn a_guest_is_kept_to_its_limits_before_anything_else_and_once() {
    let mut vmi = sized(1, "1Gi", "down");
    let resources = vmi.spec.domain.resources.get_or_insert_default();
    resources.limits.insert("cpu".into(), "1".into());
    vmi.spec.domain.memory.as_mut().unwrap().max_guest = None;
    resources.limits.insert("memory".into(), "1Gi".into());
    let tuned = |shares: &str, memory: &str| {
        let xml = format!(
            "<domain><memory unit='KiB'>1048576</memory><vcpu>2</vcpu>{shares}{memory}<devices>\
             <interface><alias name='ua-default'/></interface></devices></domain>"
        );
        told(&vmi, &Files::new(), &Present::read(&xml).unwrap())
    };
    let limit = (1_u64 << 30) + (64 << 20) + (16 << 20) + (2 << 20);
    let cpu = "10 shares of the processors, 100000 µs at most";
    let memory = format!("{limit} bytes of the node's at most");
    assert_eq!(tuned("", ""), [cpu, memory.as_str(), "link default down"]);
    let shares = "<cputune><shares>10</shares><global_quota>100000</global_quota></cputune>";
    let hard = format!("<memtune><hard_limit unit='KiB'>{}</hard_limit></memtune>", limit >> 10);
    assert_eq!(tuned(shares, &hard), ["link default down"]);
    let other = "<cputune><shares>10</shares><global_quota>5</global_quota></cputune>";
    assert_eq!(tuned(other, &hard), [cpu, "link default down"]);
}

/// One that began with a socket of two cores and 1 GiB, of four and 4 GiB.
fn grown(vcpus: &str, memory: &str, interface: &str) -> Present {
    let xml = format!(
        "<domain><memory unit='KiB'>4194304</memory><vcpu{vcpus}>8</vcpu>\
         <cputune><shares>10</shares></cputune><devices>\
         <memory model='virtio-mem'><target><size unit='KiB'>3145728</size>{memory}</target>\
         <alias name='ua-pluggable_memory'/></memory>\
         <interface type='ethernet'>{interface}<alias name='ua-default'/></interface>\
         </devices></domain>"
    );
    Present::read(&xml).unwrap()
}

fn sized(sockets: u32, guest: &str, state: &str) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {"domain": {
            "cpu": {"sockets": sockets, "cores": 2, "maxSockets": 4},
            "memory": {"guest": guest, "maxGuest": "4Gi"},
            "resources": {"requests": {"cpu": "100m"}},
            "devices": {"interfaces": [{"name": "default", "bridge": {}, "state": state}]},
        }},
    }))
    .unwrap()
}

#[test]
fn processors_come_memory_comes_and_goes_and_cables_are_put_in_and_out() {
    let none = "<requested unit='KiB'>0</requested><current unit='KiB'>0</current>";
    let some = "<requested unit='KiB'>1048576</requested><current unit='KiB'>2048</current>";
    let first = || grown(" current='2'", none, "");
    let told = |vmi: &VirtualMachineInstance, present: &Present| told(vmi, &Files::new(), present);
    assert_eq!(told(&sized(1, "1Gi", "up"), &first()), [""; 0]);
    let more = ["4 vCPUs", "1073741824 bytes more than at the start", "link default down"];
    assert_eq!(told(&sized(2, "2Gi", "down"), &first()), more);
    let larger = grown(" current='4'", some, "<link state='down'/>");
    assert_eq!(told(&sized(2, "2Gi", "down"), &larger), [""; 0]);
    let back = ["0 bytes more than at the start", "link default up"];
    assert_eq!(told(&sized(1, "1Gi", ""), &larger), back, "no processor goes");
    assert_eq!(told(&sized(2, "2Gi", "absent"), &larger), ["unplug default"]);
    assert_eq!(told(&sized(9, "1Gi", "up"), &first()), [""; 0], "what cannot be");

    let mut status = VirtualMachineInstanceStatus::default();
    let waits = Some(Trouble::of("GuestNotReady", "not yet"));
    let account = Account { present: larger, of_memory: waits, ..Account::default() };
    say(&mut status, &sized(2, "2Gi", "down"), &account, &now());
    let topology = status.current_cpu_topology.clone().unwrap();
    assert_eq!((topology.sockets, topology.cores, topology.threads), (2, 2, 1));
    let memory = json!(status.memory);
    assert_eq!(
        memory,
        json!({"guestAtBoot": "1Gi", "guestCurrent": "1026Mi", "guestRequested": "2Gi"})
    );
    let kinds = |status: &VirtualMachineInstanceStatus| {
        status.conditions.iter().map(|one| one.r#type.clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&status), ["HotMemoryChange"]);
    let account = Account { of_memory: None, ..account };
    say(&mut status, &sized(2, "2Gi", "down"), &account, &now());
    assert_eq!(kinds(&status), [""; 0]);
}

#[test]
fn the_mainboard_and_the_queues_are_what_libvirt_has() {
    let nic = |name: &str, driver: &str| {
        format!(
            "<interface type='ethernet'><mac address='02:00:00:00:00:05'/>{driver}\
             <alias name='ua-{name}'/></interface>"
        )
    };
    let xml = format!(
        "<domain type='kvm'><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>\
         <devices>{}{}</devices></domain>",
        nic("default", "<driver name='vhost' queues='4'/>"),
        nic("blue", ""),
    );
    let present = Present::read(&xml).unwrap();
    assert_eq!(present.machine.as_deref(), Some("pc-q35-7.2"));
    let queues: Vec<_> = present.interfaces.iter().map(|one| one.queues).collect();
    assert_eq!(queues, [4, 1]);
}
