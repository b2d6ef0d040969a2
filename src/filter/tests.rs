use super::*;

fn parsed(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> InvalidFilter {
    text.parse::<Filter>().expect_err(text)
}

fn taken(from: Option<&str>, below: Option<&str>) -> Filter {
    let own = |text: Option<&str>| text.map(str::to_owned);
    Filter::Test(Test::Taken(Bounds { from: own(from), below: own(below) }))
}

fn number(field: NumberField, from: Option<f64>, below: Option<f64>) -> Filter {
    Filter::Test(Test::Number(field, Bounds { from, below }))
}

#[test]
fn and_binds_before_or_and_not_before_both() {
    let (a, b, c) = (parsed("width:1"), parsed("width:2"), parsed("width:3"));
    let all = |parts: &[&Filter]| Filter::All(parts.iter().map(|f| (*f).clone()).collect());
    let any = |parts: &[&Filter]| Filter::Any(parts.iter().map(|f| (*f).clone()).collect());
    let not = |filter: &Filter| Filter::Not(Box::new(filter.clone()));
    assert_eq!(parsed("width:1 or width:2 and width:3"), any(&[&a, &all(&[&b, &c])]));
    assert_eq!(parsed("(width:1 OR width:2) AND width:3"), all(&[&any(&[&a, &b]), &c]));
    assert_eq!(parsed("not width:1 width = 2"), all(&[&not(&a), &b]));
    assert_eq!(parsed("not(width:1 width:2)"), not(&all(&[&a, &b])));
    assert_eq!(parsed("width!=1"), not(&a));
}

#[test]
fn a_date_stands_for_all_of_its_year_month_or_day() {
    assert_eq!(parsed("taken:2024"), taken(Some("2024"), Some("2024~")));
    assert_eq!(parsed("taken > 2024-05"), taken(Some("2024-05~"), None));
    assert_eq!(parsed("date >= 2024-05"), taken(Some("2024-05"), None));
    assert_eq!(parsed("taken<2024-05"), taken(None, Some("2024-05")));
    assert_eq!(parsed("taken<=2024-02-29"), taken(None, Some("2024-02-29~")));
    let range = taken(Some("2024-05-03"), Some("2024-06-01~"));
    assert_eq!(parsed("taken:2024-05-03..2024-06-01"), range);
    assert_eq!(parsed("taken:..2023"), taken(None, Some("2023~")));
    let minute = taken(Some("2024-05-03T14:30"), Some("2024-05-03T14:30~"));
    assert_eq!(parsed("taken:'2024-05-03 14:30'"), minute);
    for text in
        ["2023-02-29", "2024-13", "24", "2024-5", "2024-05T10", "yesterday", "2024-05-03T25"]
    {
        assert!(refused(&format!("taken:{text}")).reason.contains("is no date"), "{text}");
    }
}

#[test]
fn numbers_stand_for_what_is_rounded_to_them() {
    use NumberField::{Height, Megapixels, Rating, Width};
    assert_eq!(parsed("mp:12"), number(Megapixels, Some(11.5), Some(12.5)));
    assert_eq!(parsed("megapixels >= 12.0mp"), number(Megapixels, Some(11.95), None));
    assert_eq!(parsed("width>4000"), number(Width, Some(4001.0), None));
    assert_eq!(parsed("height<=600px"), number(Height, None, Some(601.0)));
    assert_eq!(parsed("rating:3.."), number(Rating, Some(3.0), None));
    assert_eq!(parsed("stars:-1"), number(Rating, Some(-1.0), Some(0.0)));
}

#[test]
fn a_place_is_a_circle() {
    let near =
        |latitude, longitude, metres| Filter::Test(Test::Near { latitude, longitude, metres });
    assert_eq!(parsed("near:48.1,-11.5,10km"), near(48.1, -11.5, 10_000.0));
    assert_eq!(parsed("near \"0, 0, 500 m\""), near(0.0, 0.0, 500.0));
    for text in ["near:91,0,1km", "near:1,2", "near:1,2,3", "near:1,2,-3km", "near:nan,0,1km"] {
        assert!(refused(text).remedy.contains("48.137,11.575,10km"), "{text}");
    }
}

#[test]
fn what_is_wrong_is_pointed_at_with_what_would_be_right() {
    let shown = refused("width:1 and camra:canon").to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "`camra` is no field");
    assert_eq!(lines[1], "    width:1 and camra:canon");
    assert_eq!(lines[2], "                ^^^^^");
    assert!(lines[3].starts_with("  the fields are path, root, camera"), "{shown}");
    for (text, reason, place) in [
        ("", "a test is missing at the end", 0..0),
        ("width:1 and", "a test is missing at the end", 11..11),
        ("(width:1", "a `(` that nothing closes", 0..1),
        ("width:1)", "a `)` closes nothing", 7..8),
        ("camera", "`camera` is compared with nothing", 0..6),
        ("camera: ", "the value is missing", 8..8),
        ("camera:\"x", "a quote that nothing closes", 7..9),
        ("lens > 50", "`lens` is not ordered", 4..6),
        ("has:wings", "`wings` is nothing a photo has", 4..9),
        ("é:1", "`é` is no field", 0..2),
        ("width:1 ü:2", "`ü` is no field", 8..10),
        ("*", "`*` begins no test", 0..1),
    ] {
        let error = refused(text);
        assert_eq!((&*error.reason, &error.place), (reason, &place), "{text}");
        assert!(!error.remedy.is_empty() && error.to_string().lines().count() >= 4, "{error}");
    }
    assert_eq!(refused(&"not ".repeat(100_000)).reason, "nested too deeply");
}

#[test]
fn globs_know_no_case_and_cross_folders() {
    let matches = |glob: &str, text: &str| Pattern::new(glob).matches(text);
    assert!(matches("*ÉTÉ*.jpg", "/photos/été/1.JPG"));
    assert!(matches("a?c", "aéc") && !matches("a?c", "ac"));
    assert!(matches("*ab*ab", "abxabab") && !matches("*ab*ab", "ab"));
    assert!(matches("", "") && matches("**", "") && !matches("", "a"));
    // As Macs once wrote it, letter and mark apart.
    assert!(matches("caf\u{e9}.jpg", "Cafe\u{301}.jpg") && matches("caf?.jpg", "cafe\u{301}.jpg"));
    assert!(matches("cafe\u{301}*", "CAF\u{c9}.jpg") && !matches("cafe*", "caf\u{e9}"));
}

#[test]
fn a_path_means_all_below_it_wherever_it_lies() {
    let matches = |glob: &str| Pattern::new(glob).matches_path("/srv/Photos/2024/beach.jpg");
    for glob in
        ["*.jpg", "beach.jpg", "photos", "2024/", "photos/2024", "/srv", "/srv/*/2024", "b*.jpg"]
    {
        assert!(matches(glob), "{glob}");
    }
    for glob in ["beach", "hotos", "/photos", "20", "*.png", "2024/*/beach.jpg"] {
        assert!(!matches(glob), "{glob}");
    }
}

#[test]
fn distances_are_those_of_the_globe() {
    // Munich to Berlin, 504 km by any map; across the date line.
    let apart = metres_between((48.137, 11.575), (52.52, 13.405));
    assert!((apart - 504_000.0).abs() < 1_000.0, "{apart}");
    assert!(metres_between((0.0, 179.99), (0.0, -179.99)) < 2_300.0);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(not |and |\\(|\\)|[a-z]{1,4}|:|<=|\\.\\.|\"|é| |[0-9-]{1,4}){0,20}") {
            if let Err(error) = text.parse::<Filter>() {
                prop_assert!(error.to_string().contains('^'));
            }
        }
    }
}
