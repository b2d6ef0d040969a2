//! Weights that lie in other files, as exporters of large networks put them: brought into the network's own.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::import::LARGEST;
use crate::error::{Error, Result};
use crate::onnx::wire::{fields, put_bytes};
use crate::onnx::{Kind, Model, Tensor};

/// The network at `path`, whose bytes are `bytes`, with its weights inside; as it is where they are.
///
/// # Errors
/// [`Error::ModelUnsuited`] when a weight's file lies outside the network's folder or is too short, or all are
/// more than the format can hold; [`Error::Io`] when one cannot be read.
pub(super) fn inlined(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    // What is no network is told as such later.
    let Ok(model) = Model::parse(&bytes) else { return Ok(bytes) };
    if !model.graph.initializers().any(|tensor| tensor.external) {
        return Ok(bytes);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let unsuited = |reason| Error::ModelUnsuited { path: path.to_path_buf(), reason };
    let mut total = bytes.len() as u64;
    let mut pieces = Vec::with_capacity(model.graph.parts.len());
    for part in &model.graph.parts {
        match &part.kind {
            Kind::Initializer(tensor) if tensor.external => {
                let place = Place::of(tensor).map_err(unsuited)?;
                let data = place.read(folder, &mut total)?.map_err(unsuited)?;
                pieces.push(Cow::Owned(with_data(part.raw, &data)));
            }
            _ => pieces.push(Cow::Borrowed(part.raw)),
        }
    }
    Ok(model.with_graph(pieces).concat())
}

/// Where a tensor's data lies.
struct Place<'a> {
    tensor: &'a str,
    file: &'a Path,
    offset: u64,
    /// To the file's end where it is not said.
    length: Option<u64>,
}

impl<'a> Place<'a> {
    fn of(tensor: &Tensor<'a>) -> std::result::Result<Self, String> {
        let entry = |key| tensor.external_data.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let name = tensor.name;
        let file = Path::new(entry("location").unwrap_or_default());
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if file.as_os_str().is_empty() || !file.components().all(inside) {
            return Err(format!(
                "the weights `{name}` lie in `{}`, which is not in the network's folder",
                file.display()
            ));
        }
        let number = |key| match entry(key).map(str::parse::<u64>) {
            Some(Err(_)) => Err(format!("it does not say properly where the weights `{name}` lie")),
            Some(Ok(number)) => Ok(Some(number)),
            None => Ok(None),
        };
        let offset = number("offset")?.unwrap_or(0);
        Ok(Self { tensor: name, file, offset, length: number("length")? })
    }

    /// Reads the data and counts it into `total`; the inner error is the reason why it is not usable.
    fn read(&self, folder: &Path, total: &mut u64) -> Result<std::result::Result<Vec<u8>, String>> {
        let path = folder.join(self.file);
        let facts = std::fs::metadata(&path).map_err(Error::io("read", &path))?;
        let rest = facts.len().saturating_sub(self.offset);
        let length = self.length.unwrap_or(rest);
        *total = total.saturating_add(length);
        let reason = match () {
            () if !facts.is_file() => "is not a regular file",
            () if length > rest => "is too short: it was cut off, or is of another network",
            () if *total > LARGEST => {
                "and the others are more than 2 GB, the most the format can hold"
            }
            () => {
                let mut file = File::open(&path).map_err(Error::io("open", &path))?;
                let mut data = vec![0; length as usize];
                file.seek(SeekFrom::Start(self.offset)).map_err(Error::io("read", &path))?;
                file.read_exact(&mut data).map_err(Error::io("read", &path))?;
                return Ok(Ok(data));
            }
        };
        Ok(Err(format!("the file of the weights `{}`, {}, {reason}", self.tensor, path.display())))
    }
}

/// The graph's field `raw`, a tensor, with its data inside.
fn with_data(raw: &[u8], data: &[u8]) -> Vec<u8> {
    const RAW_DATA: u32 = 9;
    const EXTERNAL_DATA: u32 = 13;
    const DATA_LOCATION: u32 = 14;
    const INITIALIZER: u32 = 5;
    let read = "it was read before";
    let tensor = fields(raw).next().expect(read).expect(read).bytes().expect(read);
    let mut inside = Vec::with_capacity(data.len() + 256);
    for field in fields(tensor).map(|field| field.expect(read)) {
        if !matches!(field.number, RAW_DATA | EXTERNAL_DATA | DATA_LOCATION) {
            inside.extend_from_slice(field.raw);
        }
    }
    put_bytes(&mut inside, RAW_DATA, data);
    let mut field = Vec::with_capacity(inside.len() + 8);
    put_bytes(&mut field, INITIALIZER, &inside);
    field
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::onnx::FLOAT;
    use crate::onnx::wire::put_int;

    /// A file with one weight of two floats that lies elsewhere.
    fn network(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tensor = Vec::new();
        put_int(&mut tensor, 1, 2);
        put_int(&mut tensor, 2, FLOAT);
        put_bytes(&mut tensor, 8, b"w");
        for (key, value) in entries {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            put_bytes(&mut entry, 2, value.as_bytes());
            put_bytes(&mut tensor, 13, &entry);
        }
        put_int(&mut tensor, 14, 1);
        let mut graph = Vec::new();
        put_bytes(&mut graph, 5, &tensor);
        let mut model = Vec::new();
        put_bytes(&mut model, 7, &graph);
        model
    }

    fn in_a_folder(entries: &[(&str, &str)]) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let floats: Vec<u8> = [1f32, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        fs::write(folder.path().join("weights.bin"), floats).unwrap();
        inlined(&folder.path().join("network.onnx"), network(entries))
    }

    #[test]
    fn weights_of_another_file_come_in() {
        let place = [("location", "weights.bin"), ("offset", "4"), ("length", "8")];
        let bytes = in_a_folder(&place).unwrap();
        let model = Model::parse(&bytes).unwrap();
        let tensor = model.graph.initializers().next().unwrap();
        assert_eq!((tensor.name, tensor.external), ("w", false));
        assert_eq!(tensor.floats().unwrap(), [2.0, 3.0]);
        // Without a length, all that follows.
        let bytes = in_a_folder(&place[..2]).unwrap();
        let model = Model::parse(&bytes).unwrap();
        assert_eq!(model.graph.initializers().next().unwrap().floats().unwrap(), [2.0, 3.0]);
    }

    #[test]
    fn only_files_of_the_folder_are_read() {
        for place in ["../weights.bin", "/etc/passwd", "", "a/../../b"] {
            let error = in_a_folder(&[("location", place)]).unwrap_err().to_string();
            assert!(error.contains("which is not in the network's folder"), "{error}");
        }
        assert!(matches!(in_a_folder(&[("location", "none.bin")]), Err(Error::Io { .. })));
    }

    #[test]
    fn a_file_that_was_cut_off_is_told() {
        let short = [("location", "weights.bin"), ("offset", "8"), ("length", "8")];
        let error = in_a_folder(&short).unwrap_err().to_string();
        assert!(error.contains("weights `w`") && error.contains("too short"), "{error}");
        let odd = [("location", "weights.bin"), ("offset", "many")];
        assert!(in_a_folder(&odd).unwrap_err().to_string().contains("properly"));
    }

    #[test]
    fn a_network_that_holds_its_weights_stays_as_it_is() {
        let bytes = network(&[]);
        let mut graph = bytes.clone();
        // No longer said to lie elsewhere.
        let last = graph.len() - 1;
        graph[last] = 0;
        assert_eq!(inlined(Path::new("network.onnx"), graph.clone()).unwrap(), graph);
        assert_eq!(inlined(Path::new("text.onnx"), b"text".to_vec()).unwrap(), b"text");
    }
}
