//! Which images pass a filter. The text of the SQL depends on the filter's form only; all that somebody
//! wrote is bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};

use super::{Catalog, FileId, ModelId};
use crate::error::Result;
use crate::filter::{Bounds, Fact, Filter, NumberField, Pattern, Test, TextField, metres_between};
use crate::record::ImageId;

/// Images that pass a filter, each with the first of its files that does.
pub type Passing = BTreeMap<ImageId, FileId>;

impl Catalog {
    /// The images with features of `model` that pass `filter`. An image passes when one of its files
    /// does: each is tested by itself, so that `path` and `root` speak of the same one.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn passing(&self, model: ModelId, filter: &Filter) -> Result<Passing> {
        let failed = |source| self.failed(source);
        add_functions(&self.connection).map_err(failed)?;
        let (condition, mut values) = condition(filter);
        values.push(model.0.into());
        let sql = format!(
            "SELECT f.image_id, min(f.id)
             FROM files f JOIN images i ON i.id = f.image_id JOIN roots r ON r.id = f.root_id
             WHERE {condition} AND EXISTS (
                 SELECT 1 FROM embeddings e WHERE e.model_id = ? AND e.image_id = f.image_id)
             GROUP BY f.image_id"
        );
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let rows = statement
            .query_map(params_from_iter(values), |row| {
                Ok((ImageId(row.get(0)?), FileId(row.get(1)?)))
            })
            .map_err(failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed)
    }
}

/// A condition over `files f`, `images i`, `roots r`, and what its question marks stand for. It is 0 or
/// 1, never NULL, so that `not` finds what does not say.
fn condition(filter: &Filter) -> (String, Vec<Value>) {
    // With what none of them makes: all of nothing holds, any of nothing does not.
    let joined = |parts: &[Filter], none: &str, word: &str| {
        let (conditions, values): (Vec<_>, Vec<_>) = parts.iter().map(condition).unzip();
        let conditions = std::iter::once(none.to_owned()).chain(conditions).collect::<Vec<_>>();
        (format!("({})", conditions.join(word)), values.into_iter().flatten().collect())
    };
    match filter {
        Filter::All(parts) => joined(parts, "1", " AND "),
        Filter::Any(parts) => joined(parts, "0", " OR "),
        Filter::Not(inside) => {
            let (condition, values) = condition(inside);
            (format!("(NOT {condition})"), values)
        }
        Filter::Test(test) => {
            let (condition, values) = tested(test);
            (format!("(({condition}) IS TRUE)"), values)
        }
    }
}

fn tested(test: &Test) -> (String, Vec<Value>) {
    let text = |pattern: &Pattern| Value::from(pattern.as_str().to_owned());
    match test {
        Test::Path(pattern) => ("matches_path(?, r.path, f.path)".into(), vec![text(pattern)]),
        Test::Root(pattern) => ("matches_path(?, r.path, x'')".into(), vec![text(pattern)]),
        Test::Text(TextField::Keyword, pattern) => (
            // Nobody's answer fails because somebody wrote into the catalog by hand.
            "EXISTS (SELECT 1 FROM json_each(iif(json_valid(i.keywords), i.keywords, '[]')) k
                     WHERE matches(?, k.value))"
                .into(),
            vec![text(pattern)],
        ),
        Test::Text(field, pattern) => {
            let column = match field {
                TextField::Camera => "i.camera",
                TextField::Lens => "i.lens",
                TextField::Format | TextField::Keyword => "i.format",
            };
            (format!("matches(?, {column})"), vec![text(pattern)])
        }
        Test::Taken(bounds) => within("i.taken_at", bounds, |text| text.clone().into()),
        Test::Number(field, bounds) => {
            let column = match field {
                NumberField::Width => "i.width",
                NumberField::Height => "i.height",
                NumberField::Megapixels => "(i.width * i.height / 1e6)",
                NumberField::Rating => "coalesce(i.rating, 0)",
            };
            within(column, bounds, |number| (*number).into())
        }
        Test::Near { latitude, longitude, metres } => (
            "metres_between(?, ?, i.latitude, i.longitude) <= ?".into(),
            vec![(*latitude).into(), (*longitude).into(), (*metres).into()],
        ),
        Test::Has(fact) => {
            let condition = match fact {
                Fact::Taken => "i.taken_at IS NOT NULL",
                Fact::Camera => "i.camera IS NOT NULL",
                Fact::Lens => "i.lens IS NOT NULL",
                Fact::Gps => "i.latitude IS NOT NULL AND i.longitude IS NOT NULL",
                Fact::Rating => "i.rating <> 0",
                Fact::Keyword => "i.keywords IS NOT NULL",
            };
            (condition.into(), Vec::new())
        }
    }
}

fn within<T>(column: &str, bounds: &Bounds<T>, value: fn(&T) -> Value) -> (String, Vec<Value>) {
    let ends = [(&bounds.from, ">= ?"), (&bounds.below, "< ?")];
    let given: Vec<_> =
        ends.into_iter().filter_map(|(end, sign)| Some((end.as_ref()?, sign))).collect();
    let condition: Vec<String> = given.iter().map(|(_, sign)| format!("{column} {sign}")).collect();
    // Without ends it holds for what says anything.
    let condition = if condition.is_empty() {
        format!("{column} IS NOT NULL")
    } else {
        condition.join(" AND ")
    };
    (condition, given.into_iter().map(|(end, _)| value(end)).collect())
}

/// What SQL has no words for.
fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("matches", 2, flags, |context| {
        let text = context.get_raw(1);
        Ok(!matches!(text, ValueRef::Null) && pattern(context)?.matches(&readable(text)))
    })?;
    connection.create_scalar_function("matches_path", 3, flags, |context| {
        let (root, below) = (readable(context.get_raw(1)), readable(context.get_raw(2)));
        let path = match below.is_empty() {
            true => root,
            false => format!("{}/{below}", root.trim_end_matches('/')),
        };
        Ok(pattern(context)?.matches_path(&path))
    })?;
    connection.create_scalar_function("metres_between", 4, flags, |context| {
        let degrees = |at| context.get::<Option<f64>>(at);
        Ok(match (degrees(0)?, degrees(1)?, degrees(2)?, degrees(3)?) {
            (Some(a), Some(b), Some(c), Some(d)) => Some(metres_between((a, b), (c, d))),
            _ => None,
        })
    })
}

/// The pattern that comes first; read once for all rows.
fn pattern(context: &Context<'_>) -> rusqlite::Result<Arc<Pattern>> {
    context.get_or_create_aux(0, |value| {
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Pattern::new(&readable(value)))
    })
}

/// Names that are not UTF-8 are compared as they are shown.
fn readable(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        ValueRef::Integer(number) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::embedding::Features;
    use crate::record::{ContentHash, PathBytes, PhotoDetails, PhotoFacts, SourceFile};

    /// Four photos in two roots, one without any details; number 2 has a second file in the other root.
    fn catalog() -> (tempfile::TempDir, Catalog, ModelId) {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        let mut batch = catalog.batch().unwrap();
        let model = batch.add_model(&crate::catalog::tests::network()).unwrap();
        let photos = batch.enter(Path::new("/photos"), None).unwrap();
        let archive = batch.enter(Path::new("/archive"), None).unwrap();
        let details = |taken: &str, camera: &str, rating, place: (f64, f64), keywords: &[&str]| {
            PhotoDetails {
                taken_at: Some(taken.into()),
                camera: Some(camera.into()),
                lens: None,
                latitude: Some(place.0),
                longitude: Some(place.1),
                rating,
                keywords: keywords.iter().map(|k| (*k).to_owned()).collect(),
            }
        };
        let munich = (48.137, 11.575);
        let rows = [
            (
                &photos,
                "2024/beach.JPG",
                (4032, 3024),
                "jpeg",
                details(
                    "2024-05-03T23:59:59+02:00",
                    "Canon EOS R5",
                    Some(5),
                    munich,
                    &["Sea", "sun"],
                ),
            ),
            (
                &photos,
                "2023/été.png",
                (600, 400),
                "png",
                details("2023-12-31T10:00:00", "NIKON D90", None, (52.52, 13.405), &[]),
            ),
            (
                &archive,
                "old.tif",
                (3000, 2000),
                "tiff",
                details(
                    "2024-06-01",
                    "Canon \"EOS\" 5D' OR 1=1 --",
                    Some(-1),
                    (-33.9, 179.99),
                    &["100%"],
                ),
            ),
            (&archive, "bare.jpg", (100, 100), "jpeg", PhotoDetails::default()),
        ];
        for (scope, path, (width, height), format, details) in rows {
            let hash = ContentHash::from_bytes(*blake3::hash(path.as_bytes()).as_bytes());
            let facts = PhotoFacts { width, height, format, details };
            let image = batch.add_image(&hash, &facts).unwrap();
            batch.add_features(image, model, &Features::new(vec![1.0, 2.0], 2).unwrap()).unwrap();
            let mut file = |scope: &crate::catalog::Scope, path: &str| {
                let relative = PathBytes::from_bytes(path.as_bytes().to_vec());
                let file =
                    SourceFile { root: scope.root_path.clone(), relative, size: 1, mtime_ns: 1 };
                batch.link(scope.root, &file, image).unwrap();
            };
            file(scope, path);
            if path.starts_with("2023") {
                file(&archive, "copy.png");
            }
        }
        batch.commit().unwrap();
        (dir, catalog, model)
    }

    #[test]
    fn each_field_finds_its_photos() {
        let (_dir, catalog, model) = catalog();
        let passing = |text: &str| -> Vec<i64> {
            let filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
            catalog.passing(model, &filter).unwrap().keys().map(|id| id.0).collect()
        };
        for (text, expected) in [
            ("path:*.jpg", &[1, 4][..]),
            ("path:2023", &[2]),
            ("path:/photos/2024", &[1]),
            ("path:ÉTÉ.*", &[2]),
            ("root:archive", &[2, 3, 4]),
            ("root:/photos and path:*.png", &[2]),
            ("root:archive and path:2023", &[]),
            ("not path:archive", &[1, 2]),
            ("camera:canon", &[1, 3]),
            ("camera:'EOS R*'", &[]),
            ("camera:'*EOS R*'", &[1]),
            ("camera:'\"EOS\" 5D'", &[3]),
            ("not camera:canon", &[2, 4]),
            ("camera!=canon", &[2, 4]),
            ("camera:\"5D' OR 1=1 --\"", &[3]),
            ("format:jpg", &[1, 4]),
            ("format:tif or format:PNG", &[2, 3]),
            ("taken:2024", &[1, 3]),
            ("taken:2024-05-03", &[1]),
            ("taken>2024-05-03", &[3]),
            ("taken:2023-12-31..2024-05-03", &[1, 2]),
            ("not taken:2024", &[2, 4]),
            ("mp:12", &[1]),
            ("mp>=6", &[1, 3]),
            ("width>600", &[1, 3]),
            ("width<=600 height:400", &[2]),
            ("rating>=4", &[1]),
            ("rating:0", &[2, 4]),
            ("rating<0", &[3]),
            ("near:48.2,11.6,10km", &[1]),
            ("near:48.2,11.6,1km", &[]),
            ("near:-33.9,-179.99,3km", &[3]),
            ("near:50,12,400km", &[1, 2]),
            ("keyword:sea", &[1]),
            ("keyword:'100%'", &[3]),
            ("keyword:'s?n'", &[1]),
            ("has gps and not has:keyword", &[2]),
            ("has rating", &[1, 3]),
            ("not has camera", &[4]),
            ("has lens", &[]),
        ] {
            assert_eq!(passing(text), expected, "{text}");
        }
        let count = |filter| catalog.passing(model, &filter).unwrap().len();
        assert_eq!((count(Filter::All(vec![])), count(Filter::Any(vec![]))), (4, 0));
    }

    #[test]
    fn the_file_that_passes_is_the_one_that_is_told() {
        let (_dir, catalog, model) = catalog();
        let passing = catalog.passing(model, &"root:archive".parse().unwrap()).unwrap();
        let (id, file) = passing.into_iter().next().unwrap();
        let image = catalog.image_of(id, Some(file)).unwrap().unwrap();
        assert_eq!((image.path, image.root), ("/archive/copy.png".into(), "/archive".into()));
        assert_eq!(image.copies, [Path::new("/photos/2023/été.png")]);
    }
}
