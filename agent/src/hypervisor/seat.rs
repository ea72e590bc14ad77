//! The processors of a guest that goes to another node: there they are others.

use std::ops::Range;

use roxmltree::{Document, Node};

/// The domain without what keeps it to its limits, and on these processors, or on all. What is
/// no domain stays as it is.
pub(super) fn elsewhere(xml: &str, cpus: Option<&str>) -> String {
    let Ok(document) = Document::parse(xml) else { return xml.to_owned() };
    let parts = document.root_element().children().filter(Node::is_element);
    let edit = |part: Node<'_, '_>| -> Option<(Range<usize>, String)> {
        match part.tag_name().name() {
            "cputune" | "memtune" => Some((part.range(), String::new())),
            "vcpu" => Some((part.range(), vcpu(part, cpus))),
            _ => None,
        }
    };
    let mut edits: Vec<_> = parts.filter_map(edit).collect();
    edits.sort_by_key(|(range, _)| range.start);
    let mut text = xml.to_owned();
    for (range, instead) in edits.into_iter().rev() {
        text.replace_range(range, &instead);
    }
    text
}

fn vcpu(part: Node<'_, '_>, cpus: Option<&str>) -> String {
    let others = part.attributes().filter(|one| one.name() != "cpuset");
    let mut attributes: String =
        others.map(|one| format!(" {}='{}'", one.name(), one.value())).collect();
    if let Some(cpus) = cpus {
        attributes.push_str(&format!(" cpuset='{cpus}'"));
    }
    format!("<vcpu{attributes}>{}</vcpu>", part.text().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_on_the_processors_of_the_node_that_it_goes_to_and_limited_there_anew() {
        let xml = "<domain><vcpu placement='static' cpuset='0-1' current='2'>4</vcpu>\
            <memtune><hard_limit unit='KiB'>1</hard_limit></memtune><cputune><shares>9</shares>\
            </cputune><os/></domain>";
        let there = elsewhere(xml, Some("6"));
        assert_eq!(
            there,
            "<domain><vcpu placement='static' current='2' cpuset='6'>4</vcpu><os/></domain>"
        );
        let anywhere = elsewhere(xml, None);
        assert!(anywhere.contains("<vcpu placement='static' current='2'>4</vcpu>"), "{anywhere}");
        assert_eq!(elsewhere("no xml", None), "no xml");
    }
}
