//! Which photos are meant: a small language over what the catalog knows of them.
//!
//! ```text
//! camera:canon and taken:2024-05..2024-06 and not (path:trash or rating < 0)
//! ```
//!
//! A test is a field, an operator (`:` and `=` mean the same; `!=`, `<`, `<=`, `>`, `>=`) and a value;
//! tests are put together with `and`, `or`, `not` and parentheses, `and` before `or`. What stands side by
//! side must both hold. Values with spaces or parentheses stand in quotes.
//!
//! | field | value | |
//! | --- | --- | --- |
//! | `path` | `*.jpg`, `holiday`, `/srv/photos/2024/*` | a file or folder, and all below it, wherever it lies unless it begins with `/`; `*` goes across folders, `?` is one character |
//! | `root` | `/srv/photos`, `photos` | the indexed folder, in the same way |
//! | `camera`, `lens`, `keyword`, `format` | `canon`, `"EF 50mm*"` | a part of the text, or all of it where there is a `*` or `?` (`format`: always all) |
//! | `taken` | `2024`, `2024-05`, `2024-05-03`, `2024-05-03T14:30` | that year, month, day, minute, by the camera's clock |
//! | `width`, `height`, `rating` | `4000` | pixels, upright; stars, 0 unrated, -1 rejected |
//! | `megapixels` | `12`, `12.2` | compared as rounded to as many digits |
//! | `near` | `48.137,11.575,10km` | latitude, longitude, radius in `km`, `m` or `mi` |
//! | `has` | `taken`, `camera`, `lens`, `gps`, `rating`, `keyword` | whether the photo says so at all |
//!
//! Ranges stand for all but texts: `taken:2024-05-03..2024-06-01`, `width:4000..`, both ends included. Upper and
//! lower case are the same everywhere, and so are é as one character and as two. A photo that does not say passes no test of that field, and so
//! passes the test's `not`.

mod parse;
mod value;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;

/// The mean radius of the Earth in metres (IUGG), by which `near` measures.
pub const EARTH: f64 = 6_371_008.8;

/// Metres along the globe between two places, latitude and longitude in degrees, by the haversine formula.
pub fn metres_between(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (north, east) = ((b.0 - a.0).to_radians(), (b.1 - a.1).to_radians());
    let [cos_a, cos_b] = [a.0, b.0].map(|latitude| latitude.to_radians().cos());
    let haversine = (north / 2.0).sin().powi(2) + cos_a * cos_b * (east / 2.0).sin().powi(2);
    2.0 * EARTH * haversine.sqrt().min(1.0).asin()
}

/// An expression over what is known of a photo.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them hold.
    All(Vec<Filter>),
    /// At least one of them holds.
    Any(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// One test.
    Test(Test),
}

/// One test of a photo. One that does not say passes none.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The absolute path of a file, or a folder on the way to it, matches.
    Path(Pattern),
    /// The indexed folder that holds the file matches.
    Root(Pattern),
    /// A text matches.
    Text(TextField, Pattern),
    /// When it was taken, by the camera's clock, as ISO 8601 text.
    Taken(Bounds<String>),
    /// A number lies within bounds.
    Number(NumberField, Bounds<f64>),
    /// Where it was taken lies within a circle on the globe.
    Near {
        /// Degrees, north positive.
        latitude: f64,
        /// Degrees, east positive.
        longitude: f64,
        /// The radius in metres.
        metres: f64,
    },
    /// The photo says so at all.
    Has(Fact),
}

/// Texts of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextField {
    /// Make and model of the camera.
    Camera,
    /// The lens's model.
    Lens,
    /// The format of the content: `jpeg`, `heic`, `raw`, …
    Format,
    /// One of the keywords.
    Keyword,
}

/// Numbers of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberField {
    /// Width in pixels, upright.
    Width,
    /// Height in pixels, upright.
    Height,
    /// Width × height in millions.
    Megapixels,
    /// 1 to 5 stars, 0 unrated (also where the photo does not say), -1 rejected.
    Rating,
}

/// What a photo may say or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// When it was taken.
    Taken,
    /// The camera.
    Camera,
    /// The lens.
    Lens,
    /// Where it was taken.
    Gps,
    /// Stars, or a rejection.
    Rating,
    /// At least one keyword.
    Keyword,
}

/// `from <= value < below`; an end that is missing is open.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bounds<T> {
    /// The lowest value inside.
    pub from: Option<T>,
    /// The lowest value that is not inside any more.
    pub below: Option<T>,
}

/// A glob over a whole text, without regard to case: `*` is any number of characters, `/` among them, `?` is
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes any text: there is no wrong pattern.
    pub fn new(glob: &str) -> Self {
        Self(glob.to_lowercase())
    }

    /// The glob, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let (glob, text) = (composed(&self.0), composed(&text.to_lowercase()));
        let (mut g, mut t) = (0, 0);
        // Behind the last `*`, and where its match ends so far: on a mismatch it takes one more.
        let mut star = None;
        while t < text.len() {
            match glob.get(g) {
                Some('*') => {
                    g += 1;
                    star = Some((g, t));
                }
                Some(&c) if c == '?' || c == text[t] => (g, t) = (g + 1, t + 1),
                _ => match &mut star {
                    Some((behind, end)) => {
                        *end += 1;
                        (g, t) = (*behind, *end);
                    }
                    None => return false,
                },
            }
        }
        glob[g..].iter().all(|c| *c == '*')
    }

    /// Whether a path matches, or a folder on the way to it: all below a match is meant, too. A pattern
    /// that begins neither with `/` nor `*` may begin at any folder.
    pub fn matches_path(&self, path: &str) -> bool {
        let glob = self.0.trim_end_matches('/');
        let anywhere = if glob.starts_with(['/', '*']) { "" } else { "*/" };
        let matches = |end: &str| Pattern(format!("{anywhere}{glob}{end}")).matches(path);
        matches("") || matches("/*")
    }
}

/// The characters of a text, letters and their marks together (NFC): some systems write names with these apart.
fn composed(text: &str) -> Vec<char> {
    if text.is_ascii() { text.chars().collect() } else { text.nfc().collect() }
}

/// A filter that was not understood: where, why, and what would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidFilter {
    /// The whole text.
    pub text: String,
    /// The bytes of it that were not understood; empty at its end.
    pub place: Range<usize>,
    /// What is wrong: lower case, no full stop.
    pub reason: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for InvalidFilter {
    /// The reason, the text with the place marked below it, and the remedy: four lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, place, reason, remedy } = self;
        let before = text[..place.start].chars().count();
        let marks = "^".repeat(text[place.clone()].chars().count().max(1));
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "{reason}\n    {line}\n    {:before$}{marks}\n  {remedy}", "")
    }
}

impl std::error::Error for InvalidFilter {}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        parse::parse(text)
    }
}

#[cfg(test)]
mod tests;
