//! `/scale`: how many an object asks for and has, in a form that is the same for every kind
//! (`autoscaling/v1`). A definition says where its kind keeps them. Pure.

use serde_json::{Value, json};

use crate::object;
use crate::status::{ApiError, Cause};

/// Where objects of a kind keep how many: paths below the object, without a dot in front.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ScalePaths {
    wanted: Vec<String>,
    there: Vec<String>,
    selector: Option<Vec<String>>,
}

impl ScalePaths {
    /// What a version of a definition says of it, if its kind can be scaled.
    pub(crate) fn parse(version: &Value) -> Option<Self> {
        let scale = &version["subresources"]["scale"];
        let path = |field: &str| -> Option<Vec<String>> {
            let text = scale[field].as_str()?.strip_prefix('.')?;
            let names: Vec<String> = text.split('.').map(str::to_owned).collect();
            names.iter().all(|name| !name.is_empty()).then_some(names)
        };
        Some(Self {
            wanted: path("specReplicasPath")?,
            there: path("statusReplicasPath")?,
            selector: path("labelSelectorPath"),
        })
    }

    /// The scale of an object.
    pub(crate) fn of(&self, object: &Value) -> Value {
        let metadata = &object["metadata"];
        let kept = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
        let kept = kept.into_iter().filter_map(|field| Some((field, metadata.get(field)?)));
        let mut scale = json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": kept.collect::<std::collections::BTreeMap<_, _>>(),
            "spec": {"replicas": count(object, &self.wanted)},
            "status": {"replicas": count(object, &self.there)},
        });
        let selector = self.selector.as_ref().and_then(|path| find(object, path));
        if let Some(selector) = selector.filter(|text| text.is_string()) {
            scale["status"]["selector"] = selector.clone();
        }
        scale
    }

    /// The object with as many as this scale asks for; it is written for the version that the
    /// scale names, if it names one.
    ///
    /// # Errors
    /// When the scale is none.
    pub(crate) fn applied(&self, object: &Value, scale: &Value) -> Result<Value, ApiError> {
        let said = scale["metadata"]["name"].as_str().unwrap_or("");
        let name = object::name(object);
        if !said.is_empty() && said != name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({said}) does not match the name on the URL ({name})"
            )));
        }
        let wanted = &scale["spec"]["replicas"];
        let number = if wanted.is_null() { Some(0) } else { wanted.as_i64() };
        let Some(number) = number.filter(|number| (0..=i64::from(i32::MAX)).contains(number))
        else {
            let why = "must be a whole number that is greater than or equal to 0";
            let cause = Cause::invalid("spec.replicas", wanted, why);
            return Err(ApiError::invalid("autoscaling", "Scale", name, &[cause]));
        };
        let mut changed = object.clone();
        let mut place = &mut changed;
        for name in &self.wanted {
            place = &mut place[name.as_str()];
        }
        *place = number.into();
        let version = scale["metadata"]["resourceVersion"].as_str().unwrap_or("");
        if !version.is_empty() {
            changed["metadata"]["resourceVersion"] = version.into();
        }
        Ok(changed)
    }
}

fn find<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn count(object: &Value, path: &[String]) -> i64 {
    find(object, path).and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> ScalePaths {
        ScalePaths::parse(&json!({"subresources": {"scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.labelSelector"}}}))
        .unwrap()
    }

    fn set() -> Value {
        json!({"metadata": {"name": "web", "namespace": "a", "resourceVersion": "7", "labels": {}},
            "spec": {"replicas": 3, "paused": false}, "status": {"replicas": 2, "labelSelector": "app=web"}})
    }

    #[test]
    fn a_scale_says_how_many_are_asked_for_and_there() {
        let scale = paths().of(&set());
        assert_eq!(
            (&scale["spec"]["replicas"], &scale["status"]["replicas"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(scale["status"]["selector"], "app=web");
        assert_eq!(
            scale["metadata"],
            json!({"name": "web", "namespace": "a", "resourceVersion": "7"})
        );
        assert_eq!(paths().of(&json!({"metadata": {}}))["spec"]["replicas"], 0);
    }

    #[test]
    fn a_scale_changes_nothing_but_how_many() {
        let mut scale = paths().of(&set());
        scale["spec"]["replicas"] = 5.into();
        let mut want = set();
        want["spec"]["replicas"] = 5.into();
        assert_eq!(paths().applied(&set(), &scale).unwrap(), want);
        scale["metadata"]["resourceVersion"] = "6".into();
        let changed = paths().applied(&set(), &scale).unwrap();
        assert_eq!(changed["metadata"]["resourceVersion"], "6", "the write is refused by it");
    }

    #[test]
    fn what_is_no_number_of_objects_is_refused() {
        for wrong in [json!(-1), json!("3"), json!(1.5), json!(1_u64 << 40)] {
            let scale = json!({"spec": {"replicas": wrong}});
            assert_eq!(paths().applied(&set(), &scale).unwrap_err().code, 422, "{wrong}");
        }
        let other = json!({"metadata": {"name": "db"}, "spec": {"replicas": 1}});
        assert_eq!(paths().applied(&set(), &other).unwrap_err().code, 400);
    }

    #[test]
    fn a_definition_without_it_has_no_scale() {
        assert_eq!(ScalePaths::parse(&json!({"subresources": {"status": {}}})), None);
    }
}
