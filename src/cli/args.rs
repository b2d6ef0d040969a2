//! What stands before the command, and the list of commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use likeness::photo::{DecodeMode, DecodeOptions};
use likeness::runtime::{Device, Precision};

use super::command;

/// Index photo folders, find similar images, export embeddings.
///
/// Photos are only ever read. What likeness knows of them lies in its library folder.
#[derive(Debug, Parser)]
#[command(name = "likeness", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed; the reason is on stderr
  2    the command line was not understood
  3    finished, but some files were skipped (their reasons: likeness status --skipped)
  130  interrupted; finished work is kept, an export only when it is whole

Data goes to stdout, everything said to a person goes to stderr.";

/// A variable that is set to something: an empty one means unset, as the XDG specification has it for its own.
///
/// Not read by clap, which refuses an empty path, and lists in the usage line of every error what the environment
/// gave as if it were required.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The same, as text.
fn text_variable(name: &str) -> Option<String> {
    variable(name).map(|value| value.to_string_lossy().into_owned())
}

/// Options every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The library folder: catalog, index [default: $XDG_DATA_HOME/likeness] [env: LIKENESS_LIBRARY]
    #[arg(long, global = true, value_name = "DIR")]
    library: Option<PathBuf>,

    /// The ONNX Runtime library to use, or the folder that holds it [env: ORT_DYLIB_PATH]
    #[arg(long, global = true, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,

    /// A folder or http(s) address with model files and a models.toml, asked before the internet [env:
    /// LIKENESS_MIRROR]
    #[arg(long, global = true, value_name = "DIR|URL")]
    mirror: Option<String>,

    /// Never use the network [env: LIKENESS_OFFLINE]
    #[arg(long, global = true)]
    offline: bool,

    /// How progress is shown on stderr; `json` writes one object a line
    #[arg(long, global = true, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: ProgressMode,
}

impl Global {
    /// The library folder that was named.
    pub(crate) fn library(&self) -> Option<PathBuf> {
        self.library.clone().or_else(|| variable("LIKENESS_LIBRARY").map(PathBuf::from))
    }

    /// The ONNX Runtime that was named.
    pub(crate) fn onnxruntime(&self) -> Option<PathBuf> {
        self.onnxruntime.clone().or_else(|| variable("ORT_DYLIB_PATH").map(PathBuf::from))
    }

    /// The model mirror that was named; `--mirror ''` is none, whatever the environment says.
    pub(crate) fn mirror(&self) -> Option<String> {
        let mirror = self.mirror.clone().or_else(|| text_variable("LIKENESS_MIRROR"));
        mirror.filter(|mirror| !mirror.is_empty())
    }

    /// Whether the network must not be used.
    pub(crate) fn offline(&self) -> bool {
        let off = |text: &str| ["0", "f", "false", "n", "no", "off"].contains(&text);
        let said = || text_variable("LIKENESS_OFFLINE").map(|text| text.to_lowercase());
        self.offline || said().is_some_and(|text| !off(&text))
    }
}

/// How photos are decoded; for the commands that do.
#[derive(Debug, Args)]
pub(crate) struct Decoding {
    /// How exactly pixels are decoded
    #[arg(long, value_name = "HOW", default_value = "fast")]
    decode: Decode,

    /// The largest picture that is decoded, in millions of pixels
    #[arg(
        long, value_name = "N", default_value_t = DecodeOptions::MAX_MEGAPIXELS,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    max_megapixels: u32,

    /// The most memory that one picture may take, its file included, in MB [default: 2000, or half of
    /// this machine's memory where that is less]
    ///
    /// JPEG, PNG, TIFF, GIF, BMP, PPM, PSD, QOI, TGA, OpenEXR, HDR, WebP with loss and HEIC in tiles are decoded in
    /// little, whatever their size. WebP without loss, HEIC in one piece, JPEG XL, progressive JPEG that is long and narrow, and
    /// the rest are decoded whole, the large ones one at a time.
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_memory: Option<u64>,
}

/// What networks run on; for the commands that run one.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Running {
    /// What the network runs on: auto, cpu, cuda or cuda:N
    ///
    /// `auto` takes an NVIDIA device where there are a driver and an ONNX Runtime with CUDA (`likeness
    /// runtime install --cuda`), else the CPU; of `find` the CPU, which has answered before a device is open, unless
    /// fp16 is wanted. `cuda` takes the device or fails, and says what is missing.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: Device,

    /// How exactly it computes; fp16 is faster, and for CUDA only
    #[arg(long, value_name = "HOW", default_value = "fp32")]
    precision: Exactness,
}

/// How a server is asked; for the commands that do.
#[cfg(feature = "remote")]
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// What lets you in to a Milvus server: USER:PASSWORD or an API key [env: LIKENESS_MILVUS_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,

    /// How many seconds one call to the server may take
    #[arg(
        long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    timeout: u64,
}

#[cfg(feature = "remote")]
impl Server {
    pub(crate) fn options(&self) -> likeness::remote::ClientOptions {
        likeness::remote::ClientOptions {
            token: self.token.clone().or_else(|| text_variable("LIKENESS_MILVUS_TOKEN")),
            password: ["LIKENESS_POSTGRES_PASSWORD", "PGPASSWORD"]
                .into_iter()
                .find_map(text_variable),
            timeout: std::time::Duration::from_secs(self.timeout),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Exactness {
    /// 32-bit floats
    Fp32,
    /// 16-bit floats: features that differ by less than those of `--decode fast`
    Fp16,
}

impl Running {
    /// What questions are answered on. To open a device takes a second, and a photo a few hundredths on the CPU, which
    /// gives the same features.
    pub(crate) fn device_for_questions(self) -> Device {
        match (self.device, self.precision()) {
            (Device::Auto, Precision::Fp32) => Device::Cpu,
            (device, _) => device,
        }
    }

    pub(crate) fn precision(self) -> Precision {
        match self.precision {
            Exactness::Fp32 => Precision::Fp32,
            Exactness::Fp16 => Precision::Fp16,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Decode {
    /// Large JPEGs to a smaller size, never below four times what the network asks for
    Fast,
    /// Every pixel: embeddings hardly differ (cosine 0.9999 in the mean), large JPEGs take longer
    Exact,
}

impl Decoding {
    pub(crate) fn options(&self) -> DecodeOptions {
        let mode = match self.decode {
            Decode::Fast => DecodeMode::Fast,
            Decode::Exact => DecodeMode::Exact,
        };
        let half = || memory().map_or(u64::MAX, |bytes| bytes / 2);
        let max_bytes = self.max_memory.map(|megabytes| megabytes * 1_000_000);
        let max_bytes = max_bytes.unwrap_or_else(|| DecodeOptions::MAX_BYTES.min(half()));
        let max_megapixels = self.max_megapixels;
        DecodeOptions { mode, max_megapixels, max_bytes, ..DecodeOptions::default() }
    }
}

/// The memory that this process may use in bytes, where that can be known: of the machine, or what its
/// container grants (cgroup v2).
fn memory() -> Option<u64> {
    let granted = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let granted = granted.and_then(|text| text.trim().parse().ok());
    #[cfg(unix)]
    let built_in = {
        // SAFETY: asks for two numbers.
        let (pages, page) =
            unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        u64::try_from(pages).ok().zip(u64::try_from(page).ok()).map(|(pages, page)| pages * page)
    };
    #[cfg(not(unix))]
    let built_in = None;
    [granted, built_in].into_iter().flatten().min()
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A bar when stderr is a terminal, else only what a person must know
    Auto,
    /// One JSON object a line, for programs
    Json,
    /// Nothing but errors
    None,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Index(command::index::Args),
    Find(command::find::Args),
    Export(command::export::Args),
    ImportEmbeddings(command::import_embeddings::Args),
    #[cfg(feature = "remote")]
    Push(command::push::Args),
    Status(command::status::Args),
    Evaluate(command::evaluate::Args),
    Rebuild(command::rebuild::Args),
    Model(command::model::Args),
    Runtime(command::runtime::Args),
    Formats(command::formats::Args),
    Generate(command::generate::Args),
}
