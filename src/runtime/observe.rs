//! A network looked into: the values of tensors between its input and its output.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use super::load::Runtime;
use super::{failed, optimised};
use crate::error::Result;
use crate::network::Preprocessing;

/// Writes the network at `from` to `to` with what is constant computed and each BatchNormalization folded
/// into its convolution, in the standard's operators. `name` is what an error calls it.
///
/// # Errors
/// [`crate::error::Error::Network`] when ONNX Runtime refuses it.
pub fn fold(runtime: &Runtime, name: &str, from: &Path, to: &Path) -> Result<()> {
    let folded = || -> ort::Result<Session> {
        optimised::builder(runtime, 1, GraphOptimizationLevel::Level1)?
            .with_optimized_model_path(to)?
            .commit_from_file(from)
    };
    folded().map(|_| ()).map_err(failed(name, "load"))
}

/// A session of a network all of whose outputs are wanted.
#[derive(Debug)]
pub struct Observer {
    session: Session,
    name: String,
    image_shape: [i64; 3],
}

impl Observer {
    /// Opens the ONNX file at `path` with `threads` threads. `name` is what an error calls it.
    ///
    /// # Errors
    /// [`crate::error::Error::Network`] when ONNX Runtime refuses it.
    pub fn open(
        runtime: &Runtime,
        name: &str,
        path: &Path,
        preprocessing: &Preprocessing,
        threads: usize,
    ) -> Result<Self> {
        let open = || -> ort::Result<Session> {
            optimised::builder(runtime, threads, GraphOptimizationLevel::All)?
                .commit_from_file(path)
        };
        let session = open().map_err(failed(name, "load"))?;
        Ok(Self { session, name: name.to_owned(), image_shape: preprocessing.image_shape() })
    }

    /// Runs the network on one [normalised](Preprocessing::normalise) picture and hands all outputs to `look`: name, shape, values.
    ///
    /// # Errors
    /// [`crate::error::Error::Network`] when ONNX Runtime fails, or an output holds no 32-bit floats.
    pub fn run(
        &mut self,
        picture: &[f32],
        look: impl FnOnce(&[(&str, &[i64], &[f32])]),
    ) -> Result<()> {
        let [a, b, c] = self.image_shape;
        let run = || -> ort::Result<()> {
            let input = TensorRef::from_array_view(([1, a, b, c], picture))?;
            let outputs = self.session.run(ort::inputs![input])?;
            let outputs: Vec<_> = outputs.iter().collect();
            let tensors: Vec<_> = (outputs.iter())
                .map(|(name, value)| {
                    let (shape, values) = value.try_extract_tensor::<f32>()?;
                    Ok((*name, &shape[..], values))
                })
                .collect::<ort::Result<_>>()?;
            look(&tensors);
            Ok(())
        };
        run().map_err(failed(&self.name, "run"))
    }
}
