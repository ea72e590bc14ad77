//! Which claim gets which volume, step by step; pure.

use serde_json::{Value, json};

use crate::object;

/// One write that is missing, for the version that it was decided from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Empty for a volume.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) action: Action,
}

impl Step {
    pub(super) fn is_of_claim(&self) -> bool {
        !self.namespace.is_empty()
    }

    fn of(object: &Value, action: Action) -> Self {
        Self {
            namespace: object::namespace(object).to_owned(),
            name: object::name(object).to_owned(),
            uid: object::uid(object).to_owned(),
            version: object::resource_version(object).to_owned(),
            action,
        }
    }
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// The volume is that claim's.
    Reserve(Value),
    /// The claim has that volume.
    Take(String),
    /// Its phase and nothing else.
    Phase(&'static str),
    /// The claim is bound to what has these.
    Bound { modes: Value, capacity: Value },
}

/// All that is missing now; each written, more may be.
pub(super) fn steps(claims: &[Value], volumes: &[Value]) -> Vec<Step> {
    let mut steps: Vec<Step> =
        volumes.iter().filter_map(|volume| of_volume(volume, claims)).collect();
    let mut taken: Vec<&str> = Vec::new();
    for claim in claims.iter().filter(|claim| !object::is_deleting(claim)) {
        if let Some((step, volume)) = of_claim(claim, volumes, &taken) {
            steps.push(step);
            taken.extend(volume);
        }
    }
    steps
}

/// Whether a volume's phase is another one by now.
fn of_volume(volume: &Value, claims: &[Value]) -> Option<Step> {
    let reference = &volume["spec"]["claimRef"];
    let phase = match (text(reference, "name"), text(reference, "uid")) {
        ("", _) | (_, "") => "Available",
        (_, uid) if claims.iter().any(|claim| object::uid(claim) == uid) => "Bound",
        _ => "Released",
    };
    let is_news = text(&volume["status"], "phase") != phase && !object::is_deleting(volume);
    is_news.then(|| Step::of(volume, Action::Phase(phase)))
}

/// What is next for a claim, and the volume that it takes by that.
fn of_claim<'a>(
    claim: &Value,
    volumes: &'a [Value],
    taken: &[&str],
) -> Option<(Step, Option<&'a str>)> {
    let phase = text(&claim["status"], "phase");
    let named = text(&claim["spec"], "volumeName");
    let own = volumes
        .iter()
        .find(|volume| text(&volume["spec"]["claimRef"], "uid") == object::uid(claim));
    if let Some(volume) = own
        .filter(|volume| matches!(named, name if name.is_empty() || name == object::name(volume)))
    {
        if named.is_empty() {
            return Some((Step::of(claim, Action::Take(object::name(volume).to_owned())), None));
        }
        let spec = &volume["spec"];
        let (modes, capacity) = (spec["accessModes"].clone(), spec["capacity"].clone());
        let bound = || Step::of(claim, Action::Bound { modes, capacity });
        return (phase != "Bound").then(|| (bound(), None));
    }
    if phase == "Bound" {
        let is_lost = !volumes.iter().any(|volume| object::name(volume) == named);
        return is_lost.then(|| (Step::of(claim, Action::Phase("Lost")), None));
    }
    let free = volumes
        .iter()
        .filter(|volume| !taken.contains(&object::name(volume)) && !object::is_deleting(volume));
    let volume = choose(claim, named, free)?;
    let reference = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": object::namespace(claim),
        "name": object::name(claim),
        "uid": object::uid(claim),
    });
    Some((Step::of(volume, Action::Reserve(reference)), Some(object::name(volume))))
}

/// The volume for a claim: the one that names it, else the smallest that is large enough.
fn choose<'a>(
    claim: &Value,
    named: &str,
    free: impl Iterator<Item = &'a Value>,
) -> Option<&'a Value> {
    let is_reserved = |volume: &Value| {
        let reference = &volume["spec"]["claimRef"];
        text(reference, "name") == object::name(claim)
            && text(reference, "namespace") == object::namespace(claim)
            && text(reference, "uid").is_empty()
    };
    let mut fit: Vec<_> = free
        .filter(|volume| {
            let is_free = text(&volume["spec"]["claimRef"], "name").is_empty();
            let is_meant = named.is_empty() || named == object::name(volume);
            is_meant && (is_reserved(volume) || is_free) && fits(claim, volume)
        })
        .collect();
    fit.sort_by(|a, b| {
        let size =
            |volume: &Value| bytes(&volume["spec"]["capacity"]["storage"]).unwrap_or(f64::MAX);
        let by_size = size(a).total_cmp(&size(b));
        let by_name = || object::name(a).cmp(object::name(b));
        is_reserved(b).cmp(&is_reserved(a)).then(by_size).then_with(by_name)
    });
    fit.first().copied()
}

/// Whether a volume is what a claim asks for.
fn fits(claim: &Value, volume: &Value) -> bool {
    let (asked, has) = (&claim["spec"], &volume["spec"]);
    let mode = |spec: &Value| match text(spec, "volumeMode") {
        "" => "Filesystem".to_owned(),
        mode => mode.to_owned(),
    };
    let modes = |spec: &Value| spec["accessModes"].as_array().cloned().unwrap_or_default();
    let offered = modes(has);
    let wanted = bytes(&asked["resources"]["requests"]["storage"]).unwrap_or(0.0);
    let labels = &object::metadata(volume).get("labels").cloned().unwrap_or_default();
    text(asked, "storageClassName") == text(has, "storageClassName")
        && mode(asked) == mode(has)
        && modes(asked).iter().all(|one| offered.contains(one))
        && bytes(&has["capacity"]["storage"]).is_some_and(|size| size >= wanted)
        && selects(&asked["selector"], labels)
}

/// Whether a label selector, as a claim has it, takes these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let named = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    named.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|one| {
            let has = labels.get(text(one, "key"));
            let listed = has
                .is_some_and(|has| one["values"].as_array().is_some_and(|all| all.contains(has)));
            match text(one, "operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => has.is_some(),
                "DoesNotExist" => has.is_none(),
                _ => false,
            }
        })
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// About so many bytes is a quantity; none if it is none. Good enough to compare by.
fn bytes(quantity: &Value) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 13] = [
        ("", 1.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
    ];
    let text = match quantity {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, suffix) = text.split_at(at);
    let worth = SUFFIXES.iter().find(|(name, _)| *name == suffix)?.1;
    Some(number.parse::<f64>().ok()? * worth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, spec: Value) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")},
            "spec": spec,
            "status": {"phase": "Pending"},
        })
    }

    fn asks(size: &str) -> Value {
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}})
    }

    fn volume(name: &str, size: &str) -> Value {
        json!({
            "metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}},
            "status": {"phase": "Available"},
        })
    }

    /// What becomes of the objects once nothing is missing any more.
    fn settled(mut claims: Vec<Value>, mut volumes: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
        for _ in 0..10 {
            let steps = steps(&claims, &volumes);
            if steps.is_empty() {
                return (claims, volumes);
            }
            for step in steps {
                let all = if step.is_of_claim() { &mut claims } else { &mut volumes };
                let object = all.iter_mut().find(|one| object::name(one) == step.name).unwrap();
                super::super::apply(step.action, object);
            }
        }
        panic!("it never settles");
    }

    #[test]
    fn a_claim_gets_the_smallest_volume_that_does() {
        let volumes = vec![volume("large", "1Ti"), volume("fits", "2Gi"), volume("small", "1Gi")];
        let (claims, volumes) = settled(vec![claim("data", asks("1500M"))], volumes);
        assert_eq!(claims[0]["spec"]["volumeName"], "fits");
        assert_eq!(claims[0]["status"]["phase"], "Bound");
        assert_eq!(claims[0]["status"]["capacity"]["storage"], "2Gi");
        assert_eq!(volumes[1]["status"]["phase"], "Bound");
        assert_eq!(volumes[1]["spec"]["claimRef"]["uid"], "uid-data");
        assert_eq!(volumes[0]["status"]["phase"], "Available");
    }

    #[test]
    fn two_claims_never_get_one_volume() {
        let claims = vec![claim("a", asks("1Gi")), claim("b", asks("1Gi"))];
        let (claims, _) = settled(claims, vec![volume("one", "1Gi")]);
        assert_eq!(claims[0]["spec"]["volumeName"], "one");
        assert_eq!(claims[1]["status"]["phase"], "Pending");
    }

    #[test]
    fn a_volume_that_names_a_claim_is_that_claims() {
        let mut meant = volume("meant", "5Gi");
        meant["spec"]["claimRef"] = json!({"namespace": "n", "name": "data"});
        let volumes = vec![volume("smaller", "1Gi"), meant];
        let claims = vec![claim("other", asks("3Gi")), claim("data", asks("1Gi"))];
        let (claims, _) = settled(claims, volumes);
        assert_eq!(claims[1]["spec"]["volumeName"], "meant");
        assert_eq!(claims[0]["status"]["phase"], "Pending");
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let mut block = volume("block", "1Gi");
        block["spec"]["volumeMode"] = json!("Block");
        let mut classy = volume("classy", "1Gi");
        classy["spec"]["storageClassName"] = json!("fast");
        let mut labelled = asks("1Gi");
        labelled["selector"] = json!({"matchLabels": {"tier": "gold"}});
        let mut many = asks("1Gi");
        many["accessModes"] = json!(["ReadWriteMany"]);
        for spec in [asks("1Gi"), many, labelled.clone()] {
            let (claims, _) =
                settled(vec![claim("data", spec)], vec![block.clone(), classy.clone()]);
            assert_eq!(claims[0]["status"]["phase"], "Pending");
        }
        let mut gold = volume("gold", "1Gi");
        gold["metadata"]["labels"] = json!({"tier": "gold"});
        let (claims, _) =
            settled(vec![claim("data", labelled)], vec![volume("plain", "1Gi"), gold]);
        assert_eq!(claims[0]["spec"]["volumeName"], "gold");
    }

    #[test]
    fn the_volume_of_a_claim_that_is_gone_goes_to_nobody_else() {
        let (_, volumes) = settled(vec![claim("data", asks("1Gi"))], vec![volume("one", "1Gi")]);
        let mut anew = claim("data", asks("1Gi"));
        anew["metadata"]["uid"] = json!("uid-anew");
        let (claims, volumes) = settled(vec![anew], volumes);
        assert_eq!(volumes[0]["status"]["phase"], "Released");
        assert_eq!(claims[0]["status"]["phase"], "Pending");
    }

    #[test]
    fn a_bound_claim_whose_volume_is_gone_is_lost() {
        let (claims, _) = settled(vec![claim("data", asks("1Gi"))], vec![volume("one", "1Gi")]);
        let (claims, _) = settled(claims, vec![]);
        assert_eq!(claims[0]["status"]["phase"], "Lost");
    }
}
