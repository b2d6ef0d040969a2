//! NVIDIA's driver, asked directly: whether it is there, which CUDA it knows, which devices it has.

use std::ffi::{CStr, c_char, c_int};
use std::fmt;
use std::sync::OnceLock;

use libloading::{Library, Symbol};
use serde::Serialize;

/// What NVIDIA's driver says of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// The newest CUDA it knows, as `13.0`.
    pub cuda: String,
    /// The names of the devices, in the order of their numbers; at least one.
    pub devices: Vec<String>,
}

/// Why there is no NVIDIA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// There is no driver: what the loader said.
    NoLibrary(String),
    /// There is one, and it finds no device or does not work: what it said.
    Refused(String),
}

impl Absence {
    /// Whether nothing is amiss: a machine without NVIDIA's devices.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(self, Absence::NoLibrary(_))
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Absence::NoLibrary(said) => write!(f, "there is no NVIDIA driver ({said})"),
            Absence::Refused(said) => write!(f, "the NVIDIA driver gives no device ({said})"),
        }
    }
}

impl Serialize for Absence {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The driver's library, which comes with the driver and never with CUDA.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// Asks the driver, once a process.
pub fn driver() -> &'static Result<Driver, Absence> {
    static ASKED: OnceLock<Result<Driver, Absence>> = OnceLock::new();
    ASKED.get_or_init(ask)
}

/// Has threads that wait for a device of this process sleep, and not ask it again and again: there are photos to
/// decode meanwhile. To be called before the device is first used. Drivers older than CUDA 11 go on asking.
pub(super) fn wait_asleep(number: u32) {
    const BLOCKING_SYNC: u32 = 4;
    type SetFlags = unsafe extern "system" fn(c_int, u32) -> c_int;
    if driver().is_err() {
        return;
    }
    // SAFETY: it is loaded and stays so; these are the signatures of cuda.h. A device's number is its handle's index.
    unsafe {
        let Ok(library) = Library::new(LIBRARY) else { return };
        let device =
            library.get::<unsafe extern "system" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet\0");
        let set = library.get::<SetFlags>(b"cuDevicePrimaryCtxSetFlags_v2\0");
        let (Ok(get), Ok(set)) = (device, set) else { return };
        let mut device = 0;
        if get(&mut device, c_int::try_from(number).unwrap_or(c_int::MAX)) == 0 {
            set(device, BLOCKING_SYNC);
        }
    }
}

fn ask() -> Result<Driver, Absence> {
    // SAFETY: loading runs the library's initialisers; it is the system's own, found by its own rules.
    let library = unsafe { Library::new(LIBRARY) }.map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        Absence::NoLibrary(source.unwrap_or_else(|| error.to_string()))
    })?;
    // Once started it is not unloaded: CUDA keeps threads of its own.
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: these are the signatures of the driver interface (cuda.h), unchanged since CUDA 2.
    let found: Option<Interface> = unsafe {
        (|| {
            Some(Interface {
                init: library.get(b"cuInit\0").ok()?,
                version: library.get(b"cuDriverGetVersion\0").ok()?,
                count: library.get(b"cuDeviceGetCount\0").ok()?,
                device: library.get(b"cuDeviceGet\0").ok()?,
                name: library.get(b"cuDeviceGetName\0").ok()?,
                error: library.get(b"cuGetErrorString\0").ok()?,
            })
        })()
    };
    let interface =
        found.ok_or_else(|| Absence::Refused(format!("{LIBRARY} is something else")))?;
    interface.ask().map_err(|code| Absence::Refused(interface.text(code)))
}

/// The functions of the driver that are asked. Each returns 0, or the number of an error.
struct Interface {
    init: Symbol<'static, unsafe extern "system" fn(u32) -> c_int>,
    version: Symbol<'static, unsafe extern "system" fn(*mut c_int) -> c_int>,
    count: Symbol<'static, unsafe extern "system" fn(*mut c_int) -> c_int>,
    device: Symbol<'static, unsafe extern "system" fn(*mut c_int, c_int) -> c_int>,
    name: Symbol<'static, unsafe extern "system" fn(*mut c_char, c_int, c_int) -> c_int>,
    error: Symbol<'static, unsafe extern "system" fn(c_int, *mut *const c_char) -> c_int>,
}

impl Interface {
    fn ask(&self) -> Result<Driver, c_int> {
        const NO_DEVICE: c_int = 100;
        let checked = |code: c_int| if code == 0 { Ok(()) } else { Err(code) };
        let (mut version, mut count) = (0, 0);
        let mut devices = Vec::new();
        // SAFETY: all pointers are valid for writing, and a name is cut to the length that is passed and
        // ends in zero.
        unsafe {
            checked((self.init)(0))?;
            checked((self.version)(&mut version))?;
            checked((self.count)(&mut count))?;
            for number in 0..count {
                let (mut device, mut name) = (0, [0 as c_char; 256]);
                checked((self.device)(&mut device, number))?;
                checked((self.name)(name.as_mut_ptr(), 255, device))?;
                devices.push(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned());
            }
        }
        let cuda = format!("{}.{}", version / 1_000, version % 1_000 / 10);
        if devices.is_empty() { Err(NO_DEVICE) } else { Ok(Driver { cuda, devices }) }
    }

    fn text(&self, code: c_int) -> String {
        let mut text = std::ptr::null();
        // SAFETY: the pointer is valid for writing; on success it is a static C string.
        let said = unsafe {
            let known = (self.error)(code, &mut text) == 0 && !text.is_null();
            known.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        said.unwrap_or_else(|| format!("error {code}"))
    }
}
