//! A network ready to run: pixels in, features out.

use std::ffi::CString;
use std::ptr::{NonNull, null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ort::AsPointer;
use ort::session::Session;
use ort::value::{
    DynValue, Outlet, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef, ValueType,
};

use super::device::Precision;
use super::load::Runtime;
use super::staging::{self, Staging};
use super::{cuda, failed, optimised};
use crate::embedding::{Features, InvalidVector};
use crate::error::{Error, Result};
use crate::network::{FeatureNetwork, Feed, Pixels, Preprocessing};

/// A session of one network. It may be shared: on the CPU each thread that calls [`run`](Self::run) computes
/// its own batch, on other devices one at a time does. The weights are in memory once.
#[derive(Debug)]
pub struct FeatureSession {
    /// What batches are put into. Before the session, and so gone before it.
    supply: Supply,
    session: Session,
    name: String,
    input: CString,
    output: CString,
    width: usize,
    preprocessing: Preprocessing,
    /// Images that a run takes.
    lot: Lot,
    /// Images that are worth waiting for before a run.
    batch: usize,
    /// Held by who computes, on a device that is not entered twice.
    turn: Option<Mutex<()>>,
    /// Nanoseconds in which somebody had the turn.
    busy: AtomicU64,
}

/// How images come into the network's input tensor.
#[derive(Debug)]
enum Supply {
    /// Normalised, into memory that is kept from batch to batch: what was just written is nearer than new.
    Values(Mutex<Vec<Vec<f32>>>),
    /// As they are, into memory that a device copies from, where there is such.
    Pixels(Option<Staging>),
}

/// How many images a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lot {
    /// As many as there are.
    Any,
    /// This many, as the network was exported so, or as each number costs the device preparations of its own.
    /// What is missing is filled up with zeros.
    Exactly(usize),
}

impl FeatureSession {
    /// Images worth a run on the CPU. From 4 up, more hardly helps there; fewer are lost when the machine goes
    /// down, and fewer take less memory.
    pub const CPU_BATCH: usize = 4;

    /// Images worth a run on an NVIDIA device. On an H200 twice as many are 14 % faster in fp32 and 5 % in fp16, and
    /// take twice the memory, which others may lack.
    pub const CUDA_BATCH: usize = 64;

    /// Opens a network on the CPU and checks that it is what its manifest says. A batch is computed by
    /// `threads` threads, the caller among them: with 1, by the caller alone.
    ///
    /// # Errors
    /// [`Error::Network`] when ONNX Runtime refuses it; [`Error::NetworkShape`] when an input or output
    /// has another name, type or shape than stated.
    pub fn open(runtime: &Runtime, network: &FeatureNetwork, threads: usize) -> Result<Self> {
        let session = optimised::open(runtime, network, threads);
        Self::checked(session.map_err(failed(&network.name, "load"))?, network)
    }

    /// The same, with ONNX Runtime's own operators only: what [`open`](Self::open) is faster than, and close to.
    ///
    /// # Errors
    /// As there.
    pub fn open_plain(runtime: &Runtime, network: &FeatureNetwork, threads: usize) -> Result<Self> {
        let session = optimised::open_plain(runtime, network, threads);
        Self::checked(session.map_err(failed(&network.name, "load"))?, network)
    }

    /// Opens a network on the NVIDIA device `number`, which is given `batch` images at once, whatever there
    /// are. `precision` says how its products may be computed, not what its weights are. One that
    /// [takes pixels](Feed::Pixels) costs the processor least.
    ///
    /// # Errors
    /// [`Error::Device`] when CUDA or the device cannot be used; those of [`FeatureSession::open`].
    pub fn open_on_cuda(
        runtime: &Runtime,
        network: &FeatureNetwork,
        number: u32,
        precision: Precision,
        batch: usize,
    ) -> Result<Self> {
        let opened = cuda::builder(runtime, number, precision)?.commit_from_file(&network.path);
        // The device itself is entered only now.
        let session = opened.map_err(|error| cuda::refused(number, &error))?;
        let session = Self::checked(session, network)?;
        Ok(session.exclusive(batch, |session, shape| Staging::pinned(session, number, shape)))
    }

    /// Opens a network on the CPU as on a device: it computes one batch at a time, of `batch` images unless it fixes
    /// another number. Slower; it is for tests where there is no device.
    ///
    /// # Errors
    /// Those of [`FeatureSession::open`].
    pub fn open_one_at_a_time(
        runtime: &Runtime,
        network: &FeatureNetwork,
        batch: usize,
    ) -> Result<Self> {
        Ok(Self::open_plain(runtime, network, 1)?.exclusive(batch, Staging::plain))
    }

    /// The same session, computing one batch at a time, from such memory. Where there is none, batches are copied from
    /// any other: slower on a device, and the same.
    fn exclusive(
        self,
        batch: usize,
        staging: impl FnOnce(&Session, [i64; 4]) -> ort::Result<Staging>,
    ) -> Self {
        let (count, batch) = match self.lot {
            Lot::Any => (batch, batch),
            Lot::Exactly(count) => (count, self.batch),
        };
        let supply = match self.supply {
            Supply::Values(kept) => Supply::Values(kept),
            Supply::Pixels(_) => {
                Supply::Pixels(staging(&self.session, self.pixels_shape(count)).ok())
            }
        };
        let (lot, turn) = (Lot::Exactly(count), Some(Mutex::new(())));
        Self { lot, batch, turn, supply, ..self }
    }

    /// The shape of the pixels of so many images.
    fn pixels_shape(&self, count: usize) -> [i64; 4] {
        let size = i64::from(self.preprocessing.size);
        [count as i64, size, size, 3]
    }

    /// Images that are worth waiting for before [`run`](Self::run).
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Whether one batch at a time is computed, whoever asks.
    pub fn is_exclusive(&self) -> bool {
        self.turn.is_some()
    }

    /// How long a device has computed so far, one batch at a time; zero on the CPU, where threads do.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Ordering::Relaxed))
    }

    /// Whether batches are put into memory that is kept for them: on an NVIDIA device, into such that it copies from
    /// without a detour.
    pub fn is_staged(&self) -> bool {
        matches!(&self.supply, Supply::Pixels(Some(_)))
    }

    fn checked(session: Session, network: &FeatureNetwork) -> Result<Self> {
        let size = i64::from(network.preprocessing.size);
        let (image_shape, kind) = match network.feed {
            Feed::Values => (network.preprocessing.image_shape(), TensorElementType::Float32),
            Feed::Pixels => ([size, size, 3], TensorElementType::Uint8),
        };
        let wrong = |what: String| Error::NetworkShape { name: network.name.clone(), what };
        let input = shape_of(session.inputs(), "input", &network.input, kind).map_err(wrong)?;
        let stated = |dims: &[i64]| {
            dims.len() == 4 && dims[1..].iter().zip(image_shape).all(|(d, s)| *d == s || *d < 1)
        };
        if !stated(&input) {
            let [a, b, c] = image_shape;
            return Err(wrong(format!(
                "its input `{}` takes {input:?}, the manifest says [batch, {a}, {b}, {c}]",
                network.input
            )));
        }
        let floats = TensorElementType::Float32;
        shape_of(session.outputs(), "output", &network.output, floats).map_err(wrong)?;
        let c_string = |name: &str| {
            CString::new(name).map_err(|_| wrong(format!("`{name:?}` has a zero byte in its name")))
        };
        Ok(Self {
            input: c_string(&network.input)?,
            output: c_string(&network.output)?,
            session,
            name: network.name.clone(),
            width: network.width,
            preprocessing: network.preprocessing.clone(),
            lot: if input[0] == 1 { Lot::Exactly(1) } else { Lot::Any },
            batch: Self::CPU_BATCH,
            turn: None,
            busy: AtomicU64::new(0),
            supply: match network.feed {
                Feed::Values => Supply::Values(Mutex::default()),
                Feed::Pixels => Supply::Pixels(None),
            },
        })
    }

    /// The features of each square of a batch, in order. An image whose features are not finite or all
    /// zero gives [`InvalidVector`]; the others are not harmed.
    ///
    /// # Errors
    /// [`Error::Network`] when ONNX Runtime fails; [`Error::NetworkShape`] when the output is not
    /// `[batch, width]` or `[batch, width, 1, 1]`.
    ///
    /// # Panics
    /// When a square is of another size than the network's.
    pub fn run(
        &self,
        squares: &[Pixels],
    ) -> Result<Vec<std::result::Result<Features, InvalidVector>>> {
        let size = self.preprocessing.size;
        let fits = |square: &Pixels| (square.width(), square.height()) == (size, size);
        assert!(squares.iter().all(fits), "cropped to the network's size");
        let count = match self.lot {
            Lot::Any => squares.len(),
            Lot::Exactly(count) => count,
        };
        let mut features = Vec::with_capacity(squares.len());
        for part in squares.chunks(count.max(1)) {
            features.extend(self.run_at_once(part, count)?);
        }
        Ok(features)
    }

    /// Runs the network on some squares, filled up to `count`.
    fn run_at_once(
        &self,
        squares: &[Pixels],
        count: usize,
    ) -> Result<Vec<std::result::Result<Features, InvalidVector>>> {
        let output = match &self.supply {
            Supply::Values(kept) => self.run_on_values(kept, squares, count),
            Supply::Pixels(staging) => self.run_on_pixels(staging.as_ref(), squares, count),
        };
        let output = output.map_err(failed(&self.name, "run"))?;
        let (shape, values) =
            output.try_extract_tensor::<f32>().map_err(failed(&self.name, "run"))?;
        let stated = [count as i64, self.width as i64];
        if !(shape.starts_with(&stated) && shape[2..].iter().all(|d| *d == 1)) {
            return Err(Error::NetworkShape {
                name: self.name.clone(),
                what: format!("it gave {shape:?} for {count} images, the manifest says {stated:?}"),
            });
        }
        let rows = values.chunks_exact(self.width).take(squares.len());
        Ok(rows.map(|row| Features::new(row.to_vec(), self.width)).collect())
    }
}

impl FeatureSession {
    fn run_on_values(
        &self,
        kept: &Mutex<Vec<Vec<f32>>>,
        squares: &[Pixels],
        count: usize,
    ) -> ort::Result<DynValue> {
        let kept = || kept.lock().unwrap_or_else(PoisonError::into_inner);
        let image = self.preprocessing.image_len();
        let mut values = kept().pop().unwrap_or_default();
        values.resize(count * image, 0.0);
        let (these, others) = values.split_at_mut(squares.len() * image);
        for (square, values) in squares.iter().zip(these.chunks_exact_mut(image)) {
            self.preprocessing.normalise(square, values);
        }
        others.fill(0.0);
        let [a, b, c] = self.preprocessing.image_shape();
        let input = TensorRef::from_array_view(([count as i64, a, b, c], values.as_slice()));
        let output = input.and_then(|input| self.run_in_turn::<f32>(&input));
        kept().push(values);
        output
    }

    fn run_on_pixels(
        &self,
        staging: Option<&Staging>,
        squares: &[Pixels],
        count: usize,
    ) -> ort::Result<DynValue> {
        // Out of such memory, not out of all: then as without it.
        let staged = staging.and_then(|staging| Some((staging, staging.filled(squares).ok()?)));
        if let Some((staging, input)) = staged {
            let output = self.run_in_turn(&input);
            staging.give_back(input);
            return output;
        }
        let mut pixels = vec![0; count * self.preprocessing.image_len()];
        staging::fill(&mut pixels, squares);
        let input = TensorRef::from_array_view((self.pixels_shape(count), pixels.as_slice()))?;
        self.run_in_turn::<u8>(&input)
    }

    fn run_in_turn<T: PrimitiveTensorElementType + std::fmt::Debug>(
        &self,
        input: &Tensor<T>,
    ) -> ort::Result<DynValue> {
        let Some(turn) = &self.turn else { return self.run_shared(input) };
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let output = self.run_shared(input);
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.busy.fetch_add(nanoseconds, Ordering::Relaxed);
        output
    }

    /// What `ort` calls `run`, without the `&mut`. `ort` asks for it as some devices' code is not safe to
    /// enter twice; the CPU's is, by ONNX Runtime's documentation. A session a thread instead would open
    /// and hold the weights once for each.
    fn run_shared<T: PrimitiveTensorElementType + std::fmt::Debug>(
        &self,
        input: &Tensor<T>,
    ) -> ort::Result<DynValue> {
        let (inputs, outputs) = ([self.input.as_ptr()], [self.output.as_ptr()]);
        let mut output = null_mut();
        // SAFETY: the session lives as long as `self`; the names end in zero and the input is a tensor,
        // which all live past the call; each array is as long as its count says. On another device than the
        // CPU the caller holds the turn, so that concurrent calls happen on the CPU only.
        unsafe {
            ort::Error::result_from_status((ort::api().Run)(
                self.session.ptr().cast_mut(),
                null(),
                inputs.as_ptr(),
                [input.ptr()].as_ptr(),
                inputs.len(),
                outputs.as_ptr(),
                outputs.len(),
                &mut output,
            ))?;
        }
        let output = NonNull::new(output).expect("a run that succeeds gives its outputs");
        // SAFETY: the value was made by this session, with its allocator, and is owned by nobody else.
        Ok(unsafe { DynValue::from_ptr(output, Some(self.session.allocator())) })
    }
}

/// The dimensions of a named input or output of this type, -1 where any size goes.
fn shape_of(
    outlets: &[Outlet],
    kind: &str,
    name: &str,
    wanted: TensorElementType,
) -> std::result::Result<Vec<i64>, String> {
    let Some(outlet) = outlets.iter().find(|outlet| outlet.name() == name) else {
        let names: Vec<&str> = outlets.iter().map(Outlet::name).collect();
        return Err(format!("it has no {kind} `{name}`, but `{}`", names.join("`, `")));
    };
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } if *ty == wanted => Ok(shape.to_vec()),
        other => Err(format!("its {kind} `{name}` is {other:?}, expected {wanted}")),
    }
}
