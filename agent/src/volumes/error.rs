//! Why a volume could not be made, in KubeVirt's and the kubelet's words where they have some.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can be attached, for the errors about what cannot.
const SUPPORTED: &str = "containerDisk, cloudInitNoCloud, cloudInitConfigDrive, emptyDisk, hostDisk, \
     persistentVolumeClaim, dataVolume, ephemeral, configMap, secret, downwardAPI, serviceAccount \
     and sysprep";

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The spec must change; the rule says how.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },
    /// The same, in the words of admission.
    #[error("{0}")]
    Spec(String),
    /// The kind of volume is not one of ours.
    #[error("{field}: {kind} is not supported; supported are {SUPPORTED}")]
    NotSupported { field: String, kind: String },
    /// No image can have such a name.
    #[error("Failed to apply default image tag {image:?}: couldn't parse image name: {problem}")]
    InvalidImage { image: String, problem: String },
    /// The image cannot be had, yet; `again`: when to look.
    #[error("failed to pull image {image:?}: {problem}")]
    PullFailed { image: String, problem: String, again: Duration },
    /// It could not be had, and is not asked for before `again` has passed.
    #[error("Back-off pulling image {image:?}: {problem}")]
    PullBackOff { image: String, problem: String, again: Duration },
    /// It is not here, and must not be asked for.
    #[error("Container image {image:?} is not present with pull policy of Never")]
    NeverPulled { image: String },
    /// The image is there and of no use; another must take its place.
    #[error("image {image} cannot be used: {problem}")]
    BadImage { image: String, problem: String },
    /// A Secret is not there, or not what it should be, yet.
    #[error("{field}: secret {name} {problem}")]
    Secret { field: String, name: String, problem: &'static str },
    /// What the volume shows is not there, or not what it should be, yet.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {problem}")]
    Mount { volume: String, problem: String },
    /// The claim is not there, yet.
    #[error("failed to render launch manifest: didn't find PVC {0}")]
    ClaimNotFound(String),
    /// A program of the host failed.
    #[error("{program} failed: {output}")]
    Program { program: &'static str, output: String },
    /// The host's file system said no.
    #[error("cannot {action} {}", .path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// Whether the same call may succeed later without a change to the VMI.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Invalid { .. }
            | Self::Spec(_)
            | Self::NotSupported { .. }
            | Self::InvalidImage { .. }
            | Self::BadImage { .. } => false,
            Self::PullFailed { .. }
            | Self::PullBackOff { .. }
            | Self::NeverPulled { .. }
            | Self::Secret { .. }
            | Self::Mount { .. }
            | Self::ClaimNotFound(_)
            | Self::Program { .. }
            | Self::File { .. } => true,
        }
    }

    /// One word for programs: upstream's where it has one.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PullFailed { .. } | Self::BadImage { .. } => "ErrImagePull",
            Self::PullBackOff { .. } => "ImagePullBackOff",
            Self::InvalidImage { .. } => "InvalidImageName",
            Self::NeverPulled { .. } => "ErrImageNeverPull",
            Self::Mount { .. } => "FailedMount",
            Self::ClaimNotFound(_) => "FailedPvcNotFound",
            Self::Invalid { .. }
            | Self::Spec(_)
            | Self::NotSupported { .. }
            | Self::Secret { .. }
            | Self::Program { .. }
            | Self::File { .. } => "VolumeNotReady",
        }
    }

    /// When the same call is to be made again, if that is known.
    #[must_use]
    pub fn again(&self) -> Option<Duration> {
        match self {
            Self::PullFailed { again, .. } | Self::PullBackOff { again, .. } => Some(*again),
            _ => None,
        }
    }

    pub(super) fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), rule: rule.into() }
    }

    pub(super) fn mount(volume: &str, problem: impl Into<String>) -> Self {
        Self::Mount { volume: volume.to_owned(), problem: problem.into() }
    }

    /// For `map_err` on file operations.
    pub(super) fn file(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
