//! The logins that pull secrets hold, and for which images each is; as the kubelet has it.
//!
//! A login is kept by what its Secret calls its server: a host, perhaps with a port, perhaps
//! with stars for parts of its name, perhaps with the beginning of a repository.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::Reference;
use super::reference::OLD_DEFAULT_HOST;

/// The key of a Secret of type `kubernetes.io/dockerconfigjson`.
const NEW_KEY: &str = ".dockerconfigjson";
/// The key of a Secret of type `kubernetes.io/dockercfg`.
const OLD_KEY: &str = ".dockercfg";

/// All logins that one VM may use.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// The more exactly a server is named the earlier.
    entries: Vec<Entry>,
    /// What is wrong with the Secrets, for people.
    faults: Vec<String>,
    /// The uids of its Secrets.
    secrets: Vec<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    server: String,
    login: Login,
}

/// A name and a password, shown to nobody.
#[derive(Clone, Eq, PartialEq)]
pub struct Login {
    pub(super) username: String,
    pub(super) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Login")
    }
}

#[derive(Deserialize)]
struct NewForm {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// Both in one, in base64.
    #[serde(default)]
    auth: String,
}

impl Keyring {
    /// Adds what a Secret of this name and uid holds.
    pub fn add(&mut self, name: &str, uid: &str, data: &BTreeMap<String, Vec<u8>>) {
        let auths = if let Some(text) = data.get(NEW_KEY) {
            serde_json::from_slice(text).map(|NewForm { auths }| auths)
        } else if let Some(text) = data.get(OLD_KEY) {
            serde_json::from_slice(text)
        } else {
            let fault = format!("Secret {name:?} has neither {NEW_KEY} nor {OLD_KEY}");
            self.faults.push(fault);
            return;
        };
        // Not the parser's words: they may quote a password.
        let Ok(auths): Result<BTreeMap<String, Auth>, _> = auths else {
            self.faults.push(format!("Secret {name:?} holds no JSON of a Docker configuration"));
            return;
        };
        self.secrets.push(uid.to_owned());
        for (server, auth) in auths {
            match auth.login() {
                Some(login) => self.entries.push(Entry { server: plain(&server), login }),
                None => {
                    let server = net::shown(&server).to_string();
                    let fault = format!("Secret {name:?} has no user and password for {server}");
                    self.faults.push(fault);
                }
            }
        }
        self.entries.sort_by(|one, two| two.server.cmp(&one.server));
    }

    /// Adds a login for one server, which a Secret of this uid has in a form of its own.
    pub fn add_login(&mut self, uid: &str, server: &str, username: String, password: String) {
        self.secrets.push(uid.to_owned());
        let login = Login { username, password };
        self.entries.push(Entry { server: server.to_owned(), login });
        self.entries.sort_by(|one, two| two.server.cmp(&one.server));
    }

    /// Notes that a Secret is not there.
    pub fn miss(&mut self, name: &str) {
        self.faults.push(format!("Secret {name:?} does not exist"));
    }

    /// The logins for an image, in the order in which they are to be tried.
    pub fn logins<'a>(&'a self, image: &Reference) -> Vec<&'a Login> {
        let name = format!("{}/{}", image.host(), image.repository());
        let mut logins = Vec::new();
        for entry in self.entries.iter().filter(|entry| matches(&entry.server, &name)) {
            if !logins.contains(&&entry.login) {
                logins.push(&entry.login);
            }
        }
        if logins.is_empty() && image.is_on_default_host() {
            let old = self.entries.iter().filter(|entry| entry.server == OLD_DEFAULT_HOST);
            logins.extend(old.map(|entry| &entry.login));
        }
        logins
    }

    /// The uids of the Secrets that it is made of.
    #[must_use]
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// What is wrong with its Secrets, if anything.
    #[must_use]
    pub fn faults(&self) -> Option<String> {
        (!self.faults.is_empty()).then(|| self.faults.join(", "))
    }
}

impl Auth {
    fn login(&self) -> Option<Login> {
        let given = Login { username: self.username.clone(), password: self.password.clone() };
        if self.auth.is_empty() {
            return (!given.username.is_empty()).then_some(given);
        }
        let both = BASE64_STANDARD.decode(self.auth.trim()).ok()?;
        let both = String::from_utf8(both).ok()?;
        let (username, password) = both.split_once(':')?;
        let password = password.trim_end_matches('\0');
        Some(Login { username: username.to_owned(), password: password.to_owned() })
    }
}

/// A server without what people write around its name.
fn plain(server: &str) -> String {
    let server = server.trim();
    let bare = ["https://", "http://"].iter().find_map(|scheme| server.strip_prefix(scheme));
    let bare = bare.unwrap_or(server);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    // The API's own paths, of which old logins are full.
    let path = ["v1", "v2"]
        .iter()
        .find_map(|api| {
            path.strip_prefix(api).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .unwrap_or(path);
    let path = path.trim_matches('/');
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// Whether a login for `server` is for the image of this name, both with their host first.
fn matches(server: &str, image: &str) -> bool {
    let (pattern, folder) = server.split_once('/').unwrap_or((server, ""));
    let (host, repository) = image.split_once('/').unwrap_or((image, ""));
    let with_port = |text: &'_ str| -> (String, Option<String>) {
        match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name.to_owned(), Some(port.to_owned())),
            _ => (text.to_owned(), None),
        }
    };
    let ((pattern, its_port), (host, port)) = (with_port(pattern), with_port(host));
    let (patterns, parts): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), host.split('.').collect());
    its_port == port
        && repository.starts_with(folder)
        && patterns.len() == parts.len()
        && patterns.iter().zip(&parts).all(|(pattern, part)| is_like(pattern, part))
}

/// Whether `text` is what `pattern` says, in which a star is for any characters.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keyring(auths: &serde_json::Value) -> Keyring {
        let mut keyring = Keyring::default();
        let text = json!({ "auths": auths }).to_string().into_bytes();
        keyring.add("pull", "u1", &[(NEW_KEY.to_owned(), text)].into());
        keyring
    }

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        let image = Reference::parse(image).unwrap();
        keyring.logins(&image).into_iter().map(|login| login.username.clone()).collect()
    }

    #[test]
    fn the_login_that_names_its_server_most_exactly_is_tried_first() {
        let user = |name: &str| json!({ "username": name, "password": "p" });
        let keyring = keyring(&json!({
            "reg.example": user("host"),
            "reg.example/team": user("team"),
            "*.example": user("star"),
            "https://reg.example:5000/v2/": user("port"),
            "https://index.docker.io/v1/": user("hub"),
        }));
        assert_eq!(users(&keyring, "reg.example/team/a"), ["team", "host", "star"]);
        assert_eq!(users(&keyring, "reg.example/other"), ["host", "star"]);
        assert_eq!(users(&keyring, "a.example/b"), ["star"]);
        assert_eq!(users(&keyring, "a.b.example/c"), Vec::<String>::new());
        assert_eq!(users(&keyring, "reg.example:5000/a"), ["port"]);
        assert_eq!(users(&keyring, "fedora"), ["hub"]);
        assert_eq!(users(&keyring, "evil.test/reg.example/a"), Vec::<String>::new());
    }

    #[test]
    fn both_forms_of_a_secret_are_read() {
        let auth = BASE64_STANDARD.encode("old:s3cret:with:colons");
        let text = json!({ "reg.example": { "auth": auth } }).to_string().into_bytes();
        let mut keyring = Keyring::default();
        keyring.add("pull", "u1", &[(OLD_KEY.to_owned(), text)].into());
        let image = Reference::parse("reg.example/a").unwrap();
        assert_eq!(keyring.logins(&image)[0].password, "s3cret:with:colons");
        assert_eq!(keyring.secrets(), ["u1"]);
        assert!(!format!("{keyring:?}").contains("s3cret"));
    }

    #[test]
    fn a_secret_that_is_none_is_told_without_its_content() {
        let mut keyring = Keyring::default();
        keyring.add("a", "u1", &[(NEW_KEY.to_owned(), b"{\"auths\": s3cret}".to_vec())].into());
        keyring.add("b", "u2", &BTreeMap::new());
        keyring.miss("c");
        let faults = keyring.faults().unwrap();
        assert!(!faults.contains("s3cret"), "{faults}");
        for told in ["\"a\" holds no JSON", "\"b\" has neither", "\"c\" does not exist"] {
            assert!(faults.contains(told), "{faults}");
        }
        assert!(keyring.secrets().is_empty());
    }

    #[test]
    fn a_star_is_for_any_characters_of_its_part() {
        for (pattern, text, is) in [
            ("*", "reg", true),
            ("r*g", "reg", true),
            ("r*g", "rex", false),
            ("a*", "reg", false),
            ("*e*g", "reeg", true),
            ("*eg*x", "reg", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(is_like(pattern, text), is, "{pattern} {text}");
        }
    }
}
