//! Calls, one after the other: each waits for its answer, and is said again where that may help.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::time::{Duration, Instant};

use base64::Engine as _;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::super::patience::{self, CONNECT, pause};
use super::super::{ClientOptions, Description};
use super::address::Address;
use super::expression::Dialect;
use super::proto::milvus_service_client::MilvusServiceClient;
use super::proto::{self, KeyValuePair, MsgBase, MsgType};
use super::status::{Answer, Failure, UNREACHABLE, checked};
use crate::error::{Error, Result};
use crate::progress::Watch;

/// How long a collection may take to be loaded.
const LOAD: Duration = Duration::from_secs(600);

/// A connection to the server of a collection.
pub struct Client {
    pub(super) address: Address,
    runtime: Runtime,
    service: Service,
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    pub(super) version: String,
    /// How often a call was larger than the server takes.
    pub(super) halvings: Cell<u32>,
    /// The kind of index that the collection has, once a search asked for it.
    pub(super) index_kind: OnceCell<String>,
}

pub(super) type Service = MilvusServiceClient<Channel>;

impl Client {
    /// Connects, and asks for the version. Where nothing answers, that is said at once; only a server that says that
    /// it is not ready is asked again.
    ///
    /// # Errors
    /// [`Error::RemoteUnreachable`], [`Error::RemoteDenied`], [`Error::RemoteRefused`].
    pub fn connect(address: &Address, options: &ClientOptions, watch: &Watch<'_>) -> Result<Self> {
        let unreachable = |reason: String| Error::RemoteUnreachable {
            server: address.server(),
            reason,
            remedy: UNREACHABLE,
        };
        let token = options.token.as_ref().filter(|token| !token.is_empty()).map(|token| {
            let text = base64::engine::general_purpose::STANDARD.encode(token);
            MetadataValue::try_from(text).expect("base64 is ASCII")
        });
        let runtime = patience::runtime()?;
        let mut endpoint = Endpoint::from_shared(address.uri())
            .map_err(|error| unreachable(error.to_string()))?
            .connect_timeout(CONNECT)
            .timeout(options.timeout)
            .tcp_nodelay(true)
            .user_agent(concat!("likeness/", env!("CARGO_PKG_VERSION")))
            .expect("the version is ASCII");
        if address.tls {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(|error| unreachable(error.to_string()))?;
        }
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        // Servers send what was asked for; how large that is, is known here.
        let service = MilvusServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut client = Self {
            address: address.clone(),
            runtime,
            service,
            token,
            timeout: options.timeout,
            version: String::new(),
            halvings: Cell::new(0),
            index_kind: OnceCell::new(),
        };
        let send = async |mut service: Service, request| service.get_version(request).await;
        let version = match client.once(proto::GetVersionRequest {}, send) {
            Err(failure) if failure.is_transient() && failure.is_answer() => {
                client.call("answer", watch, proto::GetVersionRequest {}, send)
            }
            version => version.map_err(|failure| failure.into_error(address.server(), "answer")),
        }?;
        client.version = version.version;
        Ok(client)
    }

    /// What filters it understands.
    pub(super) fn dialect(&self) -> Dialect {
        Dialect::of(&self.version)
    }

    /// What is known of the collection; `None` where there is none.
    pub(super) fn said(&self, watch: &Watch<'_>) -> Result<Option<Description>> {
        let (db_name, collection_name) = self.names();
        let request = proto::HasCollectionRequest {
            base: base(MsgType::HasCollection),
            db_name: db_name.clone(),
            collection_name: collection_name.clone(),
        };
        let there =
            self.call("look for a collection", watch, request, async |mut service, request| {
                service.has_collection(request).await
            })?;
        if !there.value {
            return Ok(None);
        }
        let request = proto::DescribeCollectionRequest {
            base: base(MsgType::DescribeCollection),
            db_name,
            collection_name,
        };
        let said =
            self.call("describe a collection", watch, request, async |mut service, request| {
                service.describe_collection(request).await
            })?;
        let properties = said.properties.into_iter().map(|pair| (pair.key, pair.value));
        Ok(Some(Description { properties: properties.collect() }))
    }

    /// Deletes the collection.
    pub(super) fn forget(&self, watch: &Watch<'_>) -> Result<()> {
        let (db_name, collection_name) = self.names();
        let base = base(MsgType::DropCollection);
        let request = proto::DropCollectionRequest { base, db_name, collection_name };
        self.call("delete a collection", watch, request, async |mut service, request| {
            service.drop_collection(request).await
        })
        .map(drop)
    }

    /// Makes the collection ready to be asked, and waits until it is.
    pub(super) fn ready(&self, watch: &Watch<'_>) -> Result<()> {
        let (db_name, collection_name) = self.names();
        let request = proto::LoadCollectionRequest {
            base: base(MsgType::LoadCollection),
            db_name: db_name.clone(),
            collection_name: collection_name.clone(),
            replica_number: 1,
        };
        self.call("load a collection", watch, request, async |mut service, request| {
            service.load_collection(request).await
        })?;
        let begun = Instant::now();
        loop {
            let request = proto::GetLoadStateRequest {
                base: base(MsgType::Undefined),
                db_name: db_name.clone(),
                collection_name: collection_name.clone(),
            };
            let said =
                self.call("load a collection", watch, request, async |mut service, request| {
                    service.get_load_state(request).await
                })?;
            if said.state() == proto::LoadState::Loaded {
                return Ok(());
            }
            if begun.elapsed() > LOAD {
                let reason = format!("it is not loaded after {} s", LOAD.as_secs());
                return Err(Error::RemoteRefused {
                    server: self.address.server(),
                    action: "load a collection",
                    reason,
                });
            }
            pause(Duration::from_millis(100), watch)?;
        }
    }

    /// Makes what was sent durable.
    pub(super) fn settle(&self, watch: &Watch<'_>) -> Result<()> {
        let (db_name, collection_name) = self.names();
        let request = proto::FlushRequest {
            base: base(MsgType::Flush),
            db_name,
            collection_names: vec![collection_name],
        };
        self.call("flush", watch, request, async |mut service, request| {
            service.flush(request).await
        })
        .map(drop)
    }

    pub(super) fn names(&self) -> (String, String) {
        (self.address.database.clone(), self.address.collection.clone())
    }

    /// One call, said again while that may help.
    pub(super) fn call<Q: Clone, R: Answer, F>(
        &self,
        action: &'static str,
        watch: &Watch<'_>,
        request: Q,
        send: impl Fn(Service, Request<Q>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        self.try_call(watch, request, send)?
            .map_err(|failure| failure.into_error(self.address.server(), action))
    }

    /// The same, with what went wrong in the end for who can do something about it.
    pub(super) fn try_call<Q: Clone, R: Answer, F>(
        &self,
        watch: &Watch<'_>,
        request: Q,
        send: impl Fn(Service, Request<Q>) -> F,
    ) -> Result<Result<R, Failure>>
    where
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        let once = || Ok(self.once(request.clone(), &send));
        patience::again(watch, once, Failure::is_transient)
    }

    fn once<Q, R: Answer, F>(
        &self,
        request: Q,
        send: impl Fn(Service, Request<Q>) -> F,
    ) -> Result<R, Failure>
    where
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        let mut request = Request::new(request);
        request.set_timeout(self.timeout);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        checked(self.runtime.block_on(send(self.service.clone(), request)))
    }
}

/// What kind of request it is.
pub(super) fn base(msg_type: MsgType) -> Option<MsgBase> {
    Some(MsgBase { msg_type: msg_type.into() })
}

/// A setting, as Milvus takes them.
pub(super) fn pair(key: &str, value: impl ToString) -> KeyValuePair {
    KeyValuePair { key: key.to_owned(), value: value.to_string() }
}
