//! Patches: from the current object to the one that is proposed.
//!
//! - JSON patch (RFC 6902); a failed `test` is 422.
//! - Merge patch (RFC 7386).
//! - Strategic merge patch, for built-in kinds only as upstream has it: lists that upstream merges
//!   are merged by their key, see [`strategic`].
//! - Apply, which is more than a patch; see [`crate::apply`].

mod strategic;

use serde_json::Value;

use crate::http::{parse_json, parse_yaml};
use crate::registry::Resource;
use crate::status::ApiError;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch, read but not applied.
#[derive(Debug)]
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    pub(crate) fn read(content_type: &str, body: &[u8], is_custom: bool) -> Result<Self, ApiError> {
        let object = |value: Value| {
            if value.is_object() {
                Ok(value)
            } else {
                Err(ApiError::bad_request("the patch must be an object"))
            }
        };
        match content_type {
            JSON => serde_json::from_slice(body)
                .map(Self::Json)
                .map_err(|error| ApiError::bad_request(format!("not a JSON patch: {error}"))),
            MERGE => object(parse_json(body)?).map(Self::Merge),
            STRATEGIC if !is_custom => object(parse_json(body)?).map(Self::Strategic),
            APPLY => object(parse_yaml(body)?).map(Self::Apply),
            _ => {
                let strategic =
                    if is_custom { "" } else { ", application/strategic-merge-patch+json" };
                let allowed = format!("{JSON}, {MERGE}, {APPLY}{strategic}");
                Err(ApiError::unsupported_media_type(&allowed))
            }
        }
    }

    pub(crate) fn is_apply(&self) -> bool {
        matches!(self, Self::Apply(_))
    }

    /// The object that `current` becomes.
    pub(crate) fn applied_to(
        self,
        resource: &Resource,
        current: &Value,
    ) -> Result<Value, ApiError> {
        let mut object = current.clone();
        match self {
            Self::Json(patch) => json_patch::patch(&mut object, &patch).map_err(|error| {
                ApiError::unprocessable(format!(
                    "the server rejected our request due to an error in our request: {error}"
                ))
            })?,
            Self::Merge(patch) => json_patch::merge(&mut object, &patch),
            Self::Strategic(patch) => strategic::merge(&resource.kind, &mut object, &patch)?,
            Self::Apply(_) => return Err(ApiError::internal("apply is not a plain patch")),
        }
        if object.is_object() {
            Ok(object)
        } else {
            Err(ApiError::unprocessable("the patch leaves no object"))
        }
    }
}

#[cfg(test)]
mod tests;
