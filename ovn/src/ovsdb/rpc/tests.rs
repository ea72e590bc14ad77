use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Feeds `stream` in pieces that end where told, and takes out what is complete.
fn scan(stream: &[u8], cuts: &[usize]) -> Vec<Json> {
    let mut scanner = Scanner::default();
    let mut objects = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([stream.len()]) {
        scanner.room(0).extend_from_slice(&stream[from..to]);
        from = to;
        while let Some(object) = scanner.next() {
            objects.push(serde_json::from_slice(object.unwrap()).unwrap());
        }
    }
    objects
}

#[test]
fn several_messages_in_one_read_are_taken_one_by_one() {
    let objects = scan(b"{\"a\":1}{\"b\":[{}]} \n\t{\"c\":{}}{\"d\"", &[]);
    assert_eq!(objects, [json!({"a": 1}), json!({"b": [{}]}), json!({"c": {}})]);
}

#[test]
fn braces_quotes_and_backslashes_within_strings_end_nothing() {
    let message = json!({"a{": "}]\"", "b": "\\", "c": "\\\"}"});
    let stream = format!("{message}{message}");
    assert_eq!(scan(stream.as_bytes(), &[]), [message.clone(), message]);
}

#[test]
fn a_message_in_single_bytes_is_complete_with_its_last_one() {
    let message = json!({"name": "a\"}", "deep": [[{"x": []}]]});
    let stream = message.to_string().into_bytes();
    let cuts: Vec<_> = (0..stream.len()).collect();
    assert_eq!(scan(&stream, &cuts), [message]);
}

#[test]
fn anything_but_an_object_between_messages_is_refused() {
    for stream in [&b"x"[..], b"[1]", b"}", b"\"a\"", b"7"] {
        let mut scanner = Scanner::default();
        scanner.room(0).extend_from_slice(stream);
        assert!(matches!(scanner.next(), Some(Err(RpcError::NotAnObject(_)))));
    }
}

#[test]
fn what_was_taken_is_not_kept() {
    let mut scanner = Scanner::default();
    for _ in 0..1000 {
        scanner.room(0).extend_from_slice(b"{\"a\":\"0123456789\"}");
        assert!(scanner.next().is_some());
        assert!(scanner.next().is_none());
    }
    assert!(scanner.room(0).capacity() < 100);
}

#[test]
fn one_large_message_does_not_hold_its_memory_for_ever() {
    let mut scanner = Scanner::default();
    let large = json!({"a": "x".repeat(8 * KEPT)}).to_string();
    scanner.room(0).extend_from_slice(large.as_bytes());
    assert!(scanner.next().is_some());
    assert!(scanner.room(0).capacity() <= 2 * KEPT);
}

#[test]
fn requests_notifications_and_replies_are_told_apart() {
    let parse = |json: Json| Message::parse(json.to_string().as_bytes());
    assert_eq!(
        parse(json!({"method": "echo", "params": [1], "id": "echo"})).unwrap(),
        Message::Request { method: "echo".into(), params: json!([1]), id: json!("echo") }
    );
    assert_eq!(
        parse(json!({"id": 3, "result": [], "error": null})).unwrap(),
        Message::Reply { id: 3, outcome: Ok(json!([])) }
    );
    assert_eq!(
        parse(json!({"id": 3, "result": null, "error": "no"})).unwrap(),
        Message::Reply { id: 3, outcome: Err(json!("no")) }
    );
    assert!(matches!(parse(json!({"id": "x"})), Err(RpcError::NotAMessage(_))));
    assert!(matches!(Message::parse(b"{,}"), Err(RpcError::Json(_))));
}

fn json() -> impl Strategy<Value = Json> {
    let text = prop_oneof!["[{}\\[\\]\"\\\\a\\x00-\\x1f\u{e9}\u{1f6a2}]{0,8}", "\\PC{0,8}"];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        text.clone().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((text.clone(), inner), 0..4)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_objects_cut_anywhere_come_out_as_they_went_in(
        contents in prop::collection::vec(json(), 1..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let objects: Vec<_> = contents.into_iter().map(|json| json!({"x": json})).collect();
        let stream: String = objects.iter().map(Json::to_string).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(scan(stream.as_bytes(), &cuts), objects);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut scanner = Scanner::default();
        scanner.room(0).extend_from_slice(&bytes);
        while let Some(Ok(object)) = scanner.next() {
            let _ = Message::parse(object);
        }
    }
}
