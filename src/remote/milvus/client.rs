//! Calls, one after the other: each waits for its answer, and is said again where that may help.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use tokio::runtime::{Builder, Runtime};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::address::Address;
use super::expression::Dialect;
use super::proto::milvus_service_client::MilvusServiceClient;
use super::proto::{self, KeyValuePair, MsgBase, MsgType};
use super::status::{Answer, Failure, checked};
use crate::error::{Error, Result};
use crate::progress::Watch;

/// How long a name, a connection and TLS may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The waits before a call is said again; then it has failed. 32 seconds in all: a Milvus that was killed and
/// started anew takes up to 30 to forget what it was.
const BACK_OFF_MS: [u64; 7] = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000];

/// How long a collection may take to be loaded.
const LOAD: Duration = Duration::from_secs(600);

/// How a server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// `USER:PASSWORD` or an API key; `None` where none is wanted.
    pub token: Option<String>,
    /// How long one call may take.
    pub timeout: Duration,
}

impl Default for ClientOptions {
    /// No token, 60 seconds.
    fn default() -> Self {
        Self { token: None, timeout: Duration::from_secs(60) }
    }
}

/// A connection to the server of a collection.
pub struct Client {
    pub(super) address: Address,
    runtime: Runtime,
    service: Service,
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    version: String,
    /// How often a call was larger than the server takes.
    pub(super) halvings: Cell<u32>,
}

pub(super) type Service = MilvusServiceClient<Channel>;

/// What a server says of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What was said of it when it was made.
    pub properties: BTreeMap<String, String>,
    /// The names of its columns.
    pub columns: Vec<String>,
}

impl Client {
    /// Connects, and asks for the version. Where nothing answers, that is said at once; only a server that says that
    /// it is not ready is asked again.
    ///
    /// # Errors
    /// [`Error::RemoteUnreachable`], [`Error::RemoteDenied`], [`Error::RemoteRefused`].
    pub fn connect(address: &Address, options: &ClientOptions, watch: &Watch<'_>) -> Result<Self> {
        let unreachable =
            |reason: String| Error::RemoteUnreachable { server: address.server(), reason };
        let token = options.token.as_ref().filter(|token| !token.is_empty()).map(|token| {
            let text = base64::engine::general_purpose::STANDARD.encode(token);
            MetadataValue::try_from(text).expect("base64 is ASCII")
        });
        // Of one thread, which waits for each answer: the rest of likeness knows no tasks.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Threads { source: source.into() })?;
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

    /// Where it is connected to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What the server says that it is.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What filters it understands.
    pub fn dialect(&self) -> Dialect {
        Dialect::of(&self.version)
    }

    /// What is known of the collection; `None` where there is none.
    ///
    /// # Errors
    /// Those of [`Client::connect`], and [`Error::Cancelled`]; so all methods here.
    pub fn describe(&self, watch: &Watch<'_>) -> Result<Option<Description>> {
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
        let fields = said.schema.unwrap_or_default().fields;
        Ok(Some(Description {
            properties: said.properties.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            columns: fields.into_iter().map(|field| field.name).collect(),
        }))
    }

    /// Deletes the collection.
    pub fn drop_collection(&self, watch: &Watch<'_>) -> Result<()> {
        let (db_name, collection_name) = self.names();
        let base = base(MsgType::DropCollection);
        let request = proto::DropCollectionRequest { base, db_name, collection_name };
        self.call("delete a collection", watch, request, async |mut service, request| {
            service.drop_collection(request).await
        })
        .map(drop)
    }

    /// Makes the collection ready to be asked, and waits until it is.
    pub fn load(&self, watch: &Watch<'_>) -> Result<()> {
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
    pub fn flush(&self, watch: &Watch<'_>) -> Result<()> {
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
        for wait in BACK_OFF_MS {
            watch.check()?;
            match self.once(request.clone(), &send) {
                Err(failure) if failure.is_transient() => {
                    pause(Duration::from_millis(wait), watch)?
                }
                answer => return Ok(answer),
            }
        }
        watch.check()?;
        Ok(self.once(request, &send))
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

/// Waits, but not when it should stop.
fn pause(wait: Duration, watch: &Watch<'_>) -> Result<()> {
    let end = Instant::now() + wait;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        watch.check()?;
        thread::sleep(left.min(Duration::from_millis(50)));
    }
    watch.check()
}
