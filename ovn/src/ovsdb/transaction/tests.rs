use serde_json::json;

use super::*;

/// A child in a parent, both new.
fn family(name: &str) -> Transaction {
    let mut txn = Transaction::new();
    let child = txn.insert("Child", vec![("name", Value::from(name))]);
    txn.guard("Parent", vec![Condition::equals("name", name)], vec!["name"], vec![]);
    txn.insert("Parent", vec![("children", Value::from(child))]);
    txn
}

#[test]
fn guards_come_before_operations_and_the_commit_last() {
    let txn = family("a").durable().comment("why");
    assert_eq!(
        txn.to_json(),
        [
            json!({"op": "wait", "table": "Parent", "timeout": 0, "where": [["name", "==", "a"]],
                "columns": ["name"], "until": "==", "rows": []}),
            json!({"op": "insert", "table": "Child", "uuid-name": "row0", "row": {"name": "a"}}),
            json!({"op": "insert", "table": "Parent", "uuid-name": "row1",
                "row": {"children": ["named-uuid", "row0"]}}),
            json!({"op": "comment", "comment": "why"}),
            json!({"op": "commit", "durable": true}),
        ]
    );
}

#[test]
fn references_of_an_appended_transaction_are_renumbered() {
    let mut txn = family("a");
    txn.append(family("b").durable());
    let ops = txn.to_json();
    let kinds: Vec<_> = ops.iter().map(|op| op["op"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["wait", "wait", "insert", "insert", "insert", "insert", "commit"]);
    assert_eq!(ops[4]["uuid-name"], "row2");
    assert_eq!(ops[5]["row"]["children"], json!(["named-uuid", "row2"]));
}

#[test]
fn results_are_those_of_the_operations() {
    let uuid = "00000000-0000-0000-0000-000000000001";
    let inserted = json!({"uuid": ["uuid", uuid]});
    let results = family("a").results(json!([{}, inserted, inserted, {}, {}])).unwrap();
    let expected = OpResult::Inserted(Uuid::parse_str(uuid).unwrap());
    assert_eq!(results, [expected.clone(), expected]);
}

#[test]
fn a_failure_says_whether_fresh_data_would_help() {
    let outcome = |answer| family("a").results(answer).unwrap_err();
    assert_eq!(outcome(json!([{"error": "timed out"}, null, null])), TransactError::Conflict);
    let lost = json!({"error": "cluster error", "details": "lost leadership"});
    assert_eq!(outcome(json!([{}, {}, {}, lost])), TransactError::Disconnected);
    let twice = "Transaction causes multiple rows in \"T\" table to have identical values";
    let violation = json!({"error": "constraint violation", "details": twice});
    assert_eq!(outcome(json!([{}, {}, {}, violation])), TransactError::Conflict);
    assert_eq!(
        outcome(json!([{}, {"error": "constraint violation", "details": "1 is too small"}, null])),
        rejected("constraint violation", "1 is too small")
    );
    assert!(matches!(outcome(json!([{}])), TransactError::Rejected { .. }));
    assert!(matches!(outcome(json!(null)), TransactError::Rejected { .. }));
}

#[test]
fn a_transaction_of_guards_alone_does_nothing() {
    let mut txn = Transaction::new();
    txn.guard("T", vec![], vec!["name"], vec![]);
    assert!(txn.is_empty());
}
