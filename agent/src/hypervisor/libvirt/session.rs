//! One connection, reopened when it broke, and the list read over it.

use std::collections::HashMap;

use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::verbs::{self, refused};
use crate::hypervisor::metadata::Identity;
use crate::hypervisor::{HypervisorError, METADATA_NAMESPACE, Observed};

/// Whether a verb may find its own traces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Attempt {
    First,
    /// The connection broke before the first attempt was answered.
    Repeated,
}

/// What one thread keeps between calls.
#[derive(Debug)]
pub(super) struct Session {
    uri: String,
    connection: Option<Connection>,
    /// Whose each of our domains is: a domain's uuid is its VMI's uid, so this
    /// never changes and is asked for only once.
    identities: HashMap<Uuid, Identity>,
}

/// [`Connect`] without its missing `Debug`.
struct Connection(Connect);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Session {
    pub(super) fn new(uri: &str) -> Self {
        Self { uri: uri.to_owned(), connection: None, identities: HashMap::new() }
    }

    /// Calls `verb`, and once more on a new connection if the first broke.
    ///
    /// # Errors
    /// Those of the verb, or `Disconnected` when libvirtd cannot be reached.
    pub(super) fn run<T>(
        &mut self,
        mut verb: impl FnMut(&Connect, Attempt) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let first = verb(self.connect()?, Attempt::First);
        if first.is_ok() || self.is_alive() {
            return first;
        }
        tracing::info!(uri = %self.uri, "Connection to libvirt lost, trying again");
        let second = verb(self.connect()?, Attempt::Repeated);
        match second {
            Err(error) if !self.is_alive() => Err(HypervisorError::Disconnected(error.to_string())),
            second => second,
        }
    }

    /// Calls `verb` once: it is not one that may find its own traces.
    ///
    /// # Errors
    /// Those of the verb, or `Disconnected` when libvirtd cannot be reached.
    pub(super) fn once<T>(
        &mut self,
        verb: impl FnOnce(&Connect) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let outcome = verb(self.connect()?);
        match outcome {
            Err(error) if !self.is_alive() => Err(HypervisorError::Disconnected(error.to_string())),
            outcome => outcome,
        }
    }

    /// All our domains, by name: one call for the list and one small one for
    /// each state. libvirt's bulk call would bring the states along, but its
    /// result cannot be read through `virt` without `unsafe`.
    pub(super) fn list(&mut self) -> Result<Vec<Observed>, HypervisorError> {
        let mut identities = std::mem::take(&mut self.identities);
        let listed = self.run(|connection, _| list(connection, &mut identities));
        self.identities = identities;
        listed
    }

    fn connect(&mut self) -> Result<&Connect, HypervisorError> {
        if !self.is_alive() {
            let opened = Connect::open(Some(&self.uri))
                .map_err(|error| HypervisorError::Disconnected(error.message().to_owned()))?;
            self.connection = Some(Connection(opened));
        }
        Ok(&self.connection.as_ref().expect("opened above").0)
    }

    /// Whether the connection is open, as far as this side knows; costs no call.
    fn is_alive(&self) -> bool {
        self.connection.as_ref().is_some_and(|open| open.0.is_alive().unwrap_or(false))
    }
}

fn list(
    connection: &Connect,
    identities: &mut HashMap<Uuid, Identity>,
) -> Result<Vec<Observed>, HypervisorError> {
    let mut still_there = HashMap::new();
    let mut observed = Vec::new();
    for domain in connection.list_all_domains(0).map_err(|error| refused(&error))? {
        let uuid = domain.uuid().map_err(|error| refused(&error))?;
        let identity = match identities.remove(&uuid) {
            Some(known) => Some(known),
            None => identity(&domain)?,
        };
        let Some(identity) = identity else { continue };
        if let Some(state) = verbs::state(&domain)? {
            let Identity { uid, namespace, name } = identity.clone();
            let domain = domain.name().map_err(|error| refused(&error))?;
            observed.push(Observed { domain, uid, namespace, name, state });
        }
        still_there.insert(uuid, identity);
    }
    *identities = still_there;
    observed.sort_by(|a, b| a.domain.cmp(&b.domain));
    Ok(observed)
}

/// Whose domain this is; `None` for one that is not ours or just went away.
pub(super) fn identity(domain: &Domain) -> Result<Option<Identity>, HypervisorError> {
    let kind = i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).expect("a small constant");
    match domain.metadata(kind, Some(METADATA_NAMESPACE), 0) {
        Ok(element) => Ok(Identity::of_element(&element)),
        Err(error) => match error.code().known() {
            Some(ErrorNumber::NoDomainMetadata | ErrorNumber::NoDomain) => Ok(None),
            _ => Err(refused(&error)),
        },
    }
}
