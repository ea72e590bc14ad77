//! What people write and OVN reads as it stands: expressions of rules and policies, and
//! names of route tables. Pure.
//!
//! OVN takes any text as `match` and says only in a log that it cannot be read; the rule
//! is then in force nowhere. So what can be seen without OVN's tables of symbols is told
//! here: what its lexer knows no token for, and brackets and quotes that are not in pairs
//! (ovn/lib/lex.c, ovn-sb(5) on `match` of `Logical_Flow`). Whether a field is one, or a
//! port is there, is not looked at. ovsdb-server ends a session over a NUL.

use crds::kubeovn::{LONGEST_MATCH, LONGEST_TABLE};

/// What to write instead of this expression, if it can be none.
#[must_use]
pub fn advice(text: &str) -> Option<String> {
    const EXAMPLE: &str = "write an expression such as ip4.src == 10.0.0.0/24";
    if text.trim().is_empty() {
        return Some(EXAMPLE.to_owned());
    }
    if text.len() > LONGEST_MATCH {
        return Some(format!("it is {} bytes long: write at most {LONGEST_MATCH}", text.len()));
    }
    wrong(text).map(|what| format!("{what}; {EXAMPLE}"))
}

/// What to write instead of this name of a route table, if it can be none.
#[must_use]
pub fn table_advice(text: &str) -> Option<String> {
    let advice = || format!("write a name of at most {LONGEST_TABLE} printable characters");
    (text.len() > LONGEST_TABLE || text.chars().any(char::is_control)).then(advice)
}

/// What of a text is no expression.
fn wrong(text: &str) -> Option<String> {
    let mut open = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let next = chars.peek().copied();
        match char {
            '"' => {
                if let Some(what) = quoted(&mut chars) {
                    return Some(what);
                }
            }
            '(' | '[' | '{' => open.push(char),
            ')' | ']' | '}' => match open.pop() {
                Some(one) if closes(one) == char => {}
                Some(one) => return Some(format!("{char:?} stands where {one:?} is to be closed")),
                None => return Some(format!("{char:?} closes nothing")),
            },
            '&' | '|' if next == Some(char) => drop(chars.next()),
            '&' | '|' => return Some(format!("{char:?} stands alone: write {char}{char}")),
            '=' if next == Some('=') => drop(chars.next()),
            '=' => return Some("\"=\" stands alone: write ==".to_owned()),
            '!' | '<' | '>' if next == Some('=') => drop(chars.next()),
            '$' | '@' if !next.is_some_and(begins_name) => {
                return Some(format!("{char:?} names nothing"));
            }
            _ if is_token(char) => {}
            other => return Some(format!("{other:?} is nothing that OVN reads")),
        }
    }
    open.pop().map(|one| format!("{one:?} is not closed"))
}

/// What is wrong with a string whose first quote was read.
fn quoted(chars: &mut impl Iterator<Item = char>) -> Option<String> {
    while let Some(char) = chars.next() {
        match char {
            '"' => return None,
            '\\' if chars.next().is_none_or(char::is_control) => {
                return Some("a backslash stands before nothing".to_owned());
            }
            '\\' => {}
            _ if char.is_control() => return Some(format!("{char:?} stands within quotes")),
            _ => {}
        }
    }
    Some("a quote is not closed".to_owned())
}

const fn closes(open: char) -> char {
    match open {
        '(' => ')',
        '[' => ']',
        _ => '}',
    }
}

/// Whether the name of an address set or a port group may begin so.
const fn begins_name(char: char) -> bool {
    char.is_ascii_alphabetic() || matches!(char, '_' | '.' | ':')
}

/// Whether a token outside of quotes may have this character.
const fn is_token(char: char) -> bool {
    char.is_ascii_alphanumeric()
        || matches!(char, '_' | '.' | ':' | '/' | '-' | ',' | '!' | '<' | '>' | '$' | '@')
        || matches!(char, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ovn_reads_is_let_through() {
        for text in [
            "ip4.src == 10.0.0.0/24",
            "ip4.src == {10.0.0.1, 10.0.0.2..10.0.0.9} && (tcp.dst == 80 || udp)",
            "inport == @pg_web && ip6.dst == $set.v6 && !ct.est",
            "outport == \"web.default \\\" (a\" && icmp4.type == 8",
            "ip.ttl < 5 && reg0[0..3] != 0x7\n",
            "eth.src == 00:00:00:00:00:01/ff:ff:ff:ff:ff:00",
        ] {
            assert_eq!(advice(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_told_with_what_is_wrong() {
        for (text, what) in [
            (" ", "write an expression"),
            ("ip4 \0", r"'\0' is nothing that OVN reads"),
            ("ip4 \u{7f}", "is nothing"),
            ("((((", "'(' is not closed"),
            ("ip4)", "')' closes nothing"),
            ("(ip4}", "'}' stands where '(' is to be closed"),
            ("inport == \"a", "a quote is not closed"),
            ("inport == \"a\0\"", "within quotes"),
            ("ip4 & tcp", "'&' stands alone: write &&"),
            ("ip4.src = 10.0.0.1", "write =="),
            ("ip4.src == $", "'$' names nothing"),
            ("inport == @ && ip4", "'@' names nothing"),
            ("ip4 # all", "'#' is nothing"),
            ("ıp4", "is nothing"),
        ] {
            let told = advice(text).unwrap_or_default();
            assert!(told.contains(what), "{text:?}: {told}");
        }
        let long = "a".repeat(LONGEST_MATCH + 1);
        assert!(advice(&long).unwrap().contains("bytes long"));
    }

    #[test]
    fn a_route_table_has_a_name_that_can_be_printed() {
        assert_eq!(table_advice(""), None);
        assert_eq!(table_advice("blue 1"), None);
        assert!(table_advice("a\0").is_some());
        assert!(table_advice(&"a".repeat(LONGEST_TABLE + 1)).is_some());
    }
}
