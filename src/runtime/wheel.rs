//! The wheels that are installed, pinned.

use std::path::PathBuf;

use super::probe::Version;
use crate::error::{Error, Result};

/// The version of ONNX Runtime that is installed.
pub const PINNED_VERSION: Version = Version { major: 1, minor: 31, patch: 1 };

/// Which ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// For the CPU.
    Cpu,
    /// For the CPU and NVIDIA devices, with the libraries of NVIDIA's that it needs.
    Cuda,
}

/// A wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    /// The package's name, as pip knows it.
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    /// The platform tag that pip knows it by.
    pub(super) platform: &'static str,
    pub(super) bytes: u64,
    pub(super) sha256: &'static str,
}

/// What a platform needs: system, processor, wheels.
type Platform = (&'static str, &'static str, &'static [Wheel]);

const fn onnxruntime(platform: &'static str, bytes: u64, sha256: &'static str) -> Wheel {
    Wheel { package: "onnxruntime", version: "1.31.1", platform, bytes, sha256 }
}

/// [`PINNED_VERSION`] for the CPU, wheels for CPython 3.12, with the hashes their index gives for them.
const CPU: [Platform; 5] = [
    (
        "linux",
        "x86_64",
        &[onnxruntime(
            "manylinux_2_28_x86_64",
            23_760_988,
            "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        )],
    ),
    (
        "linux",
        "aarch64",
        &[onnxruntime(
            "manylinux_2_28_aarch64",
            21_420_803,
            "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
        )],
    ),
    (
        "macos",
        "aarch64",
        &[onnxruntime(
            "macosx_14_0_arm64",
            20_882_125,
            "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
        )],
    ),
    (
        "windows",
        "x86_64",
        &[onnxruntime(
            "win_amd64",
            14_888_466,
            "ae8a9a351efda685cc59a66226cdefaa37a126c1d66872ca23a2de9425326130",
        )],
    ),
    (
        "windows",
        "aarch64",
        &[onnxruntime(
            "win_arm64",
            14_740_724,
            "fe8b9ac1ae8e894e12c47ee82e4f6dfc1835768133687257866469fda80d0bf1",
        )],
    ),
];

/// The build with CUDA. It was made with CUDA 13.0, so these are of 13.0, too: they ask least of the driver.
/// What its provider names in its ELF header, cuDNN, which it opens by name, and NVRTC, which cuDNN does; cuFFT
/// is opened for Fourier transforms only, which image networks have none of.
const CUDA: [Platform; 1] = [(
    "linux",
    "x86_64",
    &[
        Wheel {
            package: "onnxruntime-gpu",
            version: "1.31.1",
            platform: "manylinux_2_28_x86_64",
            bytes: 255_569_273,
            sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
        },
        Wheel {
            package: "nvidia-cuda-runtime",
            version: "13.0.96",
            platform: "manylinux2014_x86_64",
            bytes: 2_243_632,
            sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        },
        Wheel {
            package: "nvidia-cublas",
            version: "13.1.1.3",
            platform: "manylinux_2_27_x86_64",
            bytes: 423_138_758,
            sha256: "37936a16db8fe4ac1f065c2139360608a543a09275cb1a1af612e08cfa065436",
        },
        Wheel {
            package: "nvidia-curand",
            version: "10.4.0.35",
            platform: "manylinux_2_27_x86_64",
            bytes: 59_544_258,
            sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        },
        Wheel {
            package: "nvidia-cuda-nvrtc",
            version: "13.0.88",
            platform: "manylinux2010_x86_64",
            bytes: 90_215_200,
            sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        },
        Wheel {
            package: "nvidia-cudnn-cu13",
            version: "9.26.0.51",
            platform: "manylinux_2_27_x86_64",
            bytes: 519_150_073,
            sha256: "9c976d539786698c71d6bcdbe2053b7485fae062ff7e1215d2f2ff67b1a2149a",
        },
    ],
)];

impl Build {
    /// The name of its folder.
    pub(super) fn folder(self) -> String {
        match self {
            Build::Cpu => format!("onnxruntime-{PINNED_VERSION}"),
            Build::Cuda => format!("onnxruntime-gpu-{PINNED_VERSION}"),
        }
    }

    /// The wheels of this machine's platform.
    ///
    /// # Errors
    /// [`Error::RuntimePlatform`] where there are none.
    pub(super) fn wheels(self) -> Result<&'static [Wheel]> {
        let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
        let platforms: &[Platform] = match self {
            Build::Cpu => &CPU,
            Build::Cuda => &CUDA,
        };
        let found = platforms.iter().find(|(s, p, _)| (*s, *p) == (system, processor));
        let build = match self {
            Build::Cpu => "ONNX Runtime",
            Build::Cuda => "ONNX Runtime with CUDA",
        };
        found.map(|(.., wheels)| *wheels).ok_or(Error::RuntimePlatform { build, system, processor })
    }

    /// How much pip fetches for it on this machine, in bytes.
    ///
    /// # Errors
    /// [`Error::RuntimePlatform`] where there is none.
    pub fn download_bytes(self) -> Result<u64> {
        Ok(self.wheels()?.iter().map(|wheel| wheel.bytes).sum())
    }
}

impl Wheel {
    /// The file that is meant to be it, by its name.
    pub(super) fn among(&self, files: &[PathBuf]) -> Option<PathBuf> {
        let is_it = |file: &&PathBuf| {
            file.file_name().is_some_and(|name| self.is_named(&name.to_string_lossy()))
        };
        files.iter().find(is_it).cloned()
    }

    /// Whether a file of this name is meant to be it.
    fn is_named(&self, file: &str) -> bool {
        file.starts_with(&format!("{}-{}-", self.package.replace('-', "_"), self.version))
    }

    /// The name under which a file inside the wheel is kept: libraries, licence and notices; `None` for what is
    /// not wanted. Bare names of our own, so that no name inside the archive can lead elsewhere.
    pub(super) fn kept(&self, name: &str) -> Option<String> {
        let bare = name.rsplit('/').next().unwrap_or_default();
        if bare.contains('\\') {
            return None;
        }
        match name.strip_prefix("onnxruntime/") {
            Some("LICENSE" | "ThirdPartyNotices.txt") => return Some(bare.to_owned()),
            Some(inside) => {
                let library = inside.strip_prefix("capi/") == Some(bare);
                let wanted = [
                    "libonnxruntime.",
                    "libonnxruntime_providers_shared.",
                    "libonnxruntime_providers_cuda.",
                    "onnxruntime.dll",
                ];
                let wanted = wanted.iter().any(|start| bare.starts_with(start));
                return (library && wanted).then(|| bare.to_owned());
            }
            None => {}
        }
        if name.ends_with(".dist-info/licenses/License.txt") {
            return Some(format!("LICENSE-{}", self.package));
        }
        // NVBLAS stands in for a BLAS on the host; `.alt` is for drivers of CUDA 12.
        let library = name.starts_with("nvidia/") && name.ends_with(&format!("/lib/{bare}"));
        let wanted = bare.starts_with("lib")
            && bare.contains(".so.")
            && !bare.contains(".alt.so.")
            && !bare.starts_with("libnvblas.");
        (library && wanted).then(|| bare.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_and_licences_leave_a_wheel() {
        let kept = |package: usize, name: &str| CUDA[0].2[package].kept(name);
        let own = |name: &str| Some(name.to_owned());
        assert_eq!(
            kept(0, "onnxruntime/capi/libonnxruntime.so.1.31.1"),
            own("libonnxruntime.so.1.31.1")
        );
        assert_eq!(kept(0, "onnxruntime/LICENSE"), own("LICENSE"));
        assert_eq!(kept(0, "onnxruntime/capi/onnxruntime_pybind11_state.so"), None);
        assert_eq!(kept(0, "onnxruntime/capi/libonnxruntime.so/../../evil"), None);
        assert_eq!(kept(0, "onnxruntime/capi/libonnxruntime_providers_tensorrt.so"), None);
        assert_eq!(kept(2, "nvidia/cu13/lib/libcublas.so.13"), own("libcublas.so.13"));
        assert_eq!(kept(2, "nvidia/cu13/lib/libnvblas.so.13"), None);
        assert_eq!(kept(2, "nvidia/cu13/include/cublas.h"), None);
        let licence = "nvidia_cublas-13.1.1.3.dist-info/licenses/License.txt";
        assert_eq!(kept(2, licence), own("LICENSE-nvidia-cublas"));
        assert_eq!(kept(4, "nvidia/cu13/lib/libnvrtc.alt.so.13"), None);
        assert_eq!(kept(5, "nvidia/cudnn/lib/..\\libcudnn.so.9"), None);
        assert_eq!(kept(5, "/etc/passwd"), None);
    }

    #[test]
    fn wheels_are_told_apart_by_their_files_names() {
        let runtime = &CUDA[0].2[1];
        assert!(runtime.is_named("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.whl"));
        assert!(!runtime.is_named("nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.whl"));
        assert!(!CPU[0].2[0].is_named("onnxruntime_gpu-1.31.1-cp312-cp312-linux_x86_64.whl"));
    }
}
