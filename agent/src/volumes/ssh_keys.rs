//! The public keys of `accessCredentials`, for the metadata that cloud-init reads; pure.

use crds::kubevirt::{AccessCredential, SshPublicKey, VirtualMachineInstance};

use super::VolumeError;
use super::cloud_init::Kind;
use super::objects::Objects;

/// The most keys that a guest is given: whoever may write a Secret chooses how many.
const MOST: usize = 256;

/// The keys that go by this kind of drive, in the order in which they are written.
pub(super) fn of(
    vmi: &VirtualMachineInstance,
    kind: Kind,
    objects: &Objects,
) -> Result<Vec<String>, VolumeError> {
    let mut keys = Vec::new();
    for (at, credential) in vmi.spec.access_credentials.iter().enumerate() {
        let field = format!("spec.accessCredentials[{at}].sshPublicKey");
        let Some(secret) = by(credential, kind).and_then(|key| key.source.secret.as_ref()) else {
            continue;
        };
        let name = &secret.secret_name;
        let values = objects.secret(name).ok_or_else(|| VolumeError::Secret {
            field: field.clone(),
            name: name.clone(),
            problem: "does not exist",
        })?;
        let text = values.values().map(|value| String::from_utf8_lossy(value));
        let lines = text.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        keys.extend(lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
        if keys.len() > MOST {
            let rule = format!("brings more than {MOST} keys: leave some out of secret {name}");
            return Err(VolumeError::invalid(field, rule));
        }
    }
    Ok(keys)
}

/// The keys of a credential, if they go by this kind of drive.
fn by(credential: &AccessCredential, kind: Kind) -> Option<&SshPublicKey> {
    credential.ssh_public_key.as_ref().filter(|key| {
        let method = &key.propagation_method;
        match kind {
            Kind::NoCloud => method.no_cloud.is_some(),
            Kind::ConfigDrive => method.config_drive.is_some(),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crds::kubevirt::ignored;
    use serde_json::{Value, json};

    use super::*;

    fn vmi(credentials: Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default" },
            "spec": {
                "domain": { "devices": {} },
                "accessCredentials": credentials,
                "volumes": [{ "name": "init", "cloudInitNoCloud": { "userData": "#!/bin/sh" } }],
            },
        }))
        .unwrap()
    }

    fn ssh(secret: &str, method: &str) -> Value {
        json!({ "sshPublicKey": {
            "source": { "secret": { "secretName": secret } },
            "propagationMethod": { method: {} },
        } })
    }

    fn holding(keys: &str) -> Objects {
        let mut objects = Objects::default();
        let values = [("b", "of b"), ("a", keys)];
        let values = values.map(|(name, keys)| (name.to_owned(), keys.as_bytes().to_vec()));
        objects.insert_secret("us", BTreeMap::from(values));
        objects
    }

    #[test]
    fn keys_are_lines_of_a_secret_and_go_the_way_that_is_named() {
        let vmi = vmi(json!([ssh("us", "noCloud"), ssh("gone", "configDrive")]));
        let objects = holding("  first \n\nsecond\n");
        assert_eq!(of(&vmi, Kind::NoCloud, &objects).unwrap(), ["first", "second", "of b"]);
        let error = of(&vmi, Kind::ConfigDrive, &objects).unwrap_err();
        assert!(error.is_retryable(), "somebody may make it");
        assert_eq!(
            error.to_string(),
            "spec.accessCredentials[1].sshPublicKey: secret gone does not exist"
        );
    }

    #[test]
    fn more_keys_than_a_drive_is_to_carry_are_refused() {
        let vmi = vmi(json!([ssh("us", "noCloud")]));
        let error = of(&vmi, Kind::NoCloud, &holding(&"key\n".repeat(MOST))).unwrap_err();
        assert!(error.to_string().contains("more than 256 keys"), "{error}");
    }

    #[test]
    fn keys_that_no_drive_takes_to_the_guest_are_told() {
        let password = json!({ "userPassword": { "source": {}, "propagationMethod": {} } });
        let vmi = vmi(json!([
            ssh("us", "noCloud"),
            ssh("us", "configDrive"),
            ssh("us", "qemuGuestAgent"),
            password
        ]));
        let path = "spec.accessCredentials";
        let method = "sshPublicKey.propagationMethod";
        assert_eq!(
            ignored(&vmi.spec, "spec"),
            [
                format!("{path}[1].{method}.configDrive"),
                format!("{path}[2].{method}.qemuGuestAgent"),
                format!("{path}[3].userPassword"),
            ]
        );
    }
}
