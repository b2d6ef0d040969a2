//! likeness as its users meet it: through the binary, in a temporary folder. One file a command.
#![expect(clippy::unwrap_used, reason = "these are all tests")]

mod choice;
mod consumers;
mod devices;
mod examples;
mod export;
mod find;
mod formats;
mod import;
mod index;
mod model;
mod python;
mod readme;
mod real;
#[cfg(all(feature = "remote", target_os = "linux"))]
mod remote;
mod runtime;
mod sandbox;
mod selection;
mod shared;
mod starter;
mod status;
mod tiny_network;
