//! From an `AdmissionReview` to its answer. Pure.

use crds::cause::{self, Cause};
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::MANAGER;
use crate::admission::{self, Facts, Write};

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
    let manager = options.map(|options| options.field_manager).unwrap_or_default();
    let is_ours = manager == MANAGER;
    // Until all is listed nobody can say what is not there.
    let is_known = facts.is_complete() && admission::looks_at(&group, &resource);
    let reviewed = match (object, old_object) {
        _ if !is_known || is_ours => Ok(Vec::new()),
        (Some(new), old) => {
            let write = Write { old: old.as_ref(), new: &new, by: &manager };
            admission::review(facts, &resource, write).map_err(|causes| invalid(&causes))
        }
        (None, Some(old)) => admission::leaves(facts, &resource, &old)
            .map_err(|why| json!({"code": 403, "reason": "Forbidden", "message": why})),
        (None, None) => Ok(Vec::new()),
    };
    let response = match reviewed {
        Ok(warnings) => json!({"uid": uid, "allowed": true, "warnings": warnings}),
        Err(status) => json!({"uid": uid, "allowed": false, "status": status}),
    };
    serde_json::to_vec(&json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    }))
}

/// The status of a refusal, as KubeVirt's webhooks give it.
fn invalid(causes: &[Cause]) -> Value {
    let told = &causes[..causes.len().min(cause::TOLD)];
    json!({
        "code": 422, "reason": "Invalid", "message": cause::message(causes),
        "details": {"causes": told},
    })
}

/// The answer to this request about what an object is to have from its beginning. It depends on
/// nothing but the object, so it is known at once.
///
/// # Errors
/// When it is none.
pub(super) fn completion(request: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let Review { request: Asked { uid, resource, object, .. } } = serde_json::from_slice(request)?;
    let mut response = json!({"uid": uid, "allowed": true});
    if let Some(mut object) = object
        && admission::complete(&resource.resource, &mut object)
    {
        // What is put in is in the metadata; that it has is known.
        let patch = json!([{
            "op": "add", "path": "/metadata/finalizers", "value": object["metadata"]["finalizers"],
        }]);
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(ByteString(patch.to_string().into_bytes()));
    }
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
        facts.apply(&Event::Migration(Seen::all(vec![])));
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
    fn a_refusal_is_invalid_and_tells_each_field() {
        let spec = json!({"hostname": "Web", "startStrategy": "Fast",
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"autoattachPodInterface": false}}});
        let object = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"runStrategy": "Always", "template": {"spec": spec}}});
        let resource =
            json!({"group": "kubevirt.io", "version": "v1", "resource": "virtualmachines"});
        let request = json!({"uid": "u", "resource": resource, "operation": "CREATE",
            "object": object, "oldObject": null, "options": {"fieldManager": "kubectl-create"}});
        let review = json!({"kind": "AdmissionReview", "request": request}).to_string();
        let status = &said(&complete(), review.as_bytes())["status"];
        assert_eq!((&status["code"], &status["reason"]), (&json!(422), &json!("Invalid")));
        let causes = status["details"]["causes"].as_array().unwrap();
        let fields: Vec<_> = causes.iter().map(|one| one["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["spec.template.spec.hostname", "spec.template.spec.startStrategy"]);
        assert_eq!(causes[1]["reason"], "FieldValueInvalid");
        let text = "spec.template.spec.startStrategy is set with an unrecognized option: Fast";
        assert_eq!(causes[1]["message"], text);
        assert!(status["message"].as_str().unwrap().ends_with(&format!(", {text}")));
    }

    #[test]
    fn a_vm_is_given_its_finalizer_and_nothing_else_is_changed() {
        let asked = |plural: &str, finalizers: Value| {
            let object = json!({"metadata": {"name": "web", "finalizers": finalizers}});
            let resource = json!({"group": "kubevirt.io", "resource": plural});
            let request = json!({"uid": "u", "resource": resource, "object": object});
            let answer = completion(json!({"request": request}).to_string().as_bytes()).unwrap();
            serde_json::from_slice::<Value>(&answer).unwrap()["response"].clone()
        };
        let given = asked("virtualmachines", json!(["a/b"]));
        assert_eq!((&given["allowed"], &given["patchType"]), (&json!(true), &json!("JSONPatch")));
        let patch: ByteString = serde_json::from_value(given["patch"].clone()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&patch.0).unwrap(),
            json!([{"op": "add", "path": "/metadata/finalizers",
                "value": ["a/b", crds::kubevirt::VM_FINALIZER]}])
        );
        let has = json!([crds::kubevirt::VM_FINALIZER]);
        for kept in [asked("virtualmachines", has), asked("subnets", json!([]))] {
            assert_eq!(kept, json!({"uid": "u", "allowed": true}));
        }
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
