//! Finds what looks like an indexed photo, among those that pass a filter: `cargo run --example
//! find_by_filter -- DATA 1 'path:holiday and width>=1000'`, after `index_folder` has filled DATA. Needs no
//! model and no inference.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;
use std::path::Path;

use likeness::filter::Filter;
use likeness::library::Library;
use likeness::progress::Watch;
use likeness::query::FindOptions;
use likeness::record::ImageId;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [data, id, filter] = &args[..] else {
        return Err("usage: find_by_filter DATA ID EXPR".into());
    };
    // An error shows the place in the text, and what would be right.
    let filter: Filter = filter.parse()?;
    let library = Library::open_existing(&Path::new(data).join("library"))?;
    let model = library.model(None)?;
    let id = ImageId(id.parse()?);
    let query = library.embedding_of(&model, id)?;
    let options = FindOptions { filter: Some(filter), exclude: vec![id], ..FindOptions::default() };
    // Made ready once, for as many questions as there are.
    let search = library.prepare_search(&model, &options, &Watch::none())?;
    for found in library.answer(&search, &query, &[])? {
        println!("{:.4} {}", found.hit.score, found.image.path.display());
    }
    Ok(())
}
