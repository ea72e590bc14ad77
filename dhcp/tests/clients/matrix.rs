//! Every client through everything that it can do; the guide has the table of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use crate::programs::{Row, rows};
use crate::scenario::Scenario;

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/dhcp.md");
/// They wait for each other's timers more than they compute.
const AT_ONCE: usize = 12;

/// How it went, by row and scenario.
type Outcomes = BTreeMap<(usize, &'static str), Result<(), String>>;

/// `BERTH_REWRITE_GOLDEN=1` writes the table into the guide instead of comparing with it.
#[test]
fn the_guide_has_the_table_of_what_each_client_does() {
    let rows = rows();
    let outcomes = play(&rows);
    let table = table(&rows, &outcomes);
    let guide = std::fs::read_to_string(GUIDE).unwrap();
    if std::env::var_os("BERTH_REWRITE_GOLDEN").is_some() {
        std::fs::write(GUIDE, rewritten(&guide, &table)).unwrap();
    } else {
        let failed: Vec<String> = outcomes
            .iter()
            .filter_map(|((row, scenario), outcome)| {
                let what = format!("{} {} {scenario}", rows[*row].client, rows[*row].family.name());
                outcome.as_ref().err().map(|why| format!("--- {what}: {why}\n"))
            })
            .collect();
        assert!(
            guide.contains(&table),
            "{}docs/dhcp.md should have this table:\n{table}",
            failed.concat()
        );
    }
}

fn play(rows: &[Row]) -> Outcomes {
    let all =
        rows.iter().enumerate().flat_map(|(at, row)| row.has.iter().map(move |one| (at, *one)));
    let waiting = Mutex::new(all);
    let outcomes = Mutex::new(Outcomes::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((at, scenario)) = waiting.lock().unwrap().next() else { return };
                    let outcome = catch_unwind(AssertUnwindSafe(|| (rows[at].play)(scenario)));
                    let outcome = outcome.map_err(|why| match why.downcast::<String>() {
                        Ok(text) => *text,
                        Err(_) => "it failed".to_owned(),
                    });
                    outcomes.lock().unwrap().insert((at, scenario.name()), outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// The table with its heading.
fn table(rows: &[Row], outcomes: &Outcomes) -> String {
    let names = Scenario::ALL.map(Scenario::name);
    let mut table = format!("| client | speaks | {} |\n{}|\n", names.join(" | "), "|---".repeat(8));
    for (at, row) in rows.iter().enumerate() {
        let cells = names.map(|name| match outcomes.get(&(at, name)) {
            Some(Ok(())) => "yes",
            Some(Err(_)) => "fails",
            None => "–",
        });
        let (client, family, cells) = (row.client, row.family.name(), cells.join(" | "));
        table.push_str(&format!("| {client} | {family} | {cells} |\n"));
    }
    table
}

/// The guide with this table in place of the one that it has.
fn rewritten(guide: &str, table: &str) -> String {
    let begin = guide.find("| client | speaks |").expect("the guide has such a table");
    let (before, rest) = guide.split_at(begin);
    let after = rest.find("\n\n").map_or("", |end| &rest[end + 1..]);
    format!("{before}{table}{after}")
}
