//! What stands in for the convolutions of likeness's own where there are none.

use std::borrow::Cow;

use ort::session::builder::SessionBuilder;

use crate::onnx::Graph;

pub(super) const DOMAIN: &str = "likeness";
pub(super) const VERSION: u32 = 0;

pub(super) fn registered(builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    Ok(builder)
}

pub(super) fn rewritten<'a>(_: &'a Graph<'a>, _: usize) -> Option<Vec<Cow<'a, [u8]>>> {
    None
}
