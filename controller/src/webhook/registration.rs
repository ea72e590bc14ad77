//! What the API is told: whom to ask, and about what.
//!
//! Only of our kinds, and of these only where somebody wrote something: what the
//! controller makes for its VMs by the thousand is not asked about.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crds::kubevirt::VM_FINALIZER;
use http::Uri;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
    ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use tracing::{info, warn};

use super::RETRY;
use crate::MANAGER;
use crate::admission::KINDS;

/// The object that says it.
const NAME: &str = "berth";
/// How the path ends at which it is asked what an object is to have from its beginning.
pub(super) const COMPLETE: &str = "/complete";
/// How long the API waits for an answer, in seconds.
const TIMEOUT: i32 = 2;
/// It is said again in case somebody deleted it; where it is as it should be nothing
/// is written.
const AGAIN: Duration = Duration::from_secs(300);

/// Namespace and name of a Service or a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write namespace/name".to_owned()),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// Where the API reaches the webhook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum At {
    /// At this URL.
    Url(String),
    /// By port 443 of this Service.
    Service(ServiceName),
}

impl At {
    /// The host that the certificate is for; none of what is no URL of `https`.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        match self {
            Self::Service(ServiceName { namespace, name }) => {
                Some(format!("{name}.{namespace}.svc"))
            }
            Self::Url(url) => {
                let url: Uri = url.parse().ok()?;
                let host = url.host().filter(|_| url.scheme_str() == Some("https"))?;
                Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
            }
        }
    }

    /// Whom the API asks, at what it is reached by with this behind it.
    fn config(&self, authority: &str, path: &str) -> WebhookClientConfig {
        let (url, service) = match self {
            Self::Url(url) if path.is_empty() => (Some(url.clone()), None),
            Self::Url(url) => (Some(format!("{}{path}", url.trim_end_matches('/'))), None),
            Self::Service(ServiceName { namespace, name }) => {
                let (namespace, name) = (namespace.clone(), name.clone());
                let path = (!path.is_empty()).then(|| path.to_owned());
                let service = ServiceReference { namespace, name, path, port: None };
                (None, Some(service))
            }
        };
        WebhookClientConfig {
            ca_bundle: Some(ByteString(authority.as_bytes().to_vec())),
            service,
            url,
        }
    }
}

/// Tells the API, for as long as the controller runs.
pub(super) async fn keep(client: Client, at: At, authority: String) {
    let review: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let complete: Api<MutatingWebhookConfiguration> = Api::all(client);
    let (reviews, completes) = (configuration(&at, &authority), completion(&at, &authority));
    let params = PatchParams::apply(MANAGER).force();
    let mut told = false;
    loop {
        // Neither waits for the other, of which the API may know nothing; what nobody
        // completes the rounds do.
        let completed = complete.patch(NAME, &params, &Patch::Apply(&completes)).await;
        if let Err(error) = &completed {
            warn!(%error, "The API was not told who completes VMs; trying again");
        }
        let answer = review.patch(NAME, &params, &Patch::Apply(&reviews)).await;
        match &answer {
            Ok(_) if !told => info!(?at, "The API asks the webhook"),
            Ok(_) => {}
            Err(error) => warn!(%error, "The API was not told of the webhook; trying again"),
        }
        told = answer.is_ok();
        let wait = match (told, completed.is_ok()) {
            (true, true) => AGAIN,
            // Somebody has yet to give leave.
            (true, false) => 30 * RETRY,
            (false, _) => RETRY,
        };
        tokio::time::sleep(wait).await;
    }
}

fn configuration(at: &At, authority: &str) -> ValidatingWebhookConfiguration {
    let webhook = ValidatingWebhook {
        name: "review.berth.io".to_owned(),
        client_config: at.config(authority, ""),
        rules: Some(KINDS.into_iter().map(rule).collect()),
        match_conditions: Some(conditions()),
        failure_policy: Some("Ignore".to_owned()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(TIMEOUT),
        admission_review_versions: vec!["v1".to_owned()],
        ..ValidatingWebhook::default()
    };
    ValidatingWebhookConfiguration {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        webhooks: Some(vec![webhook]),
    }
}

/// Who is asked what a VM is to have from its beginning, where it lacks that.
fn completion(at: &At, authority: &str) -> MutatingWebhookConfiguration {
    let lacks = format!(
        "!has(object.metadata.deletionTimestamp) && !(has(object.metadata.finalizers) && '{VM_FINALIZER}' in object.metadata.finalizers)"
    );
    let webhook = MutatingWebhook {
        name: "complete.berth.io".to_owned(),
        client_config: at.config(authority, COMPLETE),
        rules: Some(vec![rule(("kubevirt.io", "virtualmachines"))]),
        match_conditions: Some(vec![MatchCondition {
            name: "lacks-its-finalizer".to_owned(),
            expression: lacks,
        }]),
        failure_policy: Some("Ignore".to_owned()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(TIMEOUT),
        admission_review_versions: vec!["v1".to_owned()],
        ..MutatingWebhook::default()
    };
    MutatingWebhookConfiguration {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        webhooks: Some(vec![webhook]),
    }
}

fn rule((group, plural): (&str, &str)) -> RuleWithOperations {
    let operations = match plural {
        // They wait for nobody.
        "virtualmachines"
        | "virtualmachineinstances"
        | "virtualmachineinstancereplicasets"
        | "virtualmachineinstancemigrations"
        | "migrationpolicies"
        | "ippools" => vec!["CREATE", "UPDATE"],
        _ => vec!["CREATE", "UPDATE", "DELETE"],
    };
    let one = |text: &str| Some(vec![text.to_owned()]);
    RuleWithOperations {
        api_groups: one(group),
        api_versions: one(match plural {
            "ipamclaims" | "migrationpolicies" => "v1alpha1",
            _ => "v1",
        }),
        resources: one(plural),
        operations: Some(operations.into_iter().map(str::to_owned).collect()),
        ..RuleWithOperations::default()
    }
}

/// When the API need not ask, as expressions of its own.
fn conditions() -> Vec<MatchCondition> {
    let condition = |name: &str, expression: &str| MatchCondition {
        name: name.to_owned(),
        expression: expression.to_owned(),
    };
    vec![
        condition(
            "says-something-new",
            "oldObject == null || object == null || object.spec != oldObject.spec",
        ),
        condition("stays", "object == null || !has(object.metadata.deletionTimestamp)"),
        condition(
            // Of such a one it is asked whether its spec may be another.
            "is-not-made-for-a-vm",
            "request.resource.resource != 'virtualmachineinstances' || oldObject != null || !has(object.metadata.ownerReferences)",
        ),
        condition(
            // Whose finalizer we took off before.
            "is-not-deleted-by-us",
            "request.resource.resource != 'ips' || object != null || (has(oldObject.metadata.finalizers) && 'kubeovn.io/kube-ovn-controller' in oldObject.metadata.finalizers)",
        ),
        condition(
            "is-not-written-for-a-vm",
            "object == null || request.resource.resource != 'ips' || !has(object.metadata.annotations) || !('berth.io/owner-uid' in object.metadata.annotations) || (oldObject != null && ['subnet', 'v4IpAddress', 'v6IpAddress', 'ipAddress'].exists(one, object.spec[one] != oldObject.spec[one]))",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_for_the_name_by_which_the_api_asks() {
        let host = |at: &At| at.host().unwrap_or_default();
        let service = "net/berth".parse().unwrap();
        assert_eq!(host(&At::Service(service)), "berth.net.svc");
        assert_eq!(host(&At::Url("https://10.0.0.1:10661/".to_owned())), "10.0.0.1");
        assert_eq!(host(&At::Url("https://[fd00::1]:10661/".to_owned())), "fd00::1");
        assert_eq!(host(&At::Url("http://berth/".to_owned())), "");
        "berth".parse::<ServiceName>().unwrap_err();
    }

    #[test]
    fn an_api_that_cannot_ask_goes_on_and_is_asked_of_our_kinds_alone() {
        let at = At::Url("https://berth/".to_owned());
        let [webhook] = configuration(&at, "ca").webhooks.unwrap().try_into().unwrap();
        assert_eq!(webhook.failure_policy.as_deref(), Some("Ignore"));
        let [completes] = completion(&at, "ca").webhooks.unwrap().try_into().unwrap();
        assert_eq!(completes.failure_policy.as_deref(), Some("Ignore"));
        assert_eq!(completes.client_config.url.as_deref(), Some("https://berth/complete"));
        assert_eq!(webhook.client_config.url.as_deref(), Some("https://berth/"));
        let groups = webhook.rules.unwrap().into_iter().flat_map(|rule| rule.api_groups);
        let groups: std::collections::BTreeSet<String> = groups.flatten().collect();
        assert_eq!(
            groups,
            ["k8s.cni.cncf.io", "kubeovn.io", "kubevirt.io", "migrations.kubevirt.io"]
                .map(str::to_owned)
                .into()
        );
    }
}
