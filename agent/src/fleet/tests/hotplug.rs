//! Disks that come to a guest that runs, and go; the test is the controller.
//!
//! | step of the agent | killed before it, the next one |
//! |---|---|
//! | reads what the guest has | begins |
//! | attaches or detaches | finds that it is to be done |
//! | reads it again | finds that it is done |
//! | says so on the object | finds that it is done, and says so |

use crds::condition::RESOURCES_NOT_ENFORCED;

use super::*;

const RUNNING: &str = "default_web";

fn add(world: &World) {
    world.api.change("web", |vmi| {
        let disks = vmi["spec"]["domain"]["devices"]["disks"].as_array_mut().unwrap();
        disks.push(json!({ "name": "data", "disk": { "bus": "scsi" } }));
        let claim = json!({ "claimName": "c", "hotpluggable": true });
        let volumes = vmi["spec"]["volumes"].as_array_mut().unwrap();
        volumes.push(json!({ "name": "data", "persistentVolumeClaim": claim }));
    });
}

fn remove(world: &World) {
    world.api.change("web", |vmi| {
        for list in [&["domain", "devices", "disks"][..], &["volumes"]] {
            let list = list.iter().fold(&mut vmi["spec"], |value, key| &mut value[*key]);
            list.as_array_mut().unwrap().pop();
        }
    });
}

/// Phase and message of the volume.
fn said(world: &World) -> Option<(String, String)> {
    let status = world.api.vmi("web")?.status?;
    let one = status.volume_status.into_iter().find(|one| one.name == "data")?;
    Some((one.phase.unwrap_or_default(), one.message.unwrap_or_default()))
}

fn is(world: &World, phase: &str) -> bool {
    said(world).is_some_and(|(said, _)| said == phase)
}

fn disks(world: &World) -> usize {
    world.fake.xml(RUNNING).unwrap().matches("<alias name='ua-data_may_go'/>").count()
}

#[tokio::test(start_paused = true)]
async fn an_agent_killed_at_any_step_of_a_hotplug_neither_loses_a_disk_nor_adds_it_twice() {
    // Each verb takes 20 ms, so that a kill every 4 ms falls before, into and between all.
    for moment in (0..120).step_by(4).map(Duration::from_millis) {
        let world = World::running("web").await;
        world.fake.delay(Duration::from_millis(20));
        let restart = async || {
            tokio::time::sleep(moment).await;
            world.kill_agent().await;
            world.start_agent();
        };
        add(&world);
        restart().await;
        until("the disk is there", async || is(&world, "Ready")).await;
        assert_eq!(disks(&world), 1, "{moment:?}");
        remove(&world);
        restart().await;
        until("the disk is gone", async || said(&world).is_none()).await;
        assert_eq!(disks(&world), 0, "{moment:?}");
        assert_eq!(world.domains().await.len(), 1);
        assert_eq!(world.calls(Verb::Start), 1, "{moment:?}");
        assert!(world.calls(Verb::Alter) <= 4, "{:?}", world.fake.calls());
        world.kill_agent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_holds_on_to_a_disk_is_asked_until_it_lets_go() {
    let world = World::running("web").await;
    add(&world);
    until("the disk is there", async || is(&world, "Ready")).await;
    world.fake.hold_devices(true);
    remove(&world);
    until("it is said", async || is(&world, "Detaching")).await;
    assert_eq!(disks(&world), 1);
    world.fake.hold_devices(false);
    until("the disk is gone", async || said(&world).is_none()).await;
    assert_eq!(disks(&world), 0);
    assert_eq!(world.phase("web"), Some(InstancePhase::Running));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_refused_is_told_and_tried_again() {
    let world = World::running("web").await;
    let refused = HypervisorError::Refused("no more places".to_owned());
    world.fake.fail_next(Verb::Alter, refused);
    add(&world);
    until("it is said", async || is(&world, "Pending")).await;
    assert_eq!(said(&world).unwrap().1, "no more places");
    until("the disk is there", async || is(&world, "Ready")).await;
}

#[tokio::test(start_paused = true)]
async fn a_hypervisor_that_goes_away_meanwhile_is_asked_what_is_there() {
    let world = World::running("web").await;
    let away = || HypervisorError::Disconnected("restarting".to_owned());
    world.fake.fail_next(Verb::Alter, away());
    world.fake.fail_next(Verb::Describe, away());
    add(&world);
    until("the disk is there", async || is(&world, "Ready")).await;
    assert_eq!(disks(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn of_a_guest_that_moves_nothing_is_changed_until_it_has() {
    let (n1, n2) = World::pair("web").await;
    n1.fake.hold_up(true);
    n1.api.change("web", |vmi| {
        vmi["metadata"]["labels"]["kubevirt.io/migrationTargetNodeName"] = json!("n2");
        vmi["status"]["migrationState"] =
            json!({ "migrationUid": "m1", "sourceNode": "n1", "targetNode": "n2" });
    });
    until("it is being sent", async || n1.calls(Verb::Migrate) == 1).await;
    add(&n1);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(n1.calls(Verb::Alter), 0);
    n1.fake.hold_up(false);
    until("the disk is there", async || is(&n1, "Ready")).await;
    assert_eq!((disks(&n2), n2.calls(Verb::Alter)), (1, 1));
}

/// Limits on the object, and what it says of them.
fn limited() -> Value {
    let mut limited = vmi("web");
    limited["spec"]["domain"]["resources"] =
        json!({ "limits": { "cpu": "500m", "memory": "256Mi" } });
    limited
}

fn unenforced(world: &World) -> Option<String> {
    let conditions = world.api.vmi("web")?.status?.conditions;
    conditions.into_iter().find(|one| one.r#type == RESOURCES_NOT_ENFORCED)?.message
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_kept_to_its_limits_by_whichever_agent_finds_that_it_is_not() {
    let world = World::with_agent();
    world.api.create(limited());
    world.until_phase("web", InstancePhase::Running).await;
    let xml = world.fake.xml(RUNNING).unwrap();
    assert!(xml.contains("<global_quota>50000</global_quota>"), "{xml}");
    assert!(xml.contains("<hard_limit unit='KiB'>"), "{xml}");
    assert_eq!(unenforced(&world), None);
    // One that is killed before it has done so leaves it to the next.
    world.kill_agent().await;
    world.fake.forget_limits(RUNNING);
    world.start_agent();
    until("the next agent limits it", async || {
        world.fake.xml(RUNNING).unwrap().contains("<global_quota>50000</global_quota>")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_control_groups_runs_guests_and_says_what_is_not_enforced() {
    let world = World::with_agent();
    for _ in 0..8 {
        let why = "cgroup controller is not mounted".to_owned();
        world.fake.fail_next(Verb::Limit, HypervisorError::NoControlGroup(why));
    }
    world.api.create(limited());
    world.until_phase("web", InstancePhase::Running).await;
    let said = unenforced(&world).expect("it is told");
    for words in ["limits.cpu", "limits.memory", "node n1", "cgroup_controllers in qemu.conf"] {
        assert!(said.contains(words), "{said}");
    }
    // Nobody who asked for nothing is bothered with it.
    world.create("plain");
    world.until_phase("plain", InstancePhase::Running).await;
    let plain = world.api.vmi("plain").unwrap().status.unwrap().conditions;
    assert!(plain.iter().all(|one| one.r#type != RESOURCES_NOT_ENFORCED), "{plain:?}");
}
