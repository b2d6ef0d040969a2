//! `--device` and `--precision`: what is taken, what is refused, and what is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use likeness::embedding::Embedding;
use likeness::engine::{Engine, fed_pixels, halved};
use likeness::library::Library;
use likeness::model::{ModelStore, StoreConfig};
use likeness::network::{Channels, FeatureNetwork, Preprocessing};
use likeness::photo::{self, DecodeOptions};
use likeness::progress::Watch;
use likeness::record::ImageId;
use likeness::runtime::{Device, FeatureSession, Precision, RuntimeConfig};
use likeness::sync::{self, SyncOptions};

use crate::sandbox::{Run, Sandbox, onnxruntime};
use crate::shared;

/// The command with a driver that says it knows one device, or, with `code` 100, that there is none.
#[cfg(target_os = "linux")]
fn with_driver(sandbox: &Sandbox, code: u32, args: &[&str]) -> Run {
    let folder = sandbox.path(format!("driver-{code}"));
    fs::create_dir_all(&folder).unwrap();
    let source = folder.join("driver.c");
    let functions = "
        #include <string.h>
        int cuInit(unsigned flags) { return CODE; }
        int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
        int cuDeviceGetCount(int *count) { *count = 1; return 0; }
        int cuDeviceGet(int *device, int number) { *device = number; return 0; }
        int cuDeviceGetName(char *name, int length, int device) { strcpy(name, \"Test\"); return 0; }
        int cuGetErrorString(int code, const char **text) { *text = \"no device\"; return 0; }";
    fs::write(&source, functions.replace("CODE", &code.to_string())).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(folder.join("libcuda.so.1")).arg(&source);
    Run::of(&mut compiler).exits(0);
    Run::of(sandbox.command(args).env("LD_LIBRARY_PATH", &folder))
}

#[cfg(target_os = "linux")]
#[test]
fn where_there_is_a_device_auto_says_once_why_the_cpu_is_taken() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    let run = with_driver(&sandbox, 0, &["index", "photos", "--json"]).exits(0);
    assert_eq!(run.json()["device"], "cpu");
    let said: Vec<&str> = run.stderr.lines().collect();
    let [line] = said[..] else { panic!("{run}") };
    assert!(line.starts_with("running on the CPU: an NVIDIA device is here (Test), but "), "{run}");
    assert!(line.ends_with("is a build for the CPU only; see `likeness runtime install --cuda`"));
    let stranger = sandbox.photo("stranger.jpg", 9);
    let found = with_driver(&sandbox, 0, &["find", stranger.to_str().unwrap()]).exits(0);
    assert_eq!(found.stderr, "", "a question is the CPU's: {found}");
    let status = with_driver(&sandbox, 0, &["status"]).exits(0).text();
    assert!(status.contains("auto takes the CPU, though Test is here"), "{status}");
    let status = with_driver(&sandbox, 0, &["runtime", "status", "--json"]).exits(0).json();
    assert_eq!(status["driver"]["cuda"], "13.0");
    assert_eq!(status["driver"]["devices"][0], "Test");
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_that_was_asked_for_is_not_replaced_by_the_cpu() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    let index = |code, args: &[&str]| {
        with_driver(&sandbox, code, &[&["index", "photos", "--device"], args].concat()).exits(1)
    };
    index(0, &["cuda"])
        .says("error: cannot run on cuda:0: the ONNX Runtime in ")
        .says("is a build for the CPU only")
        .says("hint: run `likeness runtime install --cuda`; or leave `--device` out");
    index(100, &["cuda:1"])
        .says("cannot run on cuda:1: the ONNX Runtime in ")
        .says(", and the NVIDIA driver gives no device (no device)")
        .says("hint: see what `nvidia-smi` says");
    // Also where nothing is left to embed, and for a question; not where no network runs.
    sandbox.index(&["photos"]);
    index(0, &["cuda"]);
    let stranger = sandbox.photo("stranger.jpg", 9);
    let find = |query: &str| with_driver(&sandbox, 0, &["find", query, "--device", "cuda"]);
    find(stranger.to_str().unwrap()).exits(1).says("cannot run on cuda:0");
    find("id:1").exits(0);
}

#[test]
fn an_ordinary_machine_runs_on_its_cpu_without_a_word() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    let driver = sandbox.run(&["runtime", "status", "--json"]).exits(0).json()["driver"].clone();
    if driver["missing"].is_null() {
        return;
    }
    let run = sandbox.run(&["index", "photos", "--json"]).exits(0);
    assert_eq!(run.stderr, "", "{run}");
    let summary = run.json();
    assert_eq!((&summary["device"], &summary["precision"]), (&"cpu".into(), &"fp32".into()));
    let status = sandbox.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["catalog"]["models"][0]["ran_on"], "cpu");
    let text = sandbox.run(&["status"]).exits(0).text();
    assert!(text.contains("2 images, last run on cpu\n"), "{text}");
    assert!(text.contains("auto takes the CPU: there is no NVIDIA driver\n"), "{text}");
    let again = sandbox.index(&["photos"]);
    assert!(again["device"].is_null(), "no network ran: {again}");
    sandbox
        .run(&["index", "photos", "--device", "cuda"])
        .exits(1)
        .says("and there is no NVIDIA driver (libcuda.so.1: ")
        .says("hint: install NVIDIA's driver, version 580 or newer, and run `likeness runtime install");
}

#[test]
fn fp16_is_refused_on_the_cpu_with_the_reason() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox
        .run(&["index", "photos", "--device", "cpu", "--precision", "fp16"])
        .exits(1)
        .says("error: cannot run on the CPU in fp16: ONNX Runtime computes 16-bit floats there by")
        .says("hint: leave `--precision` out");
    sandbox.run(&["index", "photos", "--precision", "fp8"]).exits(2);
    sandbox.run(&["index", "photos", "--device", "gpu"]).exits(2).says("auto, cpu, cuda or cuda:N");
}

#[test]
fn the_wheels_of_cuda_are_asked_for_by_their_names() {
    let sandbox = Sandbox::new();
    let install =
        |args: &[&str]| sandbox.run(&[&["runtime", "install", "--cuda"], args].concat()).exits(1);
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        install(&[]).says("there is no ready-made ONNX Runtime with CUDA for");
        return;
    }
    install(&[]).says("the network must not be used").says("--wheel");
    let wheel = "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl";
    fs::write(sandbox.path(wheel), "not the pinned wheel").unwrap();
    install(&["--wheel", wheel])
        .says("the wheel of nvidia-cuda-runtime 13.0.96 is missing")
        .says("hint: name the wheels of all packages");
    let left = fs::read_dir(sandbox.path("home/data/likeness/runtime")).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}

/// The default network on the CPU.
fn engine(sandbox: &Sandbox) -> Engine {
    let data = sandbox.path("data");
    let watch = Watch::none();
    let models = ModelStore::new(StoreConfig {
        folder: data.join("models"),
        library_folder: None,
        mirror: Some(shared::mirror().display().to_string()),
        offline: true,
        cache: data.join("networks"),
    });
    let network = models.prepare(&models.obtain(None, &watch).unwrap(), &watch).unwrap();
    let explicit = Some(PathBuf::from(onnxruntime()));
    let config = RuntimeConfig { explicit, data, offline: true, device: Device::Cpu };
    Engine::new(network, config, DecodeOptions::default())
}

/// What a session makes of a photo.
fn vector(engine: &Engine, session: &FeatureSession, photo: &Path) -> Embedding {
    let bytes = photo::read(photo, DecodeOptions::MAX_BYTES).unwrap();
    let decoding = DecodeOptions::default();
    engine.features_through(session, &bytes, &decoding, "photo").unwrap().embedding()
}

/// ONNX Runtime computes 16-bit floats on the CPU, too, by rounding to them between the operators.
#[test]
fn features_in_fp16_are_those_of_fp32_but_for_rounding() {
    let sandbox = Sandbox::new();
    let engine = engine(&sandbox);
    let runtime = engine.runtime(&Watch::none()).unwrap();
    let half = halved(&runtime, engine.network(), &sandbox.path("")).unwrap();
    assert_eq!(half.fingerprint, engine.network().fingerprint);
    let sessions = [engine.network(), &half].map(|n| FeatureSession::open(&runtime, n, 1).unwrap());
    for seed in 0..4 {
        let photo = sandbox.photo("photo.jpg", seed);
        let [a, b] = sessions.each_ref().map(|session| vector(&engine, session, &photo));
        assert!(a != b, "16 bits round something");
        assert!(a.cosine(&b) > 0.9995, "photo {seed}: {}", a.cosine(&b));
    }
    let again = halved(&runtime, &half, &sandbox.path("")).unwrap_err();
    assert!(again.to_string().ends_with("its weights are 16-bit floats already"), "{again}");
}

/// The steps before the network are the same whoever takes them.
#[test]
fn a_network_that_takes_pixels_gives_the_same_features() {
    let sandbox = Sandbox::new();
    let engine = engine(&sandbox);
    let runtime = engine.runtime(&Watch::none()).unwrap();
    let half = halved(&runtime, engine.network(), &sandbox.path("")).unwrap();
    let photo = sandbox.photo("photo.jpg", 5);
    let mut seen = Vec::new();
    for (network, channels) in [
        (engine.network(), Channels::Rgb),
        (engine.network(), Channels::Bgr),
        (&half, Channels::Rgb),
    ] {
        let preprocessing = Preprocessing { channels, ..network.preprocessing.clone() };
        let network = FeatureNetwork { preprocessing, ..network.clone() };
        let fed = fed_pixels(&network, &sandbox.path("")).unwrap();
        assert_eq!(fed.fingerprint, network.fingerprint);
        let open = |network| FeatureSession::open_plain(&runtime, network, 1).unwrap();
        let [values, pixels] =
            [&network, &fed].map(|network| vector(&engine, &open(network), &photo));
        assert_eq!(values, pixels, "{channels:?}, to the bit");
        assert!(!seen.contains(&values), "{channels:?} differ from what was before");
        seen.push(values);
    }
}

#[test]
fn a_network_in_fp16_is_kept_and_used_only_while_it_is_whole() {
    let sandbox = Sandbox::new();
    let photo = sandbox.photo("photo.jpg", 6);
    let found = || {
        let engine = engine(&sandbox).one_at_a_time().with_precision(Precision::Fp16);
        let session = engine.batch_session(Some(1), 1, &Watch::none()).unwrap();
        vector(&engine, &session, &photo)
    };
    let made = found();
    let folder = engine(&sandbox).network().path.parent().unwrap().to_path_buf();
    let kept = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.to_string_lossy().contains("fp16")).collect();
    let network = kept.iter().find(|path| path.extension().is_some_and(|e| e == "fp16"));
    let network = network.unwrap_or_else(|| panic!("{kept:?}"));
    assert_eq!(kept.len(), 2, "the network and what is said of it: {kept:?}");
    let (whole, written) = (fs::read(network).unwrap(), fs::metadata(network).unwrap().modified());
    assert_eq!(found(), made, "to the bit, from what was kept");
    assert_eq!(fs::metadata(network).unwrap().modified().unwrap(), written.unwrap());

    // A weight that is off by a little is a network as good as any to ONNX Runtime.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(network, &damaged).unwrap();
    assert_eq!(found(), made);
    // Not always byte for byte: ONNX Runtime may order its nodes otherwise.
    assert!(fs::read(network).unwrap() != damaged, "it is made again");
}

/// Some convolutions are computed by likeness itself, where the processor has the instructions.
#[test]
fn convolutions_that_are_taken_over_change_no_features() {
    let sandbox = Sandbox::new();
    let engine = engine(&sandbox);
    let runtime = engine.runtime(&Watch::none()).unwrap();
    let network = engine.network();
    let plain = FeatureSession::open_plain(&runtime, network, 1).unwrap();
    // What was just made, what was kept, and with several threads to a batch.
    let sessions = [1, 1, 2].map(|n| FeatureSession::open(&runtime, network, n).unwrap());
    for seed in 0..4 {
        let photo = sandbox.photo("photo.jpg", seed);
        let wanted = vector(&engine, &plain, &photo);
        let [made, kept, threads] =
            sessions.each_ref().map(|session| vector(&engine, session, &photo));
        assert!(wanted.cosine(&made) > 0.999_999, "photo {seed}: {}", wanted.cosine(&made));
        assert!(made == kept && kept == threads, "photo {seed}: to the bit");
    }

    #[cfg(target_arch = "x86_64")]
    {
        let folder = network.path.parent().unwrap();
        let kept = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut kept = kept.filter(|path| path.extension().is_some_and(|e| e == "optimised"));
        let bytes = fs::read(kept.next().expect("it is kept")).unwrap();
        let operator = b"WinogradConv";
        let has_it = bytes.windows(operator.len()).any(|window| window == operator);
        let able = is_x86_feature_detected!("avx512f")
            || (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
        assert_eq!(has_it, able, "convolutions are taken over where that can be");
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        let is_left = |name: &String| name.contains("unfinished") || name.contains("rewritten");
        assert!(!names.iter().any(is_left), "{names:?}");
    }
}

/// How an NVIDIA device is used: batches of one size, the last filled up, one at a time.
#[test]
fn one_batch_at_a_time_gives_the_same_vectors() {
    let sandbox = Sandbox::new();
    let photos = sandbox.photos("photos", 21);
    let vectors = |engine: Engine, batch: Option<usize>, name: &str| {
        let mut library = Library::open(&sandbox.path(name)).unwrap();
        let mut options = SyncOptions::new(vec![photos.clone()]);
        (options.batch, options.threads) = (batch, 3);
        let report = sync::sync(&mut library, &engine, &options, &Watch::none()).unwrap();
        assert_eq!((report.embedded, report.skipped.len()), (21, 0));
        let model = library.model(None).unwrap();
        let ids = (1..=21).map(ImageId);
        ids.map(|id| library.embedding_of(&model, id).unwrap()).collect::<Vec<_>>()
    };
    let staged = |engine: Engine| {
        let session = engine.batch_session(Some(8), 1, &Watch::none()).unwrap();
        (session.is_exclusive(), session.is_staged(), session.batch())
    };
    assert_eq!(staged(engine(&sandbox)), (false, false, FeatureSession::CPU_BATCH));
    assert_eq!(staged(engine(&sandbox).one_at_a_time()), (true, true, 8));
    let wanted = vectors(engine(&sandbox), None, "plain");
    for batch in [1, 8] {
        let found = vectors(engine(&sandbox).one_at_a_time(), Some(batch), &batch.to_string());
        // Ids follow the walk, unless a photo kept the others waiting for too long.
        for vector in found {
            let best = wanted.iter().map(|other| vector.cosine(other)).fold(-1.0, f32::max);
            assert!(best > 0.999_99, "{best} in batches of {batch}");
        }
    }
}
