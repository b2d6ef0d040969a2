//! Collections are made, rows go in and out.

use serde_json::json;

use super::super::row::check_widths;
use super::super::{IndexKind, MAX_ROWS, MAX_TEXT, Row};
use super::client::{Client, base, pair};
use super::expression::among;
use super::proto::{self, MsgType};
use super::row::{self, EMBEDDING, ID};
use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::record::ImageId;

/// The most bytes of vectors and texts of one call, where the server says no less: gRPC's own limit is 4 MiB, and
/// a Milvus behind a gateway may have no more.
const MAX_BYTES: usize = 3 << 20;

fn params(kind: IndexKind) -> serde_json::Value {
    match kind {
        IndexKind::Flat | IndexKind::DiskAnn => json!({}),
        IndexKind::Hnsw { m, ef_construction } => {
            json!({ "M": m, "efConstruction": ef_construction })
        }
        IndexKind::IvfFlat { nlist } | IndexKind::IvfSq8 { nlist } => json!({ "nlist": nlist }),
    }
}

impl Client {
    /// Makes the collection, empty and without an index, with vectors of `width` and what is said of it.
    pub(super) fn make(
        &self,
        width: usize,
        properties: &[(&'static str, String)],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let (db_name, collection_name) = self.names();
        let fields = row::columns().map(|(name, data_type)| proto::FieldSchema {
            name: name.to_owned(),
            is_primary_key: name == ID,
            data_type: data_type.into(),
            type_params: match data_type {
                proto::DataType::FloatVector => vec![pair("dim", width)],
                proto::DataType::VarChar => vec![pair("max_length", MAX_TEXT)],
                _ => Vec::new(),
            },
            ..proto::FieldSchema::default()
        });
        let schema = proto::CollectionSchema {
            name: collection_name.clone(),
            description: "images of a likeness library".to_owned(),
            fields: fields.collect(),
            ..proto::CollectionSchema::default()
        };
        let request = proto::CreateCollectionRequest {
            base: base(MsgType::CreateCollection),
            db_name,
            collection_name,
            schema: prost::Message::encode_to_vec(&schema),
            shards_num: 1,
            consistency_level: proto::ConsistencyLevel::Strong.into(),
            properties: properties.iter().map(|(key, value)| pair(key, value)).collect(),
        };
        self.call("make a collection", watch, request, async |mut service, request| {
            service.create_collection(request).await
        })
        .map(drop)
    }

    /// Makes the index of the vectors, by cosine.
    pub(super) fn create_index(&self, kind: IndexKind, watch: &Watch<'_>) -> Result<()> {
        let (db_name, collection_name) = self.names();
        let request = proto::CreateIndexRequest {
            base: base(MsgType::CreateIndex),
            db_name,
            collection_name,
            field_name: EMBEDDING.to_owned(),
            extra_params: vec![
                pair("index_type", kind.name()),
                pair("metric_type", "COSINE"),
                pair("params", params(kind)),
            ],
            index_name: EMBEDDING.to_owned(),
        };
        self.call("make an index", watch, request, async |mut service, request| {
            service.create_index(request).await
        })
        .map(drop)
    }

    /// The name that Milvus has for the kind of index that the vectors have; `None` where they have none.
    pub(super) fn index_name(&self, watch: &Watch<'_>) -> Result<Option<String>> {
        let (db_name, collection_name) = self.names();
        let request = proto::DescribeIndexRequest {
            base: base(MsgType::DescribeIndex),
            db_name,
            collection_name,
            field_name: EMBEDDING.to_owned(),
            index_name: String::new(),
        };
        let said = self.try_call(watch, request, async |mut service, request| {
            service.describe_index(request).await
        })?;
        let said = match said {
            Err(failure) if failure.is_no_index() => return Ok(None),
            said => said.map_err(|f| f.into_error(self.address.server(), "describe an index"))?,
        };
        let ours = said.index_descriptions.into_iter().find(|index| index.field_name == EMBEDDING);
        let kind = |index: proto::IndexDescription| {
            index.params.into_iter().find(|pair| pair.key == "index_type").map(|pair| pair.value)
        };
        Ok(ours.and_then(kind))
    }

    /// Puts rows in, in calls that shrink to what the server takes.
    pub(super) fn put(
        &self,
        rows: &[Row],
        width: usize,
        watch: &Watch<'_>,
        acknowledged: &mut dyn FnMut(&[Row]) -> Result<()>,
    ) -> Result<()> {
        check_widths(rows, width)?;
        let mut rows = rows;
        while !rows.is_empty() {
            let mut count = fitting(rows, MAX_BYTES >> self.halvings.get());
            loop {
                match self.upsert_once(&rows[..count], width, watch)? {
                    Sent::Acknowledged => break,
                    Sent::TooLarge(_) if count > 1 => {
                        self.halvings.set(self.halvings.get() + 1);
                        count = count.div_ceil(2);
                    }
                    Sent::TooLarge(error) => return Err(error),
                }
            }
            let (sent, rest) = rows.split_at(count);
            acknowledged(sent)?;
            rows = rest;
        }
        Ok(())
    }

    fn upsert_once(&self, rows: &[Row], width: usize, watch: &Watch<'_>) -> Result<Sent> {
        const ACTION: &str = "take rows";
        let (db_name, collection_name) = self.names();
        let request = proto::UpsertRequest {
            base: base(MsgType::Upsert),
            db_name,
            collection_name,
            fields_data: row::fields(rows, width),
            num_rows: rows.len() as u32,
            ..proto::UpsertRequest::default()
        };
        let answer = self
            .try_call(watch, request, async |mut service, request| service.upsert(request).await)?;
        let server = self.address.server();
        match answer {
            Err(failure) if failure.is_too_large() => {
                Ok(Sent::TooLarge(failure.into_error(server, ACTION)))
            }
            Err(failure) => Err(failure.into_error(server, ACTION)),
            Ok(said) if said.upsert_cnt == rows.len() as i64 => Ok(Sent::Acknowledged),
            Ok(said) => {
                let reason = format!("of {} it took {}", rows.len(), said.upsert_cnt);
                Err(Error::RemoteRefused { server, action: ACTION, reason })
            }
        }
    }

    /// Deletes rows.
    pub(super) fn take(&self, ids: &[ImageId], watch: &Watch<'_>) -> Result<()> {
        let (db_name, collection_name) = self.names();
        let request = proto::DeleteRequest {
            base: base(MsgType::Delete),
            db_name,
            collection_name,
            partition_name: String::new(),
            expr: among(ids),
        };
        self.call("delete rows", watch, request, async |mut service, request| {
            service.delete(request).await
        })
        .map(drop)
    }
}

enum Sent {
    Acknowledged,
    TooLarge(Error),
}

/// How many of the first rows fit into so many bytes, at least one.
fn fitting(rows: &[Row], bytes: usize) -> usize {
    let mut left = bytes;
    let fits = rows.iter().take(MAX_ROWS).take_while(|row| {
        let fitted = left.checked_sub(row::bytes(row));
        left = fitted.unwrap_or(0);
        fitted.is_some()
    });
    fits.count().max(1)
}
