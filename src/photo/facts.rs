//! What cameras and people wrote beside the pixels: EXIF and XMP.

use std::str::FromStr;

use exif::{Exif, In, Tag, Value};
use image::metadata::Orientation;

use super::decode::Metadata;
use crate::record::PhotoDetails;

/// The largest XMP packet that is read, in bytes; usual ones are a few thousand.
const MAX_XMP: usize = 1 << 20;

/// Reads what can be read; what is damaged is left out, and never keeps a photo from being indexed.
pub(super) fn details(metadata: &Metadata) -> PhotoDetails {
    let mut details = PhotoDetails::default();
    let exif = metadata.exif.as_deref().and_then(parse);
    if let Some(exif) = &exif {
        details.taken_at = taken_at(exif);
        details.camera = camera(exif);
        details.lens = text(exif, Tag::LensModel);
        if let Some((latitude, longitude)) = position(exif) {
            (details.latitude, details.longitude) = (Some(latitude), Some(longitude));
        }
    }
    if let Some(xmp) = metadata.xmp.as_deref() {
        from_xmp(xmp, &mut details);
    }
    details.rating = details.rating.or_else(|| rating(exif.as_ref()?));
    details
}

fn parse(bytes: &[u8]) -> Option<Exif> {
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    reader.read_raw(bytes.to_vec()).or_else(|e| e.distill_partial_result(|_| ())).ok()
}

/// When it was taken, in the form of ISO 8601: `2024-05-01T12:34:56+02:00`. Without the offset where
/// the camera did not write one: then it is the time on its clock.
fn taken_at(exif: &Exif) -> Option<String> {
    let stated = [
        (Tag::DateTimeOriginal, Tag::OffsetTimeOriginal),
        (Tag::DateTimeDigitized, Tag::OffsetTimeDigitized),
    ];
    stated.into_iter().find_map(|(time, offset)| {
        let time = exif::DateTime::from_ascii(ascii(exif, time)?).ok()?;
        // Cameras whose clock was never set write zeros.
        let real = (1..=12).contains(&time.month) && (1..=31).contains(&time.day);
        let real = real && time.hour < 24 && time.minute < 60 && time.second <= 60;
        let offset = text(exif, offset).filter(|text| is_offset(text)).unwrap_or_default();
        real.then(|| {
            let exif::DateTime { year, month, day, hour, minute, second, .. } = time;
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{offset}")
        })
    })
}

/// `+02:00`, `-03:30`, `Z`.
fn is_offset(text: &str) -> bool {
    match text.as_bytes() {
        [b'Z'] => true,
        [b'+' | b'-', hour @ .., b':', m1, m0] => {
            hour.len() == 2 && hour.iter().chain([m1, m0]).all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

/// Make and model, the make once: `Canon EOS 5D`, `NIKON D90`, `Apple iPhone 12`.
fn camera(exif: &Exif) -> Option<String> {
    let (make, model) = (text(exif, Tag::Make), text(exif, Tag::Model));
    let Some(model) = model else { return make };
    let Some(make) = make else { return Some(model) };
    let first = make.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let repeated = model.to_ascii_lowercase().starts_with(&first);
    Some(if repeated { model } else { format!("{make} {model}") })
}

/// Windows and some cameras write stars here, and nothing into XMP.
const RATING: Tag = Tag(exif::Context::Tiff, 0x4746);

fn rating(exif: &Exif) -> Option<i8> {
    let stars = exif.get_field(RATING, In::PRIMARY)?.value.get_uint(0)?;
    i8::try_from(stars).ok().filter(|stars| *stars <= 5)
}

/// Latitude and longitude in degrees, north and east positive.
fn position(exif: &Exif) -> Option<(f64, f64)> {
    let degrees = |tag, reference, negative: u8, limit: f64| {
        let Value::Rational(parts) = &exif.get_field(tag, In::PRIMARY)?.value else { return None };
        // Degrees, minutes, seconds; 0/0 where the receiver knew nothing.
        let sum = parts.iter().zip([1.0, 60.0, 3600.0]).map(|(r, unit)| r.to_f64() / unit).sum();
        let sign = match ascii(exif, reference)?.first() {
            Some(letter) if letter.eq_ignore_ascii_case(&negative) => -1.0,
            _ => 1.0,
        };
        Some(sum).filter(|d: &f64| (0.0..=limit).contains(d)).map(|d| d * sign)
    };
    let latitude = degrees(Tag::GPSLatitude, Tag::GPSLatitudeRef, b'S', 90.0)?;
    let longitude = degrees(Tag::GPSLongitude, Tag::GPSLongitudeRef, b'W', 180.0)?;
    Some((latitude, longitude))
}

fn ascii(exif: &Exif, tag: Tag) -> Option<&[u8]> {
    match &exif.get_field(tag, In::PRIMARY)?.value {
        Value::Ascii(texts) => texts.first().map(Vec::as_slice),
        _ => None,
    }
}

/// A text without what pads it; `None` when nothing remains.
fn text(exif: &Exif, tag: Tag) -> Option<String> {
    let text = String::from_utf8_lossy(ascii(exif, tag)?);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// Rating and keywords, as Lightroom, digiKam and darktable write them: `xmp:Rating` as attribute or
/// element, `dc:subject` as a bag of texts.
fn from_xmp(xmp: &[u8], details: &mut PhotoDetails) {
    const XMP: &str = "http://ns.adobe.com/xap/1.0/";
    const DC: &str = "http://purl.org/dc/elements/1.1/";
    let Some(document) = xml(xmp) else { return };
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        if let Some(rating) = number_of(&node, (XMP, "Rating")) {
            details.rating = Some(rating).filter(|rating| (-1..=5).contains(rating));
        }
        if node.has_tag_name((DC, "subject")) {
            let items = node.descendants().filter(|item| item.tag_name().name() == "li");
            let words = items.filter_map(|item| item.text()).map(str::trim);
            details.keywords.extend(words.filter(|w| !w.is_empty()).map(str::to_owned));
        }
    }
}

/// How a picture is turned upright by its XMP, where some programs say it and EXIF does not.
pub(super) fn orientation_of_xmp(xmp: &[u8]) -> Option<Orientation> {
    const ORIENTATION: (&str, &str) = ("http://ns.adobe.com/tiff/1.0/", "Orientation");
    let document = xml(xmp)?;
    document
        .descendants()
        .find_map(|node| number_of(&node, ORIENTATION))
        .and_then(Orientation::from_exif)
}

fn xml(xmp: &[u8]) -> Option<roxmltree::Document<'_>> {
    let text = std::str::from_utf8(xmp).ok().filter(|text| text.len() <= MAX_XMP)?;
    roxmltree::Document::parse(text.trim_end_matches('\0')).ok()
}

/// A property, which may be an attribute or an element.
fn number_of<T: FromStr>(node: &roxmltree::Node<'_, '_>, name: (&str, &str)) -> Option<T> {
    let text = node.attribute(name).or_else(|| node.has_tag_name(name).then(|| node.text())?)?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use exif::experimental::Writer;
    use exif::{Field, Rational};

    use super::*;

    fn encoded(fields: &[(Tag, Value)]) -> Metadata {
        let fields: Vec<Field> = fields
            .iter()
            .map(|(tag, value)| Field { tag: *tag, ifd_num: In::PRIMARY, value: value.clone() })
            .collect();
        let mut writer = Writer::new();
        fields.iter().for_each(|field| writer.push_field(field));
        let mut bytes = std::io::Cursor::new(Vec::new());
        writer.write(&mut bytes, true).unwrap();
        Metadata { exif: Some(bytes.into_inner()), ..Metadata::default() }
    }

    fn words(text: &str) -> Value {
        Value::Ascii(vec![text.as_bytes().to_vec()])
    }

    fn rationals(parts: [(u32, u32); 3]) -> Value {
        Value::Rational(parts.map(|(num, denom)| Rational { num, denom }).to_vec())
    }

    #[test]
    fn time_camera_lens_and_place_are_read() {
        let found = details(&encoded(&[
            (Tag::Make, words("NIKON CORPORATION ")),
            (Tag::Model, words("NIKON D90")),
            (Tag::LensModel, words("35 mm f/1.8")),
            (Tag::DateTimeOriginal, words("2024:05:01 12:34:56")),
            (Tag::OffsetTimeOriginal, words("-03:30")),
            (Tag::GPSLatitudeRef, words("S")),
            (Tag::GPSLatitude, rationals([(33, 1), (30, 1), (36, 1)])),
            (Tag::GPSLongitudeRef, words("E")),
            (Tag::GPSLongitude, rationals([(18, 1), (0, 1), (0, 1)])),
        ]));
        assert_eq!(found.camera.as_deref(), Some("NIKON D90"));
        assert_eq!(found.lens.as_deref(), Some("35 mm f/1.8"));
        assert_eq!(found.taken_at.as_deref(), Some("2024-05-01T12:34:56-03:30"));
        assert_eq!((found.latitude, found.longitude), (Some(-33.51), Some(18.0)));
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let found = details(&encoded(&[
            (Tag::Model, words("  ")),
            (Tag::DateTimeOriginal, words("0000:00:00 00:00:00")),
            (Tag::GPSLatitudeRef, words("N")),
            (Tag::GPSLatitude, rationals([(0, 0), (0, 0), (0, 0)])),
            (Tag::GPSLongitudeRef, words("E")),
            (Tag::GPSLongitude, rationals([(200, 1), (0, 1), (0, 1)])),
        ]));
        assert_eq!(found, PhotoDetails::default());
        let damaged = Metadata { exif: Some(b"II*\0\xff".to_vec()), ..Metadata::default() };
        assert_eq!(details(&damaged), PhotoDetails::default());
    }

    #[test]
    fn rating_and_keywords_are_read_from_xmp() {
        let xmp = r#"<x:xmpmeta xmlns:x="adobe:ns:meta/">
            <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
            <rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
                xmlns:dc="http://purl.org/dc/elements/1.1/">
            <dc:subject><rdf:Bag><rdf:li>sea</rdf:li><rdf:li>summer</rdf:li></rdf:Bag></dc:subject>
            </rdf:Description></rdf:RDF></x:xmpmeta>"#;
        let metadata = Metadata { xmp: Some(xmp.as_bytes().to_vec()), ..Metadata::default() };
        let found = details(&metadata);
        assert_eq!(found.rating, Some(4));
        assert_eq!(found.keywords, ["sea", "summer"]);
        let silent = Metadata { xmp: Some(b"<x".to_vec()), ..Metadata::default() };
        assert_eq!(details(&silent), PhotoDetails::default());
        // EXIF is asked where XMP is silent.
        let stars = |stars| encoded(&[(RATING, Value::Short(vec![stars]))]);
        assert_eq!(details(&Metadata { xmp: metadata.xmp, ..stars(2) }).rating, Some(4));
        assert_eq!(details(&Metadata { xmp: silent.xmp, ..stars(2) }).rating, Some(2));
        assert_eq!(details(&stars(0)).rating, Some(0));
        assert_eq!(details(&stars(99)).rating, None);
    }

    #[test]
    fn orientation_is_found_in_xmp_as_attribute_and_as_element() {
        let packet = |property: &str| {
            format!(r#"<r xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><d {property}</r>"#)
        };
        let found = |property: &str| orientation_of_xmp(packet(property).as_bytes());
        assert_eq!(found(r#"tiff:Orientation="6"/>"#), Some(Orientation::Rotate90));
        let element = "><tiff:Orientation>3</tiff:Orientation></d>";
        assert_eq!(found(element), Some(Orientation::Rotate180));
        assert_eq!(found(r#"tiff:Orientation="9"/>"#), None);
        assert_eq!(found("/>"), None);
    }
}
