//! Weights in a file of their own, beside the graph: ONNX Runtime maps it, where it would read and copy those inside.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::onnx::Tensor;
use crate::onnx::encode::external_tensor_field;
use crate::onnx::wire::fields;

/// Shorter ones stay in the graph.
const LEAST: usize = 1_024;

/// Where tensors begin: at such multiples.
const ALIGNMENT: u64 = 64;

/// `GraphProto.initializer`.
const INITIALIZER: u32 = 5;

/// Takes the longer constants out of a graph's fields, into a new file in `folder` whose name is `stem`, the BLAKE3 of
/// its bytes, and `.weights`. So a graph and weights that do not belong to each other never meet. Gives the fields with
/// the weights' places in their stead, and the file's name.
pub(super) fn taken_out<'a>(
    graph: Vec<Cow<'a, [u8]>>,
    folder: &Path,
    stem: &str,
) -> io::Result<(Vec<Cow<'a, [u8]>>, String)> {
    let unfinished = folder.join(format!("{stem}.weights-{}", std::process::id()));
    let moved = Moved::write(&graph, &unfinished);
    let moved = moved.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    let name = format!("{stem}.{}.weights", moved.blake3);
    fs::rename(&unfinished, folder.join(&name))?;
    let mut graph = graph;
    for (at, offset) in moved.places {
        let field = constant(&graph[at]).map(|tensor| {
            let length = tensor.raw().map_or(0, <[u8]>::len) as u64;
            let place = (name.as_str(), offset, length);
            external_tensor_field(tensor.name, tensor.data_type, &tensor.dims, place)
        });
        graph[at] = Cow::Owned(field.expect("it was one before"));
    }
    Ok((graph, name))
}

/// Constants that were written to a file.
struct Moved {
    /// The field's number among the graph's, and where its bytes begin.
    places: Vec<(usize, u64)>,
    blake3: blake3::Hash,
}

impl Moved {
    fn write(graph: &[Cow<'_, [u8]>], to: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(to)?);
        let mut hasher = blake3::Hasher::new();
        let (mut places, mut end) = (Vec::new(), 0);
        for (at, field) in graph.iter().enumerate() {
            let Some(raw) = constant(field).and_then(|tensor| tensor.raw()) else { continue };
            if raw.len() < LEAST {
                continue;
            }
            let begin = u64::next_multiple_of(end, ALIGNMENT);
            let gap = [0; ALIGNMENT as usize];
            for bytes in [&gap[..(begin - end) as usize], raw] {
                file.write_all(bytes)?;
                hasher.update(bytes);
            }
            places.push((at, begin));
            end = begin + raw.len() as u64;
        }
        file.flush()?;
        Ok(Self { places, blake3: hasher.finalize() })
    }
}

/// The constant that a graph's field is, if it is one.
fn constant(field: &[u8]) -> Option<Tensor<'_>> {
    let field = fields(field).next()?.ok().filter(|field| field.number == INITIALIZER)?;
    Tensor::parse(field.bytes().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::FLOAT;
    use crate::onnx::encode::{node_field, tensor_field};

    #[test]
    fn long_constants_are_taken_out_and_the_rest_stays_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let [long, other] = [(7, 1_000), (9, 401)].map(|(byte, count)| vec![byte; 4 * count]);
        let graph = [
            node_field("Relu", &["a"], "b", &[]),
            tensor_field("long", FLOAT, &[10, 100], &long),
            tensor_field("short", FLOAT, &[1], &[1, 2, 3, 4]),
            tensor_field("other", FLOAT, &[401], &other),
        ];
        let fields = graph.iter().cloned().map(Cow::Owned).collect();
        let (found, name) = taken_out(fields, dir.path(), "network").unwrap();
        assert!(found[0] == graph[0] && found[2] == graph[2]);

        let weights = fs::read(dir.path().join(&name)).unwrap();
        assert_eq!(name, format!("network.{}.weights", blake3::hash(&weights)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing unfinished is left");
        for (field, name_of, dims, bytes) in
            [(1, "long", vec![10, 100], &long), (3, "other", vec![401], &other)]
        {
            let tensor = constant(&found[field]).unwrap();
            assert_eq!((tensor.name, &tensor.dims), (name_of, &dims));
            assert!(tensor.external && tensor.data_type == FLOAT && tensor.raw().is_none());
            let entry = |key| tensor.external_data.iter().find(|(k, _)| *k == key).unwrap().1;
            let [offset, length] = ["offset", "length"].map(|key| entry(key).parse().unwrap());
            assert_eq!(entry("location"), name);
            assert_eq!(offset % ALIGNMENT as usize, 0);
            assert_eq!(&weights[offset..offset + length], &bytes[..]);
        }
    }
}
