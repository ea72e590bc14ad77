//! The table of run strategies carried out under any order of what users ask for, guests do,
//! watches tell late and controllers suffer, against the same table in the plainest words.
//!
//! Real: what a request of a user comes to (`super`), what a VM asks for next and what it says
//! ([`crate::machine`]), and the instance that is made. Modelled: an API with versions and
//! finalizers, a watch of each of the two objects that is as late as it likes, a controller
//! that writes one thing at a time and dies at will, an agent.

use std::sync::Arc;

use crds::kubevirt::{
    ConditionStatus, INSTANCE_FINALIZER, MigrationState, PhaseTransition, PrintableStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use proptest::prelude::*;

use super::*;
use crate::agenda::Booking;
use crate::machine::{self, Step};
use crate::objects::Start;

const STRATEGIES: [RunStrategy; 5] = [
    RunStrategy::Always,
    RunStrategy::Halted,
    RunStrategy::Manual,
    RunStrategy::RerunOnFailure,
    RunStrategy::Once,
];

/// More writes than anything that happens takes.
const ENOUGH: usize = 20;

/// What is wanted of the VM, or comes over it.
#[derive(Clone, Copy, Debug)]
enum Event {
    Set(RunStrategy),
    Start,
    Stop,
    Restart,
    /// Another template.
    Edit,
    /// The instance is deleted by hand.
    DeleteInstance,
    /// The guest stands still, or goes on.
    Pause,
    /// It moves to another node, or has.
    Move,
    /// Its start goes on.
    Advance,
    PowerOff,
    Crash,
    Wait(u8),
}

/// What goes on meanwhile.
#[derive(Clone, Copy, Debug)]
enum Noise {
    SeesMachine,
    SeesInstance,
    Writes,
    /// Another controller begins with what there is.
    Dies,
    /// The agent goes on with the end of a guest.
    Ends,
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => proptest::sample::select(&STRATEGIES[..]).prop_map(Event::Set),
        2 => Just(Event::Start),
        2 => Just(Event::Stop),
        2 => Just(Event::Restart),
        1 => Just(Event::Edit),
        2 => Just(Event::DeleteInstance),
        1 => Just(Event::Pause),
        1 => Just(Event::Move),
        4 => Just(Event::Advance),
        2 => Just(Event::PowerOff),
        4 => Just(Event::Crash),
        3 => any::<u8>().prop_map(Event::Wait),
    ]
}

fn noise() -> impl Strategy<Value = Noise> {
    prop_oneof![
        2 => Just(Noise::SeesMachine),
        2 => Just(Noise::SeesInstance),
        4 => Just(Noise::Writes),
        1 => Just(Noise::Dies),
        2 => Just(Noise::Ends),
    ]
}

/// What the controller may write for a VM, one at a time (`round/handed.rs`).
#[derive(Debug)]
enum Write {
    Create,
    Delete(Option<String>),
    Status(Box<VirtualMachine>),
}

struct World {
    now: Timestamp,
    count: u64,
    vm: VirtualMachine,
    instance: Option<VirtualMachineInstance>,
    /// The controller's views of the two.
    seen: (VirtualMachine, Option<VirtualMachineInstance>),
}

impl World {
    fn new(strategy: RunStrategy) -> Self {
        let vm: VirtualMachine = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": { "name": "till", "namespace": "shop", "uid": "vm",
                "resourceVersion": "0", "generation": 1 },
            "spec": { "runStrategy": strategy,
                "template": { "spec": { "domain": { "devices": {} } } } },
        }))
        .unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { now, count: 0, seen: (vm.clone(), None), vm, instance: None }
    }

    fn next(&mut self) -> String {
        self.count += 1;
        self.count.to_string()
    }

    fn strategy(&self) -> RunStrategy {
        self.vm.spec.strategy().unwrap()
    }

    /// Before which no start is tried again.
    fn retries_at(&self) -> Option<Timestamp> {
        let failure = self.vm.status.as_ref()?.start_failure.as_ref()?;
        Some(failure.retry_after_timestamp.as_ref()?.0)
    }

    /// Somebody has written the VM.
    fn write_machine(&mut self, vm: VirtualMachine) {
        self.vm = vm;
        self.vm.metadata.resource_version = Some(self.next());
    }

    /// Somebody has written the instance: one that is being deleted goes with its finalizer.
    fn write_instance(&mut self, mut instance: VirtualMachineInstance) {
        instance.metadata.resource_version = Some(self.next());
        let goes = instance.metadata.deletion_timestamp.is_some()
            && instance.metadata.finalizers.iter().flatten().next().is_none();
        self.instance = Some(instance).filter(|_| !goes);
    }

    fn delete_instance(&mut self) {
        let Some(mut instance) = self.instance.clone() else { return };
        instance.metadata.deletion_timestamp.get_or_insert(Time(self.now));
        self.write_instance(instance);
    }

    // === the user ===

    /// What comes of a request; whether it was taken.
    fn ask(&mut self, decide: Decide) -> bool {
        let Ok(plan) = decide((&self.vm, self.instance.as_ref()), &Options::default()) else {
            return false;
        };
        assert_eq!(plan.instance, None, "nobody asked for another grace period");
        for patch in [plan.spec, plan.status].into_iter().flatten() {
            let mut vm = serde_json::to_value(&self.vm).unwrap();
            merge(&mut vm, &patch);
            self.write_machine(serde_json::from_value(vm).unwrap());
        }
        true
    }

    fn set(&mut self, strategy: RunStrategy) {
        let mut vm = self.vm.clone();
        vm.spec.run_strategy = Some(strategy);
        self.write_machine(vm);
    }

    fn edit(&mut self) {
        let mut vm = self.vm.clone();
        vm.spec.template.spec.hostname = Some(format!("till-{}", self.count));
        self.write_machine(vm);
    }

    // === the agent ===

    fn enter(&mut self, phase: InstancePhase) {
        let now = Time(self.now);
        let mut instance = self.instance.clone().unwrap();
        let status = instance.status.get_or_insert_default();
        status.phase = Some(phase);
        status
            .phase_transition_timestamps
            .push(PhaseTransition { phase, phase_transition_timestamp: now });
        let ready = phase == InstancePhase::Running;
        let ready = if ready { ConditionStatus::True } else { ConditionStatus::False };
        Condition::new("Ready", ready).merge_into(&mut status.conditions, Time(self.now));
        status.conditions.retain(|one| one.r#type != "Paused" || !phase.is_final());
        self.write_instance(instance);
    }

    fn toggle_pause(&mut self) {
        let mut instance = self.instance.clone().unwrap();
        let conditions = &mut instance.status.get_or_insert_default().conditions;
        if Condition::holds(conditions, "Paused") {
            conditions.retain(|one| one.r#type != "Paused");
        } else {
            conditions.push(Condition::new("Paused", ConditionStatus::True));
        }
        self.write_instance(instance);
    }

    fn toggle_move(&mut self) {
        let mut instance = self.instance.clone().unwrap();
        let moves = instance.migration().is_some();
        let state =
            MigrationState { start_timestamp: Some(Time(self.now)), ..MigrationState::default() };
        instance.status.get_or_insert_default().migration_state =
            Some(Box::new(state)).filter(|_| !moves);
        self.write_instance(instance);
    }

    /// The next thing that an agent writes of a guest that ends: the phase, then its finalizer.
    fn goes_on_ending(&mut self) -> bool {
        let Some(mut instance) = self.instance.clone() else { return false };
        let is_deleted = instance.metadata.deletion_timestamp.is_some();
        if !instance.phase().is_final() {
            if is_deleted {
                self.enter(InstancePhase::Succeeded);
            }
            return is_deleted;
        }
        let held = instance.metadata.finalizers.take().is_some();
        if held {
            self.write_instance(instance);
        }
        held
    }

    // === the controller ===

    fn sees_all(&mut self) {
        self.seen = (self.vm.clone(), self.instance.clone());
    }

    fn decides(&self) -> Option<Write> {
        let (vm, instance) = (&self.seen.0, self.seen.1.as_ref());
        let status = machine::status(vm, instance, None, self.now);
        let says = || {
            let mut told = vm.clone();
            told.status = Some(status.clone());
            (vm.status.as_ref() != Some(&status)).then(|| Write::Status(Box::new(told)))
        };
        match (machine::next(vm, instance, self.now), instance) {
            (Step::Create, _) => Some(Write::Create),
            (Step::Delete, Some(instance)) if machine::is_owed(vm, instance, &status) => says(),
            (Step::Delete, Some(instance)) => Some(Write::Delete(instance.uid())),
            _ => says(),
        }
    }

    /// Writes what it decides; whether there was anything.
    fn writes(&mut self) -> bool {
        let Some(write) = self.decides() else { return false };
        match write {
            Write::Create if self.instance.is_none() => {
                let vm = Arc::new(self.seen.0.clone());
                let booking = Booking { node: "n1".to_owned(), ..Booking::default() };
                let mut made = Start::new(&vm, booking, &[], Vec::new(), self.now).instance();
                made.metadata.uid = Some(format!("vmi-{}", self.next()));
                assert_eq!(made.metadata.finalizers, Some(vec![INSTANCE_FINALIZER.to_owned()]));
                self.write_instance(made);
                self.seen.1.clone_from(&self.instance);
            }
            // Its watch is late.
            Write::Create => {}
            Write::Delete(uid) => {
                if self.instance.as_ref().is_some_and(|one| one.uid() == uid) {
                    self.delete_instance();
                }
            }
            Write::Status(told) => {
                if told.metadata.resource_version == self.vm.metadata.resource_version {
                    self.write_machine(*told);
                    self.seen.0 = self.vm.clone();
                }
            }
        }
        true
    }

    fn happens(&mut self, noise: Noise) {
        match noise {
            Noise::SeesMachine => self.seen.0 = self.vm.clone(),
            Noise::SeesInstance => self.seen.1.clone_from(&self.instance),
            Noise::Writes => drop(self.writes()),
            Noise::Dies => self.sees_all(),
            Noise::Ends => drop(self.goes_on_ending()),
        }
    }

    /// Lets everybody go on until nobody has anything to do at this time.
    fn settle(&mut self) {
        for _ in 0..ENOUGH {
            self.sees_all();
            let wrote = self.writes();
            let ended = self.goes_on_ending();
            if !wrote && !ended {
                return;
            }
        }
        panic!("they write and write: {:?}", self.decides());
    }

    /// This event, where it can be; whether a user's request was taken.
    fn begins(&mut self, event: Event) -> bool {
        let phase = self.instance.as_ref().map(VirtualMachineInstance::phase);
        let runs = phase == Some(InstancePhase::Running);
        let lives = phase.is_some_and(|phase| !phase.is_final());
        match event {
            Event::Set(strategy) => self.set(strategy),
            Event::Start => return self.ask(start),
            Event::Stop => return self.ask(stop),
            Event::Restart => return self.ask(restart),
            Event::Edit => self.edit(),
            Event::DeleteInstance => self.delete_instance(),
            Event::Pause if runs => self.toggle_pause(),
            Event::Move if runs => self.toggle_move(),
            Event::Advance if lives => self.enter(InstancePhase::Running),
            Event::PowerOff if runs => self.enter(InstancePhase::Succeeded),
            Event::Crash if lives => self.enter(InstancePhase::Failed),
            Event::Wait(seconds) => self.now += SignedDuration::from_secs(seconds.into()),
            Event::Pause | Event::Move | Event::Advance | Event::PowerOff | Event::Crash => {
                return false;
            }
        }
        true
    }
}

/// A merge patch (RFC 7396).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut into[name.as_str()], value);
        }
    }
}

/// The guest, in the words of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Guest {
    None,
    Starts,
    Runs,
    Ended,
}

/// The table: what is there once all is settled.
#[derive(Clone, Debug)]
struct Table {
    strategy: RunStrategy,
    guest: Guest,
    /// A start is asked for, by whomever.
    asked: bool,
    /// `RerunOnFailure` was set and no instance has been there since.
    newly_set: bool,
    /// Of a guest that has ended: whether it failed before it ran.
    early: bool,
    /// Whether that is counted.
    counted: bool,
    /// Of a guest that has ended: whether it failed.
    failed: bool,
    /// Starts that failed since one has run or somebody asked for one.
    failures: i64,
    not_before: Timestamp,
}

impl Table {
    fn new(strategy: RunStrategy, now: Timestamp) -> Self {
        let mut table = Self {
            strategy,
            guest: Guest::None,
            asked: false,
            newly_set: strategy == RunStrategy::RerunOnFailure,
            early: false,
            counted: false,
            failed: false,
            failures: 0,
            not_before: now,
        };
        table.settle(now);
        table
    }

    fn lives(&self) -> bool {
        matches!(self.guest, Guest::Starts | Guest::Runs)
    }

    fn set(&mut self, strategy: RunStrategy) {
        let before = std::mem::replace(&mut self.strategy, strategy);
        self.newly_set = match strategy {
            RunStrategy::RerunOnFailure => self.newly_set || before != strategy,
            _ => false,
        };
    }

    /// A request that was taken.
    fn asks(&mut self, event: Event) {
        match (event, self.strategy) {
            (Event::Start, RunStrategy::Halted) => self.set(RunStrategy::Always),
            (Event::Stop, RunStrategy::Always | RunStrategy::Once) => self.set(RunStrategy::Halted),
            _ => {
                self.guest = Guest::None;
                self.newly_set = false;
                self.asked = !matches!(event, Event::Stop);
                self.failures = 0;
            }
        }
    }

    /// Whether there is to be a guest.
    fn wants(&self) -> bool {
        match self.strategy {
            RunStrategy::Always | RunStrategy::Once => true,
            RunStrategy::Manual => self.asked,
            RunStrategy::RerunOnFailure => self.asked || self.newly_set,
            RunStrategy::Halted | RunStrategy::WaitAsReceiver => false,
        }
    }

    fn settle(&mut self, now: Timestamp) {
        use RunStrategy::{Always, Halted, Manual, RerunOnFailure};
        let goes_on = matches!(self.strategy, Always | RerunOnFailure);
        if matches!(self.strategy, Halted | Manual) {
            (self.failures, self.counted) = (0, false);
        } else if self.guest == Guest::Ended && self.early && !self.counted {
            self.counted = true;
            self.failures += 1;
            let wait = (10 * self.failures * self.failures).min(300);
            self.not_before = now + SignedDuration::from_secs(wait);
        }
        self.newly_set &= self.guest == Guest::None;
        if self.guest == Guest::Ended && goes_on {
            self.asked |= self.failed && self.strategy == RerunOnFailure;
            self.guest = Guest::None;
        }
        if self.strategy == Halted {
            (self.guest, self.asked) = (Guest::None, false);
        }
        let waits = goes_on && self.failures > 0 && now < self.not_before;
        if self.guest == Guest::None && self.wants() && !waits {
            self.guest = Guest::Starts;
        }
        if self.lives() {
            (self.asked, self.newly_set) = (false, false);
        }
    }

    fn happens(&mut self, event: Event, taken: bool, now: Timestamp) {
        match event {
            Event::Set(strategy) => self.set(strategy),
            Event::Start | Event::Stop | Event::Restart if taken => self.asks(event),
            Event::DeleteInstance => self.guest = Guest::None,
            Event::Advance if self.guest == Guest::Starts => {
                (self.guest, self.failures) = (Guest::Runs, 0);
            }
            Event::PowerOff if taken => {
                (self.guest, self.failed, self.early) = (Guest::Ended, false, false);
            }
            Event::Crash if taken => {
                (self.early, self.counted) = (self.guest == Guest::Starts, false);
                (self.guest, self.failed) = (Guest::Ended, true);
            }
            _ => {}
        }
        self.settle(now);
    }
}

/// KubeVirt's list (`setPrintableStatus`) as it is written, for a VM that nothing keeps from
/// its place: the first that is so.
fn printed(world: &World, failures: i64) -> PrintableStatus {
    use PrintableStatus as Shown;
    let (vm, instance) = (&world.vm, world.instance.as_ref());
    let phase = instance.map(VirtualMachineInstance::phase);
    let runs = phase == Some(InstancePhase::Running);
    let is_over = phase.is_none_or(InstancePhase::is_final);
    let deleting = instance.is_some_and(|one| one.metadata.deletion_timestamp.is_some());
    let moves = instance.and_then(VirtualMachineInstance::migration).is_some();
    let backs_off = !matches!(world.strategy(), RunStrategy::Halted | RunStrategy::Manual);
    let list = [
        (vm.metadata.deletion_timestamp.is_some(), Shown::Terminating),
        (!is_over && deleting, Shown::Stopping),
        (runs && moves, Shown::Migrating),
        (runs && instance.is_some_and(is_paused), Shown::Paused),
        (runs, Shown::Running),
        (!is_over, Shown::Starting),
        (failures > 0 && backs_off, Shown::CrashLoopBackOff),
        (is_over, Shown::Stopped),
    ];
    list.into_iter().find_map(|(is, shown)| is.then_some(shown)).unwrap_or(Shown::Unknown)
}

/// What a VM says of what there is.
fn says_what_is(world: &World, failures: i64) {
    let status = world.vm.status.clone().unwrap_or_default();
    let instance = world.instance.as_ref();
    assert_eq!(status.printable_status, printed(world, failures), "{status:?}");
    assert_eq!(status.created, Some(instance.is_some()));
    let runs = instance.is_some_and(|one| one.phase() == InstancePhase::Running);
    assert_eq!(status.ready, Some(runs));
    assert_eq!(Condition::holds(&status.conditions, "Ready"), runs);
    let paused = instance.is_some_and(is_paused);
    assert_eq!(Condition::holds(&status.conditions, "Paused"), paused);
    let ready = status.conditions.iter().find(|one| one.r#type == "Ready").unwrap();
    if instance.is_none() {
        assert_eq!(ready.reason.as_deref(), Some("VMINotExists"));
    }
    let asked = world.vm.spec.template.spec.hostname.as_ref();
    let outdated =
        instance.is_some_and(|one| !one.phase().is_final() && one.spec.hostname.as_ref() != asked);
    assert_eq!(Condition::holds(&status.conditions, "RestartRequired"), outdated);
    let counted = status.start_failure.and_then(|one| one.consecutive_fail_count);
    assert_eq!(counted.unwrap_or(0), failures);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_user_wants_or_a_guest_does_comes_to_what_the_table_says(
        first in proptest::sample::select(&STRATEGIES[..]),
        story in proptest::collection::vec(
            (events(), proptest::collection::vec(noise(), 0..8)), 0..16),
    ) {
        let mut world = World::new(first);
        world.settle();
        let mut table = Table::new(first, world.now);
        for (event, noise) in story {
            let before = world.instance.as_ref().and_then(ResourceExt::uid);
            let taken = world.begins(event);
            noise.into_iter().for_each(|one| world.happens(one));
            world.settle();
            let stays = table.lives();
            table.happens(event, taken, world.now);

            // By how much longer than that it is, is chance.
            if let Some(at) = world.retries_at().filter(|_| table.failures > 0) {
                prop_assert!(at >= table.not_before, "{at} is before {}", table.not_before);
                let most = table.not_before + SignedDuration::from_secs(150);
                prop_assert!(at <= most, "{at} is after {most}");
                table.not_before = at;
            }
            let found = match world.instance.as_ref().map(VirtualMachineInstance::phase) {
                None => Guest::None,
                Some(phase) if phase.is_final() => Guest::Ended,
                Some(InstancePhase::Running) => Guest::Runs,
                Some(_) => Guest::Starts,
            };
            prop_assert_eq!(found, table.guest, "after {:?}: {:?}, {:?}", event, table, world.vm);
            prop_assert_eq!(world.strategy(), table.strategy);
            let now = world.instance.as_ref().and_then(ResourceExt::uid);
            let is_new = before.is_some() && before != now;
            match event {
                Event::Restart if taken => prop_assert!(is_new, "restarted is made anew"),
                Event::Edit | Event::Pause | Event::Move | Event::Advance | Event::Wait(_) if stays => {
                    prop_assert!(!is_new, "{:?} ends no guest", event);
                }
                Event::Set(strategy) if stays && strategy != RunStrategy::Halted => {
                    prop_assert!(!is_new, "{:?} ends no guest", event);
                }
                _ => {}
            }
            says_what_is(&world, table.failures);
            if table.guest == Guest::None && table.wants() {
                let then = machine::next(&world.vm, None, world.now);
                prop_assert_eq!(then, Step::CreateAt(table.not_before));
            }
        }
    }

    #[test]
    fn whatever_happens_at_once_no_guest_is_ended_or_started_that_nobody_wants(
        first in proptest::sample::select(&STRATEGIES[..]),
        story in proptest::collection::vec(
            prop_oneof![events().prop_map(Ok), noise().prop_map(Err), noise().prop_map(Err)], 0..60),
    ) {
        let mut world = World::new(first);
        // Since when, with nothing asked for meanwhile, a start has failed.
        let mut failed: Option<Timestamp> = None;
        for one in story {
            match one {
                Ok(event) => {
                    let phase = world.instance.as_ref().map(VirtualMachineInstance::phase);
                    let early = phase == Some(InstancePhase::Scheduled)
                        && world.instance.as_ref().is_some_and(|one| one.metadata.deletion_timestamp.is_none());
                    let taken = world.begins(event);
                    match event {
                        Event::Crash if taken && early => failed = Some(world.now),
                        Event::Wait(_) | Event::Crash => {}
                        _ => failed = None,
                    }
                }
                Err(Noise::Writes) => {
                    match world.decides() {
                        Some(Write::Delete(uid)) => {
                            let (vm, instance) = &world.seen;
                            prop_assert_eq!(&instance.as_ref().and_then(ResourceExt::uid), &uid);
                            let ended = instance.as_ref().is_some_and(|one| one.phase().is_final());
                            let asked = vm.status.iter().flat_map(|one| &one.state_change_requests)
                                .any(|one| one.action == StateChangeAction::Stop && one.uid == uid);
                            let unwanted = match vm.spec.strategy().unwrap() {
                                RunStrategy::Halted => true,
                                RunStrategy::Always | RunStrategy::RerunOnFailure => ended,
                                _ => false,
                            };
                            prop_assert!(asked || unwanted, "{:?}", vm);
                        }
                        Some(Write::Create) => {
                            let strategy = world.seen.0.spec.strategy().unwrap();
                            prop_assert!(strategy != RunStrategy::Halted);
                            if let Some(then) = failed && world.instance.is_none()
                                && matches!(strategy, RunStrategy::Always | RunStrategy::RerunOnFailure)
                            {
                                let waited = world.now.duration_since(then);
                                prop_assert!(waited >= SignedDuration::from_secs(10), "{waited:?}");
                            }
                        }
                        _ => {}
                    }
                    world.writes();
                }
                Err(noise) => world.happens(noise),
            }
        }
        // Then nothing more happens.
        world.settle();
        world.now += SignedDuration::from_mins(6);
        world.settle();
        let lives = world.instance.as_ref().is_some_and(|one| !one.phase().is_final());
        match world.strategy() {
            RunStrategy::Always => prop_assert!(lives, "{:?}", world.vm),
            RunStrategy::Halted => prop_assert!(world.instance.is_none()),
            RunStrategy::Once => prop_assert!(world.instance.is_some()),
            _ => {}
        }
        let status = world.vm.status.as_ref().unwrap();
        prop_assert!(status.state_change_requests.is_empty(), "{status:?}");

        // And a VM that is deleted takes its guest along.
        let mut vm = world.vm.clone();
        vm.metadata.deletion_timestamp = Some(Time(world.now));
        world.write_machine(vm);
        world.settle();
        prop_assert!(world.instance.is_none());
        let shown = world.vm.status.as_ref().unwrap().printable_status;
        prop_assert_eq!(shown, PrintableStatus::Terminating);
    }
}
