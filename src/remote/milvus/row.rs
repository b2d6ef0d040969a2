//! How rows become columns.
//!
//! Servers before 2.5 have no empty values, so that what a photo does not say is `""`, and coordinates are
//! 0 where `has_gps` is false. Texts that are compared without regard to case stand there a second time
//! in lower case, as Milvus compares bytes.

use super::super::row::{Facts, MAX_TEXT, Row};
use super::proto::{
    BoolArray, DataType, DoubleArray, FieldData, FloatArray, LongArray, ScalarField, StringArray,
    VectorField, field_data::Field, scalar_field::Data, vector_field,
};
/// The primary key: the image's number.
pub(super) const ID: &str = "id";
/// The unit vector.
pub(super) const EMBEDDING: &str = "embedding";
/// All that an answer shows, as JSON text.
pub(super) const RECORD: &str = "record";
/// BLAKE3 of the file, hexadecimal.
pub(super) const CONTENT_HASH: &str = "content_hash";

/// A column: its name, its type, and what a row has in it.
struct Column {
    name: &'static str,
    values: Values,
}

enum Values {
    Bool(fn(&Facts) -> bool),
    Whole(fn(&Facts) -> i64),
    Double(fn(&Facts) -> f64),
    Text(fn(&Facts) -> String),
}

/// All columns but [`ID`] and [`EMBEDDING`].
const COLUMNS: [Column; 21] = {
    use Values::{Bool, Double, Text, Whole};
    const fn column(name: &'static str, values: Values) -> Column {
        Column { name, values }
    }
    [
        column("path", Text(|f| f.path.clone())),
        column("path_lossy", Bool(|f| f.path_lossy)),
        column("path_lower", Text(|f| f.path.to_lowercase())),
        column("root", Text(|f| f.root.clone())),
        column("root_lower", Text(|f| f.root.to_lowercase())),
        column(CONTENT_HASH, Text(|f| f.content_hash.clone())),
        column("width", Whole(|f| f.width.into())),
        column("height", Whole(|f| f.height.into())),
        column("megapixels", Double(|f| f64::from(f.width) * f64::from(f.height) / 1e6)),
        column("format", Text(|f| f.format.clone())),
        column("taken_at", Text(|f| said(&f.taken_at).to_owned())),
        column("camera", Text(|f| said(&f.camera).to_owned())),
        column("camera_lower", Text(|f| said(&f.camera).to_lowercase())),
        column("lens", Text(|f| said(&f.lens).to_owned())),
        column("lens_lower", Text(|f| said(&f.lens).to_lowercase())),
        column("has_gps", Bool(|f| f.place.is_some())),
        column("latitude", Double(|f| f.place.map_or(0.0, |(latitude, _)| latitude))),
        column("longitude", Double(|f| f.place.map_or(0.0, |(_, longitude)| longitude))),
        column("rating", Whole(|f| f.rating.unwrap_or(0).into())),
        column("keywords_lower", Text(|f| keywords(&f.keywords).to_lowercase())),
        column(RECORD, Text(|f| f.record.clone())),
    ]
};

/// The names and types of all columns, the key first and the vector last.
pub(super) fn columns() -> impl Iterator<Item = (&'static str, DataType)> {
    let between = COLUMNS.iter().map(|column| (column.name, column.values.data_type()));
    std::iter::once((ID, DataType::Int64))
        .chain(between)
        .chain(std::iter::once((EMBEDDING, DataType::FloatVector)))
}

fn said(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// Several keywords as one text, each between semicolons; empty where there are none.
fn keywords(keywords: &[String]) -> String {
    let mut text = String::new();
    for keyword in keywords {
        let one = format!("{};", keyword.replace(';', ","));
        // Lower case may be longer, by up to half.
        if (text.len() + one.len() + 1) * 3 / 2 > MAX_TEXT {
            break;
        }
        if text.is_empty() {
            text.push(';');
        }
        text.push_str(&one);
    }
    text
}

impl Values {
    fn data_type(&self) -> DataType {
        match self {
            Values::Bool(_) => DataType::Bool,
            Values::Whole(_) => DataType::Int64,
            Values::Double(_) => DataType::Double,
            Values::Text(_) => DataType::VarChar,
        }
    }
}

/// About how many bytes a row takes on the way.
pub(super) fn bytes(row: &Row) -> usize {
    let Facts { path, root, camera, lens, record, keywords, .. } = &row.facts;
    let twice = [path, root].into_iter().chain(camera).chain(lens).chain(keywords).map(String::len);
    row.embedding.width() * 4 + twice.sum::<usize>() * 2 + record.len() + 256
}

/// The rows as a server takes them, column by column.
pub(super) fn fields(rows: &[Row], width: usize) -> Vec<FieldData> {
    let scalar = |name: &str, data_type: DataType, data: Data| FieldData {
        r#type: data_type.into(),
        field_name: name.to_owned(),
        field: Some(Field::Scalars(ScalarField { data: Some(data) })),
        ..FieldData::default()
    };
    let ids = LongArray { data: rows.iter().map(|row| row.id.0).collect() };
    let mut fields = vec![scalar(ID, DataType::Int64, Data::LongData(ids))];
    for Column { name, values } in &COLUMNS {
        let facts = rows.iter().map(|row| &row.facts);
        let data = match values {
            Values::Bool(of) => Data::BoolData(BoolArray { data: facts.map(of).collect() }),
            Values::Whole(of) => Data::LongData(LongArray { data: facts.map(of).collect() }),
            Values::Double(of) => Data::DoubleData(DoubleArray { data: facts.map(of).collect() }),
            Values::Text(of) => {
                let cut = |facts| cut(of(facts));
                Data::StringData(StringArray { data: facts.map(cut).collect() })
            }
        };
        fields.push(scalar(name, values.data_type(), data));
    }
    let vectors = rows.iter().flat_map(|row| row.embedding.as_slice()).copied().collect();
    fields.push(FieldData {
        r#type: DataType::FloatVector.into(),
        field_name: EMBEDDING.to_owned(),
        field: Some(Field::Vectors(VectorField {
            dim: width as i64,
            data: Some(vector_field::Data::FloatVector(FloatArray { data: vectors })),
        })),
        ..FieldData::default()
    });
    fields
}

/// No longer than a column takes. Only what somebody wrote into a photo can be so long.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}
