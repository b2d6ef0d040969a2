//! Hugging Face's safetensors: the tensors `embeddings` `[rows, width]` and `ids` `[rows]`, and text beside them.
//!
//! Eight bytes with the header's length, a JSON header, and the tensors one behind the other
//! (<https://huggingface.co/docs/safetensors>).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::manifest::About;
use super::sink::Sink;
use super::vectors::{Digest, Dtype, Shape, Vector, invalid};
use super::{Writer, jsonl};
use crate::error::Result;
use crate::record::ExportRow;

pub(super) struct Safetensors {
    data: Sink,
    ids: jsonl::Ids,
    /// The second tensor waits on disk until the first is complete.
    waiting: File,
}

impl Safetensors {
    pub(super) fn create(out: &Path, shape: &Shape, about: &About) -> Result<Self> {
        let mut data = Sink::create(out)?;
        data.write_all(&header(shape, about)).map_err(|source| data.failed(source))?;
        let waiting = tempfile::tempfile_in(super::sink::folder_of(out))
            .map_err(|source| data.failed(source))?;
        Ok(Self { data, ids: jsonl::Ids::create(&jsonl::ids_beside(out))?, waiting })
    }
}

impl Writer for Safetensors {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        self.data
            .write_all(vector.bytes)
            .and_then(|()| self.waiting.write_all(&row.id.0.to_le_bytes()))
            .map_err(|source| self.data.failed(source))?;
        self.ids.write(row)
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Sink>> {
        self.waiting
            .seek(SeekFrom::Start(0))
            .and_then(|_| io::copy(&mut self.waiting, &mut self.data))
            .map_err(|source| self.data.failed(source))?;
        Ok(vec![self.data, self.ids.finish()])
    }
}

fn header(shape: &Shape, about: &About) -> Vec<u8> {
    let dtype = match shape.dtype {
        Dtype::F32 => "F32",
        Dtype::F16 => "F16",
    };
    let (vectors, rows) = (shape.vector_bytes(), shape.rows);
    let preprocessing =
        serde_json::to_string(&about.preprocessing).expect("plain numbers and words");
    let header = json!({
        // Texts only, as the format has it.
        "__metadata__": {
            "likeness": env!("CARGO_PKG_VERSION"),
            "library": about.library,
            "model": about.model,
            "fingerprint": about.fingerprint.to_string(),
            "preprocessing": preprocessing,
            "normalized": about.normalized.to_string(),
        },
        "embeddings": { "dtype": dtype, "shape": [rows, shape.width], "data_offsets": [0, vectors] },
        "ids": { "dtype": "I64", "shape": [rows], "data_offsets": [vectors, vectors + 8 * rows] },
    });
    let mut text = header.to_string().into_bytes();
    // The tensors are aligned so that they can be mapped.
    text.resize((text.len() + 8).next_multiple_of(64) - 8, b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

pub(super) fn read_back(path: &Path, ids: &Path, digest: &mut Digest) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = Vec::new();
    (&mut file).take(u64::from_le_bytes(length).min(1 << 20)).read_to_end(&mut header)?;
    let header: Value = serde_json::from_slice(&header)?;
    let end = |tensor: &str| header[tensor]["data_offsets"][1].as_u64();
    let (Some(vectors), Some(end)) = (end("embeddings"), end("ids")) else {
        return Err(invalid("a header without the tensors"));
    };
    digest.vectors_of(&mut file, vectors)?;
    let mut of_tensor = Digest::default();
    let mut reader = io::BufReader::new(&mut file);
    for _ in 0..(end - vectors) / 8 {
        let mut id = [0; 8];
        reader.read_exact(&mut id)?;
        of_tensor.id(i64::from_le_bytes(id));
    }
    super::npy::at_end(&mut reader)?;
    let mut of_lines = Digest::default();
    jsonl::read_ids(ids, &mut of_lines)?;
    if let Some(difference) = of_tensor.difference(&of_lines, 1) {
        return Err(invalid(difference));
    }
    digest.take_ids(of_tensor);
    Ok(())
}
