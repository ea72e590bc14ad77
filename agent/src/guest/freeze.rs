//! File systems that stand still, and when they go on by themselves.
//!
//! Until when they may stand still is written on the instance before they do
//! (`berth.io/unfreeze-at`), so a guest that was frozen goes on in time whoever has died
//! since, and wherever it runs by then. A guest is frozen only while that stands there and is
//! not over, and it is taken off only here, once the guest has said that nothing stands still:
//! both in turn ([`Host::freezes`]), so that neither happens behind the other's back.

use std::sync::Arc;
use std::time::Duration;

use crds::annotations::{UNFREEZE_AT, UNFREEZE_NEVER};
use crds::kubevirt::VirtualMachineInstance;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;

use super::words;
use crate::host::Host;
use crate::hypervisor::{GuestError, Hypervisor, Lane};
use crate::vm::publish;

/// How long a guest may take to write out what it has in memory.
const PATIENCE: Duration = Duration::from_secs(15);
/// Delay before it is tried again, and the longest one.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How long the power button waits for a guest to go on.
const LAST: Duration = Duration::from_secs(4);
/// How often the time is taken off an object that others change meanwhile.
const ATTEMPTS: usize = 4;

/// Whose file systems.
#[derive(Clone, Debug)]
pub struct Whose {
    pub domain: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// Why they do not stand still.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    #[error("the time for which the guest's file systems may stand still is over: freeze it again")]
    NoTime,
    #[error("for how long the guest's file systems may stand still cannot be read: {0}")]
    Api(String),
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// Has all file systems of a guest stand still, after it has written out what they lack. Of
/// one where they do already nothing is asked.
///
/// # Errors
/// See [`FreezeError`]: of one that is silent nobody knows whether they do.
pub async fn freeze(host: &Host, whose: &Whose) -> Result<(), FreezeError> {
    let _turn = host.freezes.wait(&whose.domain).await;
    let until = until(host, whose).await.map_err(|error| FreezeError::Api(error.to_string()))?;
    let until = until.filter(|until| is_ahead(until, Timestamp::now()));
    let until = until.ok_or(FreezeError::NoTime)?;
    let hypervisor = &host.hypervisor;
    match hypervisor.ask_guest(&whose.domain, words::FREEZE, PATIENCE, Lane::Now).await {
        // Where they stand still already that is what an agent says, too.
        Err(GuestError::Refused(why)) => match is_frozen(hypervisor, &whose.domain).await {
            Ok(true) => Ok(()),
            still => {
                if still.is_ok() {
                    forget(host, whose, &until).await;
                }
                Err(GuestError::Refused(why).into())
            }
        },
        answer => Ok(answer.map(drop)?),
    }
}

/// Lets them go on.
///
/// # Errors
/// See [`GuestError`]. May be repeated.
pub async fn thaw(host: &Host, whose: &Whose) -> Result<(), GuestError> {
    let _turn = host.freezes.wait(&whose.domain).await;
    // What is said later is somebody else's.
    let until = until(host, whose).await;
    go_on(&host.hypervisor, &whose.domain).await?;
    if let Ok(Some(until)) = until {
        forget(host, whose, &until).await;
    }
    Ok(())
}

/// Lets them go on before the guest is asked to power off: it could write nothing any more.
pub(crate) async fn thaw_for_the_end(host: &Host, domain: &str, vmi: &VirtualMachineInstance) {
    if !vmi.annotations().contains_key(UNFREEZE_AT) {
        return;
    }
    if !matches!(tokio::time::timeout(LAST, go_on(&host.hypervisor, domain)).await, Ok(Ok(()))) {
        tracing::warn!(domain, "A guest that is to power off may stand still");
    }
}

/// Has them go on, and looks whether they do: that it refuses does not say that they do.
async fn go_on(hypervisor: &Hypervisor, domain: &str) -> Result<(), GuestError> {
    let thawed =
        hypervisor.ask_guest(domain, words::THAW, words::PATIENCE, Lane::Thaw).await.map(drop);
    if !matches!(thawed, Ok(()) | Err(GuestError::Refused(_))) {
        return thawed;
    }
    match is_frozen(hypervisor, domain).await {
        Ok(false) => Ok(()),
        Ok(true) => {
            thawed.and_then(|()| Err(GuestError::Refused("it still stands still".to_owned())))
        }
        // It does not tell.
        Err(_) => thawed,
    }
}

async fn is_frozen(hypervisor: &Hypervisor, domain: &str) -> Result<bool, GuestError> {
    let asked = hypervisor.ask_guest(domain, words::FREEZE_STATUS, words::PATIENCE, Lane::Thaw);
    let status: String = words::returned(&asked.await?)?;
    Ok(status != "thawed")
}

/// When the file systems of a guest are to go on, if that is said.
#[must_use]
pub fn deadline(vmi: &VirtualMachineInstance) -> Option<Timestamp> {
    vmi.annotations().get(UNFREEZE_AT)?.parse().ok()
}

/// Whether a guest may stand still by what its object says.
fn is_ahead(until: &str, now: Timestamp) -> bool {
    until == UNFREEZE_NEVER || until.parse::<Timestamp>().is_ok_and(|until| until > now)
}

/// Lets a guest's file systems go on when their time is over, as often as one is said.
pub(super) async fn keep_time(
    host: Host,
    domain: String,
    mut object: watch::Receiver<Arc<VirtualMachineInstance>>,
) {
    let mut pause = RETRY;
    loop {
        let vmi = Arc::clone(&object.borrow_and_update());
        let due = async {
            match deadline(&vmi) {
                Some(at) => tokio::time::sleep(left(at, Timestamp::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = object.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = due => {}
        }
        // Apart: a guest's task waits nearly always, and there are thousands.
        match Box::pin(time_is_over(&host, &domain, &vmi)).await {
            Ok(()) => {
                pause = RETRY;
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                tracing::warn!(domain, %error, "A guest's file systems do not go on yet");
                tokio::time::sleep(pause).await;
                // Anybody may write a time on an object whose guest says nothing.
                pause = (pause * 2).min(LONGEST_RETRY);
            }
        }
    }
}

/// Lets them go on, unless another time is said by now, and takes the time off the object.
async fn time_is_over(
    host: &Host,
    domain: &str,
    vmi: &VirtualMachineInstance,
) -> Result<(), GuestError> {
    let Some(over) = vmi.annotations().get(UNFREEZE_AT) else { return Ok(()) };
    let whose = Whose {
        domain: domain.to_owned(),
        namespace: vmi.namespace().unwrap_or_default(),
        name: vmi.name_any(),
        uid: vmi.uid().unwrap_or_default(),
    };
    let _turn = host.freezes.wait(domain).await;
    if until(host, &whose).await.is_ok_and(|until| until.as_ref() != Some(over)) {
        return Ok(());
    }
    go_on(&host.hypervisor, domain).await?;
    tracing::info!(domain, "A guest's file systems go on: their time is over");
    forget(host, &whose, over).await;
    Ok(())
}

/// How long it is until then.
fn left(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// Until when they may stand still, as the object says now.
async fn until(host: &Host, whose: &Whose) -> Result<Option<String>, kube::Error> {
    let found = publish::read(&api(host, whose), &whose.name).await?;
    let found = found.filter(|vmi| vmi.uid().as_deref() == Some(whose.uid.as_str()));
    Ok(found.and_then(|vmi| vmi.annotations().get(UNFREEZE_AT).cloned()))
}

/// Takes the time off the object, unless that says another one by now.
async fn forget(host: &Host, whose: &Whose, until: &str) {
    let api = api(host, whose);
    for _ in 0..ATTEMPTS {
        let Ok(Some(now)) = publish::read(&api, &whose.name).await else { break };
        let said = now.annotations().get(UNFREEZE_AT).map(String::as_str);
        if now.uid().as_deref() != Some(whose.uid.as_str()) || said != Some(until) {
            return;
        }
        let patch = json!({ "metadata": {
            "uid": now.uid(), "resourceVersion": now.resource_version(),
            "annotations": { UNFREEZE_AT: null },
        } });
        if publish::write(&api, &whose.name, &patch).await.is_ok() {
            return;
        }
    }
    tracing::debug!(whose.name, "The time of a guest's file systems is taken off later");
}

fn api(host: &Host, whose: &Whose) -> Api<VirtualMachineInstance> {
    Api::namespaced(host.client.clone(), &whose.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::Fake;

    #[test]
    fn a_time_that_is_over_is_now_and_one_that_cannot_be_read_is_none() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        assert_eq!(left(at(100), at(90)), Duration::from_secs(10));
        assert_eq!(left(at(90), at(100)), Duration::ZERO);
        let with = |text: &str| {
            let vmi = json!({
                "metadata": { "name": "till", "annotations": { UNFREEZE_AT: text } },
                "spec": { "domain": { "devices": {} } },
            });
            deadline(&serde_json::from_value(vmi).unwrap())
        };
        assert_eq!(with("1970-01-01T00:01:40Z"), Some(at(100)));
        assert_eq!(with("soon"), None);
        assert_eq!(with(UNFREEZE_NEVER), None);
    }

    #[test]
    fn a_guest_may_stand_still_only_while_its_time_is_not_over() {
        let now = Timestamp::from_second(100).unwrap();
        for (until, may) in [
            ("1970-01-01T00:01:41Z", true),
            ("1970-01-01T00:01:40Z", false),
            (UNFREEZE_NEVER, true),
            ("soon", false),
        ] {
            assert_eq!(is_ahead(until, now), may, "{until}");
        }
    }

    #[tokio::test]
    async fn one_that_refuses_to_go_on_is_asked_whether_it_stands_still() {
        fn refuses(words: &str, status: &str) -> Result<String, GuestError> {
            match words {
                words::FREEZE_STATUS => Ok(format!(r#"{{"return":"{status}"}}"#)),
                _ => Err(GuestError::Refused("no".to_owned())),
            }
        }
        let fake = Fake::new();
        fake.define("<domain><name>shop_till</name></domain>").await.unwrap();
        fake.start("shop_till").await.unwrap();
        let hypervisor = Hypervisor::Fake(fake.clone());
        fake.answers("shop_till", |words| refuses(words, "thawed"));
        assert_eq!(go_on(&hypervisor, "shop_till").await, Ok(()));
        fake.answers("shop_till", |words| refuses(words, "frozen"));
        let refused = Err(GuestError::Refused("no".to_owned()));
        assert_eq!(go_on(&hypervisor, "shop_till").await, refused);
        fake.answers("shop_till", |_| Err(GuestError::Refused("no".to_owned())));
        assert_eq!(go_on(&hypervisor, "shop_till").await, refused, "it tells nothing");
        fake.answers("shop_till", |words| match words {
            words::THAW => Ok(r#"{"return":1}"#.to_owned()),
            _ => refuses(words, "frozen"),
        });
        assert!(go_on(&hypervisor, "shop_till").await.is_err(), "it says so and does not");
    }
}
