//! Rows are counted, looked up, and searched among; always as they are now (Strong consistency).

use serde_json::json;

use super::super::{FoundRow, Search};
use super::client::{Client, base, pair};
use super::expression::{Untranslatable, among, expression, quoted};
use super::proto::{
    self, FieldData, MsgType, field_data::Field, i_ds::IdField, scalar_field::Data, vector_field,
};
use super::row::{CONTENT_HASH, EMBEDDING, ID, RECORD};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::record::{ContentHash, Hit, ImageId};

impl Client {
    /// How many rows there are.
    pub(super) fn counted(&self, watch: &Watch<'_>) -> Result<u64> {
        const ACTION: &str = "count rows";
        let fields = self.query(ACTION, String::new(), &["count(*)"], watch)?;
        let count = whole(&fields, "count(*)").and_then(|counts| counts.first());
        let count = count.and_then(|count| u64::try_from(*count).ok());
        count.ok_or_else(|| self.odd(ACTION))
    }

    /// The vector of an image; `None` where there is no such row.
    pub(super) fn vector_of(&self, id: ImageId, watch: &Watch<'_>) -> Result<Option<Embedding>> {
        let found = self.vectors(among(&[id]), watch)?;
        Ok(found.map(|(_, embedding)| embedding))
    }

    /// The image with this content, and its vector.
    pub(super) fn vector_with(
        &self,
        hash: &ContentHash,
        watch: &Watch<'_>,
    ) -> Result<Option<(ImageId, Embedding)>> {
        self.vectors(format!("{CONTENT_HASH} == {}", quoted(&hash.to_string())), watch)
    }

    fn vectors(
        &self,
        expression: String,
        watch: &Watch<'_>,
    ) -> Result<Option<(ImageId, Embedding)>> {
        const ACTION: &str = "look up a row";
        let fields = self.query(ACTION, expression, &[ID, EMBEDDING], watch)?;
        let Some(id) = whole(&fields, ID).and_then(|ids| ids.first()) else { return Ok(None) };
        let vector = fields.iter().find_map(|field| match &field.field {
            Some(Field::Vectors(vectors)) if field.field_name == EMBEDDING => match &vectors.data {
                Some(vector_field::Data::FloatVector(floats)) => {
                    floats.data.get(..usize::try_from(vectors.dim).ok()?)
                }
                None => None,
            },
            _ => None,
        });
        let embedding = vector.and_then(|vector| Embedding::normalised(vector).ok());
        Ok(Some((ImageId(*id), embedding.ok_or_else(|| self.odd(ACTION))?)))
    }

    /// The record of an image; `None` where there is no such row.
    pub(super) fn record_of(&self, id: ImageId, watch: &Watch<'_>) -> Result<Option<String>> {
        let fields = self.query("look up a row", among(&[id]), &[ID, RECORD], watch)?;
        Ok(texts(&fields, RECORD).and_then(|records| records.first().cloned()))
    }

    /// The rows most similar to a vector.
    pub(super) fn nearest(&self, search: Search<'_>, watch: &Watch<'_>) -> Result<Vec<FoundRow>> {
        let Search { query, k, filter } = search;
        let expression = match filter {
            Some(filter) => {
                let said = expression(filter, self.dialect(), &self.places(filter, watch)?);
                Some(said.map_err(|Untranslatable(what)| Error::RemoteFilter { what })?)
            }
            None => None,
        };
        let index = match self.index_kind.get() {
            Some(index) => index,
            None => {
                let index = self.index_name(watch)?.unwrap_or_default();
                self.index_kind.get_or_init(|| index)
            }
        };
        const ACTION: &str = "search";
        let (db_name, collection_name) = self.names();
        let bytes = query.as_slice().iter().flat_map(|value| value.to_le_bytes()).collect();
        let placeholder = proto::PlaceholderValue {
            tag: "$0".to_owned(),
            r#type: proto::PlaceholderType::PlaceholderFloatVector.into(),
            values: vec![bytes],
        };
        let group = proto::PlaceholderGroup { placeholders: vec![placeholder] };
        let request = proto::SearchRequest {
            base: base(MsgType::Search),
            db_name,
            collection_name,
            dsl: expression.unwrap_or_default(),
            placeholder_group: prost::Message::encode_to_vec(&group),
            dsl_type: proto::DslType::BoolExprV1.into(),
            output_fields: vec![RECORD.to_owned()],
            search_params: vec![
                pair("anns_field", EMBEDDING),
                pair("topk", k),
                pair("params", effort(index, k)),
                pair("metric_type", "COSINE"),
                pair("round_decimal", -1),
            ],
            nq: 1,
            consistency_level: proto::ConsistencyLevel::Strong.into(),
            ..proto::SearchRequest::default()
        };
        let said = self.call(ACTION, watch, request, async |mut service, request| {
            service.search(request).await
        })?;
        let results = said.results.unwrap_or_default();
        let ids = match results.ids.and_then(|ids| ids.id_field) {
            Some(IdField::IntId(ids)) => ids.data,
            None => Vec::new(),
            Some(IdField::StrId(_)) => return Err(self.odd(ACTION)),
        };
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let records = texts(&results.fields_data, RECORD).ok_or_else(|| self.odd(ACTION))?;
        if records.len() != ids.len() || results.scores.len() != ids.len() {
            return Err(self.odd(ACTION));
        }
        let rows = ids.into_iter().zip(results.scores).zip(records);
        let mut found: Vec<FoundRow> = rows
            .filter(|((_, score), _)| score.is_finite())
            .map(|((id, score), record)| FoundRow {
                // Single precision may go a little beyond.
                hit: Hit { id: ImageId(id), score: score.clamp(-1.0, 1.0) },
                record: record.clone(),
            })
            .collect();
        found.sort_by(|a, b| Hit::best_first(&a.hit, &b.hit));
        Ok(found)
    }

    pub(super) fn query(
        &self,
        action: &'static str,
        expr: String,
        output: &[&str],
        watch: &Watch<'_>,
    ) -> Result<Vec<FieldData>> {
        let (db_name, collection_name) = self.names();
        let request = proto::QueryRequest {
            base: base(MsgType::Retrieve),
            db_name,
            collection_name,
            expr,
            output_fields: output.iter().map(|name| (*name).to_owned()).collect(),
            consistency_level: proto::ConsistencyLevel::Strong.into(),
            ..proto::QueryRequest::default()
        };
        let said = self.call(action, watch, request, async |mut service, request| {
            service.query(request).await
        })?;
        Ok(said.fields_data)
    }

    pub(super) fn odd(&self, action: &'static str) -> Error {
        let reason = "its answer is not as Milvus's documentation has it".to_owned();
        Error::RemoteRefused { server: self.address.server(), action, reason }
    }
}

/// How thoroughly each kind of index is searched.
fn effort(index: &str, k: usize) -> serde_json::Value {
    let seen = (k * 4).max(128);
    match index {
        _ if index.starts_with("HNSW") => json!({ "ef": seen.min(32_768) }),
        _ if index.starts_with("IVF") => json!({ "nprobe": 64 }),
        "DISKANN" => json!({ "search_list": seen.min(65_535) }),
        _ => json!({}),
    }
}

pub(super) fn whole<'a>(fields: &'a [FieldData], name: &str) -> Option<&'a [i64]> {
    match column(fields, name)? {
        Data::LongData(longs) => Some(&longs.data),
        _ => None,
    }
}

pub(super) fn doubles<'a>(fields: &'a [FieldData], name: &str) -> Option<&'a [f64]> {
    match column(fields, name)? {
        Data::DoubleData(doubles) => Some(&doubles.data),
        _ => None,
    }
}

fn texts<'a>(fields: &'a [FieldData], name: &str) -> Option<&'a [String]> {
    match column(fields, name)? {
        Data::StringData(texts) => Some(&texts.data),
        _ => None,
    }
}

fn column<'a>(fields: &'a [FieldData], name: &str) -> Option<&'a Data> {
    match fields.iter().find(|field| field.field_name == name)?.field.as_ref()? {
        Field::Scalars(scalars) => scalars.data.as_ref(),
        Field::Vectors(_) => None,
    }
}
