//! A network ready to run: tensors in, features out.

use std::borrow::Cow;
use std::ffi::CString;
use std::ptr::{NonNull, null, null_mut};
use std::sync::{Mutex, PoisonError};

use ort::AsPointer;
use ort::session::Session;
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, TensorRef, ValueType};

use super::device::Precision;
use super::load::Runtime;
use super::staging::Staging;
use super::{cuda, failed, optimised};
use crate::embedding::{Features, InvalidVector};
use crate::error::{Error, Result};
use crate::network::{FeatureNetwork, InputTensor};

/// A session of one network. It may be shared: on the CPU each thread that calls [`run`](Self::run) computes
/// its own batch, on other devices one at a time does. The weights are in memory once.
#[derive(Debug)]
pub struct FeatureSession {
    /// What batches are put into, on a device that is not entered twice. Before the session, and so gone before it.
    staging: Option<Staging>,
    session: Session,
    name: String,
    input: CString,
    output: CString,
    width: usize,
    /// One image as the network takes it, without the batch axis.
    image_shape: [i64; 3],
    /// Images that a run takes.
    lot: Lot,
    /// Images that are worth waiting for before a run.
    batch: usize,
    /// Held by who computes, on a device that is not entered twice.
    turn: Option<Mutex<()>>,
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

    /// Images worth a run on an NVIDIA device. A guess, not measured yet: `cargo bench --bench devices` does.
    pub const CUDA_BATCH: usize = 32;

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
    /// are. `precision` says how its products may be computed, not what its weights are.
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

    /// The same session, computing one batch at a time, of `batch` images unless the network fixes another
    /// number.
    pub fn one_at_a_time(self, batch: usize) -> Self {
        self.exclusive(batch, Staging::plain)
    }

    /// As [`FeatureSession::one_at_a_time`], from such memory. Where there is none, batches are copied from any other:
    /// slower on a device, and the same.
    fn exclusive(
        self,
        batch: usize,
        staging: impl FnOnce(&Session, [i64; 4]) -> ort::Result<Staging>,
    ) -> Self {
        let (count, batch) = match self.lot {
            Lot::Any => (batch, batch),
            Lot::Exactly(count) => (count, self.batch),
        };
        let staging = staging(&self.session, self.shape(count)).ok();
        let (lot, turn) = (Lot::Exactly(count), Some(Mutex::new(())));
        Self { lot, batch, turn, staging, ..self }
    }

    /// The shape of so many images, as the network takes them.
    fn shape(&self, count: usize) -> [i64; 4] {
        let [a, b, c] = self.image_shape;
        [count as i64, a, b, c]
    }

    /// How many values so many images have.
    fn values(&self, count: usize) -> usize {
        self.shape(count).iter().product::<i64>() as usize
    }

    /// Images that are worth waiting for before [`run`](Self::run).
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Whether one batch at a time is computed, whoever asks.
    pub fn is_exclusive(&self) -> bool {
        self.turn.is_some()
    }

    /// Whether batches are put into memory that is kept for them: on an NVIDIA device, into such that it copies from
    /// without a detour.
    pub fn is_staged(&self) -> bool {
        self.staging.is_some()
    }

    /// Whether who runs a batch now would have to wait for another.
    pub fn is_busy(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.try_lock().is_err())
    }

    fn checked(session: Session, network: &FeatureNetwork) -> Result<Self> {
        let image_shape = network.preprocessing.image_shape();
        let wrong = |what: String| Error::NetworkShape { name: network.name.clone(), what };
        let input = shape_of(session.inputs(), "input", &network.input).map_err(wrong)?;
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
        shape_of(session.outputs(), "output", &network.output).map_err(wrong)?;
        let c_string = |name: &str| {
            CString::new(name).map_err(|_| wrong(format!("`{name:?}` has a zero byte in its name")))
        };
        Ok(Self {
            input: c_string(&network.input)?,
            output: c_string(&network.output)?,
            session,
            name: network.name.clone(),
            width: network.width,
            image_shape,
            lot: if input[0] == 1 { Lot::Exactly(1) } else { Lot::Any },
            batch: Self::CPU_BATCH,
            turn: None,
            staging: None,
        })
    }

    /// The features of each image of a batch, in order. An image whose features are not finite or all
    /// zero gives [`InvalidVector`]; the others are not harmed.
    ///
    /// # Errors
    /// [`Error::Network`] when ONNX Runtime fails; [`Error::NetworkShape`] when the output is not
    /// `[batch, width]` or `[batch, width, 1, 1]`.
    ///
    /// # Panics
    /// When `batch` holds no whole images.
    pub fn run(
        &self,
        batch: &InputTensor,
    ) -> Result<Vec<std::result::Result<Features, InvalidVector>>> {
        let values = batch.0.as_slice();
        let image = self.values(1);
        assert!(values.len().is_multiple_of(image), "whole images");
        let images = values.len() / image;
        let size = match self.lot {
            Lot::Any => images,
            Lot::Exactly(size) => size,
        };
        let mut features = Vec::with_capacity(images);
        for part in values.chunks((size * image).max(1)) {
            features.extend(self.run_at_once(part, size)?);
        }
        Ok(features)
    }

    /// Runs the network on the `values` of some images, filled up to `count`.
    fn run_at_once(
        &self,
        values: &[f32],
        count: usize,
    ) -> Result<Vec<std::result::Result<Features, InvalidVector>>> {
        let staged = self.staging.as_ref().and_then(|staging| {
            // Out of such memory, not out of all: then as without it.
            Some((staging, staging.filled(values).ok()?))
        });
        let images = values.len() / self.values(1);
        let output = match staged {
            Some((staging, input)) => {
                let output = self.run_in_turn(&input);
                staging.give_back(input);
                output
            }
            None => {
                let mut values = Cow::Borrowed(values);
                if values.len() < self.values(count) {
                    values.to_mut().resize(self.values(count), 0.0);
                }
                let input = TensorRef::from_array_view((self.shape(count), &*values));
                input.and_then(|input| self.run_in_turn(&input))
            }
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
        let rows = values.chunks_exact(self.width).take(images);
        Ok(rows.map(|row| Features::new(row.to_vec(), self.width)).collect())
    }
}

impl FeatureSession {
    fn run_in_turn(&self, input: &Tensor<f32>) -> ort::Result<DynValue> {
        let turn = self.turn.as_ref();
        let _turn = turn.map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        self.run_shared(input)
    }

    /// What `ort` calls `run`, without the `&mut`. `ort` asks for it as some devices' code is not safe to
    /// enter twice; the CPU's is, by ONNX Runtime's documentation. A session a thread instead would open
    /// and hold the weights once for each.
    fn run_shared(&self, input: &Tensor<f32>) -> ort::Result<DynValue> {
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

/// The dimensions of a named input or output, -1 where any size goes.
fn shape_of(outlets: &[Outlet], kind: &str, name: &str) -> std::result::Result<Vec<i64>, String> {
    let Some(outlet) = outlets.iter().find(|outlet| outlet.name() == name) else {
        let names: Vec<&str> = outlets.iter().map(Outlet::name).collect();
        return Err(format!("it has no {kind} `{name}`, but `{}`", names.join("`, `")));
    };
    match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => Ok(shape.to_vec()),
        other => Err(format!("its {kind} `{name}` is {other:?}, expected 32-bit floats")),
    }
}
