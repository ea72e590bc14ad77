//! A hypervisor in memory: for tests, and for an agent that shall run nothing.
//!
//! Guests do at once what they are asked, unless told otherwise: a test makes
//! them deaf to the power button, crashes them, or lets a verb fail.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::volumes::Login;

use super::metadata::{self, Identity};
use super::{
    Alteration, DomainState, GuestError, HypervisorError, Job, Journey, Observed, PauseReason,
    Runner, ShutOffReason,
};

/// The in-memory hypervisor; a cheap handle on shared state.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    host: Arc<Mutex<Host>>,
}

/// The verbs, for what is to fail and what was called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    Define,
    Start,
    Resume,
    Suspend,
    Reboot,
    Reset,
    Shutdown,
    Destroy,
    Undefine,
    List,
    Migrate,
    Abort,
    Describe,
    Alter,
    Limit,
    Screenshot,
    MovePointer,
}

#[derive(Debug, Default)]
struct Host {
    domains: BTreeMap<String, Guest>,
    /// What the next calls of a verb answer instead of acting, in order.
    failures: VecDeque<(Verb, HypervisorError)>,
    /// Every verb but `list`, `describe` and what limits guests, with its domain, in the order of
    /// arrival.
    calls: Vec<(Verb, String)>,
    /// How long every verb takes.
    delay: Duration,
    /// Whether guests ignore the power button.
    deaf: bool,
    /// Whether guests hold on to devices that are to go.
    holds: bool,
    /// Whither guests can be sent, by address.
    others: BTreeMap<String, Fake>,
    /// Whether what is being sent is held up, and until it is called off.
    held_up: bool,
    called_off: bool,
    /// What the agents in guests answer, by domain; without one nobody does.
    agents: BTreeMap<String, Answers>,
    /// What is on screens, by domain; without one there is none.
    screens: BTreeMap<String, Vec<u8>>,
}

/// What the agent in a guest answers to a line of JSON.
pub type Answers = fn(&str) -> Result<String, GuestError>;

#[derive(Debug)]
struct Guest {
    xml: String,
    identity: Option<Identity>,
    state: DomainState,
}

impl Fake {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next call of `verb` answer `error` without acting.
    pub fn fail_next(&self, verb: Verb, error: HypervisorError) {
        self.host().failures.push_back((verb, error));
    }

    /// Makes every verb take this long.
    pub fn delay(&self, delay: Duration) {
        self.host().delay = delay;
    }

    /// Whether guests ignore the power button from now on.
    pub fn ignore_shutdown(&self, deaf: bool) {
        self.host().deaf = deaf;
    }

    /// Whether guests hold on to devices that are to go.
    pub fn hold_devices(&self, holds: bool) {
        self.host().holds = holds;
    }

    /// Has a disk of the domain return an error, at which its guest stands still.
    pub fn fail_disk(&self, domain: &str) {
        if let Some(guest) = self.host().domains.get_mut(domain) {
            guest.state = DomainState::Paused(PauseReason::IoError);
        }
    }

    /// Lets the domain be limited by nothing.
    pub fn forget_limits(&self, domain: &str) {
        if let Ok(guest) = self.host().guest(domain) {
            for element in ["cputune", "memtune"] {
                tune(&mut guest.xml, element, &["shares", "global_quota", "hard_limit"], "");
            }
        }
    }

    /// Kills the domain's process.
    pub fn crash(&self, domain: &str) {
        self.stop(domain, ShutOffReason::Crashed);
    }

    /// Lets the guest power itself off.
    pub fn power_off(&self, domain: &str) {
        self.stop(domain, ShutOffReason::Shutdown);
    }

    /// Lets guests be sent to another one, which is known by this address.
    pub fn connect(&self, address: &str, other: &Self) {
        self.host().others.insert(address.to_owned(), other.clone());
    }

    /// Has what is being sent from now on wait, until it is called off or let go.
    pub fn hold_up(&self, held_up: bool) {
        self.host().held_up = held_up;
    }

    /// Has the agent in a guest answer so from now on.
    pub fn answers(&self, domain: &str, answers: Answers) {
        self.host().agents.insert(domain.to_owned(), answers);
    }

    /// Has a guest's screen show this from now on.
    pub fn shows(&self, domain: &str, picture: &[u8]) {
        self.host().screens.insert(domain.to_owned(), picture.to_vec());
    }

    /// The definition of a domain, if there is one.
    #[must_use]
    pub fn xml(&self, domain: &str) -> Option<String> {
        self.host().domains.get(domain).map(|guest| guest.xml.clone())
    }

    /// Every verb called so far but `list`, `describe` and what limits guests, with its domain.
    #[must_use]
    pub fn calls(&self) -> Vec<(Verb, String)> {
        self.host().calls.clone()
    }

    pub(crate) async fn define(&self, xml: &str) -> Result<(), HypervisorError> {
        let name = metadata::text(xml, "name")
            .ok_or_else(|| HypervisorError::Refused("missing domain name".into()))?;
        let mut host = self.enter(Verb::Define, name).await?;
        let identity = Identity::of_domain(xml);
        match host.domains.get_mut(name) {
            Some(guest) if guest.identity != identity => Err(HypervisorError::Refused(format!(
                "domain '{name}' already exists with another uuid"
            ))),
            Some(guest) => {
                xml.clone_into(&mut guest.xml);
                Ok(())
            }
            None => {
                let state = DomainState::ShutOff(ShutOffReason::Unknown);
                host.domains
                    .insert(name.to_owned(), Guest { xml: xml.to_owned(), identity, state });
                Ok(())
            }
        }
    }

    pub(crate) async fn start(&self, domain: &str) -> Result<(), HypervisorError> {
        let mut host = self.enter(Verb::Start, domain).await?;
        let guest = host.guest(domain)?;
        if !matches!(guest.state, DomainState::ShutOff(_)) {
            return Err(HypervisorError::AlreadyRunning(domain.to_owned()));
        }
        guest.state = DomainState::Running;
        Ok(())
    }

    pub(super) async fn start_paused(&self, domain: &str) -> Result<(), HypervisorError> {
        self.start(domain).await?;
        self.host().guest(domain)?.state = DomainState::Paused(PauseReason::User);
        Ok(())
    }

    pub(super) async fn resume(&self, domain: &str) -> Result<(), HypervisorError> {
        let mut host = self.enter(Verb::Resume, domain).await?;
        let guest = host.guest(domain)?;
        if matches!(guest.state, DomainState::Paused(_)) {
            guest.state = DomainState::Running;
        }
        Ok(())
    }

    pub(super) async fn suspend(&self, domain: &str) -> Result<(), HypervisorError> {
        let mut host = self.enter(Verb::Suspend, domain).await?;
        let guest = host.guest(domain)?;
        if guest.state == DomainState::Running {
            guest.state = DomainState::Paused(PauseReason::User);
        }
        Ok(())
    }

    pub(super) async fn reboot(&self, domain: &str) -> Result<(), HypervisorError> {
        self.enter(Verb::Reboot, domain).await?.guest(domain).map(drop)
    }

    pub(super) async fn reset(&self, domain: &str) -> Result<(), HypervisorError> {
        self.enter(Verb::Reset, domain).await?.guest(domain).map(drop)
    }

    pub(super) async fn shutdown(&self, domain: &str) -> Result<(), HypervisorError> {
        let mut host = self.enter(Verb::Shutdown, domain).await?;
        let deaf = host.deaf;
        let guest = host.guest(domain)?;
        if !deaf {
            guest.stop(ShutOffReason::Shutdown);
        }
        Ok(())
    }

    pub(super) async fn destroy(&self, domain: &str) -> Result<(), HypervisorError> {
        self.enter(Verb::Destroy, domain).await?.guest(domain)?.stop(ShutOffReason::Destroyed);
        Ok(())
    }

    pub(super) async fn undefine(&self, domain: &str) -> Result<(), HypervisorError> {
        let mut host = self.enter(Verb::Undefine, domain).await?;
        host.guest(domain)?;
        host.domains.remove(domain);
        Ok(())
    }

    pub(super) async fn migrate(
        &self,
        domain: &str,
        journey: Journey,
    ) -> Result<(), HypervisorError> {
        self.enter(Verb::Migrate, domain).await?.called_off = false;
        while self.host().held_up {
            if self.host().called_off {
                return Err(HypervisorError::Refused("operation aborted".into()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let away = || HypervisorError::Refused(format!("no route to {}", journey.address));
        let other = self.host().others.get(&journey.address).cloned().ok_or_else(away)?;
        let arrived = {
            let mut host = self.host();
            let guest = host.guest(domain)?;
            if matches!(guest.state, DomainState::ShutOff(_)) {
                return Err(HypervisorError::Refused("domain is not running".into()));
            }
            let state = guest.state;
            guest.stop(ShutOffReason::Migrated);
            let xml = journey.rewritten(&guest.xml);
            Guest { xml, identity: guest.identity.clone(), state }
        };
        other.host().domains.insert(domain.to_owned(), arrived);
        Ok(())
    }

    pub(super) async fn job(&self, domain: &str) -> Result<Option<Job>, HypervisorError> {
        let mut host = self.host();
        host.guest(domain)?;
        Ok(host.held_up.then_some(Job { total: 2, remaining: 1 }))
    }

    pub(super) async fn abort(&self, domain: &str) -> Result<(), HypervisorError> {
        self.enter(Verb::Abort, domain).await?.called_off = true;
        Ok(())
    }

    pub(super) async fn post_copy(&self, domain: &str) -> Result<(), HypervisorError> {
        self.host().guest(domain)?;
        Err(HypervisorError::Refused("post-copy was not asked for".into()))
    }

    pub(super) async fn allow_downtime(
        &self,
        domain: &str,
        _most: u64,
    ) -> Result<(), HypervisorError> {
        self.host().guest(domain).map(drop)
    }

    /// Nothing runs, so as anybody.
    pub(super) async fn runner(&self) -> Result<Runner, HypervisorError> {
        Ok(Runner::default())
    }

    pub(super) async fn ask_guest(&self, domain: &str, words: &str) -> Result<String, GuestError> {
        let mut host = self.host();
        if !matches!(host.guest(domain)?.state, DomainState::Running) {
            return Err(GuestError::Still);
        }
        let answers = host.agents.get(domain).copied();
        answers.map_or(Err(GuestError::Silent), |answers| answers(words))
    }

    pub(super) async fn describe(&self, domain: &str) -> Result<String, HypervisorError> {
        Ok(self.enter(Verb::Describe, domain).await?.guest(domain)?.xml.clone())
    }

    pub(super) async fn screenshot(&self, domain: &str) -> Result<Vec<u8>, HypervisorError> {
        let mut host = self.enter(Verb::Screenshot, domain).await?;
        host.guest(domain)?;
        let none = || HypervisorError::Refused("no screens to take screenshot from".into());
        host.screens.get(domain).cloned().ok_or_else(none)
    }

    pub(super) async fn move_pointer(&self, domain: &str) -> Result<(), HypervisorError> {
        self.enter(Verb::MovePointer, domain).await?.guest(domain).map(drop)
    }

    pub(super) async fn alter(
        &self,
        domain: &str,
        change: Alteration,
    ) -> Result<(), HypervisorError> {
        let verb = match change {
            Alteration::Bandwidth { .. } | Alteration::MemoryLimit(_) => Verb::Limit,
            _ => Verb::Alter,
        };
        let mut host = self.enter(verb, domain).await?;
        let holds = host.holds;
        let guest = host.guest(domain)?;
        let refused = |why: &str| HypervisorError::Refused(why.to_owned());
        if matches!(guest.state, DomainState::ShutOff(_)) {
            return Err(refused("domain is not running"));
        }
        let place = |device: &str| alias(device).and_then(|alias| hardware(&guest.xml, &alias));
        match change {
            Alteration::Attach(device) => {
                if place(&device).is_some() {
                    return Err(refused("a device of this alias is there"));
                }
                let end = guest.xml.find("</devices>").ok_or_else(|| refused("no devices"))?;
                guest.xml.insert_str(end, &device);
            }
            Alteration::Detach(device) => {
                let found = place(&device).ok_or_else(|| refused("device not found"))?;
                if !holds {
                    guest.xml.replace_range(found, "");
                }
            }
            Alteration::Update(device) => {
                let found = place(&device).ok_or_else(|| refused("device not found"))?;
                guest.xml.replace_range(found, &device);
            }
            Alteration::Bandwidth { shares, quota } => {
                let quota = quota.map(|quota| format!("<global_quota>{quota}</global_quota>"));
                let inner = format!("<shares>{shares}</shares>{}", quota.unwrap_or_default());
                tune(&mut guest.xml, "cputune", &["shares", "global_quota"], &inner);
            }
            Alteration::MemoryLimit(bytes) => {
                let inner = format!("<hard_limit unit='KiB'>{}</hard_limit>", bytes >> 10);
                tune(&mut guest.xml, "memtune", &["hard_limit"], &inner);
            }
            Alteration::Vcpus(count) => {
                let xml = roxmltree::Document::parse(&guest.xml).map_err(|_| refused("xml"))?;
                let vcpu = xml.descendants().find(|one| one.has_tag_name("vcpu"));
                let vcpu = vcpu.ok_or_else(|| refused("no vCPUs"))?;
                let most = vcpu.text().and_then(|text| text.parse().ok()).unwrap_or(0);
                if count > most {
                    return Err(refused("more vCPUs than there may be"));
                }
                let (place, now) = (
                    vcpu.range(),
                    format!("<vcpu placement='static' current='{count}'>{most}</vcpu>"),
                );
                guest.xml.replace_range(place, &now);
            }
        }
        Ok(())
    }

    /// Its guests have no disks.
    #[expect(clippy::unused_async, reason = "as the other hypervisor's")]
    pub(super) async fn keep_secret(
        &self,
        _domain: &str,
        _volume: &str,
        _login: &Login,
    ) -> Result<(), HypervisorError> {
        Ok(())
    }

    /// There are none.
    #[expect(clippy::unused_async, reason = "as the other hypervisor's")]
    pub(super) async fn forget_secrets(
        &self,
        _of: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), HypervisorError> {
        Ok(())
    }

    pub(super) async fn list(&self) -> Result<Vec<Observed>, HypervisorError> {
        let host = self.enter(Verb::List, "").await?;
        Ok(host.domains.iter().filter_map(|(name, guest)| guest.observed(name)).collect())
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, domain: &str, reason: ShutOffReason) {
        if let Ok(guest) = self.host().guest(domain) {
            guest.stop(reason);
        }
    }

    /// Waits as configured, notes the call, and fails it if it is to fail.
    async fn enter(
        &self,
        verb: Verb,
        domain: &str,
    ) -> Result<MutexGuard<'_, Host>, HypervisorError> {
        let delay = self.host().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut host = self.host();
        if !matches!(verb, Verb::List | Verb::Describe | Verb::Limit) {
            host.calls.push((verb, domain.to_owned()));
        }
        match host.failures.iter().position(|(failing, _)| *failing == verb) {
            Some(at) => Err(host.failures.remove(at).expect("the position was just found").1),
            None => Ok(host),
        }
    }
}

/// The alias of a device.
fn alias(device: &str) -> Option<String> {
    let xml = roxmltree::Document::parse(device).ok()?;
    let alias = xml.root_element().children().find(|one| one.has_tag_name("alias"))?;
    alias.attribute("name").map(str::to_owned)
}

/// Puts this into an element of a domain, in place of what is of these names in it.
fn tune(domain: &mut String, element: &str, names: &[&str], inner: &str) {
    let Ok(xml) = roxmltree::Document::parse(domain) else { return };
    let found = xml.root_element().children().find(|one| one.has_tag_name(element));
    let kept = found.into_iter().flat_map(|one| one.children());
    let kept = kept.filter(|one| !names.contains(&one.tag_name().name()));
    let kept: String = kept.map(|one| &domain[one.range()]).collect();
    let place = found.map(|one| one.range());
    let place = place.or_else(|| domain.rfind("</domain>").map(|end| end..end));
    let text = format!("<{element}>{kept}{inner}</{element}>");
    if let Some(place) = place {
        domain.replace_range(place, &text);
    }
}

/// Where in a domain the device of this alias is described.
fn hardware(domain: &str, wanted: &str) -> Option<std::ops::Range<usize>> {
    let xml = roxmltree::Document::parse(domain).ok()?;
    let alias = xml
        .descendants()
        .find(|one| one.has_tag_name("alias") && one.attribute("name") == Some(wanted))?;
    alias.parent().map(|device| device.range())
}

impl Host {
    fn guest(&mut self, domain: &str) -> Result<&mut Guest, HypervisorError> {
        self.domains.get_mut(domain).ok_or_else(|| HypervisorError::NotFound(domain.to_owned()))
    }
}

impl Guest {
    /// Shuts off what is not shut off; the first reason stays.
    fn stop(&mut self, reason: ShutOffReason) {
        if !matches!(self.state, DomainState::ShutOff(_)) {
            self.state = DomainState::ShutOff(reason);
        }
    }

    fn observed(&self, domain: &str) -> Option<Observed> {
        let Identity { uid, namespace, name } = self.identity.clone()?;
        Some(Observed { domain: domain.to_owned(), uid, namespace, name, state: self.state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<domain><name>default_web</name><metadata><berth:vmi \
        xmlns:berth='https://berth.io/domain/1' uid='u1' namespace='default' name='web'/>\
        </metadata></domain>";

    async fn running() -> Fake {
        let fake = Fake::new();
        fake.define(XML).await.unwrap();
        fake.start("default_web").await.unwrap();
        fake
    }

    async fn state(fake: &Fake) -> DomainState {
        fake.list().await.unwrap()[0].state
    }

    #[tokio::test]
    async fn a_guest_that_honours_the_power_button_is_shut_off_by_it() {
        let fake = running().await;
        fake.shutdown("default_web").await.unwrap();
        assert_eq!(state(&fake).await, DomainState::ShutOff(ShutOffReason::Shutdown));
    }

    #[tokio::test]
    async fn a_deaf_guest_runs_on_until_it_is_destroyed() {
        let fake = running().await;
        fake.ignore_shutdown(true);
        fake.shutdown("default_web").await.unwrap();
        assert_eq!(state(&fake).await, DomainState::Running);
        fake.destroy("default_web").await.unwrap();
        assert_eq!(state(&fake).await, DomainState::ShutOff(ShutOffReason::Destroyed));
    }

    #[tokio::test]
    async fn destroying_a_crashed_guest_keeps_the_reason() {
        let fake = running().await;
        fake.crash("default_web");
        fake.destroy("default_web").await.unwrap();
        assert_eq!(state(&fake).await, DomainState::ShutOff(ShutOffReason::Crashed));
    }

    #[tokio::test]
    async fn a_failure_is_answered_once() {
        let fake = running().await;
        let lost = HypervisorError::Disconnected("restarting".into());
        fake.fail_next(Verb::Undefine, lost.clone());
        assert_eq!(fake.undefine("default_web").await, Err(lost));
        fake.undefine("default_web").await.unwrap();
        let gone = HypervisorError::NotFound("default_web".into());
        assert_eq!(fake.undefine("default_web").await, Err(gone));
    }

    #[tokio::test]
    async fn the_name_of_a_domain_of_another_uid_is_refused() {
        let fake = running().await;
        let refused = fake.define(&XML.replace("'u1'", "'u2'")).await;
        assert!(matches!(refused, Err(HypervisorError::Refused(_))), "{refused:?}");
    }
}
