//! The machine that a guest finds: firmware, what it keeps, small devices.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tests::kinds::{SECRET, VM};
use tests::objects::GUEST_IMAGE;
use tests::world::World;
use tests::{eventually, same};

use super::volumes::{delete, make_net, run, start, stop, vm};

const BOOT: Duration = Duration::from_secs(180);

/// Mounts the variables of the firmware.
const MOUNT: &str = "insmod /lib/modules/efivarfs.ko; \
                     mount -t efivarfs none /sys/firmware/efi/efivars";

/// A variable of ours: four bytes of attributes, then its value.
const VARIABLE: &str = "/sys/firmware/efi/efivars/Berth-5e0f4b2e-0000-4000-8000-000000000001";

/// Waits until the guest has a prompt: emulated firmware that measures what it boots takes its
/// time.
async fn booted(world: &World) -> anyhow::Result<()> {
    world.running("efi").await?;
    eventually("the guest to come up through EFI", BOOT, async || {
        world.guest("efi").await.map(drop)
    })
    .await
}

/// How often the guest's TPM was reset, by its own count, which outlives its power
/// (TPM2_ReadClock, whose answer has it after a header of ten bytes, time and clock).
async fn resets_of_tpm(world: &World) -> anyhow::Result<u32> {
    let ask = concat!(
        r"exec 3<>/dev/tpm0; printf '\200\001\000\000\000\012\000\000\001\201' >&3; ",
        r"head -c 40 <&3 | od -An -v -tx1 | tr -d ' \n'; exec 3>&-"
    );
    let answer = run(world, "efi", ask).await?;
    let count = answer.get(52..60).with_context(|| format!("the TPM answers {answer:?}"))?;
    Ok(u32::from_str_radix(count, 16)?)
}

pub(super) async fn what_efi_and_tpm_know_outlives_a_start_and_the_guest_boots_the_kernel_of_an_image(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let mut efi = vm("efi").object();
    let domain = &mut efi["spec"]["template"]["spec"]["domain"];
    domain["memory"]["guest"] = json!("256Mi");
    domain["firmware"] = json!({
        "bootloader": {"efi": {"secureBoot": false, "persistent": true}},
        "kernelBoot": {
            "kernelArgs": "console=ttyS0 quiet loglevel=3 mitigations=off nokaslr berth=outside",
            "container": {
                "image": GUEST_IMAGE,
                "kernelPath": "/boot/vmlinuz",
                "initrdPath": "/boot/initrd",
            },
        },
    });
    domain["devices"]["tpm"] = json!({"persistent": true});
    domain["devices"]["rng"] = json!({});
    world.cluster.create(VM, efi).await?;
    booted(world).await?;
    let arguments = run(world, "efi", "cat /proc/cmdline").await?;
    ensure!(arguments.contains("berth=outside"), "{arguments}");
    let resets = resets_of_tpm(world).await?;
    run(world, "efi", MOUNT).await?;
    let write = format!("printf '\\007\\000\\000\\000kept' >{VARIABLE} && sync");
    run(world, "efi", &write).await?;

    stop(world, "efi").await?;
    let kept = world.cluster.get(SECRET, "berth-state-efi").await?;
    for key in ["nvram.fd.gz", "tpm2-00.permall.gz"] {
        ensure!(kept["data"][key].is_string(), "no {key}: {kept}");
    }
    start(world, "efi").await?;
    booted(world).await?;
    run(world, "efi", MOUNT).await?;
    let read = run(world, "efi", &format!("tail -c 4 {VARIABLE}")).await;
    same("what the variable says", read.context("it is not there")?.as_str(), "kept")?;
    let again = resets_of_tpm(world).await?;
    ensure!(
        again > resets,
        "the TPM counts {again} resets, and before {resets}: it is another one"
    );
    delete(world, "efi").await?;
    world.cluster.gone(SECRET, "berth-state-efi", Duration::from_secs(60)).await
}
