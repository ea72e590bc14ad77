//! From an `AdmissionReview` to its answer. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::MANAGER;
use crate::admission::{self, Facts};

#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    uid: String,
    resource: Resource,
    #[serde(default)]
    object: Option<Value>,
    #[serde(default)]
    old_object: Option<Value>,
    #[serde(default)]
    options: Option<Options>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    #[serde(default)]
    field_manager: String,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    resource: String,
}

/// The answer to this request, as bytes of JSON.
///
/// # Errors
/// When it is none.
pub(super) fn answer(facts: &Facts, request: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let Review { request } = serde_json::from_slice(request)?;
    let Asked { uid, resource: Resource { group, resource }, object, old_object, options } =
        request;
    // What we write ourselves may be newer than what is known here.
    let is_ours = options.is_some_and(|options| options.field_manager == MANAGER);
    // Until all is listed nobody can say what is not there.
    let is_known = facts.is_complete() && admission::looks_at(&group, &resource);
    let reviewed = match (object, old_object) {
        _ if !is_known || is_ours => Ok(Vec::new()),
        (Some(new), old) => admission::review(facts, &resource, old.as_ref(), &new),
        (None, Some(old)) => admission::leaves(facts, &resource, &old),
        (None, None) => Ok(Vec::new()),
    };
    let response = match reviewed {
        Ok(warnings) => json!({"uid": uid, "allowed": true, "warnings": warnings}),
        Err(message) => {
            let status = json!({"code": 403, "reason": "Forbidden", "message": message});
            json!({"uid": uid, "allowed": false, "status": status})
        }
    };
    serde_json::to_vec(&json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    }))
}

#[cfg(test)]
mod tests {
    use crate::shelf::Seen;
    use crate::world::Event;

    use super::*;

    fn complete() -> Facts {
        let facts = Facts::default();
        facts.apply(&Event::Namespace(Seen::all(vec![])));
        facts.apply(&Event::Node(Seen::all(vec![])));
        facts.apply(&Event::NoClaims);
        facts.apply(&Event::Vpc(Seen::all(vec![])));
        facts.apply(&Event::Subnet(Seen::all(vec![])));
        facts.apply(&Event::Pool(Seen::all(vec![])));
        facts.apply(&Event::Vip(Seen::all(vec![])));
        facts.apply(&Event::Ip(Seen::all(vec![])));
        facts.apply(&Event::Block(Seen::all(vec![])));
        facts.apply(&Event::Machine(Seen::all(vec![])));
        facts.apply(&Event::Instance(Seen::all(vec![])));
        facts
    }

    fn of(cidr: &str) -> Vec<u8> {
        let object = json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet",
            "metadata": {"name": "s"}, "spec": {"cidrBlock": cidr}});
        let resource = json!({"group": "kubeovn.io", "version": "v1", "resource": "subnets"});
        let request = json!({"uid": "u", "resource": resource, "operation": "CREATE",
            "object": object, "oldObject": null});
        json!({"kind": "AdmissionReview", "request": request}).to_string().into_bytes()
    }

    fn said(facts: &Facts, request: &[u8]) -> Value {
        let answer = answer(facts, request).unwrap();
        serde_json::from_slice::<Value>(&answer).unwrap()["response"].clone()
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_can_is_let_in() {
        let facts = complete();
        let refused = said(&facts, &of("10.0.0.0/33"));
        assert_eq!((&refused["uid"], &refused["allowed"]), (&json!("u"), &json!(false)));
        assert!(refused["status"]["message"].as_str().unwrap().contains("10.0.0.0/33"));
        assert_eq!(said(&facts, &of("10.0.0.0/24"))["allowed"], true);
    }

    #[test]
    fn nothing_is_refused_before_all_is_listed() {
        assert_eq!(said(&Facts::default(), &of("10.0.0.0/33"))["allowed"], true);
    }

    #[test]
    fn what_is_no_review_is_no_panic() {
        let facts = complete();
        for junk in ["", "{", "[]", "{}", "null", r#"{"request":{"uid":1}}"#] {
            answer(&facts, junk.as_bytes()).unwrap_err();
        }
        let empty = r#"{"request":{"uid":"u","resource":{"resource":"pods"}}}"#;
        assert_eq!(said(&facts, empty.as_bytes())["allowed"], true);
    }
}
