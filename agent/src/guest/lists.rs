//! What people ask of a guest, as KubeVirt shows it: `guestosinfo`, `userlist`, `filesystemlist`.
//!
//! Only the first word of an agent decides whether there is an answer: what it does not know
//! or does not tell is empty.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::words::{self, shown};
use crate::hypervisor::{GuestError, Hypervisor, Lane};

/// The most entries of a list.
const ENTRIES: usize = 512;

/// A question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Question {
    OsInfo,
    Users,
    FileSystems,
}

/// Asks, and gives the object that is the answer.
///
/// # Errors
/// Nobody listens in the guest.
pub async fn answer(
    hypervisor: &Hypervisor,
    domain: &str,
    question: Question,
) -> Result<Value, GuestError> {
    let guest = Guest { hypervisor, domain };
    match question {
        Question::Users => Ok(list("VirtualMachineInstanceGuestOSUserList", guest.users().await?)),
        Question::FileSystems => {
            Ok(list("VirtualMachineInstanceFileSystemList", guest.file_systems().await?))
        }
        Question::OsInfo => {
            let info: Info = guest.ask(words::INFO).await?;
            let mut told = info_of(&info);
            let os = guest.say(words::OS).await.and_then(|answer| words::os(&answer));
            told["os"] = json!(known(os)?);
            let name: HostName = known(guest.ask(words::HOST_NAME).await)?;
            told["hostname"] = json!(shown(&name.host_name));
            let zone: Zone = known(guest.ask(words::TIME_ZONE).await)?;
            told["timezone"] = json!(format!("{}, {}", shown(&zone.zone), zone.offset));
            told["userList"] = Value::Array(known(guest.users().await)?);
            told["fsInfo"]["disks"] = Value::Array(known(guest.file_systems().await)?);
            Ok(told)
        }
    }
}

/// What it does not tell is nothing; that it has fallen silent is an error.
fn known<T: Default>(answer: Result<T, GuestError>) -> Result<T, GuestError> {
    match answer {
        Err(GuestError::Refused(_) | GuestError::Unfit(_)) => Ok(T::default()),
        answer => answer,
    }
}

struct Guest<'a> {
    hypervisor: &'a Hypervisor,
    domain: &'a str,
}

impl Guest<'_> {
    async fn say(&self, words: &str) -> Result<String, GuestError> {
        self.hypervisor.ask_guest(self.domain, words, words::PATIENCE, Lane::Now).await
    }

    async fn ask<T: DeserializeOwned>(&self, words: &str) -> Result<T, GuestError> {
        words::returned(&self.say(words).await?)
    }

    async fn users(&self) -> Result<Vec<Value>, GuestError> {
        let users: Vec<User> = self.ask(words::USERS).await?;
        Ok(users.iter().take(ENTRIES).map(user).collect())
    }

    async fn file_systems(&self) -> Result<Vec<Value>, GuestError> {
        let all: Vec<FileSystem> = self.ask(words::FILE_SYSTEMS).await?;
        Ok(all.iter().take(ENTRIES).map(file_system).collect())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    version: String,
    supported_commands: Vec<Command>,
}

#[derive(Deserialize)]
struct Command {
    name: String,
    enabled: bool,
}

#[derive(Default, Deserialize)]
struct HostName {
    #[serde(rename = "host-name")]
    host_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Zone {
    zone: String,
    offset: i64,
}

#[derive(Deserialize)]
struct User {
    user: String,
    #[serde(default)]
    domain: String,
    #[serde(default, rename = "login-time")]
    login_time: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FileSystem {
    name: String,
    mountpoint: String,
    r#type: String,
    #[serde(default)]
    used_bytes: u64,
    #[serde(default)]
    total_bytes: u64,
    #[serde(default)]
    disk: Vec<Disk>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Disk {
    #[serde(default)]
    serial: String,
    bus_type: String,
}

fn info_of(info: &Info) -> Value {
    let commands = info.supported_commands.iter().take(ENTRIES);
    let commands: Vec<_> =
        commands.map(|one| json!({ "name": shown(&one.name), "enabled": one.enabled })).collect();
    json!({ "guestAgentVersion": shown(&info.version), "supportedCommands": commands })
}

fn user(user: &User) -> Value {
    json!({
        "userName": shown(&user.user), "domain": shown(&user.domain),
        "loginTime": user.login_time,
    })
}

fn file_system(one: &FileSystem) -> Value {
    let disks: Vec<_> = one
        .disk
        .iter()
        .take(ENTRIES)
        .map(|disk| json!({ "serial": shown(&disk.serial), "busType": shown(&disk.bus_type) }))
        .collect();
    json!({
        "diskName": shown(&one.name), "mountPoint": shown(&one.mountpoint),
        "fileSystemType": shown(&one.r#type), "usedBytes": one.used_bytes,
        "totalBytes": one.total_bytes, "disk": disks,
    })
}

fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({ "kind": kind, "apiVersion": "kubevirt.io/v1", "metadata": {}, "items": items })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::Fake;

    const XML: &str = "<domain><name>shop_till</name></domain>";

    async fn asked(
        answers: fn(&str) -> Result<String, GuestError>,
        question: Question,
    ) -> Result<Value, GuestError> {
        let fake = Fake::new();
        fake.define(XML).await.unwrap();
        fake.start("shop_till").await.unwrap();
        fake.answers("shop_till", answers);
        answer(&Hypervisor::Fake(fake), "shop_till", question).await
    }

    fn talkative(words: &str) -> Result<String, GuestError> {
        Ok(match words {
            words::INFO => {
                r#"{"return":{"version":"7.2.0","supported_commands":[
                    {"name":"guest-sync","enabled":true,"success-response":true}]}}"#
            }
            words::OS => r#"{"return":{"id":"debian"}}"#,
            words::HOST_NAME => r#"{"return":{"host-name":"till"}}"#,
            words::TIME_ZONE => r#"{"return":{"zone":"UTC","offset":0}}"#,
            words::USERS => r#"{"return":[{"user":"root","login-time":1700000000.5}]}"#,
            words::FILE_SYSTEMS => {
                r#"{"return":[{"name":"vda1","mountpoint":"/","type":"ext4","used-bytes":5,
                    "total-bytes":9,"disk":[{"bus-type":"virtio","bus":0,"unit":0,"target":0}]}]}"#
            }
            _ => return Err(GuestError::Refused("what?".to_owned())),
        }
        .to_owned())
    }

    #[tokio::test]
    async fn a_guest_is_shown_as_kubevirt_shows_it() {
        let told = asked(talkative, Question::OsInfo).await.unwrap();
        let file_system = json!({
            "diskName": "vda1", "mountPoint": "/", "fileSystemType": "ext4",
            "usedBytes": 5, "totalBytes": 9, "disk": [{ "serial": "", "busType": "virtio" }],
        });
        let user = json!({ "userName": "root", "domain": "", "loginTime": 1_700_000_000.5 });
        let expected = json!({
            "guestAgentVersion": "7.2.0",
            "supportedCommands": [{ "name": "guest-sync", "enabled": true }],
            "hostname": "till", "os": { "id": "debian" }, "timezone": "UTC, 0",
            "userList": [user], "fsInfo": { "disks": [file_system] },
        });
        assert_eq!(told, expected);
        let users = asked(talkative, Question::Users).await.unwrap();
        assert_eq!(users["items"], json!([user]));
        let all = asked(talkative, Question::FileSystems).await.unwrap();
        assert_eq!(all["items"], json!([file_system]));
    }

    #[tokio::test]
    async fn what_an_agent_does_not_know_is_empty_and_a_silent_one_is_an_error() {
        fn small(words: &str) -> Result<String, GuestError> {
            match words {
                words::INFO => Ok(r#"{"return":{}}"#.to_owned()),
                words::OS => Ok("{}".to_owned()),
                _ => Err(GuestError::Refused("the command has been disabled".to_owned())),
            }
        }
        let told = asked(small, Question::OsInfo).await.unwrap();
        assert_eq!((&told["os"], &told["userList"]), (&json!({}), &json!([])));
        let silent = asked(|_| Err(GuestError::Silent), Question::Users).await;
        assert_eq!(silent, Err(GuestError::Silent));
    }
}
