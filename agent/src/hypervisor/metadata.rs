//! The element in a domain's `<metadata>` that says whose domain it is.

/// The VMI a domain was made for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

impl Identity {
    /// Reads the element as libvirt returns it: alone, and without the prefix
    /// and the declaration of its namespace.
    ///
    /// The three values are a uuid and two DNS names, none of which XML would
    /// escape, so looking for the attributes is enough.
    pub(super) fn of_element(xml: &str) -> Option<Self> {
        let element = &xml[..xml.find('>')?];
        Some(Self {
            uid: attribute(element, "uid")?.to_owned(),
            namespace: attribute(element, "namespace")?.to_owned(),
            name: attribute(element, "name")?.to_owned(),
        })
    }

    /// Finds the element of our namespace in a whole domain.
    pub(super) fn of_domain(xml: &str) -> Option<Self> {
        let element = xml[..xml.find(super::METADATA_NAMESPACE)?].rfind('<')?;
        Self::of_element(&xml[element..])
    }
}

/// The value of an attribute of one start tag, in either kind of quotes.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = element;
    loop {
        let at = rest.find(name)?;
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let value = after.strip_prefix('=').filter(|_| before.ends_with(char::is_whitespace));
        if let Some(value) = value {
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            return value[1..].split(quote).next();
        }
        rest = after;
    }
}

/// The text of the first element of this name.
pub(super) fn text<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
    let open = format!("<{element}>");
    let start = xml.find(&open)? + open.len();
    let length = xml[start..].find("</")?;
    Some(&xml[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_read_from_the_element_alone_and_from_a_whole_domain() {
        let want = Identity { uid: "1-2".into(), namespace: "default".into(), name: "web".into() };
        let element = "<vmi uid=\"1-2\" namespace=\"default\" name=\"web\"/>";
        assert_eq!(Identity::of_element(element), Some(want.clone()));
        let domain = "<domain><name>default_web</name><metadata><berth:vmi \
            xmlns:berth='https://berth.io/domain/1' uid='1-2' namespace='default' name='web'/>\
            </metadata></domain>";
        assert_eq!(Identity::of_domain(domain), Some(want));
    }

    #[test]
    fn a_domain_without_our_element_is_not_ours() {
        assert_eq!(Identity::of_domain("<domain><name>theirs</name></domain>"), None);
    }

    #[test]
    fn the_name_attribute_is_not_mistaken_for_the_namespace() {
        let element = "<vmi namespace='name=x' name='y'";
        assert_eq!(attribute(element, "name"), Some("y"));
    }
}
