//! What texts of both families have in common: names of a table, options by their number,
//! and the boot files.

use super::table::Definition;
use super::text::Pair;
use super::value::{self, Value};
use super::{Clients, Coded};

const TWICE: &str = "this option is there under another name: write it once";

/// The options that are sent by their number, while a text is read.
#[derive(Debug, Default)]
pub(super) struct Numbered {
    list: Vec<Coded>,
    /// The names that have a value.
    named: Vec<&'static str>,
    /// `bootfile_name`.
    file: Option<Value>,
    /// `bootfile_name_alt`.
    alternative: Option<Value>,
}

impl Numbered {
    /// The name of the table that a pair gives a value. `option_<number>`, whose number
    /// `code` reads, stands for the name of that number; without one it is taken in, and so
    /// are octets, which say what no name would.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn read(
        &mut self,
        pair: &Pair,
        table: &'static [Definition],
        code: impl FnOnce(&str) -> Result<u16, String>,
    ) -> Result<Option<(&'static Definition, Value)>, String> {
        let number = pair.key.strip_prefix("option_").map(code).transpose()?;
        let definition = match number {
            None => table.iter().find(|one| one.name == pair.key),
            Some(number) => table.iter().find(|one| one.code == Some(number)),
        };
        let value = match (number, definition) {
            (None, None) => return Err(unknown(&pair.key, table)),
            (None, Some(name)) => name.kind.read(&pair.value),
            (Some(_), None) => pair.value.parse(),
            (Some(_), Some(name)) => name.kind.read_tagged(&pair.value),
        };
        let value = value.map_err(|error| error.to_string())?;
        if let Some(name) = definition {
            self.name_once(name)?;
        }
        match (number, definition) {
            (Some(code), None) => self.add(Coded { code, value, only: Clients::default() })?,
            (Some(code), _) if value::is_octets(&pair.value) => {
                self.add(Coded { code, value, only: Clients::default() })?;
            }
            (_, definition) => return Ok(definition.map(|name| (name, value))),
        }
        Ok(None)
    }

    /// # Errors
    /// The name has a value already: by its number, or its number by the name.
    fn name_once(&mut self, name: &'static Definition) -> Result<(), String> {
        if self.named.contains(&name.name) {
            return Err(TWICE.to_owned());
        }
        self.named.push(name.name);
        Ok(())
    }

    /// Takes in the value of a name for which there is no field.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn take(&mut self, name: &Definition, value: Value) -> Result<(), String> {
        match name.name {
            "bootfile_name" => self.file = Some(value),
            "bootfile_name_alt" => self.alternative = Some(value),
            _ => {
                let code = name.code.expect("what is no option has a field");
                return self.add(Coded { code, value, only: name.clients() });
            }
        }
        Ok(())
    }

    /// Adds an option, unless there is one of its number for the same clients.
    fn add(&mut self, option: Coded) -> Result<(), String> {
        let same = |other: &Coded| other.code == option.code && other.only == option.only;
        if self.list.iter().any(same) {
            return Err(TWICE.to_owned());
        }
        self.list.push(option);
        Ok(())
    }

    /// All of them, those for fewer clients first; the boot file has the number `code`.
    ///
    /// iPXE gets `bootfile_name`, whoever is not yet iPXE what is written for its
    /// architecture, then `bootfile_name_alt`: OVN's meaning of the two names.
    pub(super) fn finish(self, code: u16) -> Vec<Coded> {
        let Self { mut list, file, alternative, named: _ } = self;
        for option in list.iter_mut().filter(|option| !option.only.arch.is_empty()) {
            option.only.ipxe = Some(false);
        }
        list.sort_by_key(|option| option.only.are_all());
        let both = file.is_some() && alternative.is_some();
        for (value, ipxe) in [(file, true), (alternative, false)] {
            let only = Clients { arch: Vec::new(), ipxe: Some(ipxe).filter(|_| both) };
            list.extend(value.map(|value| Coded { code, value, only }));
        }
        list
    }
}

/// What to write instead of a name that is none.
pub(super) fn unknown(name: &str, table: &[Definition]) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(name);
    let near = |one: &&Definition| {
        let have = plain(one.name);
        wanted.len() > 2 && (have.contains(&wanted) || wanted.contains(&have))
    };
    let near: Vec<&str> = table.iter().filter(near).map(|one| one.name).take(3).collect();
    let near = if near.is_empty() { String::new() } else { format!("{}, or ", near.join(", ")) };
    format!("there is no option {name:?}: write {near}option_<number>; docs/dhcp.md has them all")
}
