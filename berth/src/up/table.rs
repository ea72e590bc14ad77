//! The VMs as a table.

use super::machines::Machine;

const HEAD: [&str; 7] =
    ["VM", "NODE", "ADDRESSES", "MAC", "PHASE", "RUNNING AFTER", "FIRST ACK AFTER"];

/// One line per VM, columns as wide as they must be.
pub(super) fn render(machines: &[Machine]) -> String {
    let seconds =
        |after: Option<f64>| after.map_or_else(|| "-".to_owned(), |after| format!("{after:.1} s"));
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(machines.iter().map(|machine| {
        [
            machine.name.to_string(),
            machine.node.clone().unwrap_or_else(|| "-".to_owned()),
            if machine.addresses.is_empty() { "-".to_owned() } else { machine.addresses.join(" ") },
            machine.mac.clone().unwrap_or_else(|| "-".to_owned()),
            machine.phase.clone(),
            seconds(machine.running_after),
            seconds(machine.ack_after),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::machines::Name;
    use super::*;

    #[test]
    fn columns_are_aligned_and_unknowns_are_dashes() {
        let machine = Machine {
            name: Name { namespace: "default".to_owned(), name: "web".to_owned() },
            node: Some("n1".to_owned()),
            addresses: vec!["10.66.0.10".to_owned(), "fd66::10".to_owned()],
            mac: None,
            phase: "Running".to_owned(),
            subnet: None,
            running_after: Some(4.25),
            ack_after: None,
            is_to_run: true,
        };
        let text = render(&[machine]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "web  n1    10.66.0.10 fd66::10  -    Running  4.2 s          -");
        assert_eq!(lines[0].find("ADDRESSES"), lines[1].find("10.66.0.10"));
    }
}
