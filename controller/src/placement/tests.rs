use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn node(name: &str) -> Node {
    labelled(name, json!({}))
}

fn labelled(name: &str, labels: Value) -> Node {
    let mut labels = labels;
    labels[SCHEDULABLE_LABEL] = "true".into();
    labels["kubernetes.io/hostname"] = name.into();
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
}

fn with(mut node: Node, spec: Value) -> Node {
    node.spec = serde_json::from_value(spec).unwrap();
    node
}

fn sized(mut node: Node, cpu: &str, memory: &str) -> Node {
    node.status =
        serde_json::from_value(json!({"allocatable": {"cpu": cpu, "memory": memory}})).unwrap();
    node
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn wish(spec: Value) -> Wish {
    wish_of(spec, &[("app", "web")])
}

fn wish_of(mut spec: Value, own: &[(&str, &str)]) -> Wish {
    if spec.get("domain").is_none() {
        spec["domain"] = json!({"devices": {}});
    }
    Wish::of("default", labels(own), &serde_json::from_value(spec).unwrap()).unwrap()
}

/// A guest with this label `app` on a node; what it asks of others is its `spec`'s.
fn guest<'a>(app: &str, node: &'a str, spec: Value) -> Guest<'a> {
    let wish = wish_of(spec, &[("app", app)]);
    let labels = Cow::Owned(wish.labels.clone());
    Guest { namespace: "default", labels, node, terms: wish.terms.map(Arc::new) }
}

fn place(wish: &Wish, nodes: &[Node], guests: Vec<Guest<'_>>) -> Result<String, String> {
    let load = |name: &str| guests.iter().filter(|guest| guest.node == name).count();
    let counted = guests.clone();
    let scene = Scene {
        nodes: nodes.iter().collect(),
        guests: counted,
        namespaces: &|_| None,
        refuse: &|_| None,
        taken: &|_| Amount::default(),
        load: &load,
    };
    choose(wish, &scene)
}

#[test]
fn the_node_with_the_fewest_vms_is_chosen_and_names_break_ties() {
    let nodes = [node("n2"), node("n1"), node("n3")];
    let one = vec![guest("db", "n1", json!({}))];
    assert_eq!(place(&wish(json!({})), &nodes, one).as_deref(), Ok("n2"));
    assert_eq!(place(&wish(json!({})), &nodes, vec![]).as_deref(), Ok("n1"));
}

#[test]
fn a_refusal_says_why_for_each_node() {
    let cordoned = with(node("n1"), json!({"unschedulable": true}));
    let mut unserved = node("n2");
    unserved.metadata.labels = None;
    let tainted = with(node("n4"), json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}));
    let nodes = [cordoned, unserved, node("n3"), tainted];
    let selected = wish(json!({"nodeSelector": {"disk": "ssd"}}));
    let error = place(&selected, &nodes, vec![]).unwrap_err();
    assert!(error.starts_with("0/4 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had no berth-agent, 1 node(s) had untolerated taint {gpu: }, 1 node(s) were unschedulable. "), "{error}");
    assert!(error.contains("n1: it is cordoned"), "{error}");
    assert!(error.contains("n2: no agent"), "{error}");
    assert!(error.contains("n3: nodeSelector disk=ssd"), "{error}");
    assert!(error.contains("n4: it has the taint gpu"), "{error}");
    assert!(place(&selected, &[], vec![]).unwrap_err().contains("start berth-agent"));
}

#[test]
fn who_tolerates_a_cordon_or_a_taint_is_placed_there() {
    let nodes = [with(
        node("n1"),
        json!({"unschedulable": true,
        "taints": [{"key": "gpu", "effect": "NoSchedule"}]}),
    )];
    let bears = wish(json!({"tolerations": [{"operator": "Exists"}]}));
    assert_eq!(place(&bears, &nodes, vec![]).as_deref(), Ok("n1"));
    let off = [with(
        node("n1"),
        json!({"taints": [{"key": lost::OUT_OF_SERVICE, "effect": "NoExecute"}]}),
    )];
    assert!(place(&bears, &off, vec![]).unwrap_err().contains(lost::OUT_OF_SERVICE), "it is off");
}

#[test]
fn a_required_node_affinity_is_kept_and_a_preferred_one_weighs() {
    let nodes = [labelled("n1", json!({"zone": "a"})), labelled("n2", json!({"zone": "b"}))];
    let term = |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
    let required = |zone: &str| {
        wish(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [term(zone)]}}}}))
    };
    assert_eq!(place(&required("b"), &nodes, vec![]).as_deref(), Ok("n2"));
    let error = place(&required("c"), &nodes, vec![]).unwrap_err();
    assert!(error.contains("2 node(s) didn't match Pod's node affinity/selector"), "{error}");
    let preferred = wish(json!({"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term("b")}]}}}));
    let busy = || vec![guest("db", "n2", json!({}))];
    assert_eq!(place(&preferred, &nodes, busy()).as_deref(), Ok("n2"), "though it has more VMs");
    let quiet = [
        with(
            labelled("n1", json!({})),
            json!({"taints": [{"key": "q", "effect": "PreferNoSchedule"}]}),
        ),
        labelled("n2", json!({})),
    ];
    assert_eq!(place(&wish(json!({})), &quiet, busy()).as_deref(), Ok("n2"));
}

#[test]
fn a_vm_starts_where_there_is_room_for_it() {
    let nodes = [sized(node("n1"), "2", "1Gi"), sized(node("n2"), "1", "8Gi")];
    let of = |memory: &str, cpus: u32| {
        wish(json!({"domain": {"devices": {}, "memory": {"guest": memory},
            "cpu": {"cores": cpus}}}))
    };
    assert_eq!(place(&of("2Gi", 1), &nodes, vec![]).as_deref(), Ok("n2"));
    assert_eq!(place(&of("256Mi", 12), &nodes, vec![]).as_deref(), Ok("n1"));
    let error = place(&of("16Gi", 12), &nodes, vec![]).unwrap_err();
    assert!(
        error.starts_with("0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory. "),
        "{error}"
    );
    let scene = |taken: Amount| {
        let taken = move |_: &str| taken;
        let nodes = [sized(node("n1"), "2", "1Gi")];
        let scene = Scene {
            nodes: nodes.iter().collect(),
            guests: vec![],
            namespaces: &|_| None,
            refuse: &|_| None,
            taken: &taken,
            load: &|_| 0,
        };
        choose(&of("256Mi", 1), &scene)
    };
    scene(Amount::default()).unwrap();
    scene(Amount { bytes: 900 << 20, ..Amount::default() }).unwrap_err();
    // A node that says nothing of itself has room.
    place(&of("16Gi", 12), &[node("n1")], vec![]).unwrap();
}

#[test]
fn the_emptier_node_is_chosen_by_what_is_left_and_not_by_how_many_there_are() {
    let nodes = [sized(node("n1"), "8", "2Gi"), sized(node("n2"), "8", "16Gi")];
    let small = wish(json!({"domain": {"devices": {}, "memory": {"guest": "512Mi"}}}));
    let one = vec![guest("db", "n2", json!({}))];
    assert_eq!(place(&small, &nodes, one).as_deref(), Ok("n2"));
}

fn anti(app: &str) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [term(app, "kubernetes.io/hostname")]}}})
}

fn near(app: &str, key: &str) -> Value {
    json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [term(app, key)]}}})
}

fn term(app: &str, key: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

#[test]
fn guests_that_want_nobody_like_them_near_are_apart() {
    let nodes = [node("n1"), node("n2")];
    let web = wish(anti("web"));
    assert_eq!(place(&web, &nodes, vec![guest("web", "n1", json!({}))]).as_deref(), Ok("n2"));
    let both = vec![guest("web", "n1", json!({})), guest("web", "n2", json!({}))];
    let error = place(&web, &nodes, both).unwrap_err();
    assert!(
        error.starts_with(
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. "
        ),
        "{error}"
    );
    // One that is there already is obeyed, too.
    let plain = wish(json!({}));
    let error = place(&plain, &[node("n1")], vec![guest("db", "n1", anti("web"))]).unwrap_err();
    assert!(
        error.contains("1 node(s) didn't satisfy existing pods anti-affinity rules"),
        "{error}"
    );
}

#[test]
fn a_guest_that_wants_somebody_near_is_where_that_is_and_the_first_of_its_kind_anywhere() {
    let nodes = [
        labelled("n1", json!({"zone": "a"})),
        labelled("n2", json!({"zone": "b"})),
        labelled("n3", json!({"zone": "b"})),
    ];
    let wants = wish(near("db", "zone"));
    let found = place(&wants, &nodes, vec![guest("db", "n2", json!({}))]);
    assert_eq!(found.as_deref(), Ok("n3"), "of the same zone, and the emptier");
    let error = place(&wants, &nodes, vec![]).unwrap_err();
    assert!(error.contains("3 node(s) didn't match pod affinity rules"), "{error}");
    place(&wish(near("web", "zone")), &nodes, vec![]).unwrap();
    place(&wish(near("web", "rack")), &nodes, vec![]).unwrap_err();
    let mut elsewhere = guest("db", "n2", json!({}));
    elsewhere.namespace = "other";
    place(&wants, &nodes, vec![elsewhere]).unwrap_err();
}

#[test]
fn what_is_preferred_of_others_weighs_in_both_directions() {
    let nodes = [node("n1"), node("n2")];
    let rather = |kind: &str, app: &str| {
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 10, "podAffinityTerm": term(app, "kubernetes.io/hostname")}]}}})
    };
    let there = || vec![guest("db", "n2", json!({}))];
    let near = wish(rather("podAffinity", "db"));
    assert_eq!(place(&near, &nodes, there()).as_deref(), Ok("n2"));
    let far = wish(rather("podAntiAffinity", "db"));
    let two = || {
        vec![guest("x", "n2", json!({})), guest("x", "n2", json!({})), guest("db", "n1", json!({}))]
    };
    assert_eq!(place(&far, &nodes, two()).as_deref(), Ok("n2"));
    let likes_us = vec![guest("db", "n2", rather("podAffinity", "web"))];
    assert_eq!(place(&wish(json!({})), &nodes, likes_us).as_deref(), Ok("n2"));
}

fn spread(skew: i32, when: &str, more: Value) -> Value {
    let mut one = json!({"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}});
    one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"topologySpreadConstraints": [one]})
}

#[test]
fn guests_are_spread_over_domains_within_the_skew() {
    let nodes = || vec![labelled("n1", json!({"zone": "a"})), labelled("n2", json!({"zone": "b"}))];
    let hard = |skew| wish(spread(skew, "DoNotSchedule", json!({})));
    let on = |names: &[&'static str]| -> Vec<Guest<'_>> {
        names.iter().map(|name| guest("web", name, json!({}))).collect()
    };
    assert_eq!(place(&hard(1), &nodes(), on(&["n1"])).as_deref(), Ok("n2"));
    let mut full = nodes();
    full[1] = with(full[1].clone(), json!({"unschedulable": true}));
    let error = place(&hard(1), &full, on(&["n1"])).unwrap_err();
    assert!(error.starts_with("0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable."), "{error}");
    assert_eq!(place(&hard(2), &full, on(&["n1"])).as_deref(), Ok("n1"));
    let soft = wish(spread(1, "ScheduleAnyway", json!({})));
    assert_eq!(place(&soft, &full, on(&["n1"])).as_deref(), Ok("n1"));
    let other = || guest("db", "n2", json!({}));
    let uneven = [on(&["n1"]), vec![other(), other()]].concat();
    assert_eq!(place(&soft, &nodes(), uneven).as_deref(), Ok("n2"), "though it has more VMs");
    let error = place(&hard(1), &[node("n1")], vec![]).unwrap_err();
    assert!(error.contains("(missing required label)"), "{error}");
}

#[test]
fn fewer_domains_than_there_must_be_count_as_empty_ones_and_what_is_not_for_it_as_none() {
    let nodes = [labelled("n1", json!({"zone": "a"})), labelled("n2", json!({"zone": "b"}))];
    let even = || vec![guest("web", "n1", json!({})), guest("web", "n2", json!({}))];
    place(&wish(spread(1, "DoNotSchedule", json!({}))), &nodes, even()).unwrap();
    place(&wish(spread(1, "DoNotSchedule", json!({"minDomains": 3}))), &nodes, even()).unwrap_err();
    // A domain that its selector excludes is none that could be fuller.
    let mut pinned = spread(1, "DoNotSchedule", json!({}));
    pinned["nodeSelector"] = json!({"zone": "a"});
    let one = || vec![guest("web", "n1", json!({}))];
    place(&wish(pinned.clone()), &nodes, one()).unwrap();
    pinned["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Ignore".into();
    place(&wish(pinned), &nodes, one()).unwrap_err();
}

#[test]
fn thousands_of_vms_are_placed_on_a_hundred_nodes_without_looking_at_each_other() {
    let nodes: Vec<Node> =
        (0..100).map(|at| sized(node(&format!("n{at}")), "64", "512Gi")).collect();
    let wish = wish(json!({"domain": {"devices": {}, "memory": {"guest": "1Gi"}}}));
    assert!(!wish.looks_at_others());
    let taken = std::cell::RefCell::new(HashMap::<String, (usize, Amount)>::new());
    for _ in 0..2000 {
        let chosen = {
            let of = |name: &str| taken.borrow().get(name).copied().unwrap_or_default();
            let scene = Scene {
                nodes: nodes.iter().collect(),
                guests: vec![],
                namespaces: &|_| None,
                refuse: &|_| None,
                taken: &|name| of(name).1,
                load: &|name| of(name).0,
            };
            choose(&wish, &scene).unwrap()
        };
        let mut taken = taken.borrow_mut();
        let here = taken.entry(chosen).or_default();
        *here = (here.0 + 1, here.1.and(wish.amount));
    }
    let taken = taken.into_inner();
    assert!(taken.len() == 100 && taken.values().all(|(count, _)| *count == 20));
}
