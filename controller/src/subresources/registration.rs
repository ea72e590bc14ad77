//! What the API is told: that a group is served here, and how to get here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceSpec, ServiceReference,
};
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use tracing::{info, warn};

use super::path::{GROUP, UPLOADS, UPLOADS_VERSIONS, VERSIONS};
use super::{RETRY, uploads};
use crate::MANAGER;
use crate::webhook::ServiceName;

/// It is said again in case somebody deleted it.
const AGAIN: Duration = Duration::from_secs(300);
/// The port of a Service that somebody made for us.
const PORT: u16 = 443;

/// A group that is served here, with its versions, the preferred one first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    name: &'static str,
    versions: &'static [&'static str],
    /// CDI's, where that is installed: then it is left alone.
    of_cdi: bool,
}

/// What virtctl asks for that is no object.
pub(super) const SUBRESOURCES: Group = Group { name: GROUP, versions: &VERSIONS, of_cdi: false };
/// Tokens for uploads.
pub(super) const TOKENS: Group = Group { name: UPLOADS, versions: &UPLOADS_VERSIONS, of_cdi: true };

/// The Service by which the API gets here.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) service: ServiceName,
    /// Where it leads to, if nobody else says so.
    pub(super) made_for: Option<SocketAddr>,
}

impl Way {
    /// The name that our certificate is to be for.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.service.name, self.service.namespace)
    }

    /// A Service without pods that stands for one address.
    fn made(&self) -> Option<Service> {
        let at = self.made_for?;
        let port = ServicePort { port: i32::from(at.port()), ..ServicePort::default() };
        let spec = ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some(at.ip().to_string()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some(self.service.name.clone()),
            namespace: Some(self.service.namespace.clone()),
            ..ObjectMeta::default()
        };
        Some(Service { metadata, spec: Some(spec), status: None })
    }

    fn registration(&self, of: Group, version: &str, authority: &str) -> APIService {
        let place = self.made_for.map_or(PORT, |at| at.port());
        let rank = of.versions.iter().rev().position(|known| *known == version).unwrap_or_default();
        let spec = APIServiceSpec {
            group: Some(of.name.to_owned()),
            version: Some(version.to_owned()),
            service: Some(ServiceReference {
                name: Some(self.service.name.clone()),
                namespace: Some(self.service.namespace.clone()),
                port: Some(i32::from(place)),
            }),
            ca_bundle: Some(ByteString(authority.as_bytes().to_vec())),
            // As KubeVirt's.
            group_priority_minimum: 1000,
            version_priority: 15 + i32::try_from(rank).unwrap_or_default(),
            insecure_skip_tls_verify: None,
        };
        let labels =
            BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "berth".to_owned())]);
        let metadata = ObjectMeta {
            name: Some(format!("{version}.{}", of.name)),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        APIService { metadata, spec: Some(spec), status: None }
    }
}

/// Tells the API, for as long as the controller runs.
pub(super) async fn keep(client: Client, way: Way, authority: String, group: Group) {
    let mut told = false;
    loop {
        match tell(&client, &way, &authority, group).await {
            Ok(()) => {
                if !std::mem::replace(&mut told, true) {
                    info!(group = group.name, service = %way.service, "The API passes the group on");
                }
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                warn!(%error, group = group.name, "The API was not told who serves the group; trying again");
                told = false;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn tell(
    client: &Client,
    way: &Way,
    authority: &str,
    group: Group,
) -> Result<(), kube::Error> {
    if group.of_cdi && uploads::is_cdi_there(client).await? {
        return Ok(());
    }
    let params = PatchParams::apply(MANAGER).force();
    if let Some(service) = way.made() {
        let api: Api<Service> = Api::namespaced(client.clone(), &way.service.namespace);
        api.patch(&way.service.name, &params, &Patch::Apply(&service)).await?;
    }
    let api: Api<APIService> = Api::all(client.clone());
    for version in group.versions {
        let registration = way.registration(group, version, authority);
        let name = registration.metadata.name.clone().unwrap_or_default();
        api.patch(&name, &params, &Patch::Apply(&registration)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(made_for: Option<&str>) -> Way {
        let service = "kube-system/berth".parse().unwrap();
        Way { service, made_for: made_for.map(|at| at.parse().unwrap()) }
    }

    #[test]
    fn each_version_is_registered_for_the_same_service_the_newest_first() {
        let way = way(Some("127.0.0.1:9443"));
        let specs = VERSIONS.map(|version| way.registration(SUBRESOURCES, version, "ca"));
        let names = specs.each_ref().map(|one| one.metadata.name.clone().unwrap());
        assert_eq!(names, ["v1.subresources.kubevirt.io", "v1alpha3.subresources.kubevirt.io"]);
        let [v1, old] = specs.map(|one| one.spec.unwrap());
        assert!(v1.version_priority > old.version_priority);
        assert_eq!(v1.service.unwrap().port, Some(9443));
        assert_eq!(way.host(), "berth.kube-system.svc");
        let spec = way.made().unwrap().spec.unwrap();
        assert_eq!(spec.external_name.as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn a_service_of_somebody_elses_is_left_as_it_is() {
        let way = way(None);
        assert!(way.made().is_none());
        let spec = way.registration(SUBRESOURCES, "v1", "ca").spec.unwrap();
        assert_eq!(spec.service.unwrap().port, Some(443));
    }
}
