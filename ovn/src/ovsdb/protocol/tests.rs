use std::sync::Arc;

use parking_lot::RwLock;
use proptest::prelude::*;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use super::super::rpc::Scanner;
use super::super::transaction::Transaction;
use super::*;

const UUID: &str = "00000000-0000-0000-0000-000000000001";

fn config() -> Config {
    Config {
        remotes: vec![],
        database: "D".to_owned(),
        tables: vec![("T".to_owned(), vec!["name".to_owned()])],
        leader_only: true,
    }
}

fn view() -> View {
    View {
        replica: Arc::new(RwLock::new(Replica::default())),
        generation: watch::channel(0).0,
        synced: watch::channel(false).0,
        trouble: watch::channel(None).0,
    }
}

/// What was sent since the last look.
fn sent(protocol: &mut Protocol<'_>) -> Vec<Json> {
    let mut scanner = Scanner::default();
    scanner.room(0).append(protocol.out());
    let mut messages = Vec::new();
    while let Some(message) = scanner.next() {
        messages.push(serde_json::from_slice(message.unwrap()).unwrap());
    }
    messages
}

fn tell(protocol: &mut Protocol<'_>, message: Json) -> Result<(), SessionError> {
    protocol.receive(message.to_string().as_bytes())
}

fn reply(protocol: &mut Protocol<'_>, id: u64, result: Json) {
    tell(protocol, json!({"id": id, "result": result, "error": null})).unwrap();
}

/// Answers everything up to the load, which is answered with `loaded`.
fn greet(protocol: &mut Protocol<'_>, loaded: Json) -> Json {
    let methods: Vec<_> = sent(protocol).iter().map(|message| message["method"].clone()).collect();
    assert_eq!(methods, ["set_db_change_aware", "monitor_cond_since", "get_schema"]);
    reply(protocol, 0, json!({}));
    let about = json!({"Database": {UUID: {"initial": {"model": "standalone", "leader": true}}}});
    reply(protocol, 1, json!([false, UUID, about]));
    reply(protocol, 2, json!({"tables": {"T": {"columns": {"name": {"type": "string"}}}}}));
    let load = sent(protocol).remove(0);
    reply(protocol, 3, loaded);
    load
}

fn one_row(name: &str) -> Json {
    json!([false, "v1", {"T": {UUID: {"initial": {"name": name}}}}])
}

fn names(view: &View) -> Vec<String> {
    view.replica.read().rows("T").map(|(_, row)| row.str("name").to_owned()).collect()
}

#[test]
fn a_conversation_begins_with_everything_and_goes_on_with_differences() {
    let (config, view, mut position) = (config(), view(), Position::default());
    let mut protocol = Protocol::begin(&config, &view, &mut position);
    let load = greet(&mut protocol, one_row("a"));
    assert_eq!(load["params"][2], json!({"T": [{"columns": ["name"]}]}));
    assert_eq!(load["params"][3], NO_TRANSACTION);
    assert!(protocol.following() && *view.synced.borrow());
    assert_eq!(names(&view), ["a"]);

    let change = json!({"T": {UUID: {"modify": {"name": "b"}}}});
    let update = json!({"method": "update3", "params": [MONITOR, "v2", change], "id": null});
    tell(&mut protocol, update).unwrap();
    assert_eq!(names(&view), ["b"]);
    assert_eq!(*view.generation.borrow(), 2);
}

#[test]
fn a_second_conversation_resumes_where_the_first_one_ended() {
    let (config, view, mut position) = (config(), view(), Position::default());
    greet(&mut Protocol::begin(&config, &view, &mut position), one_row("a"));
    assert!(!*view.synced.borrow(), "nobody follows now");
    assert_eq!(names(&view), ["a"]);
    let mut second = Protocol::begin(&config, &view, &mut position);
    let nothing_new = json!([true, "v1", {}]);
    assert_eq!(greet(&mut second, nothing_new)["params"][3], "v1");
    assert_eq!(names(&view), ["a"]);
}

#[test]
fn a_server_that_does_not_know_where_we_were_sends_everything_anew() {
    let (config, view, mut position) = (config(), view(), Position::default());
    greet(&mut Protocol::begin(&config, &view, &mut position), one_row("a"));
    let mut second = Protocol::begin(&config, &view, &mut position);
    greet(&mut second, one_row("z"));
    assert_eq!(names(&view), ["z"]);
}

#[test]
fn an_update_that_does_not_fit_ends_the_conversation_and_everything_is_loaded_anew() {
    let (config, view, mut position) = (config(), view(), Position::default());
    let mut first = Protocol::begin(&config, &view, &mut position);
    greet(&mut first, one_row("a"));
    let wrong = json!({"T": {NO_TRANSACTION: {"modify": {"name": "b"}}}});
    let update = json!({"method": "update3", "params": [MONITOR, "v2", wrong], "id": null});
    assert!(matches!(tell(&mut first, update), Err(SessionError::Update(_))));
    drop(first);
    let mut second = Protocol::begin(&config, &view, &mut position);
    assert_eq!(greet(&mut second, one_row("a"))["params"][3], NO_TRANSACTION);
}

#[test]
fn a_database_that_is_taken_away_is_loaded_anew() {
    let (config, view, mut position) = (config(), view(), Position::default());
    let mut first = Protocol::begin(&config, &view, &mut position);
    greet(&mut first, one_row("a"));
    let canceled = json!({"method": "monitor_canceled", "params": [MONITOR], "id": null});
    assert!(matches!(tell(&mut first, canceled), Err(SessionError::Replaced)));
    drop(first);
    let mut second = Protocol::begin(&config, &view, &mut position);
    assert_eq!(greet(&mut second, one_row("b"))["params"][3], NO_TRANSACTION);
}

#[test]
fn an_echo_is_answered_with_what_it_said() {
    let (config, view, mut position) = (config(), view(), Position::default());
    let mut protocol = Protocol::begin(&config, &view, &mut position);
    sent(&mut protocol);
    tell(&mut protocol, json!({"method": "echo", "params": ["x"], "id": "echo"})).unwrap();
    assert_eq!(sent(&mut protocol), [json!({"result": ["x"], "error": null, "id": "echo"})]);
}

#[test]
fn a_transaction_without_an_answer_ends_with_the_conversation() {
    let (config, view, mut position) = (config(), view(), Position::default());
    let mut protocol = Protocol::begin(&config, &view, &mut position);
    greet(&mut protocol, one_row("a"));
    let (answer, mut answered) = oneshot::channel();
    let command = Command { transaction: Transaction::new(), answer };
    protocol.transact(command, Duration::from_secs(1));
    assert!(protocol.deadline().is_some());
    drop(protocol);
    assert_eq!(answered.try_recv(), Ok(Err(TransactError::Disconnected)));
}

#[test]
fn an_answer_to_nothing_ends_the_conversation() {
    let (config, view, mut position) = (config(), view(), Position::default());
    let mut protocol = Protocol::begin(&config, &view, &mut position);
    let answer = json!({"id": 77, "result": {}, "error": null});
    assert!(matches!(tell(&mut protocol, answer), Err(SessionError::Rpc(_))));
}

#[test]
fn a_message_that_lacks_a_part_ends_the_conversation() {
    let update = |params: Json| json!({"method": "update3", "params": params, "id": null});
    for message in [
        update(json!([MONITOR])),
        update(json!([MONITOR, "v2"])),
        update(json!([SERVER, "v2"])),
        update(json!([MONITOR, "v2", 7])),
    ] {
        let (config, view, mut position) = (config(), view(), Position::default());
        let mut protocol = Protocol::begin(&config, &view, &mut position);
        greet(&mut protocol, one_row("a"));
        assert!(tell(&mut protocol, message.clone()).is_err(), "{message}");
    }
    for (id, answer) in [(1, json!([])), (1, json!("x")), (2, json!(null)), (2, json!([]))] {
        let (config, view, mut position) = (config(), view(), Position::default());
        let mut protocol = Protocol::begin(&config, &view, &mut position);
        let message = json!({"id": id, "result": answer, "error": null});
        assert!(tell(&mut protocol, message.clone()).is_err(), "{message}");
    }
}

#[test]
fn what_was_seen_of_a_cluster_outlives_a_server_that_is_behind_it() {
    let (config, view, mut position) = (config(), view(), Position::default());
    let about = |index: u64| {
        let row = json!({"model": "clustered", "connected": true, "leader": true,
            "cid": ["uuid", UUID], "index": index});
        json!({"id": 1, "result": [false, UUID, {"Database": {UUID: {"initial": row}}}],
            "error": null})
    };
    tell(&mut Protocol::begin(&config, &view, &mut position), about(9)).unwrap();
    // Asked twice, it is no less behind.
    for _ in 0..2 {
        let behind = tell(&mut Protocol::begin(&config, &view, &mut position), about(7));
        let behind = behind.unwrap_err();
        assert!(matches!(behind, SessionError::Server(ServerError::Behind { has: 7, seen: 9 })));
    }
    tell(&mut Protocol::begin(&config, &view, &mut position), about(9)).unwrap();
}

#[test]
fn an_outcome_that_the_server_does_not_know_ends_the_conversation_before_it_is_told() {
    let lost = json!([{"error": "cluster error", "details": "lost leadership"}]);
    for (result, error) in [(lost, json!(null)), (json!(null), json!("canceled"))] {
        let (config, view, mut position) = (config(), view(), Position::default());
        let mut protocol = Protocol::begin(&config, &view, &mut position);
        greet(&mut protocol, one_row("a"));
        let (answer, mut answered) = oneshot::channel();
        let command = Command { transaction: Transaction::new(), answer };
        protocol.transact(command, Duration::from_secs(1));
        let told = tell(&mut protocol, json!({"id": 4, "result": result, "error": error}));
        assert!(matches!(told, Err(SessionError::Unknown)), "{told:?}");
        assert_eq!(answered.try_recv(), Ok(Err(TransactError::Disconnected)));
        assert!(!*view.synced.borrow(), "whoever waits until it is synced waits for the next load");
    }
}

#[test]
fn a_schema_without_what_is_needed_ends_the_conversation() {
    let (config, view, mut position) = (config(), view(), Position::default());
    let mut protocol = Protocol::begin(&config, &view, &mut position);
    let schema = json!({"name": "D", "version": "1.0.0", "tables": {"T": {"columns": {}}}});
    let refused = tell(&mut protocol, json!({"id": 2, "result": schema, "error": null}));
    assert!(matches!(refused, Err(SessionError::Schema(SchemaError::Lacks { .. }))), "{refused:?}");
}

/// What a server could say, and what no server should.
fn said() -> impl Strategy<Value = Json> {
    let word = prop_oneof![
        Just(json!(null)),
        Just(json!(MONITOR)),
        Just(json!(SERVER)),
        Just(json!("T")),
        Just(json!(["uuid", UUID])),
        Just(json!(["set", []])),
        Just(json!(["map", []])),
        any::<i8>().prop_map(Json::from),
    ];
    let key = prop_oneof![
        Just("T"),
        Just("Database"),
        Just(UUID),
        Just("tables"),
        Just("columns"),
        Just("name"),
        Just("type"),
        Just("key"),
        Just("insert"),
        Just("modify"),
        Just("delete"),
        Just("model"),
    ];
    word.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((key.clone().prop_map(str::to_owned), inner), 0..4)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_server_says_nothing_panics(
        greeted in any::<bool>(),
        messages in prop::collection::vec((0_u64..5, any::<bool>(), said()), 1..6),
    ) {
        let (config, view, mut position) = (config(), view(), Position::default());
        let mut protocol = Protocol::begin(&config, &view, &mut position);
        if greeted {
            greet(&mut protocol, one_row("a"));
            let (answer, _) = oneshot::channel();
            let command = Command { transaction: Transaction::new(), answer };
            protocol.transact(command, Duration::from_secs(1));
        }
        for (id, reply, said) in messages {
            let message = match reply {
                true => json!({"id": id, "result": said, "error": null}),
                false => json!({"id": null, "method": "update3", "params": said}),
            };
            if tell(&mut protocol, message).is_err() {
                break;
            }
        }
    }

    #[test]
    fn whatever_update_a_server_sends_nothing_panics(
        to in prop_oneof![Just(MONITOR), Just(SERVER)],
        updates in prop::collection::vec(said(), 1..6),
    ) {
        let (config, view, mut position) = (config(), view(), Position::default());
        let mut protocol = Protocol::begin(&config, &view, &mut position);
        greet(&mut protocol, one_row("a"));
        for update in updates {
            for wrapped in [
                update.clone(),
                json!({"T": update}),
                json!({"T": {UUID: update}, "Database": {UUID: update}}),
                json!({"T": {UUID: {"modify": {"name": update}}}}),
            ] {
                let params = json!([to, "v2", wrapped]);
                let _ = tell(&mut protocol, json!({"id": null, "method": "update3", "params": params}));
            }
        }
    }
}
