//! Asking a collection instead of the library.

use std::path::PathBuf;

use likeness::embedding::Embedding;
use likeness::photo::PhotoBytes;
use likeness::progress::Watch;
use likeness::query::Match;
use likeness::record::ImageId;
use likeness::remote::Address;
use likeness::served::{Served, ServedOptions};
use likeness::web::FetchOptions;

use super::ask::{Asker, Known, Network};
use super::batch::{self, Answers, Batch};
use super::{Args, asked, network, print};
use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// A collection on a server, and what is wanted of it.
struct Far<'a> {
    served: Served,
    options: ServedOptions,
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

impl Answers for Far<'_> {
    fn known(&self) -> &dyn Known {
        self
    }

    fn find(&self, query: &Embedding, exclude: Vec<ImageId>) -> anyhow::Result<Vec<Match>> {
        let options = ServedOptions { exclude, ..self.options.clone() };
        Ok(self.served.find(query, &options, &self.watch)?)
    }
}

pub(super) fn run(args: &Args, address: &str, context: &Context) -> anyhow::Result<Exit> {
    let address: Address = address.parse()?;
    context.may_ask(&address)?;
    let open = || -> anyhow::Result<Far<'_>> {
        let watch = context.watch();
        let served = Served::open(&address, &args.server.options(), &watch)?;
        let (k, min_score, filter) = (args.k, args.min_score, args.filter.clone());
        let options = ServedOptions { k, min_score, exclude: Vec::new(), filter };
        Ok(Far { served, options, watch })
    };
    let far = open()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = (far.served.model(), far.served.fingerprint());
    let network = |threads| Network {
        collection: Some(address.place()),
        ..network(args, model, threads, context)
    };
    let fetch = FetchOptions { allow_private: args.allow_private, ..FetchOptions::default() };
    if let Some(from) = &args.queries {
        let queries = batch::queries(from)?;
        let open = || -> anyhow::Result<Box<dyn Answers + '_>> { Ok(Box::new(open()?)) };
        let (network, exclude_query) = (&network(1), args.exclude_query);
        let batch = Batch { context, network, open: &open, fetch, exclude_query, workers: cores };
        return batch::run(&batch, queries);
    }
    let network = network(cores);
    let (query, exclude) = asked(args, &Asker::new(&far, &network, fetch))?;
    print(args, &far.find(&query, exclude)?, context)
}
