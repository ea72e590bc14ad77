//! Passwords that libvirtd hands to QEMU: in its memory only, told to nobody, each for one disk
//! of one domain. Whose one is it says itself.

use virt::connect::Connect;
use virt::secret::Secret;
use virt::sys;

use super::super::HypervisorError;
use super::verbs::refused;
use crate::volumes::Login;

/// What the uses of ours begin with.
const OURS: &str = "berth.io/";

/// For what a password is.
pub(super) fn usage(domain: &str, volume: &str) -> String {
    format!("{OURS}{domain}/{volume}")
}

/// The domain for which a password of ours is.
fn domain(usage: &str) -> Option<&str> {
    usage.strip_prefix(OURS)?.rsplit_once('/').map(|(domain, _)| domain)
}

/// Has libvirt know it; again, if it does already.
pub(super) fn keep(on: &Connect, usage: &str, login: &Login) -> Result<(), HypervisorError> {
    // A domain that was made anew has another uuid for the same use, which is one secret's.
    for secret in ours(on)? {
        let is_it = secret.uuid().is_ok_and(|known| known == login.secret);
        if !is_it && secret.usage_id().is_ok_and(|known| known == usage) {
            secret.undefine().map_err(|error| refused(&error))?;
        }
    }
    // Names of domains and volumes have no character that XML would mind.
    let xml = format!(
        "<secret ephemeral='yes' private='yes'><uuid>{}</uuid>\
         <usage type='iscsi'><target>{usage}</target></usage></secret>",
        login.secret
    );
    let secret = on.define_secret_xml(&xml, 0).map_err(|error| refused(&error))?;
    secret.set_value(&login.password, 0).map_err(|error| refused(&error))
}

/// Has libvirt forget those of domains of which `of` is true.
pub(super) fn forget(on: &Connect, of: &dyn Fn(&str) -> bool) -> Result<(), HypervisorError> {
    for secret in ours(on)? {
        let usage = secret.usage_id().unwrap_or_default();
        if domain(&usage).is_some_and(of) {
            secret.undefine().map_err(|error| refused(&error))?;
        }
    }
    Ok(())
}

fn ours(on: &Connect) -> Result<Vec<Secret>, HypervisorError> {
    let all = on.list_all_secrets(0).map_err(|error| refused(&error))?;
    let is_ours = |secret: &Secret| {
        secret.usage_type().is_ok_and(|kind| kind == sys::VIR_SECRET_USAGE_TYPE_ISCSI)
            && secret.usage_id().is_ok_and(|usage| usage.starts_with(OURS))
    };
    Ok(all.into_iter().filter(is_ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_says_for_which_domain_it_is() {
        assert_eq!(domain(&usage("default_web", "data")), Some("default_web"));
        assert_eq!(domain("somebody/default_web/data"), None);
    }
}
