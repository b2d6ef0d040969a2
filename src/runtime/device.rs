//! What networks run on: what is wanted, what is taken, and why.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::driver::{Absence, Driver, driver};
use super::load::Runtime;
use crate::error::{Error, Result};

/// What networks are to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first NVIDIA device where there are a driver and an ONNX Runtime with CUDA, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA device of this number, from 0; nothing else.
    Cuda(u32),
}

/// How exactly a network computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// In 32-bit floats; in 8-bit integers where the model does.
    #[default]
    Fp32,
    /// In 16-bit floats: about twice as fast or more on NVIDIA devices, and nowhere else.
    Fp16,
}

/// What a network really ran on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    /// [`Device::Cpu`] or [`Device::Cuda`].
    pub device: Device,
    /// How exactly it computed.
    pub precision: Precision,
    /// What the driver calls the device; empty for the CPU.
    pub name: String,
}

/// What [`decide`] took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The CPU. `why` says why not CUDA; `worth_telling` when a person would expect it.
    Cpu { why: String, worth_telling: bool },
    /// The NVIDIA device of this number.
    Cuda(u32),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(Device::Cuda).ok_or_else(|| "expected auto, cpu, cuda or cuda:N".into())
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Device {
    /// Whether an ONNX Runtime with CUDA is worth more than one without.
    pub(super) fn prefers_cuda(self) -> bool {
        match self {
            Device::Auto => driver().is_ok(),
            Device::Cpu => false,
            Device::Cuda(_) => true,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Fp32 => "fp32",
            Precision::Fp16 => "fp16",
        })
    }
}

impl Precision {
    /// Refuses what the CPU does not do, or not well.
    ///
    /// # Errors
    /// [`Error::Device`] for [`Precision::Fp16`].
    pub fn check_on_cpu(self) -> Result<()> {
        match self {
            Precision::Fp32 => Ok(()),
            Precision::Fp16 => Err(Error::Device {
                device: "the CPU in fp16".into(),
                reason: "ONNX Runtime computes 16-bit floats there by turning them into 32 bits and back, \
                         which is slower and no more exact"
                    .into(),
                remedy: "leave `--precision` out; `likeness model quantize` makes a model that is faster on \
                         the CPU"
                    .into(),
            }),
        }
    }
}

impl Processor {
    pub(crate) fn cpu() -> Self {
        Self { device: Device::Cpu, precision: Precision::Fp32, name: String::new() }
    }

    pub(crate) fn cuda(number: u32, precision: Precision) -> Self {
        let devices = driver().as_ref().map(|driver| driver.devices.as_slice()).unwrap_or_default();
        let name = devices.get(number as usize).cloned().unwrap_or_default();
        Self { device: Device::Cuda(number), precision, name }
    }
}

/// `cpu`; `cuda:0, fp16`.
impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.device)?;
        match self.precision {
            Precision::Fp32 => Ok(()),
            Precision::Fp16 => write!(f, ", {}", self.precision),
        }
    }
}

/// What a network runs on.
///
/// # Errors
/// [`Error::Device`] when an NVIDIA device was asked for and the driver, the device, or CUDA in ONNX Runtime
/// is missing.
pub(crate) fn decide(runtime: &Runtime, wanted: Device) -> Result<Decision> {
    let lacking = (!runtime.has_cuda()).then(|| without_cuda(&runtime.path));
    decided(wanted, driver().as_ref(), lacking)
}

/// What an ONNX Runtime without CUDA is called in a reason.
pub(super) fn without_cuda(path: &std::path::Path) -> String {
    format!("the ONNX Runtime in {} is a build for the CPU only", path.display())
}

/// `lacking` says what keeps ONNX Runtime from CUDA.
pub(super) fn decided(
    wanted: Device,
    driver: std::result::Result<&Driver, &Absence>,
    lacking: Option<String>,
) -> Result<Decision> {
    let cpu = |why, worth_telling| Ok(Decision::Cpu { why, worth_telling });
    match (wanted, driver, lacking) {
        (Device::Cpu, ..) => cpu("it was asked for".into(), false),
        (Device::Auto, Err(absence), _) => cpu(absence.to_string(), !absence.is_ordinary()),
        (Device::Auto, Ok(driver), Some(lacking)) => {
            let there = format!("an NVIDIA device is here ({})", driver.devices.join(", "));
            cpu(format!("{there}, but {lacking}; see `likeness runtime install --cuda`"), true)
        }
        (Device::Auto, Ok(_), None) => Ok(Decision::Cuda(0)),
        (Device::Cuda(number), Ok(driver), None) if (number as usize) < driver.devices.len() => {
            Ok(Decision::Cuda(number))
        }
        (Device::Cuda(number), driver, lacking) => {
            let install = "run `likeness runtime install --cuda`";
            let (reasons, remedy) = match (driver, lacking) {
                (Ok(driver), None) => {
                    let known = driver.devices.len();
                    (format!("the last device is cuda:{}", known.saturating_sub(1)), String::new())
                }
                (Ok(_), Some(lacking)) => (lacking, install.to_owned()),
                (Err(absence), lacking) => {
                    let then = lacking.as_ref().map(|_| format!(", and {install}"));
                    let reasons: Vec<_> =
                        lacking.into_iter().chain([absence.to_string()]).collect();
                    let mend = "install NVIDIA's driver, version 580 or newer";
                    let mend =
                        if absence.is_ordinary() { mend } else { "see what `nvidia-smi` says" };
                    (reasons.join(", and "), format!("{mend}{}", then.unwrap_or_default()))
                }
            };
            let instead = "leave `--device` out to run on the CPU";
            let remedy = [remedy.as_str(), instead].into_iter().filter(|r| !r.is_empty());
            Err(Error::Device {
                device: Device::Cuda(number).to_string(),
                reason: reasons,
                remedy: remedy.collect::<Vec<_>>().join("; or "),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_device() -> Driver {
        Driver { cuda: "13.0".into(), devices: vec!["Tesla".into()] }
    }

    fn cpu_build() -> Option<String> {
        Some("it is for the CPU".into())
    }

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:-1", "CUDA"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_takes_what_is_there_and_speaks_only_of_what_is_unexpected() {
        let absent = Absence::NoLibrary("libcuda.so.1: not found".into());
        let decide = |driver, lacking| decided(Device::Auto, driver, lacking).unwrap();
        let told = |decision| match decision {
            Decision::Cpu { why, worth_telling } => (why, worth_telling),
            Decision::Cuda(number) => panic!("took cuda:{number}"),
        };
        let driver = one_device();
        assert_eq!(decide(Ok(&driver), None), Decision::Cuda(0));
        assert!(!told(decide(Err(&absent), cpu_build())).1, "an ordinary machine");
        let (why, worth_telling) = told(decide(Ok(&driver), cpu_build()));
        assert!(worth_telling && why.contains("Tesla") && why.contains("install --cuda"), "{why}");
        let refusing = Absence::Refused("no CUDA-capable device is detected".into());
        assert!(told(decide(Err(&refusing), None)).1);
    }

    #[test]
    fn a_device_that_was_asked_for_is_refused_with_all_that_is_missing() {
        let absent = Absence::NoLibrary("libcuda.so.1: not found".into());
        let driver = one_device();
        let refused = |number, driver, lacking| {
            let error = decided(Device::Cuda(number), driver, lacking).unwrap_err();
            format!("{error}\nhint: {}", error.hint().unwrap())
        };
        let text = [
            refused(0, Err(&absent), cpu_build()),
            refused(0, Err(&absent), None),
            refused(0, Ok(&driver), cpu_build()),
            refused(1, Ok(&driver), None),
        ];
        insta::assert_snapshot!(text.join("\n\n"));
    }
}
