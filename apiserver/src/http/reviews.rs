//! Questions about rights, to which the answer is yes: there is one user, who may do everything.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::reply::Reply;
use super::request::{Call, Format};
use crate::registry::Resource;
use crate::status::ApiError;

/// The name of the one user.
const USER: &str = "berth:admin";

pub(super) fn answer(resource: &Resource, call: &Call) -> Result<Reply, ApiError> {
    if call.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let mut review = call.object()?;
    review["apiVersion"] = resource.api_version().into();
    review["kind"] = resource.kind.as_str().into();
    review["status"] = status(&resource.kind);
    let body = serde_json::to_vec(&review).map_err(ApiError::internal)?;
    Ok(Reply::bytes(StatusCode::CREATED, body.into(), Format::Json))
}

fn status(kind: &str) -> Value {
    match kind {
        "SelfSubjectReview" => {
            json!({"userInfo": {"username": USER, "groups": ["system:authenticated"]}})
        }
        "SelfSubjectRulesReview" => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        _ => json!({"allowed": true, "reason": "the holder of the token may do everything"}),
    }
}
