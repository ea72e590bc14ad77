//! Which kind of volume one is.

use crds::kubevirt::{
    CloudInit, ContainerDisk, DownwardApiSource, EmptyDisk, FilesSource, HostDisk,
    ServiceAccountSource, SysprepSource, Volume,
};

use super::cloud_init;

/// One source of a volume.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    ContainerDisk(&'a ContainerDisk),
    EmptyDisk(&'a EmptyDisk),
    CloudInit(cloud_init::Kind, &'a CloudInit),
    HostDisk(&'a HostDisk),
    /// The claim of this name, which the volume names in this field.
    Claim {
        claim: &'a str,
        field: &'static str,
        read_only: bool,
    },
    /// A layer over the claim of this name.
    Ephemeral(&'a str),
    ConfigMap(&'a FilesSource),
    Secret(&'a FilesSource),
    DownwardApi(&'a DownwardApiSource),
    ServiceAccount(&'a ServiceAccountSource),
    Sysprep(&'a SysprepSource),
    /// Known to KubeVirt or to nobody.
    Other(&'a str),
}

/// All sources of a volume; it should be one.
pub(super) fn sources(volume: &Volume) -> Vec<Source<'_>> {
    let claim = volume.persistent_volume_claim.as_ref().map(|claim| Source::Claim {
        claim: &claim.claim_name,
        field: "persistentVolumeClaim.claimName",
        read_only: claim.read_only.unwrap_or(false),
    });
    let data_volume = volume.data_volume.as_ref().map(|source| Source::Claim {
        claim: &source.name,
        field: "dataVolume.name",
        read_only: false,
    });
    let ephemeral = volume.ephemeral.as_ref().map(|source| {
        let claim = source.persistent_volume_claim.as_ref();
        Source::Ephemeral(claim.map_or("", |claim| &claim.claim_name))
    });
    let no_cloud = volume.cloud_init_no_cloud.as_ref();
    let config_drive = volume.cloud_init_config_drive.as_ref();
    [
        volume.container_disk.as_ref().map(Source::ContainerDisk),
        volume.empty_disk.as_ref().map(Source::EmptyDisk),
        no_cloud.map(|source| Source::CloudInit(cloud_init::Kind::NoCloud, source)),
        config_drive.map(|source| Source::CloudInit(cloud_init::Kind::ConfigDrive, source)),
        volume.host_disk.as_ref().map(Source::HostDisk),
        claim,
        data_volume,
        ephemeral,
        volume.config_map.as_ref().map(Source::ConfigMap),
        volume.secret.as_ref().map(Source::Secret),
        volume.downward_api.as_ref().map(Source::DownwardApi),
        volume.service_account.as_ref().map(Source::ServiceAccount),
        volume.sysprep.as_ref().map(Source::Sysprep),
    ]
    .into_iter()
    .flatten()
    .chain(volume.rest.keys().map(|kind| Source::Other(kind)))
    .collect()
}
