//! What people write and OVN reads as it stands: expressions of rules and policies, and
//! names of route tables. Pure.
//!
//! OVN takes any text as `match` and says only in a log that it cannot be read; the rule
//! is then in force nowhere. So what can be seen without OVN's tables of symbols is told
//! here: what its lexer knows no token for, brackets and quotes that are not in pairs, and
//! operands and operators that do not take turns (ovn/lib/lex.c, ovn-sb(5) on `match` of
//! `Logical_Flow`). Whether a field is one, or a
//! port is there, is not looked at. ovsdb-server ends a session over a NUL.

use std::net::Ipv4Addr;

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
    wrong(text).or_else(|| out_of_turn(text)).map(|what| format!("{what}; {EXAMPLE}"))
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

/// What of an expression whose brackets and quotes are in pairs stands where it cannot:
/// between two operands there is an operator, and between two operators an operand.
fn out_of_turn(text: &str) -> Option<String> {
    let mut rest = text.trim_start();
    let mut last = "";
    let mut is_operand = false;
    while !rest.is_empty() {
        let (token, after) = rest.split_at(length(rest));
        let kind = kind(token);
        match (kind, is_operand) {
            (Kind::Operand, false) => is_operand = true,
            // A part of what stands before, or the argument of is_chassis_resident.
            (Kind::Part, true) => {}
            (Kind::Open, true) if last == "is_chassis_resident" => {}
            (Kind::Between, true) => is_operand = false,
            (Kind::Close, true) | (Kind::Before | Kind::Open, false) => {}
            (Kind::Operand | Kind::Before | Kind::Open | Kind::Part, _) => {
                return Some(format!("{token:?} follows {last:?} without an operator"));
            }
            (Kind::Between | Kind::Close, false) => {
                return Some(format!("nothing stands before {token:?}"));
            }
        }
        if kind == Kind::Operand && !may_be(token) {
            return Some(format!("{token:?} is no address"));
        }
        if kind == Kind::Open && last == "is_chassis_resident" {
            is_operand = false;
        }
        (last, rest) = (token, after.trim_start());
    }
    (!is_operand).then(|| format!("nothing follows {last:?}"))
}

/// What a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// A name, a constant, a string, or a set of constants.
    Operand,
    /// Bits of what stands before.
    Part,
    /// An operator between two operands.
    Between,
    /// One before an operand.
    Before,
    Open,
    Close,
}

fn kind(token: &str) -> Kind {
    match token {
        "&&" | "||" | "==" | "!=" | "<" | ">" | "<=" | ">=" => Kind::Between,
        "!" => Kind::Before,
        "(" => Kind::Open,
        ")" => Kind::Close,
        _ if token.starts_with('[') => Kind::Part,
        _ => Kind::Operand,
    }
}

/// The length of the first token, in bytes; a set and what is in square brackets is one.
fn length(text: &str) -> usize {
    let up_to = |last: char| text.find(last).map_or(text.len(), |at| at + last.len_utf8());
    let first = text.chars().next().unwrap_or_default();
    match first {
        '{' => up_to('}'),
        '[' => up_to(']'),
        '"' => string(text),
        '(' | ')' => 1,
        '&' | '|' | '=' => 2,
        '!' | '<' | '>' if text[1..].starts_with('=') => 2,
        '!' | '<' | '>' => 1,
        _ => {
            let ends = |char: char| !is_token(char) || char.is_whitespace() || "!<>".contains(char);
            text.find(ends).unwrap_or(text.len()).max(first.len_utf8())
        }
    }
}

/// The length of a string with its quotes, in bytes.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    let ends = |(at, char): (usize, char)| {
        let is_end = at > 0 && char == '"' && !is_escaped;
        is_escaped = char == '\\' && !is_escaped;
        is_end.then_some(at + 1)
    };
    text.char_indices().find_map(ends).unwrap_or(text.len())
}

/// Whether a token of digits and dots can be the IPv4 address that it looks like.
fn may_be(token: &str) -> bool {
    let looks = token.contains('.')
        && token.starts_with(|char: char| char.is_ascii_digit())
        && token.chars().all(|char| char.is_ascii_digit() || matches!(char, '.' | '/'));
    let (address, mask) = token.split_once('/').unwrap_or((token, "32"));
    let is_mask =
        mask.parse::<u8>().is_ok_and(|length| length <= 32) || mask.parse::<Ipv4Addr>().is_ok();
    !looks || (is_mask && address.parse::<Ipv4Addr>().is_ok())
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
            "!(ip4 || !ip6) && is_chassis_resident(\"a (b\") && tcp",
            "0 < ip.ttl && ip4.dst == 10.0.0.0/255.0.0.0 && vlan.tci[0..11]",
            "ip4.src==10.0.0.1&&(tcp.dst>=80)",
            "ip6.src == fd00::1 && tcp.flags == 0x2/0x2",
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
            ("ip4 &&", "nothing follows \"&&\""),
            ("hello world", "\"world\" follows \"hello\" without an operator"),
            ("ip4.src == 1.1.1.", "\"1.1.1.\" is no address"),
            ("ip4.src == 1.1.1.1/40", "is no address"),
            ("ip4 && && tcp", "nothing stands before \"&&\""),
            ("== 3", "nothing stands before \"==\""),
            ("()", "nothing stands before \")\""),
            ("ip4 (tcp)", "\"(\" follows \"ip4\""),
            ("ip4 !tcp", "\"!\" follows \"ip4\""),
            ("!", "nothing follows \"!\""),
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
