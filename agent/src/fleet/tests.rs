mod api;
mod hotplug;
mod moves;
mod world;

use crds::kubevirt::{Condition, InstancePhase};
use serde_json::{Value, json};

use self::world::{World, until, vmi};
use super::*;
use crate::hypervisor::HypervisorError;
use crate::hypervisor::fake::Verb;

#[tokio::test(start_paused = true)]
async fn a_start_costs_one_write_and_a_deletion_two() {
    let world = World::running("web").await;
    let status = world.api.vmi("web").unwrap().status.unwrap();
    assert!(Condition::holds(&status.conditions, "Ready"));
    assert_eq!(status.interfaces[0].mac.as_deref(), Some("02:00:00:00:00:05"));
    assert_eq!(status.interfaces[0].pod_interface_name, Some(net::names::tap("web.default")));
    assert_eq!(world.api.writes("web").len(), 1);

    world.api.delete("web");
    until("the object is gone", async || world.phase("web").is_none()).await;
    let writes = world.api.writes("web");
    assert_eq!(writes.len(), 3);
    assert_eq!(writes[1]["status"]["phase"], "Succeeded");
    assert_eq!(writes[2]["metadata"]["finalizers"], Value::Null);
    world.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_deleted_vm_is_left_when_its_object_goes() {
    let world = World::running("web").await;
    world.api.delete("web");
    until("the object is gone", async || world.phase("web").is_none()).await;
    assert!(world.domains().await.is_empty());
    assert!(world.bindings.all().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_listen_has_its_full_grace_period() {
    let world = World::running("web").await;
    world.fake.ignore_shutdown(true);
    let asked = Instant::now();
    world.api.delete("web");
    until("the plug is pulled", async || world.calls(Verb::Destroy) == 1).await;
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_secs(30), "{waited:?}");
    assert!(waited < Duration::from_secs(33), "{waited:?}");
    assert_eq!(world.calls(Verb::Shutdown), 6, "asked every five seconds");
    until("the object is gone", async || world.phase("web").is_none()).await;
    let writes = world.api.writes("web");
    assert_eq!(writes[1]["status"]["phase"], "Failed");
    assert_eq!(writes[1]["status"]["reason"], "GracePeriodExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_gives_a_guest_what_is_left_of_its_grace_period() {
    let world = World::running("web").await;
    // Where its disks would be.
    std::fs::create_dir_all(world.dir.path().join("vms/default_web")).unwrap();
    world.fake.ignore_shutdown(true);
    world.api.delete("web");
    until("it is asked to end", async || world.calls(Verb::Shutdown) == 1).await;
    world.kill_agent().await;
    // Time is the tests' own, but not that of files.
    let asked = world.dir.path().join("vms/default_web/asked-to-end");
    let then = std::time::SystemTime::now() - Duration::from_secs(20);
    std::fs::File::options().write(true).open(asked).unwrap().set_modified(then).unwrap();
    let begun = Instant::now();
    world.start_agent();
    until("the plug is pulled", async || world.calls(Verb::Destroy) == 1).await;
    let waited = begun.elapsed();
    assert!((8..13).contains(&waited.as_secs()), "{waited:?}");
    world.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_stands_still_since_a_disk_failed_goes_on_by_itself() {
    let world = World::running("web").await;
    world.fake.fail_disk("default_web");
    until("it says so", async || {
        let status = world.api.vmi("web").unwrap().status.unwrap();
        status.conditions.iter().any(|one| one.reason.as_deref() == Some("PausedIOError"))
    })
    .await;
    let begun = Instant::now();
    until("it is let go on", async || world.calls(Verb::Resume) == 1).await;
    assert!((8..13).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    until("it says that it runs", async || {
        let status = world.api.vmi("web").unwrap().status.unwrap();
        status.conditions.iter().all(|one| one.r#type != "Paused")
    })
    .await;
    // One that fails again at once waits longer.
    world.fake.fail_disk("default_web");
    let begun = Instant::now();
    until("it is let go on again", async || world.calls(Verb::Resume) == 2).await;
    assert!((18..24).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_powers_itself_off_succeeds_and_one_that_crashes_fails() {
    let world = World::running("web").await;
    world.fake.power_off("default_web");
    world.until_phase("web", InstancePhase::Succeeded).await;
    world.create("db");
    world.until_phase("db", InstancePhase::Running).await;
    world.fake.crash("default_db");
    world.until_phase("db", InstancePhase::Failed).await;
    world.until_nothing_is_left().await;
    // Without finalizer a deletion needs nothing from us any more.
    world.api.delete("web");
    assert_eq!(world.phase("web"), None);
}

#[tokio::test(start_paused = true)]
async fn the_next_agent_adopts_what_runs_and_writes_nothing() {
    let world = World::running("web").await;
    world.kill_agent().await;
    world.start_agent();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.phase("web"), Some(InstancePhase::Running));
    assert_eq!(world.calls(Verb::Start), 1);
    assert_eq!(world.api.writes("web").len(), 1);

    world.api.delete("web");
    world.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_ended_while_no_agent_looked_is_reported_by_the_next() {
    let world = World::running("web").await;
    world.kill_agent().await;
    world.fake.power_off("default_web");
    world.start_agent();
    world.until_phase("web", InstancePhase::Succeeded).await;
    world.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_domain_whose_object_vanished_is_removed() {
    let world = World::running("web").await;
    world.api.vanish("web");
    world.until_nothing_is_left().await;

    world.create("db");
    world.until_phase("db", InstancePhase::Running).await;
    world.kill_agent().await;
    world.api.vanish("db");
    std::fs::create_dir_all(world.dir.path().join("vms/default_old")).unwrap();
    world.start_agent();
    world.until_nothing_is_left().await;
    let old = world.dir.path().join("vms/default_old");
    until("files of nobody are gone", async || !old.exists()).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_while_the_api_cannot_say_that_it_should_be() {
    let world = World::running("web").await;
    world.kill_agent().await;
    world.api.away(true);
    world.start_agent();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.domains().await.len(), 1);
    world.api.away(false);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.phase("web"), Some(InstancePhase::Running));
    assert_eq!(world.calls(Verb::Start), 1);
    assert_eq!(world.calls(Verb::Destroy), 0);
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_the_api_is_away_is_written_when_it_returns() {
    let world = World::running("web").await;
    world.api.away(true);
    world.fake.power_off("default_web");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.domains().await.len(), 1, "it holds the reason");
    world.api.away(false);
    world.until_phase("web", InstancePhase::Succeeded).await;
    world.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_made_anew_waits_until_its_predecessor_is_gone() {
    let world = World::running("web").await;
    world.fake.ignore_shutdown(true);
    world.api.vanish("web");
    world.create("web");
    world.until_phase("web", InstancePhase::Running).await;
    let verbs: Vec<_> = world.fake.calls().into_iter().map(|(verb, _)| verb).collect();
    use Verb::{Define, Destroy, Start, Undefine};
    assert_eq!(verbs, [Define, Start, Destroy, Undefine, Define, Start]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_says_why_and_goes_on_when_it_can() {
    let world = World::with_agent();
    for _ in 0..2 {
        let refused = HypervisorError::Refused("cannot allocate memory".to_owned());
        world.fake.fail_next(Verb::Start, refused);
    }
    world.create("web");
    until("it says why", async || {
        let status = world.api.vmi("web").unwrap().status.unwrap();
        status.conditions.iter().any(|one| {
            one.r#type == "Synchronized"
                && one.message.as_deref().is_some_and(|why| why.contains("cannot allocate memory"))
        })
    })
    .await;
    assert_eq!(world.phase("web"), Some(InstancePhase::Scheduled));
    world.until_phase("web", InstancePhase::Running).await;
    let status = world.api.vmi("web").unwrap().status.unwrap();
    assert!(Condition::holds(&status.conditions, "Synchronized"));
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_can_never_start_fails() {
    let world = World::with_agent();
    let mut impossible = vmi("web");
    impossible["spec"]["domain"]["memory"] = json!({});
    world.api.create(impossible);
    world.until_phase("web", InstancePhase::Failed).await;
    assert_eq!(
        world.api.vmi("web").unwrap().status.unwrap().reason.as_deref(),
        Some("InvalidSpec")
    );
    assert_eq!(world.calls(Verb::Define), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hypervisor_that_goes_away_during_a_start_is_asked_what_became_of_it() {
    let world = World::with_agent();
    let away = HypervisorError::Disconnected("restarting".to_owned());
    world.fake.fail_next(Verb::Start, away.clone());
    world.fake.fail_next(Verb::List, away);
    world.create("web");
    world.until_phase("web", InstancePhase::Running).await;
    assert_eq!(world.api.writes("web").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_killed_at_any_moment_of_a_start_or_stop_loses_nothing() {
    // Each verb takes 20 ms, so that a kill every 4 ms falls before, into and
    // between all of them.
    for moment in (0..160).step_by(4).map(Duration::from_millis) {
        let world = World::new();
        world.fake.delay(Duration::from_millis(20));
        world.create("web");
        world.start_agent();
        tokio::time::sleep(moment).await;
        world.kill_agent().await;
        world.start_agent();
        world.until_phase("web", InstancePhase::Running).await;
        let running = world.domains().await;
        assert_eq!(running.len(), 1, "{moment:?}");
        let starts = world.calls(Verb::Start);
        assert!(starts <= 2, "started {starts} times, killed at {moment:?}");

        world.api.delete("web");
        tokio::time::sleep(moment).await;
        world.kill_agent().await;
        world.start_agent();
        until("the object is gone", async || world.phase("web").is_none()).await;
        world.until_nothing_is_left().await;
        world.kill_agent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_powered_off_is_not_forgotten_by_an_agent_killed_at_any_moment() {
    for moment in (0..160).step_by(4).map(Duration::from_millis) {
        let world = World::running("web").await;
        world.fake.delay(Duration::from_millis(20));
        world.fake.power_off("default_web");
        tokio::time::sleep(moment).await;
        world.kill_agent().await;
        world.start_agent();
        world.until_phase("web", InstancePhase::Succeeded).await;
        world.until_nothing_is_left().await;
        world.kill_agent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_vms_come_and_go_with_three_writes_each() {
    let world = World::with_agent();
    let names: Vec<_> = (0..300).map(|number| format!("vm-{number}")).collect();
    for name in &names {
        world.create(name);
    }
    for name in &names {
        world.until_phase(name, InstancePhase::Running).await;
    }
    for name in &names {
        world.api.delete(name);
    }
    until("all objects are gone", async || names.iter().all(|name| world.phase(name).is_none()))
        .await;
    world.until_nothing_is_left().await;
    for name in &names {
        assert_eq!(world.api.writes(name).len(), 3, "{name}");
    }
}
