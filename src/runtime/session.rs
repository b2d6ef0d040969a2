//! A network ready to run: tensors in, features out.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use super::load::Runtime;
use super::optimised;
use crate::embedding::{Features, InvalidVector};
use crate::error::{Error, Result};
use crate::network::{FeatureNetwork, InputTensor, Layout};

/// A session of one network. It runs one batch at a time; open one a core.
#[derive(Debug)]
pub struct FeatureSession {
    session: Session,
    name: String,
    input: String,
    output: String,
    width: usize,
    /// One image as the network takes it, without the batch axis.
    image_shape: [i64; 3],
    /// Whether the network was exported for one image at a time.
    one_by_one: bool,
}

impl FeatureSession {
    /// Opens a network on the CPU with `threads` threads and checks that it is what its manifest says.
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
        let size = i64::from(network.preprocessing.size);
        let image_shape = match network.preprocessing.layout {
            Layout::Nchw => [3, size, size],
            Layout::Nhwc => [size, size, 3],
        };
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
        Ok(Self {
            session,
            name: network.name.clone(),
            input: network.input.clone(),
            output: network.output.clone(),
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
        &mut self,
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
        &mut self,
        batch: &[InputTensor],
    ) -> Result<Vec<std::result::Result<Features, InvalidVector>>> {
        let [a, b, c] = self.image_shape;
        let count = batch.len();
        let values: Vec<f32> = batch.iter().flat_map(|tensor| &tensor.0).copied().collect();
        let shape = [count as i64, a, b, c];
        let failed = |name: &str, source: ort::Error| Error::Network {
            name: name.to_owned(),
            action: "run",
            source: Box::new(source),
        };
        let input = TensorRef::from_array_view((shape, values.as_slice()))
            .map_err(|source| failed(&self.name, source))?;
        let outputs = self
            .session
            .run(ort::inputs![self.input.as_str() => input])
            .map_err(|source| failed(&self.name, source))?;
        let (shape, values) = outputs[self.output.as_str()]
            .try_extract_tensor::<f32>()
            .map_err(|source| failed(&self.name, source))?;
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
