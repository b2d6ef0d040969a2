//! Calls, one after the other: each waits for its answer, and is said again where that may help.

use std::cell::{OnceCell, RefCell};
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use super::super::ClientOptions;
use super::super::patience::{self, CONNECT};
use super::address::{Address, Host, Tls};
use super::status::Failure;
use super::table::Shape;
use super::tls::Rustls;
use crate::error::{Error, Result};
use crate::progress::Watch;

/// How often somebody who waits is asked whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// A connection to the server of a table.
pub struct Client {
    pub(super) address: Address,
    runtime: Runtime,
    config: Config,
    tls: Option<Rustls>,
    timeout: Duration,
    /// None where the last one broke.
    session: RefCell<Option<Session>>,
    pub(super) version: String,
    /// Major and minor version of pgvector: the one in the database, or else the one that may be put there.
    pub(super) vectors: Option<(u32, u32)>,
    /// What is known of the vectors, once a search wanted to know.
    pub(super) shape: OnceCell<Shape>,
}

pub(super) type Session = tokio_postgres::Client;

impl Client {
    /// Connects, and asks for versions. Where nothing answers, that is said at once; only a server that says that it is
    /// not ready is asked again.
    ///
    /// # Errors
    /// [`Error::RemoteUnreachable`], [`Error::RemoteDenied`], [`Error::RemoteRefused`], [`Error::RemoteUnfit`] for no such
    /// database, or one that is not encoded in UTF-8.
    pub fn connect(address: &Address, options: &ClientOptions, watch: &Watch<'_>) -> Result<Self> {
        const ACTION: &str = "answer";
        let mut config = Config::new();
        match &address.host {
            Host::Name(name) => config.host(name),
            #[cfg(unix)]
            Host::Socket(folder) => config.host_path(folder),
            #[cfg(not(unix))]
            Host::Socket(folder) => {
                let reason = format!("there are no sockets like {} here", folder.display());
                return Err(Error::RemoteAddress { address: address.to_string(), reason });
            }
        };
        config.port(address.port).connect_timeout(CONNECT).application_name("likeness");
        if let Some(user) = &address.user {
            config.user(user);
        }
        if let Some(database) = &address.database {
            config.dbname(database);
        }
        if let Some(password) = address.password.as_ref().or(options.password.as_ref()) {
            config.password(password);
        }
        let tls = match &address.tls {
            Tls::Off => None,
            Tls::On { authorities } => {
                let made = Rustls::new(authorities.as_deref());
                Some(made.map_err(|reason| Error::RemoteUnfit {
                    server: address.server(),
                    reason,
                    remedy: "name a file with certificate authorities by `sslrootcert=FILE` in the address, or \
                             SSL_CERT_FILE",
                })?)
            }
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        let mut client = Self {
            address: address.clone(),
            runtime: patience::runtime()?,
            config,
            tls,
            timeout: options.timeout,
            session: RefCell::default(),
            version: String::new(),
            vectors: None,
            shape: OnceCell::new(),
        };
        let work = async |session: &Session| {
            let sql = "SELECT current_setting('server_version'), current_setting('server_encoding'), \
                       (SELECT extversion FROM pg_extension WHERE extname = 'vector'), \
                       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')";
            let row = session.query_typed_one(sql, &[]).await?;
            let text = |at| row.try_get::<_, Option<String>>(at).map(Option::unwrap_or_default);
            Ok((text(0)?, text(1)?, text(2)?, text(3)?))
        };
        let limit = Some(client.timeout);
        let said = match client.once(limit, watch, &work)? {
            Err(failure) if failure.is_transient() && failure.is_answer() => {
                client.call(ACTION, watch, work)
            }
            said => said.map_err(|failure| failure.into_error(address, ACTION)),
        }?;
        let (server, encoding, inside, available) = said;
        if encoding != "UTF8" {
            return Err(Error::RemoteUnfit {
                server: address.server(),
                reason: format!("the database is encoded in {encoding}"),
                remedy: "make another one: `createdb --encoding UTF8 --template template0 NAME`",
            });
        }
        let shown = if inside.is_empty() { &available } else { &inside };
        client.vectors = numbers(shown);
        // As `18.1 (Debian 18.1-1)`.
        let server = server.split(' ').next().unwrap_or_default();
        client.version = match shown.is_empty() {
            true => format!("PostgreSQL {server}"),
            false => format!("PostgreSQL {server}, pgvector {shown}"),
        };
        Ok(client)
    }

    /// One piece of work that may be done twice, done again while that may help.
    pub(super) fn call<T>(
        &self,
        action: &'static str,
        watch: &Watch<'_>,
        work: impl AsyncFn(&Session) -> Result<T, Failure>,
    ) -> Result<T> {
        self.call_within(Some(self.timeout), action, watch, work)
    }

    /// The same, with another limit to its time, or none.
    pub(super) fn call_within<T>(
        &self,
        limit: Option<Duration>,
        action: &'static str,
        watch: &Watch<'_>,
        work: impl AsyncFn(&Session) -> Result<T, Failure>,
    ) -> Result<T> {
        let once = || self.once(limit, watch, &work);
        let said = patience::again(watch, once, Failure::is_transient)?;
        said.map_err(|failure| failure.into_error(&self.address, action))
    }

    /// Does the work once, over a new connection where there is none that is whole.
    fn once<T>(
        &self,
        limit: Option<Duration>,
        watch: &Watch<'_>,
        work: &impl AsyncFn(&Session) -> Result<T, Failure>,
    ) -> Result<Result<T, Failure>> {
        let kept = self.session.borrow_mut().take().filter(|session| !session.is_closed());
        self.runtime.block_on(async {
            let session = match kept {
                Some(session) => session,
                None => match self.patiently(Some(self.timeout), watch, self.open()).await? {
                    Ok(session) => session,
                    Err(failure) => return Ok(Err(failure)),
                },
            };
            let done = self.patiently(limit, watch, work(&session)).await;
            if matches!(done, Err(_) | Ok(Err(Failure::Late))) {
                // The server need not go on with what nobody waits for.
                let token = session.cancel_token();
                let _ = tokio::time::timeout(Duration::from_secs(2), async {
                    match self.tls.clone() {
                        None => token.cancel_query(NoTls).await,
                        Some(tls) => token.cancel_query(tls).await,
                    }
                })
                .await;
            } else if !session.is_closed() {
                *self.session.borrow_mut() = Some(session);
            }
            done
        })
    }

    async fn open(&self) -> Result<Session, Failure> {
        // What the server says beside answers is not for us, and a connection that broke is told by the next call.
        match self.tls.clone() {
            None => {
                let (session, connection) = self.config.connect(NoTls).await?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(session)
            }
            Some(tls) => {
                let (session, connection) = self.config.connect(tls).await?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(session)
            }
        }
    }

    /// Waits, but not too long, nor when it should stop.
    async fn patiently<T>(
        &self,
        limit: Option<Duration>,
        watch: &Watch<'_>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Result<T, Failure>> {
        let begun = Instant::now();
        let mut work = pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(TICK, work.as_mut()).await {
                return Ok(done);
            }
            watch.check()?;
            if limit.is_some_and(|limit| begun.elapsed() > limit) {
                return Ok(Err(Failure::Late));
            }
        }
    }
}

/// Does some work in a transaction that begins with statements of ours.
pub(super) async fn transaction<T>(
    session: &Session,
    begin: &str,
    work: impl AsyncFnOnce(&Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let done = async {
        session.batch_execute(begin).await?;
        let done = work(session).await?;
        session.batch_execute("COMMIT").await?;
        Ok(done)
    }
    .await;
    if done.is_err() {
        let _ = session.batch_execute("ROLLBACK").await;
    }
    done
}

/// `0.8.5` as (0, 8).
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
