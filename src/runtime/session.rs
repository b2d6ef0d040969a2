//! A network ready to run: tensors in, features out.

use std::ffi::CString;
use std::ptr::{NonNull, null, null_mut};

use ort::AsPointer;
use ort::session::Session;
use ort::value::{DynValue, Outlet, TensorElementType, TensorRef, ValueType};

use super::load::Runtime;
use super::optimised;
use crate::embedding::{Features, InvalidVector};
use crate::error::{Error, Result};
use crate::network::{FeatureNetwork, InputTensor};

/// A session of one network on the CPU. It may be shared: each thread that calls [`run`](Self::run)
/// computes its own batch, and the weights are in memory once.
#[derive(Debug)]
pub struct FeatureSession {
    session: Session,
    name: String,
    input: CString,
    output: CString,
    width: usize,
    /// One image as the network takes it, without the batch axis.
    image_shape: [i64; 3],
    /// Whether the network was exported for one image at a time.
    one_by_one: bool,
}

impl FeatureSession {
    /// Opens a network on the CPU and checks that it is what its manifest says. A batch is computed by
    /// `threads` threads, the caller among them: with 1, by the caller alone.
    ///
    /// # Errors
    /// [`Error::Network`] when ONNX Runtime refuses it; [`Error::NetworkShape`] when an input or output
    /// has another name, type or shape than stated.
    pub fn open(runtime: &Runtime, network: &FeatureNetwork, threads: usize) -> Result<Self> {
        let failed = |source: ort::Error| Error::Network {
            name: network.name.clone(),
            action: "load",
            source: Box::new(source),
        };
        let session = optimised::open(runtime, network, threads).map_err(failed)?;
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
            one_by_one: input[0] == 1,
        })
    }

    /// The features of each image of a batch, in order. An image whose features are not finite or all
    /// zero gives [`InvalidVector`]; the others are not harmed.
    ///
    /// # Errors
    /// [`Error::Network`] when ONNX Runtime fails; [`Error::NetworkShape`] when the output is not
    /// `[batch, width]` or `[batch, width, 1, 1]`.
    pub fn run(
        &self,
        batch: &[InputTensor],
    ) -> Result<Vec<std::result::Result<Features, InvalidVector>>> {
        let size = if self.one_by_one { 1 } else { batch.len().max(1) };
        let mut features = Vec::with_capacity(batch.len());
        for part in batch.chunks(size) {
            features.extend(self.run_at_once(part)?);
        }
        Ok(features)
    }

    fn run_at_once(
        &self,
        batch: &[InputTensor],
    ) -> Result<Vec<std::result::Result<Features, InvalidVector>>> {
        let [a, b, c] = self.image_shape;
        let count = batch.len();
        let values: Vec<f32> =
            batch.iter().map(|tensor| tensor.0.as_slice()).collect::<Vec<_>>().concat();
        let shape = [count as i64, a, b, c];
        let failed = |source: ort::Error| Error::Network {
            name: self.name.clone(),
            action: "run",
            source: Box::new(source),
        };
        let input = TensorRef::from_array_view((shape, values.as_slice())).map_err(failed)?;
        let output = self.run_shared(&input).map_err(failed)?;
        let (shape, values) = output.try_extract_tensor::<f32>().map_err(failed)?;
        let stated = [count as i64, self.width as i64];
        if !(shape.starts_with(&stated) && shape[2..].iter().all(|d| *d == 1)) {
            return Err(Error::NetworkShape {
                name: self.name.clone(),
                what: format!("it gave {shape:?} for {count} images, the manifest says {stated:?}"),
            });
        }
        let rows = values.chunks_exact(self.width);
        Ok(rows.map(|row| Features::new(row.to_vec(), self.width)).collect())
    }
}

impl FeatureSession {
    /// What `ort` calls `run`, without the `&mut`. `ort` asks for it as some devices' code is not safe to
    /// enter twice; the CPU's is, by ONNX Runtime's documentation. A session a thread instead would open
    /// and hold the weights once for each.
    fn run_shared(&self, input: &TensorRef<'_, f32>) -> ort::Result<DynValue> {
        let (inputs, outputs) = ([self.input.as_ptr()], [self.output.as_ptr()]);
        let mut output = null_mut();
        // SAFETY: the session lives as long as `self`; the names end in zero and the input is a tensor,
        // which all live past the call; each array is as long as its count says. Only the CPU's execution
        // provider is ever registered, so that concurrent calls are allowed.
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
