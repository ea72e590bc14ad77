//! What a running domain has, read from libvirt's XML.

use std::path::PathBuf;

use roxmltree::{Document, Node};

use super::ALIAS;

/// What is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Present {
    pub disks: Vec<PresentDisk>,
}

/// One disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresentDisk {
    /// Its name in the spec.
    pub name: String,
    /// What is behind it; none in an empty drive.
    pub source: Option<PathBuf>,
    /// Its name for the guest, as far as that goes by it: `vda`.
    pub target: String,
    /// Whether it is a drive whose medium can be changed.
    pub is_drive: bool,
    /// As libvirt has it.
    pub xml: String,
}

impl Present {
    /// Reads a domain. What is not ours in it is left out.
    ///
    /// # Errors
    /// What is no XML, for people.
    pub fn read(xml: &str) -> Result<Self, String> {
        let document = Document::parse(xml).map_err(|error| error.to_string())?;
        let domain = document.root_element();
        let devices = child(domain, "devices").into_iter().flat_map(|devices| devices.children());
        let disks = devices.filter(|one| one.has_tag_name("disk"));
        Ok(Self { disks: disks.filter_map(|one| disk(xml, one)).collect() })
    }

    /// The disk of this name.
    #[must_use]
    pub fn disk(&self, name: &str) -> Option<&PresentDisk> {
        self.disks.iter().find(|disk| disk.name == name)
    }
}

fn disk(xml: &str, element: Node<'_, '_>) -> Option<PresentDisk> {
    let alias = child(element, "alias")?.attribute("name")?;
    let source = child(element, "source");
    let source = source.and_then(|one| one.attribute("file").or_else(|| one.attribute("dev")));
    Some(PresentDisk {
        name: alias.strip_prefix(ALIAS)?.to_owned(),
        source: source.map(PathBuf::from),
        target: child(element, "target")?.attribute("dev")?.to_owned(),
        is_drive: element.attribute("device") == Some("cdrom"),
        xml: xml[element.range()].to_owned(),
    })
}

fn child<'a, 'i>(of: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    of.children().find(|one| one.has_tag_name(name))
}
