//! Fields that say for ever what they said first, since others rely on them.

/// A field below `spec` that cannot be changed once it says something.
#[derive(Clone, Copy, Debug)]
pub struct FixedField {
    /// The kind.
    kind: &'static str,
    /// The field.
    pub name: &'static str,
    /// What it says where it is empty.
    pub default: &'static str,
    /// What to do instead.
    instead: &'static str,
}

impl FixedField {
    /// That it stays, and what to do instead.
    #[must_use]
    pub fn message(&self) -> String {
        format!("it cannot be changed: {}", self.instead)
    }

    /// The same where the field must be named.
    pub(crate) fn rule_message(&self) -> String {
        format!("spec.{} cannot be changed: {}", self.name, self.instead)
    }
}

const fn fixed(
    kind: &'static str,
    name: &'static str,
    default: &'static str,
    instead: &'static str,
) -> FixedField {
    FixedField { kind, name, default, instead }
}

const ALL: [FixedField; 6] = [
    fixed("Subnet", "vpc", "ovn-cluster", "make a subnet in the other vpc, and move the VMs"),
    fixed("Subnet", "provider", "ovn", "make another subnet, and move the VMs"),
    fixed("IPPool", "subnet", "", "make another pool"),
    fixed("Vip", "subnet", "", "make another Vip"),
    fixed("IP", "namespace", "", "make another IP"),
    fixed("IP", "podName", "", "make another IP"),
];

/// Those of a kind.
pub fn fixed_fields(kind: &str) -> impl Iterator<Item = &'static FixedField> {
    ALL.iter().filter(move |one| one.kind == kind)
}
