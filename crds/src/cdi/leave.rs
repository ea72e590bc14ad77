//! Who may copy claims of another namespace.
//!
//! A claim has no user who could be asked for: by the time that it is filled nobody knows any
//! more who made it. So it is asked whether the service account `default` of its namespace may
//! `create` `datavolumes/source` there, as KubeVirt asks for the DataVolumes of VMs
//! (`DataVolume.AuthorizeSA`, `containerized-data-importer-api/pkg/apis/core/v1beta1/authorize.go`).
//! The controller asks before it makes such a claim and the agent before it copies: whoever may
//! write claims could write one that the controller has never seen.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};

/// The service account that is asked for.
const ACCOUNT: &str = "default";

/// The question whether claims of `from` may be copied to `to`.
#[must_use]
pub fn question(from: &str, to: &str) -> SubjectAccessReview {
    let attributes = ResourceAttributes {
        namespace: Some(from.to_owned()),
        verb: Some("create".to_owned()),
        group: Some("cdi.kubevirt.io".to_owned()),
        resource: Some("datavolumes".to_owned()),
        subresource: Some("source".to_owned()),
        ..ResourceAttributes::default()
    };
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{to}"),
        "system:authenticated".to_owned(),
    ];
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user(to)),
            groups: Some(groups.to_vec()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// What the answer says.
#[must_use]
pub fn is_given(answer: &SubjectAccessReview) -> bool {
    answer.status.as_ref().is_some_and(|status| status.allowed && status.denied != Some(true))
}

/// What is told where it may not, in CDI's words, and what to do.
#[must_use]
pub fn refusal(from: &str, to: &str) -> String {
    format!(
        "User {} has insufficient permissions in clone source namespace {from}: bind it there, \
         by a RoleBinding, to a Role that allows create of datavolumes/source (cdi.kubevirt.io)",
        user(to)
    )
}

fn user(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{ACCOUNT}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_asked_for_the_account_of_the_namespace_that_a_copy_is_made_in() {
        let asked = serde_json::to_value(question("golden", "shop")).unwrap();
        let spec = &asked["spec"];
        assert_eq!(spec["user"], "system:serviceaccount:shop:default");
        assert!(spec["groups"].as_array().unwrap().contains(&json!("system:serviceaccounts:shop")));
        let of = &spec["resourceAttributes"];
        assert_eq!((&of["namespace"], &of["subresource"]), (&json!("golden"), &json!("source")));
        assert_eq!((&of["verb"], &of["resource"]), (&json!("create"), &json!("datavolumes")));
    }

    #[test]
    fn nothing_but_a_yes_is_one() {
        let answer = |status| {
            let review = json!({"spec": {}, "status": status});
            is_given(&serde_json::from_value(review).unwrap())
        };
        assert!(answer(json!({"allowed": true})));
        assert!(
            !answer(json!({"allowed": false})) && !answer(json!({"allowed": true, "denied": true}))
        );
        assert!(!is_given(&question("golden", "shop")));
    }
}
