//! What a row of a table holds, and how it is sent.
//!
//! What a photo does not say is NULL. Texts that are compared without regard to case stand there a second time in
//! lower case, as likeness has it: PostgreSQL's own depends on the locale of the database.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::super::{Facts, Row};
use crate::embedding::Embedding;

/// A column: its name, its type in SQL, the type that is sent, and what a row has in it.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    pub(super) sent: Type,
    value: fn(&Facts) -> Box<dyn ToSql + Sync + '_>,
}

/// All columns but `id`, the key, and `embedding`.
pub(super) static COLUMNS: [Column; 19] = {
    const fn column(
        name: &'static str,
        sql: &'static str,
        sent: Type,
        value: fn(&Facts) -> Box<dyn ToSql + Sync + '_>,
    ) -> Column {
        Column { name, sql, sent, value }
    }
    // Bytes are compared, whatever the database's own order is.
    const TEXT: &str = r#"text COLLATE "C""#;
    const SAID: &str = r#"text COLLATE "C" NOT NULL"#;
    const WHOLE: &str = "integer NOT NULL";
    [
        column("path", SAID, Type::TEXT, |f| Box::new(text(&f.path))),
        column("path_lossy", "boolean NOT NULL", Type::BOOL, |f| Box::new(f.path_lossy)),
        column("path_lower", SAID, Type::TEXT, |f| Box::new(lower(&f.path))),
        column("root", SAID, Type::TEXT, |f| Box::new(text(&f.root))),
        column("root_lower", SAID, Type::TEXT, |f| Box::new(lower(&f.root))),
        column("content_hash", SAID, Type::TEXT, |f| Box::new(text(&f.content_hash))),
        column("width", WHOLE, Type::INT4, |f| Box::new(f.width.cast_signed())),
        column("height", WHOLE, Type::INT4, |f| Box::new(f.height.cast_signed())),
        column("format", SAID, Type::TEXT, |f| Box::new(text(&f.format))),
        column("taken_at", TEXT, Type::TEXT, |f| Box::new(f.taken_at.as_deref().map(text))),
        column("camera", TEXT, Type::TEXT, |f| Box::new(f.camera.as_deref().map(text))),
        column("camera_lower", TEXT, Type::TEXT, |f| Box::new(f.camera.as_deref().map(lower))),
        column("lens", TEXT, Type::TEXT, |f| Box::new(f.lens.as_deref().map(text))),
        column("lens_lower", TEXT, Type::TEXT, |f| Box::new(f.lens.as_deref().map(lower))),
        column("latitude", "double precision", Type::FLOAT8, |f| Box::new(f.place.map(|p| p.0))),
        column("longitude", "double precision", Type::FLOAT8, |f| Box::new(f.place.map(|p| p.1))),
        column("rating", "smallint", Type::INT2, |f| Box::new(f.rating.map(i16::from))),
        column("keywords", "text[]", Type::TEXT_ARRAY, |f| Box::new(words(f, text))),
        column("keywords_lower", r#"text[] COLLATE "C""#, Type::TEXT_ARRAY, |f| {
            Box::new(words(f, lower))
        }),
    ]
};

/// The names of all columns, the key first, the record and the vector last.
pub(super) fn names() -> Vec<&'static str> {
    let between = COLUMNS.iter().map(|column| column.name);
    std::iter::once("id").chain(between).chain(["record", "embedding"]).collect()
}

/// The types of what [`values`] gives.
pub(super) fn types() -> Vec<Type> {
    let between = COLUMNS.iter().map(|column| column.sent.clone());
    std::iter::once(Type::INT8).chain(between).chain([Type::JSON, Type::BYTEA]).collect()
}

/// A row in the order of [`names`].
pub(super) fn values(row: &Row) -> Vec<Box<dyn ToSql + Sync + '_>> {
    let mut values: Vec<Box<dyn ToSql + Sync + '_>> = vec![Box::new(row.id.0)];
    values.extend(COLUMNS.iter().map(|column| (column.value)(&row.facts)));
    values.push(Box::new(Json(&row.facts.record)));
    values.push(Box::new(Vector(&row.embedding)));
    values
}

/// A text without NUL, which PostgreSQL cannot hold.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn lower(original: &str) -> String {
    text(&original.to_lowercase())
}

/// The keywords; NULL where there are none.
fn words(facts: &Facts, form: fn(&str) -> String) -> Option<Vec<String>> {
    let words = || facts.keywords.iter().map(|word| form(word)).collect();
    (!facts.keywords.is_empty()).then(words)
}

/// JSON, which escapes NUL, as text.
#[derive(Debug)]
struct Json<'a>(&'a str);

impl ToSql for Json<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(sent: &Type) -> bool {
        *sent == Type::JSON
    }

    to_sql_checked!();
}

/// A vector in pgvector's own form: width, nothing, and floats, the high byte first.
#[derive(Debug)]
struct Vector<'a>(&'a Embedding);

impl ToSql for Vector<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u16(u16::try_from(self.0.width())?);
        out.put_u16(0);
        for value in self.0.as_slice() {
            out.put_f32(*value);
        }
        Ok(IsNull::No)
    }

    fn accepts(sent: &Type) -> bool {
        // The number of pgvector's type is another in each database, and not needed here.
        *sent == Type::BYTEA
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ImageId;

    #[test]
    fn a_row_is_what_its_columns_say() {
        let facts = Facts {
            path: "/É.JPG".into(),
            path_lossy: false,
            root: "/".into(),
            content_hash: "00".into(),
            width: 3,
            height: 2,
            format: "jpeg".into(),
            taken_at: None,
            camera: Some("A\0B".into()),
            lens: None,
            place: None,
            rating: Some(-1),
            keywords: vec![],
            record: "{}".into(),
        };
        let embedding = Embedding::normalised(&[0.0, 1.0]).unwrap();
        let row = Row { id: ImageId(7), embedding, facts };
        let (values, names, types) = (values(&row), names(), types());
        assert_eq!((values.len(), names.len()), (types.len(), types.len()));
        let sent = |name: &str| {
            let at = names.iter().position(|n| *n == name).unwrap();
            let mut out = BytesMut::new();
            let null = values[at].to_sql_checked(&types[at], &mut out).unwrap();
            matches!(null, IsNull::No).then(|| out.to_vec())
        };
        assert_eq!(sent("path_lower").unwrap(), "/é.jpg".as_bytes());
        assert_eq!(sent("camera").unwrap(), "A\u{fffd}B".as_bytes());
        assert_eq!(sent("rating").unwrap(), [255, 255]);
        for name in ["taken_at", "lens_lower", "latitude", "keywords", "keywords_lower"] {
            assert_eq!(sent(name), None, "{name}");
        }
        assert_eq!(sent("embedding").unwrap(), [0, 2, 0, 0, 0, 0, 0, 0, 0x3f, 0x80, 0, 0]);
    }
}
