//! DataVolumes that come with VMs, in KubeVirt's words
//! (`pkg/storage/admitters/data-volume-template.go`). Pure.

use crds::kubevirt::{DataVolumeTemplate, VirtualMachine};

/// What is wrong with the templates of a VM, if anything is.
pub(super) fn check(vm: &VirtualMachine) -> Result<(), String> {
    let templates = vm.spec.data_volume_templates.iter().enumerate();
    for (at, template) in templates {
        let entry = format!("spec.dataVolumeTemplate[{at}]");
        of_template(template, &entry)?;
        let volumes = &vm.spec.template.spec.volumes;
        let names = volumes.iter().filter_map(|volume| volume.claim());
        if !names.into_iter().any(|(name, _)| name == template.metadata.name) {
            return Err(format!(
                "DataVolumeTemplate entry {entry} must be referenced in the VMI template's 'volumes' list"
            ));
        }
    }
    Ok(())
}

fn of_template(template: &DataVolumeTemplate, entry: &str) -> Result<(), String> {
    if template.metadata.name.is_empty() {
        return Err(format!(
            "'name' field must not be empty for DataVolumeTemplate entry {entry}.name."
        ));
    }
    match (&template.spec.pvc, &template.spec.storage) {
        (None, None) => return Err("Missing Data volume PVC or Storage".to_owned()),
        (Some(_), Some(_)) => {
            let why = "Duplicate storage definition, both target storage and target pvc defined";
            return Err(why.to_owned());
        }
        _ => {}
    }
    if template.spec.source.as_ref().is_some_and(|source| source.count() > 1) {
        return Err("Multiple dataVolume sources".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(template: Value) -> Result<(), String> {
        let vm = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web"},
            "spec": {"runStrategy": "Always", "dataVolumeTemplates": [template],
                "template": {"spec": {"domain": {"devices": {}},
                    "volumes": [{"name": "root", "dataVolume": {"name": "root"}}]}}},
        });
        check(&serde_json::from_value(vm).unwrap())
    }

    #[test]
    fn a_template_names_a_disk_of_its_vm_and_says_how_it_is_stored() {
        let named = |name: &str| json!({"name": name});
        let good =
            json!({"metadata": named("root"), "spec": {"storage": {}, "source": {"blank": {}}}});
        assert_eq!(told(good), Ok(()));
        let table = [
            (json!({"spec": {"storage": {}}}), "'name' field must not be empty"),
            (json!({"metadata": named("root"), "spec": {}}), "Missing Data volume PVC or Storage"),
            (
                json!({"metadata": named("root"), "spec": {"storage": {}, "pvc": {}}}),
                "Duplicate storage definition",
            ),
            (
                json!({"metadata": named("root"), "spec": {"storage": {},
                    "source": {"blank": {}, "registry": {}}}}),
                "Multiple dataVolume sources",
            ),
            (
                json!({"metadata": named("other"), "spec": {"storage": {}}}),
                "DataVolumeTemplate entry spec.dataVolumeTemplate[0] must be referenced in the VMI template's 'volumes' list",
            ),
        ];
        for (template, words) in table {
            let said = told(template.clone()).unwrap_err();
            assert!(said.contains(words), "{template}: {said}");
        }
    }
}
