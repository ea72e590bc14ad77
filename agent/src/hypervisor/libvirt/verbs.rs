//! The verbs over an open connection, and libvirt's words in ours.

use virt::connect::Connect;
use virt::domain::{
    Domain, DomainPausedReason as Paused, DomainRunningReason as Running,
    DomainShutoffReason as Shutoff, DomainState as State, DomainStateReason as Reason,
    MemoryParameters, MigrateParameters, SchedBandwidth, SchedulerInfo,
};
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};
use virt::stream::Stream;
use virt::sys;

use super::session::{Attempt, identity};
use crate::hypervisor::{
    Alteration, DomainState, HypervisorError, Job, Journey, LONGEST_PICTURE, PauseReason,
    ShutOffReason,
};
use crate::live::limits::PERIOD;

/// What libvirt and its QEMU can, as XML.
pub(super) fn capabilities(connection: &Connect) -> Result<String, HypervisorError> {
    connection.capabilities().map_err(|error| refused(&error))
}

pub(super) fn define(connection: &Connect, xml: &str) -> Result<(), HypervisorError> {
    let validate = sys::VIR_DOMAIN_DEFINE_VALIDATE;
    connection.define_domain_xml_flags(xml, validate).map(drop).map_err(|error| refused(&error))
}

pub(super) fn start(
    connection: &Connect,
    name: &str,
    attempt: Attempt,
) -> Result<(), HypervisorError> {
    start_with(connection, name, attempt, 0)
}

pub(super) fn start_paused(
    connection: &Connect,
    name: &str,
    attempt: Attempt,
) -> Result<(), HypervisorError> {
    start_with(connection, name, attempt, sys::VIR_DOMAIN_START_PAUSED)
}

fn start_with(
    connection: &Connect,
    name: &str,
    attempt: Attempt,
    flags: u32,
) -> Result<(), HypervisorError> {
    let domain = lookup(connection, name)?;
    let started = domain.create_with_flags(flags).map_err(|error| refused(&error));
    // libvirt has one code for everything a state does not allow, so the state
    // is asked rather than the text compared.
    match started {
        Err(_) if is_active(&domain) => match attempt {
            Attempt::First => Err(HypervisorError::AlreadyRunning(name.to_owned())),
            Attempt::Repeated => Ok(()),
        },
        started => started,
    }
}

pub(super) fn resume(connection: &Connect, name: &str, _: Attempt) -> Result<(), HypervisorError> {
    let domain = lookup(connection, name)?;
    match domain.resume() {
        Err(_) if matches!(state(&domain), Ok(Some(DomainState::Running))) => Ok(()),
        resumed => resumed.map(drop).map_err(|error| refused(&error)),
    }
}

pub(super) fn suspend(connection: &Connect, name: &str, _: Attempt) -> Result<(), HypervisorError> {
    let domain = lookup(connection, name)?;
    match domain.suspend() {
        Err(_) if matches!(state(&domain), Ok(Some(DomainState::Paused(_)))) => Ok(()),
        suspended => suspended.map(drop).map_err(|error| refused(&error)),
    }
}

pub(super) fn reboot(connection: &Connect, name: &str, _: Attempt) -> Result<(), HypervisorError> {
    // As with a shutdown: a guest agent that answers, else the button.
    let domain = lookup(connection, name)?;
    domain.reboot(sys::VIR_DOMAIN_REBOOT_DEFAULT).map_err(|error| refused(&error))
}

pub(super) fn reset(connection: &Connect, name: &str, _: Attempt) -> Result<(), HypervisorError> {
    lookup(connection, name)?.reset().map_err(|error| refused(&error))
}

pub(super) fn shutdown(
    connection: &Connect,
    name: &str,
    _: Attempt,
) -> Result<(), HypervisorError> {
    let domain = lookup(connection, name)?;
    // The default mode prefers a guest agent that answers, else presses the button.
    unless_inactive(&domain, domain.shutdown())
}

pub(super) fn destroy(
    connection: &Connect,
    name: &str,
    attempt: Attempt,
) -> Result<(), HypervisorError> {
    let domain = match (lookup(connection, name), attempt) {
        (Err(HypervisorError::NotFound(_)), Attempt::Repeated) => return Ok(()),
        (found, _) => found?,
    };
    // SIGTERM, and SIGKILL only when that did not help within some seconds.
    unless_inactive(&domain, domain.destroy())
}

pub(super) fn undefine(
    connection: &Connect,
    name: &str,
    attempt: Attempt,
) -> Result<(), HypervisorError> {
    let flags = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_NVRAM
        | sys::VIR_DOMAIN_UNDEFINE_TPM;
    let undefined = lookup(connection, name)
        .and_then(|domain| domain.undefine_flags(flags).map_err(|error| refused(&error)));
    match (undefined, attempt) {
        (Err(HypervisorError::NotFound(_)), Attempt::Repeated) => Ok(()),
        (undefined, _) => undefined,
    }
}

/// Milliseconds that QEMU lets a guest stand still if nobody says otherwise.
const DOWNTIME: u64 = 300;

/// Sends the domain by the target's libvirtd, which is known by its certificate and knows
/// us by ours, and so do the two QEMUs. Disks go over the same way: of one that lies on an
/// image what differs from it, since the target has made the same of the same image. A
/// disk that lies on shared storage stays there.
pub(super) fn migrate(
    connection: &Connect,
    name: &str,
    journey: &Journey,
) -> Result<(), HypervisorError> {
    let domain = lookup(connection, name)?;
    let described = |flags: u32| {
        let flags = flags | sys::VIR_DOMAIN_XML_MIGRATABLE | sys::VIR_DOMAIN_XML_SECURE;
        domain.xml_desc(flags).map_err(|error| refused(&error))
    };
    let here = described(0)?;
    let copied = journey.copied(&here);
    let host = journey.host();
    let pki = journey.pki.iter().map(|dir| format!("?pkipath={dir}")).collect::<String>();
    let parameters = MigrateParameters {
        uri: Some(format!("tcp://{host}")),
        listen_address: Some(journey.address.clone()),
        dest_xml: Some(journey.rewritten(&here)),
        persist_xml: Some(journey.rewritten(&described(sys::VIR_DOMAIN_XML_INACTIVE)?)),
        migrate_disks: copied.clone().unwrap_or_default(),
        bandwidth: journey.bandwidth,
        ..MigrateParameters::default()
    };
    // No list of disks is all of them to libvirt.
    let disks = match copied {
        Some(none) if none.is_empty() => 0,
        _ => sys::VIR_MIGRATE_NON_SHARED_INC,
    };
    // An earlier attempt may have allowed more.
    let most = journey.downtime.unwrap_or(DOWNTIME);
    domain.migrate_set_max_downtime(most, 0).map_err(|error| refused(&error))?;
    let flags = sys::VIR_MIGRATE_LIVE
        | sys::VIR_MIGRATE_PEER2PEER
        | sys::VIR_MIGRATE_PERSIST_DEST
        | disks
        | sys::VIR_MIGRATE_TLS
        | if journey.auto_converge { sys::VIR_MIGRATE_AUTO_CONVERGE } else { 0 }
        | if journey.post_copy { sys::VIR_MIGRATE_POSTCOPY } else { 0 };
    let target = format!("qemu+tls://{host}/system{pki}");
    let sent = domain.migrate_to_uri3(Some(&target), parameters, flags);
    sent.map_err(|error| refused(&error))
}

pub(super) fn allow_downtime(
    connection: &Connect,
    name: &str,
    most: u64,
) -> Result<(), HypervisorError> {
    let allowed = lookup(connection, name)?.migrate_set_max_downtime(most, 0);
    allowed.map_err(|error| refused(&error))
}

/// The domain as it is now.
pub(super) fn describe(connection: &Connect, name: &str) -> Result<String, HypervisorError> {
    lookup(connection, name)?.xml_desc(0).map_err(|error| refused(&error))
}

/// What the first screen shows.
pub(super) fn screenshot(connection: &Connect, name: &str) -> Result<Vec<u8>, HypervisorError> {
    let domain = lookup(connection, name)?;
    let stream = Stream::new(connection, 0).map_err(|error| refused(&error))?;
    domain.screenshot(&stream, 0, 0).map_err(|error| refused(&error))?;
    let mut picture = Vec::new();
    let mut piece = vec![0; 256 << 10];
    loop {
        let length = stream.recv(&mut piece).map_err(|error| refused(&error))?;
        // A stream that blocks gives nothing only at its end.
        let length = usize::try_from(length).unwrap_or(0);
        if length == 0 {
            break;
        }
        if picture.len() + length > LONGEST_PICTURE {
            // What else there is libvirt throws away.
            let _ = stream.abort();
            return Err(HypervisorError::Refused(format!(
                "the picture of its screen is longer than {LONGEST_PICTURE} bytes"
            )));
        }
        picture.extend_from_slice(&piece[..length]);
    }
    stream.finish().map_err(|error| refused(&error))?;
    Ok(picture)
}

/// There and back: libvirt has keys to press, but no pointer to move.
pub(super) fn move_pointer(connection: &Connect, name: &str) -> Result<(), HypervisorError> {
    let domain = lookup(connection, name)?;
    for step in [1, -1] {
        // The mouse that a machine has by itself; a tablet knows places and no steps.
        let command = format!(
            r#"{{"execute":"input-send-event","arguments":{{"events":[{{"type":"rel","data":{{"axis":"x","value":{step}}}}}]}}}}"#
        );
        let done = domain.qemu_monitor_command(&command, 0).map_err(|error| refused(&error))?;
        if done.contains("\"error\"") {
            return Err(HypervisorError::Refused(format!("its pointer cannot be moved: {done}")));
        }
    }
    Ok(())
}

pub(super) fn alter(
    connection: &Connect,
    name: &str,
    change: &Alteration,
) -> Result<(), HypervisorError> {
    let domain = lookup(connection, name)?;
    let live = sys::VIR_DOMAIN_AFFECT_LIVE;
    let done = match change {
        Alteration::Attach(device) => domain.attach_device_flags(device, live),
        // Waits some seconds for the guest, and says nothing if it does not let go.
        Alteration::Detach(device) => domain.detach_device_flags(device, live),
        Alteration::Update(device) => domain.update_device_flags(device, live),
        Alteration::Vcpus(count) => domain.set_vcpus_flags(*count, sys::VIR_DOMAIN_VCPU_LIVE),
        Alteration::Bandwidth { shares, quota } => {
            let global = SchedBandwidth { period: quota.map(|_| PERIOD), quota: *quota };
            let bandwidth = SchedulerInfo {
                cpu_shares: Some(*shares),
                global_bw: global,
                ..SchedulerInfo::default()
            };
            return limited(&domain, domain.set_scheduler_parameters_flags(&bandwidth, live));
        }
        Alteration::MemoryLimit(bytes) => {
            let limit =
                MemoryParameters { hard_limit: Some(bytes >> 10), ..MemoryParameters::default() };
            return limited(&domain, domain.set_memory_parameters(limit, live));
        }
    };
    done.map_err(|error| refused(&error))
}

/// Of a guest that runs, libvirt says by this code that its controller is not there.
fn limited(domain: &Domain, done: Result<(), Error>) -> Result<(), HypervisorError> {
    done.map_err(|error| match error.code().known() {
        Some(ErrorNumber::OperationInvalid) if is_active(domain) => {
            HypervisorError::NoControlGroup(error.message().to_owned())
        }
        _ => refused(&error),
    })
}

/// What is being sent of the domain, if it is.
pub(super) fn job(connection: &Connect, name: &str) -> Result<Option<Job>, HypervisorError> {
    let domain = lookup(connection, name)?;
    let job = domain.job_info().map_err(|error| refused(&error))?;
    let sent = |bytes: Option<u64>| bytes.unwrap_or(0);
    let is_sent = u32::try_from(job.r#type).is_ok_and(|kind| {
        kind == sys::VIR_DOMAIN_JOB_BOUNDED || kind == sys::VIR_DOMAIN_JOB_UNBOUNDED
    });
    Ok(is_sent.then(|| Job { total: sent(job.data_total), remaining: sent(job.data_remaining) }))
}

/// What the domain is doing; `None` for one that was undefined since it was listed.
///
/// # Errors
/// When it cannot be said: a domain that nobody answers for is not one that is gone.
pub(super) fn state(domain: &Domain) -> Result<Option<DomainState>, HypervisorError> {
    let (state, reason) = match domain.state() {
        Ok(said) => said,
        Err(error) => {
            return match error.code().known() {
                Some(ErrorNumber::NoDomain) => Ok(None),
                _ => Err(refused(&error)),
            };
        }
    };
    let Some(state) = state.known() else {
        return Err(HypervisorError::Refused("a state of a domain that is not known".to_owned()));
    };
    Ok(Some(match state {
        State::Running | State::Blocked | State::PMSuspended | State::NoState => match reason {
            // The guest runs, and would not for long without the side that it left.
            Enum::Known(Reason::Running(Enum::Known(Running::PostCopy))) => {
                DomainState::Paused(PauseReason::Migration)
            }
            Enum::Known(Reason::Running(Enum::Known(Running::PostCopyFailed))) => {
                DomainState::Paused(PauseReason::PostCopyFailed)
            }
            _ => DomainState::Running,
        },
        State::Shutdown => DomainState::ShuttingDown,
        State::Paused => DomainState::Paused(match reason {
            Enum::Known(Reason::Paused(reason)) => {
                reason.known().map_or(PauseReason::Other, paused)
            }
            _ => PauseReason::Other,
        }),
        State::Shutoff => DomainState::ShutOff(match reason {
            Enum::Known(Reason::Shutoff(reason)) => {
                reason.known().map_or(ShutOffReason::Unknown, shut_off)
            }
            _ => ShutOffReason::Unknown,
        }),
        State::Crashed => DomainState::ShutOff(ShutOffReason::Crashed),
    }))
}

fn paused(reason: Paused) -> PauseReason {
    match reason {
        Paused::User => PauseReason::User,
        Paused::IOError => PauseReason::IoError,
        Paused::Migration | Paused::PostCopy => PauseReason::Migration,
        Paused::PostCopyFailed => PauseReason::PostCopyFailed,
        Paused::Unknown
        | Paused::Save
        | Paused::Dump
        | Paused::Watchdog
        | Paused::FromSnapshot
        | Paused::ShuttingDown
        | Paused::Snapshot
        | Paused::Crashed
        | Paused::StartingUp
        | Paused::APIError => PauseReason::Other,
    }
}

fn shut_off(reason: Shutoff) -> ShutOffReason {
    match reason {
        Shutoff::Unknown => ShutOffReason::Unknown,
        Shutoff::Shutdown => ShutOffReason::Shutdown,
        Shutoff::Destroyed => ShutOffReason::Destroyed,
        Shutoff::Crashed => ShutOffReason::Crashed,
        Shutoff::Migrated => ShutOffReason::Migrated,
        Shutoff::Saved => ShutOffReason::Saved,
        Shutoff::Failed => ShutOffReason::Failed,
        Shutoff::FromSnapshot => ShutOffReason::FromSnapshot,
        Shutoff::Daemon => ShutOffReason::Daemon,
    }
}

/// Our domain of this name. Somebody else's may have one like it, and is not to be found.
pub(super) fn lookup(connection: &Connect, name: &str) -> Result<Domain, HypervisorError> {
    let not_found = || HypervisorError::NotFound(name.to_owned());
    let found = connection.lookup_domain_by_name(name);
    let domain = found.map_err(|error| match error.code().known() {
        Some(ErrorNumber::NoDomain) => not_found(),
        _ => refused(&error),
    })?;
    identity(&domain)?.map(|_| domain).ok_or_else(not_found)
}

/// Takes a failure for success when the domain is shut off anyway.
fn unless_inactive<T>(domain: &Domain, done: Result<T, Error>) -> Result<(), HypervisorError> {
    match done {
        Ok(_) => Ok(()),
        Err(_) if matches!(domain.is_active(), Ok(false)) => Ok(()),
        Err(error) => Err(refused(&error)),
    }
}

fn is_active(domain: &Domain) -> bool {
    domain.is_active().unwrap_or(false)
}

/// What libvirt (9.0 at least) brings about when it is killed between the name and the
/// process of a guest that comes to it: it never looks after that domain again.
const HELD: &str = "; if it says so again and again, libvirtd was killed while it prepared this domain, \
                    and holds it for ever: stop libvirtd, remove the domain's file from \
                    /run/libvirt/qemu, and start libvirtd";

/// An error in libvirt's own words. Whether the connection broke is seen by
/// the session, which then asks again or says so.
pub(super) fn refused(error: &Error) -> HypervisorError {
    let advice = match error.code().known() {
        Some(ErrorNumber::OperationTimeout) => HELD,
        _ => "",
    };
    HypervisorError::Refused(format!("{}{advice}", error.message()))
}
