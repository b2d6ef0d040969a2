//! Memory that batches are put into for a device to copy them from.
//!
//! A device copies from pages that cannot be moved without the driver taking them through such pages first. Getting
//! those is slow, so what was used is kept: as many tensors as there are threads that wait with a batch.

use std::sync::{Mutex, PoisonError};

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::Tensor;

use crate::network::Pixels;

/// Tensors of one shape. Must go before its session.
#[derive(Debug)]
pub(super) struct Staging {
    /// `[batch, size, size, 3]`.
    shape: [i64; 4],
    /// One thread at a time allocates: not all allocators may be entered twice.
    allocator: Mutex<Allocator>,
    unused: Mutex<Vec<Tensor<u8>>>,
}

impl Staging {
    /// Memory that the NVIDIA device `number` copies from.
    pub(super) fn pinned(session: &Session, number: u32, shape: [i64; 4]) -> ort::Result<Self> {
        Self::new(session, AllocationDevice::CUDA_PINNED, number, MemoryType::CPUInput, shape)
    }

    /// Memory as any other.
    pub(super) fn plain(session: &Session, shape: [i64; 4]) -> ort::Result<Self> {
        Self::new(session, AllocationDevice::CPU, 0, MemoryType::Default, shape)
    }

    /// Fails where not even one tensor can be had.
    fn new(
        session: &Session,
        device: AllocationDevice<'static>,
        number: u32,
        memory: MemoryType,
        shape: [i64; 4],
    ) -> ort::Result<Self> {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let info = MemoryInfo::new(device, number, AllocatorType::Device, memory)?;
        let allocator = Allocator::new(session, info)?;
        let first = Tensor::new(&allocator, shape)?;
        Ok(Self { shape, allocator: Mutex::new(allocator), unused: Mutex::new(vec![first]) })
    }

    /// A tensor that holds these images, in order, and zeros behind them. To be given back.
    pub(super) fn filled(&self, images: &[Pixels]) -> ort::Result<Tensor<u8>> {
        let unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut tensor = match unused {
            Some(tensor) => tensor,
            None => {
                let allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
                Tensor::new(&allocator, self.shape)?
            }
        };
        let (_, all) = tensor.try_extract_tensor_mut::<u8>()?;
        fill(all, images);
        Ok(tensor)
    }

    /// Takes a tensor back, for another batch.
    pub(super) fn give_back(&self, tensor: Tensor<u8>) {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner).push(tensor);
    }
}

/// Puts images one behind the other, and zeros behind them.
pub(super) fn fill(mut room: &mut [u8], images: &[Pixels]) {
    for image in images {
        let (this, others) = room.split_at_mut(image.as_rgb().len());
        this.copy_from_slice(image.as_rgb());
        room = others;
    }
    room.fill(0);
}
