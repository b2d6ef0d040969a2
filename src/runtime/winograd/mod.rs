//! 3 × 3 convolutions with fewer multiplications, as an operator of ONNX Runtime.
//!
//! ONNX Runtime convolves 32-bit floats plainly, near the limit of the processor. Winograd's minimal filtering needs a
//! quarter to four ninths of the multiplications where a filter moves by one pixel. The file of an optimised network is
//! [rewritten](rewrite::rewritten) so that such convolutions are nodes of the [operator](OPERATOR) here; everything else
//! stays with ONNX Runtime.

mod convolution;
mod lanes;
mod rewrite;
mod steps;
#[cfg(test)]
mod tests;
mod tile;

use std::cell::RefCell;

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::session::builder::SessionBuilder;
use ort::value::{TensorElementType, ValueType};

use self::convolution::{Convolution, Method, Shape};
pub(super) use self::rewrite::rewritten;

/// Where the operator is at home.
pub(super) const DOMAIN: &str = "likeness";
const OPERATOR: &str = "WinogradConv";
/// Of the operator: a file with another is not opened.
pub(super) const VERSION: u32 = 1;
/// Integer attributes: pixels of a tile a side, 2 or 4; channels side by side; whether ReLU follows, 0 or 1.
const TILE: &str = "tile";
const LANES: &str = "lanes";
const RELU: &str = "relu";

/// With the operator, for sessions of networks that have it.
pub(super) fn registered(builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    let domain = OperatorDomain::new(DOMAIN)?.add(WinogradConv)?;
    Ok(builder.with_operators(domain)?)
}

/// Pictures, transformed filters, a bias, and perhaps pictures that are added; all in ONNX Runtime's `nchwc`.
struct WinogradConv;

impl Operator for WinogradConv {
    type Kernel<'a> = WinogradKernel;

    fn name(&self) -> &str {
        OPERATOR
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let float = OperatorInput::required(TensorElementType::Float32);
        let sum = OperatorInput::optional(TensorElementType::Float32);
        let again = || OperatorInput::required(TensorElementType::Float32);
        [float, again(), again(), sum]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    /// What comes out is as high and wide as what goes in. Where ONNX Runtime does not know so much, it cannot add to a
    /// tensor in place.
    fn infer_shape(&self, node: &mut ShapeInferenceContext) -> ort::Result<()> {
        let inputs = node.inputs();
        let [Some(pictures), Some(filters)] = [0, 1].map(|index| inputs.get(index)) else {
            return Ok(());
        };
        let (
            ValueType::Tensor { shape: pictures, dimension_symbols, .. },
            ValueType::Tensor { shape: filters, .. },
        ) = (pictures, filters)
        else {
            return Ok(());
        };
        let ([images, _, height, width], [_, count, _]) = (&pictures[..], &filters[..]) else {
            return Ok(());
        };
        let output = ValueType::Tensor {
            ty: TensorElementType::Float32,
            shape: [*images, *count, *height, *width].into_iter().collect(),
            dimension_symbols: dimension_symbols.clone(),
        };
        node.set_output(0, &output)
    }

    fn create_kernel<'a>(&self, node: &KernelContext<'a>) -> ort::Result<Self::Kernel<'a>> {
        let stated =
            |name| node.get::<i64>(name).ok_or_else(|| ort::Error::new(format!("no `{name}`")));
        let tile = usize::try_from(stated(TILE)?).unwrap_or(0);
        let lanes = stated(LANES)?;
        let method = Method::of_tile(tile).filter(|method| method.lanes as i64 == lanes);
        let method = method.ok_or_else(|| ort::Error::new("made for another processor"))?;
        Ok(WinogradKernel { method, relu: stated(RELU)? == 1 })
    }
}

/// One node. Several threads may run it at once: it only reads itself.
struct WinogradKernel {
    method: Method,
    relu: bool,
}

thread_local! {
    /// What a thread computes in, kept from node to node and run to run.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Kernel for WinogradKernel {
    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let input = |index| run.input(index)?.ok_or_else(|| ort::Error::new("an input is missing"));
        let (pictures, filters, bias, sum) = (input(0)?, input(1)?, input(2)?, run.input(3)?);
        let (of, pictures) = pictures.try_extract_tensor::<f32>()?;
        let (_, filters) = filters.try_extract_tensor::<f32>()?;
        let (_, bias) = bias.try_extract_tensor::<f32>()?;
        let sum = sum.as_ref().map(|sum| sum.try_extract_tensor::<f32>()).transpose()?;
        let sum = sum.map(|(_, values)| values);

        let &[images, channels, height, width] = &of[..] else {
            return Err(ort::Error::new(format!("{of:?} is no shape of pictures")));
        };
        let [images, channels, height, width] =
            [images, channels, height, width].map(|d| d as usize);
        let shape = Shape { images, channels, filters: bias.len(), height, width };
        let method = &self.method;
        let fits = channels.is_multiple_of(method.lanes)
            && bias.len().is_multiple_of(method.lanes)
            && filters.len() == method.points() * channels * bias.len()
            && sum.is_none_or(|sum| sum.len() == shape.output());
        if !fits {
            return Err(ort::Error::new(format!("filters do not fit pictures of {of:?}")));
        }
        let to = [images, bias.len(), height, width];
        let mut output = run.output(0, to)?.ok_or_else(|| ort::Error::new("nobody asks for it"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;

        let convolution =
            Convolution { shape, input: pictures, filters, bias, sum, relu: self.relu };
        SCRATCH.with_borrow_mut(|scratch| {
            method.run(&convolution, output, scratch, |count, work| {
                // By the session's threads; it fails only where there is nothing to call.
                run.par_for(count, 0, work).expect("there is work to call")
            });
        });
        Ok(())
    }
}
