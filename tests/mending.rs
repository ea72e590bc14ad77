//! What is wrong with a VM is told where people look, with what to do, and once that is done the
//! VM runs.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tests::eventually;
use tests::kinds::{SECRET, VM};
use tests::world::World;

use crate::volumes::{delete, make_net, shown, start, stop, vm};

const SOON: Duration = Duration::from_secs(45);

/// What is wrong, how it is told, and what mends it.
struct Fault {
    vm: &'static str,
    /// Merged into the template's spec.
    wrong: Value,
    status: &'static str,
    reason: &'static str,
    words: &'static str,
    /// Merged into the template's spec, if that mends it.
    mended: Option<Value>,
}

fn faults(world: &World) -> Vec<Fault> {
    let disk = world.lab().layout().host_disks().join("vast.img");
    let volumes = |one: Value| {
        json!({"volumes": [{"name": "root", "containerDisk": {"image": tests::objects::GUEST_IMAGE}}, one],
            "domain": {"devices": {"disks": [
                {"name": "root", "disk": {"bus": "virtio"}}, {"name": "more", "disk": {"bus": "virtio"}}]}}})
    };
    let host_disk = |capacity: &str| {
        volumes(json!({"name": "more",
            "hostDisk": {"path": disk, "type": "DiskOrCreate", "capacity": capacity}}))
    };
    let user_data = |base64: &str| {
        volumes(json!({"name": "more", "cloudInitNoCloud": {"userDataBase64": base64}}))
    };
    let machine = |kind: &str| json!({"domain": {"machine": {"type": kind}}});
    let memory = |size: &str| json!({"domain": {"memory": {"guest": size}}});
    vec![
        Fault {
            vm: "mend-memory",
            wrong: memory("1Pi"),
            status: "ErrorUnschedulable",
            reason: "Unschedulable",
            words: "Insufficient memory",
            mended: Some(memory("64Mi")),
        },
        Fault {
            vm: "mend-secret",
            wrong: volumes(json!({"name": "more", "secret": {"secretName": "late"}})),
            status: "Starting",
            reason: "FailedMount",
            words: "\"late\" not found",
            mended: None,
        },
        Fault {
            vm: "mend-disk",
            wrong: host_disk("900Ti"),
            status: "Starting",
            reason: "FailedMount",
            words: "not enough space",
            mended: Some(host_disk("8Mi")),
        },
        Fault {
            vm: "mend-data",
            wrong: user_data("%%%"),
            status: "CrashLoopBackOff",
            reason: "VolumeNotReady",
            words: "userDataBase64 is not a valid base64 value",
            mended: Some(user_data("IyEvYmluL3NoCg==")),
        },
        Fault {
            vm: "mend-machine",
            wrong: machine("pc-q35-99.0"),
            status: "Starting",
            reason: "HypervisorRefused",
            words: "pc-q35-99.0",
            mended: Some(machine("q35")),
        },
    ]
}

fn in_template(spec: &Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

pub(super) async fn what_is_wrong_with_a_vm_is_told_with_what_to_do_and_once_mended_it_runs(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let faults = faults(world);
    for fault in &faults {
        world.cluster.create(VM, vm(fault.vm).halted().object()).await?;
        world.cluster.merge(VM, fault.vm, in_template(&fault.wrong)).await?;
        let on = json!({"spec": {"runStrategy": "Always"}});
        world.cluster.merge(VM, fault.vm, on).await?;
    }
    for Fault { vm, status, reason, words, .. } in &faults {
        shown(world, vm, status, reason, words).await?;
        eventually(&format!("an event of {vm}"), SOON, async || {
            let of = format!("involvedObject.kind=VirtualMachine,involvedObject.name={vm}");
            let events = ["get", "events", "-o", "json", "--field-selector", &of];
            let events: Value = serde_json::from_str(&world.cluster.kubectl_ok(&events).await?)?;
            let events = events["items"].as_array().cloned().unwrap_or_default();
            let says = |one: &Value| {
                one["type"] == "Warning"
                    && one["message"].as_str().is_some_and(|text| text.contains(words))
            };
            ensure!(events.iter().any(says), "{events:?}");
            Ok(())
        })
        .await?;
    }
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "b"},
        "metadata": {"name": "late", "namespace": "default"}});
    world.cluster.create(SECRET, secret).await?;
    for Fault { vm, mended, .. } in &faults {
        if let Some(mended) = mended {
            stop(world, vm).await?;
            world.cluster.merge(VM, vm, in_template(mended)).await?;
            start(world, vm).await?;
        } else {
            // Nobody has to touch the VM.
            world.running(vm).await?;
        }
        delete(world, vm).await?;
    }
    world.cluster.delete(SECRET, "late").await
}
