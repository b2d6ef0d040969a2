//! `likeness push`: the library, served by Milvus or PostgreSQL.

use std::io::Write;

use clap::ValueEnum;
use likeness::library::Library;
use likeness::remote::{self, Address, IndexKind};
use likeness::served::{self, PushOptions};
use serde_json::json;

use crate::cli::args::Server;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::stand_in::model_to_ask;

/// Make a Milvus collection or a PostgreSQL table hold what the library holds; `find --remote` asks it.
///
/// Sends what changed since the last time: new images, images that moved or are described otherwise, and
/// those to delete because no file holds them any more. A push that was interrupted goes on where the
/// server's last answer came. In the end the rows are counted.
///
/// The collection, or table, is made when it is missing. One that likeness did not make, or that holds
/// another library or model, is left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness push milvus://localhost/photos
  likeness push milvus://db.lan:19530/archive/photos --token root:Milvus
  likeness push milvus+tls://in03.example.org/photos      http:// and https:// mean the same
  likeness push milvus://localhost/photos --index flat --recreate
  likeness push 'postgres://ann@db.lan/archive?table=photos'
  likeness push 'postgres:///archive?host=/run/postgresql&table=family.photos'

A table of PostgreSQL, which needs pgvector, is named as libpq does it: user, host, port,
dbname, sslmode, sslrootcert, and further table. The password stands in
LIKENESS_POSTGRES_PASSWORD or PGPASSWORD, or in the address. Servers elsewhere are asked behind
TLS and must prove their name (sslmode=verify-full, and require means the same); sslmode=disable
gives that up. The index, hnsw or flat, is made at the end of the first push.

Columns: id (the image's number, the primary key), path, path_lossy (it was no UTF-8), root,
content_hash, width, height, megapixels, format, taken_at, camera, lens, has_gps, latitude,
longitude, rating, embedding (FLOAT_VECTOR of length 1, metric COSINE); path_lower,
root_lower, camera_lower, lens_lower and keywords_lower, which filters compare with; and record,
what `find --remote` shows. Where the photo does not say, a text of Milvus is empty, and a
column of PostgreSQL NULL; there embedding is a vector, keywords stand in keywords, too, and
megapixels and has_gps are left out.

Own certificate authorities: SSL_CERT_FILE names a file with them.")]
pub(crate) struct Args {
    /// milvus://HOST[:PORT]/[DATABASE/]COLLECTION, or milvus+tls://…; or
    /// postgres://[USER@]HOST[:PORT]/DATABASE?table=[SCHEMA.]TABLE
    #[arg(value_name = "ADDRESS")]
    address: String,

    /// Delete the collection or table first, if likeness made it, and send everything
    #[arg(long)]
    recreate: bool,

    /// The index of a collection or table that is made; PostgreSQL has hnsw and flat [default: hnsw]
    #[arg(long, value_name = "KIND")]
    index: Option<IndexName>,

    /// HNSW: neighbours of each point
    #[arg(long = "m", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(4..=2048))]
    m: u32,

    /// HNSW: candidates in view when a point is put in
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(8..=65_536))]
    ef_construction: u32,

    /// IVF: lists; Milvus's own advice is four times the square root of the number of rows
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    nlist: u32,

    /// The model whose embeddings are pushed [default: that of the last `index`, or what still stands in for it]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    #[command(flatten)]
    server: Server,

    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IndexName {
    /// A graph
    Hnsw,
    /// None: everything is compared, exactly
    Flat,
    /// The nearest of many lists
    IvfFlat,
    /// The same, with a byte a component
    IvfSq8,
    /// A graph on disk
    Diskann,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let address: Address = args.address.parse()?;
    context.may_ask(&address)?;
    let mut library = Library::open_existing(&context.library)?;
    let model = model_to_ask(&library, args.model.as_deref(), context)?;
    let (m, ef_construction, nlist) = (args.m, args.ef_construction, args.nlist);
    let index = match args.index.unwrap_or(IndexName::Hnsw) {
        IndexName::Hnsw => IndexKind::Hnsw { m, ef_construction },
        IndexName::Flat => IndexKind::Flat,
        IndexName::IvfFlat => IndexKind::IvfFlat { nlist },
        IndexName::IvfSq8 => IndexKind::IvfSq8 { nlist },
        IndexName::Diskann => IndexKind::DiskAnn,
    };
    let insist = args.index.is_some();
    let options = PushOptions { index, insist, recreate: args.recreate };
    let client = remote::connect(&address, &args.server.options(), &context.watch())?;
    let report = served::push(&mut library, &model, &*client, options, &context.watch())?;
    let mut out = context.stdout();
    if args.json {
        out.json(&json!({
            "address": address.to_string(),
            "server": client.version(),
            "model": model.name,
            "fingerprint": model.fingerprint,
            "created": report.created,
            "sent": report.sent,
            "deleted": report.deleted,
            "unchanged": report.unchanged,
            "count": report.count,
        }))?;
    } else {
        let served::PushReport { sent, deleted, unchanged, count, .. } = report;
        writeln!(out, "{sent} sent, {deleted} deleted, {unchanged} unchanged")?;
        writeln!(out, "{count} images in {address}")?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
