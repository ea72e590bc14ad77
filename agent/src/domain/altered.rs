//! Devices as libvirt describes them, with one thing changed. All else stays as it is written, as
//! libvirt finds a device by it and refuses what it cannot change.

use roxmltree::{Document, Node};

use super::writer::Element;

/// The device for memory that comes and goes, asked to have so many bytes of it.
pub(super) fn with_requested(memory: &str, bytes: u64) -> Result<String, String> {
    changed(memory, |part| {
        if part.tag_name().name() != "target" {
            return Part::Stays;
        }
        let kib = |name: &'static str, text: &str| Element::text(name, text).attr("unit", "KiB");
        let text =
            |name| part.children().find(|one| one.has_tag_name(name)).and_then(|one| one.text());
        let target = Element::new("target")
            .children(text("size").map(|size| kib("size", size)))
            .children(text("node").map(|node| Element::text("node", node)))
            .children(text("block").map(|block| kib("block", block)))
            .child(kib("requested", &(bytes >> 10).to_string()));
        Part::Becomes(target)
    })
}

/// An interface with its cable in or out.
pub(super) fn with_link(interface: &str, up: bool) -> Result<String, String> {
    let state = if up { "up" } else { "down" };
    let link = Element::new("link").attr("state", state).to_string();
    let without = changed(interface, |part| {
        if part.tag_name().name() == "link" { Part::Goes } else { Part::Stays }
    })?;
    let end = without.rfind("</").ok_or("it has no end")?;
    Ok(format!("{}{link}{}", &without[..end], &without[end..]))
}

/// What becomes of one part of a device.
enum Part {
    Stays,
    Goes,
    Becomes(Element),
}

fn changed(device: &str, what: impl Fn(Node<'_, '_>) -> Part) -> Result<String, String> {
    let document = Document::parse(device).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let mut copied = 0;
    for part in document.root_element().children().filter(Node::is_element) {
        let range = part.range();
        text.push_str(&device[copied..range.start]);
        match what(part) {
            Part::Stays => text.push_str(&device[range.clone()]),
            Part::Goes => {}
            Part::Becomes(element) => text.push_str(&element.to_string()),
        }
        copied = range.end;
    }
    text.push_str(&device[copied..]);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_changed_and_all_else_is_as_it_was() {
        let interface = "<interface type='ethernet'><mac address='02:00:00:00:00:01'/>\
            <link state='up'/><alias name='ua-default'/></interface>";
        let down = with_link(interface, false).unwrap();
        assert_eq!(down.matches("<link ").count(), 1);
        assert!(down.contains("<link state='down'/>"), "{down}");
        assert!(down.contains("<alias name='ua-default'/>"), "{down}");
        let memory = "<memory model='virtio-mem'><target><size unit='KiB'>3145728</size>\
            <node>0</node><block unit='KiB'>2048</block><requested unit='KiB'>0</requested>\
            <current unit='KiB'>0</current></target><alias name='ua-x'/></memory>";
        let more = with_requested(memory, 1 << 30).unwrap();
        assert!(more.contains("<requested unit='KiB'>1048576</requested>"), "{more}");
        assert!(!more.contains("current") && more.contains("<alias name='ua-x'/>"), "{more}");
    }
}
