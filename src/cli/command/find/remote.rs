//! Asking a collection instead of the library.

use std::path::PathBuf;

use likeness::embedding::Embedding;
use likeness::error::Error;
use likeness::photo::PhotoBytes;
use likeness::progress::Watch;
use likeness::record::ImageId;
use likeness::remote::Address;
use likeness::served::{Served, ServedOptions};
use likeness::web::FetchOptions;

use super::ask::{Asker, Known};
use super::{Args, asked, network, print};
use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// A collection on a server.
struct Far<'a> {
    served: &'a Served,
    watch: Watch<'a>,
}

impl Known for Far<'_> {
    fn embedding_of(&self, id: ImageId) -> anyhow::Result<Embedding> {
        Ok(self.served.embedding_of(id, &self.watch)?)
    }

    fn find_same(&self, photo: &PhotoBytes) -> anyhow::Result<Option<(ImageId, Embedding)>> {
        Ok(self.served.find_same(&photo.hash(), &self.watch)?)
    }

    fn same_image(&self, photo: &PhotoBytes) -> anyhow::Result<Option<ImageId>> {
        Ok(self.find_same(photo)?.map(|(id, _)| id))
    }

    fn path_of(&self, id: ImageId) -> anyhow::Result<PathBuf> {
        Ok(self.served.image(id, &self.watch)?.path)
    }
}

pub(super) fn run(args: &Args, address: &str, context: &Context) -> anyhow::Result<Exit> {
    let address: Address = address.parse()?;
    context.may_ask(&address)?;
    let watch = context.watch();
    let served = Served::open(&address, &args.server.options(), &watch)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let network = network(args, (served.model(), served.fingerprint()), cores, context);
    let fetch = FetchOptions { allow_private: args.allow_private, ..FetchOptions::default() };
    let far = Far { served: &served, watch };
    let asked = asked(args, &Asker::new(&far, &network, fetch));
    let (query, exclude) = asked.map_err(|error| match error.downcast_ref() {
        Some(Error::ModelChanged { name, indexed: held, found }) => {
            let (address, name) = (address.to_string(), name.clone());
            Error::RemoteModel { address, name, held: *held, found: *found }.into()
        }
        _ => error,
    })?;
    let options = ServedOptions {
        k: args.k,
        min_score: args.min_score,
        exclude,
        filter: args.filter.clone(),
    };
    let matches = served.find(&query, &options, &watch)?;
    print(args, &matches, context)
}
