//! XML by construction: elements with attributes and either text or children.
//!
//! Whatever users wrote reaches the document only through here, so nothing of
//! it can be taken for markup.

use std::fmt;

/// One element.
#[derive(Clone, Debug)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Text(String),
    Children(Vec<Element>),
}

impl Element {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), content: Content::Children(Vec::new()) }
    }

    /// An element that holds only text.
    pub(super) fn text(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, attributes: Vec::new(), content: Content::Text(text.into()) }
    }

    pub(super) fn attr(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// Adds the attribute if there is a value.
    pub(super) fn maybe_attr(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// The value of an attribute.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The value of an attribute of the first child of this name.
    pub(super) fn value_of(&self, child: &str, name: &str) -> Option<&str> {
        match &self.content {
            Content::Children(all) => all.iter().find(|one| one.name == child)?.value(name),
            Content::Text(_) => None,
        }
    }

    pub(super) fn child(self, child: Self) -> Self {
        self.children([child])
    }

    /// Adds any number of elements; an `Option` adds one or none.
    ///
    /// # Panics
    /// On an element that holds text: the two are never mixed in a domain.
    pub(super) fn children(mut self, more: impl IntoIterator<Item = Self>) -> Self {
        match &mut self.content {
            Content::Children(children) => children.extend(more),
            Content::Text(_) => panic!("<{}> holds text and takes no children", self.name),
        }
        self
    }

    fn write(&self, out: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(out, "{:1$}<{2}", "", depth * 2, self.name)?;
        for (name, value) in &self.attributes {
            write!(out, " {name}='{}'", Escaped(value))?;
        }
        match &self.content {
            Content::Text(text) => writeln!(out, ">{}</{}>", Escaped(text), self.name),
            Content::Children(children) if children.is_empty() => writeln!(out, "/>"),
            Content::Children(children) => {
                writeln!(out, ">")?;
                children.iter().try_for_each(|child| child.write(out, depth + 1))?;
                writeln!(out, "{:1$}</{2}>", "", depth * 2, self.name)
            }
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(out, 0)
    }
}

/// Text as it may stand in an attribute or between tags.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.chars().try_for_each(|c| match c {
            '&' => out.write_str("&amp;"),
            '<' => out.write_str("&lt;"),
            '>' => out.write_str("&gt;"),
            '\'' => out.write_str("&apos;"),
            '"' => out.write_str("&quot;"),
            // Kept as they are in text, but a parser makes spaces of them in attributes.
            '\t' | '\n' | '\r' => write!(out, "&#{};", u32::from(c)),
            // XML 1.0 has no way to write these at all.
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.write_char('\u{fffd}'),
            c => out.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_value_stays_a_value() {
        let element = Element::new("a").attr("b", "'/><x y=\"&").child(Element::text("c", "<&>\n"));
        assert_eq!(
            element.to_string(),
            "<a b='&apos;/&gt;&lt;x y=&quot;&amp;'>\n  <c>&lt;&amp;&gt;&#10;</c>\n</a>\n"
        );
    }

    #[test]
    fn characters_that_xml_forbids_are_replaced() {
        assert_eq!(Element::text("a", "x\0\u{1b}y").to_string(), "<a>x\u{fffd}\u{fffd}y</a>\n");
    }
}
