//! What a source names beside itself, all in the namespace of its claim: Secrets and ConfigMaps.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::{Api, Client, ResourceExt as _};

use super::fault::Fault;

/// Keys of a user and a password, as CDI calls them.
const USER: &str = "accessKeyId";
const PASSWORD: &str = "secretKey";

/// A user and a password.
type Login<'a> = (&'a [u8], &'a [u8]);

/// Where they are.
pub(super) struct Given<'a> {
    client: &'a Client,
    namespace: String,
}

/// What a Secret holds.
pub(super) struct Held {
    name: String,
    pub(super) uid: String,
    pub(super) data: BTreeMap<String, Vec<u8>>,
}

impl<'a> Given<'a> {
    pub(super) fn to(client: &'a Client, claim: &PersistentVolumeClaim) -> Self {
        Self { client, namespace: claim.namespace().unwrap_or_default() }
    }

    /// # Errors
    /// It is not there, or the API is away.
    pub(super) async fn secret(&self, name: &str) -> Result<Held, Fault> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await.map_err(Fault::passing("a Secret cannot be read"))?;
        let found = found.ok_or_else(|| Fault::Passing(format!("secret {name:?} not found")))?;
        let uid = found.uid().unwrap_or_default();
        let data = found.data.unwrap_or_default().into_iter();
        let data = data.map(|(key, value)| (key, value.0)).collect();
        Ok(Held { name: name.to_owned(), uid, data })
    }

    /// The certificates of a ConfigMap, each value some of them; none of no ConfigMap.
    ///
    /// # Errors
    /// It is not there, or the API is away.
    pub(super) async fn certificates(&self, name: Option<&str>) -> Result<Vec<Vec<u8>>, Fault> {
        let Some(name) = name else { return Ok(Vec::new()) };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await;
        let found = found.map_err(Fault::passing("a ConfigMap cannot be read"))?;
        let found = found.ok_or_else(|| Fault::Passing(format!("configmap {name:?} not found")))?;
        let data = found.data.unwrap_or_default();
        Ok(data.into_values().map(String::into_bytes).collect())
    }
}

impl Held {
    /// User and password, if it has either.
    ///
    /// # Errors
    /// It has one of them only.
    pub(super) fn login(&self) -> Result<Option<Login<'_>>, Fault> {
        let value = |key: &str| self.data.get(key).map(Vec::as_slice);
        match (value(USER), value(PASSWORD)) {
            (Some(user), Some(password)) => Ok(Some((user, password))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.lacks(PASSWORD)),
            (None, Some(_)) => Err(self.lacks(USER)),
        }
    }

    /// The same, where nothing else will do.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn needed_login(&self) -> Result<Login<'_>, Fault> {
        self.login()?.ok_or_else(|| self.lacks(USER))
    }

    fn lacks(&self, key: &str) -> Fault {
        Fault::Passing(format!("secret {:?} has no key {key}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(keys: &[&str]) -> Held {
        let data = keys.iter().map(|key| ((*key).to_owned(), key.as_bytes().to_vec()));
        Held { name: "key".to_owned(), uid: "u1".to_owned(), data: data.collect() }
    }

    #[test]
    fn a_login_is_both_a_user_and_a_password() {
        let both = held(&[USER, PASSWORD]);
        assert_eq!(both.login().unwrap(), Some((USER.as_bytes(), PASSWORD.as_bytes())));
        assert_eq!(held(&[]).login().unwrap(), None);
        for (keys, lacks) in [
            (&[][..], "no key accessKeyId"),
            (&[USER], "no key secretKey"),
            (&[PASSWORD], "no key accessKeyId"),
        ] {
            let told = held(keys).needed_login().unwrap_err().to_string();
            assert!(told.contains(lacks), "{told}");
        }
    }
}
