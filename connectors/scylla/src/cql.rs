//! The connection to the database: prepared statements, repeated writes, paged reads, and what an error means.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use hansard_runtime::ports::PortError;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, DbError, ExecutionError, MetadataError, NewSessionError,
    PrepareError, RequestAttemptError,
};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};
use tokio::sync::Semaphore;

use crate::ScyllaConfig;
use crate::value::{Unreadable, Value};

/// The service's name in errors.
pub(crate) const SERVICE: &str = "cql";
/// A batch is ended when it holds so many rows, or so many bytes: Scylla warns at 128 kB.
const BATCH_ROWS: usize = 40;
const BATCH_BYTES: usize = 64 << 10;
/// How often a request is made whose outcome is unknown; all that we write is idempotent.
const TRIES: u32 = 3;
/// The wait before the second try; it doubles.
const BACKOFF: Duration = Duration::from_millis(50);
/// Rows a page.
const PAGE: i32 = 5_000;

/// A row as it comes.
pub(crate) type Values = Vec<Option<CqlValue>>;

/// A row to be written: by which statement, and its values.
pub(crate) type Insert<'a> = (&'a PreparedStatement, Vec<Value<'a>>);

/// What is sent, as often as it has to be.
enum Request<'a> {
    Row(&'a PreparedStatement, &'a [Value<'a>]),
    Batch(&'a Batch, &'a [Vec<Value<'a>>]),
    Page(&'a PreparedStatement, &'a [Value<'a>], &'a PagingState),
}

pub(crate) struct Cql {
    session: Session,
    pub(crate) keyspace: String,
    in_flight: Semaphore,
    concurrency: usize,
}

impl Cql {
    pub(crate) async fn connect(config: &ScyllaConfig) -> Result<Self, PortError> {
        let mut balancing = DefaultPolicy::builder();
        if let Some(datacenter) = &config.datacenter {
            balancing = balancing.prefer_datacenter(datacenter.clone());
        }
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .request_timeout(Some(config.request_timeout))
            .load_balancing_policy(balancing.build())
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&config.nodes)
            .default_execution_profile_handle(profile.into_handle());
        if let Some((user, password)) = &config.credentials {
            builder = builder.user(user, password);
        }
        if let Some(authorities) = &config.tls {
            let tls = authorities.client_config().map_err(|error| unavailable(&error))?;
            builder = builder.tls_context(Some(Arc::new(tls)));
        }
        let within = config.connect_within;
        let session = match tokio::time::timeout(within, builder.build()).await {
            Ok(built) => built.map_err(|error| not_connected(&error))?,
            Err(_) => {
                let nodes = config.nodes.join(", ");
                return Err(unavailable(&format!(
                    "no answer from {nodes} within {within:?}; see store.nodes"
                )));
            }
        };
        let (keyspace, concurrency) = (config.keyspace.clone(), config.concurrency.max(1));
        Ok(Self { session, keyspace, in_flight: Semaphore::new(concurrency), concurrency })
    }

    /// Prepares a statement; `{}` stands for the keyspace.
    pub(crate) async fn prepare(&self, statement: &str) -> Result<PreparedStatement, PortError> {
        let statement = statement.replace("{}", &format!("\"{}\"", self.keyspace));
        let mut prepared = self.session.prepare(statement).await.map_err(|error| not_prepared(&error))?;
        prepared.set_is_idempotent(true);
        prepared.set_page_size(PAGE);
        Ok(prepared)
    }

    /// Runs a statement of the schema.
    pub(crate) async fn define(&self, statement: &str) -> Result<(), PortError> {
        self.session.query_unpaged(statement, ()).await.map(drop).map_err(|error| failed(&error))
    }

    /// Writes one row, or deletes; again where the outcome is unknown.
    pub(crate) async fn write(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value<'_>>,
    ) -> Result<(), PortError> {
        self.repeat(Request::Row(statement, &values)).await.map(drop)
    }

    /// Writes rows of many partitions; `partitions` has those of one each. In no order, and not all or nothing.
    pub(crate) async fn write_all(
        &self,
        partitions: impl IntoIterator<Item = Vec<Insert<'_>>>,
    ) -> Result<(), PortError> {
        let batches = partitions.into_iter().flat_map(batches);
        let writes: Vec<_> = batches.map(|batch| self.write_batch(batch)).collect();
        stream::iter(writes).buffer_unordered(self.concurrency).try_collect().await
    }

    async fn write_batch(&self, mut rows: Vec<Insert<'_>>) -> Result<(), PortError> {
        if rows.len() == 1 {
            let (statement, values) = rows.remove(0);
            return self.write(statement, values).await;
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        let mut values = Vec::with_capacity(rows.len());
        for (statement, row) in rows {
            batch.append_statement(statement.clone());
            values.push(row);
        }
        self.repeat(Request::Batch(&batch, &values)).await.map(drop)
    }

    /// All rows of a query, page by page.
    pub(crate) async fn select(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value<'_>>,
    ) -> Result<Vec<Values>, PortError> {
        let (mut rows, mut state) = (Vec::new(), PagingState::start());
        loop {
            let (page, next) = self.repeat(Request::Page(statement, &values, &state)).await?;
            let page = page.into_rows_result().map_err(|error| corrupt("rows", &error))?;
            for row in page.rows::<Row>().map_err(|error| corrupt("row", &error))? {
                rows.push(row.map_err(|error| corrupt("row", &error))?.columns);
            }
            match next {
                PagingStateResponse::HasMorePages { state: next } => state = next,
                PagingStateResponse::NoMorePages => return Ok(rows),
            }
        }
    }

    /// Makes a request, within the bound of all that are under way, and again while its outcome is unknown.
    async fn repeat(&self, request: Request<'_>) -> Result<(QueryResult, PagingStateResponse), PortError> {
        let closed = |_| PortError::Unavailable { service: SERVICE, cause: "closed".to_owned() };
        let _permit = self.in_flight.acquire().await.map_err(closed)?;
        let mut tries = 1;
        loop {
            let error = match self.once(&request).await {
                Ok(done) => return Ok(done),
                Err(error) => failed(&error),
            };
            if tries == TRIES || !matches!(error, PortError::Unavailable { .. }) {
                return Err(error);
            }
            tracing::debug!(%error, tries, "repeating a request");
            tokio::time::sleep(BACKOFF * 2_u32.pow(tries - 1)).await;
            tries += 1;
        }
    }

    async fn once(
        &self,
        request: &Request<'_>,
    ) -> Result<(QueryResult, PagingStateResponse), ExecutionError> {
        let whole = |result| (result, PagingStateResponse::NoMorePages);
        match request {
            Request::Row(statement, values) => {
                self.session.execute_unpaged(statement, values).await.map(whole)
            }
            Request::Batch(batch, values) => self.session.batch(batch, values).await.map(whole),
            Request::Page(statement, values, state) => {
                self.session.execute_single_page(statement, values, (*state).clone()).await
            }
        }
    }
}

/// Cuts the rows of one partition into batches.
fn batches(rows: Vec<Insert<'_>>) -> Vec<Vec<Insert<'_>>> {
    let mut batches: Vec<Vec<Insert<'_>>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let weight: usize = row.1.iter().map(Value::weight).sum();
        bytes += weight;
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_ROWS && bytes <= BATCH_BYTES => batch.push(row),
            _ => {
                bytes = weight;
                batches.push(vec![row]);
            }
        }
    }
    batches
}

/// Of a certificate that is refused, what to do about it.
fn not_connected(error: &NewSessionError) -> PortError {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::IoError(cause),
    })) = error
    else {
        return unavailable(error);
    };
    match hansard_tls::refusal(cause.as_ref(), "store.ca") {
        Some(cause) => unavailable(&cause),
        None => unavailable(error),
    }
}

fn unavailable(cause: &dyn std::fmt::Display) -> PortError {
    PortError::Unavailable { service: SERVICE, cause: cause.to_string() }
}

pub(crate) fn refused(cause: &dyn std::fmt::Display) -> PortError {
    PortError::Refused { service: SERVICE, cause: cause.to_string() }
}

pub(crate) fn corrupt(what: &str, cause: &dyn std::fmt::Display) -> PortError {
    PortError::Corrupt { what: what.to_owned(), cause: cause.to_string() }
}

/// A column that cannot be read.
pub(crate) fn unreadable(table: &str) -> impl Fn(Unreadable) -> PortError + '_ {
    move |error| corrupt(&format!("row of {table}"), &error)
}

fn failed(error: &ExecutionError) -> PortError {
    match error {
        ExecutionError::BadQuery(error) => refused(error),
        ExecutionError::PrepareError(error) => not_prepared(error),
        ExecutionError::LastAttemptError(attempt) => attempted(attempt),
        _ => unavailable(error),
    }
}

fn not_prepared(error: &PrepareError) -> PortError {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => match attempted(first_attempt) {
            PortError::Refused { cause, .. } => refused(&format!("{cause}; run `hansard store migrate`")),
            other => other,
        },
        _ => unavailable(error),
    }
}

/// What the database itself refuses stays refused; everything else may be better in a moment, a full disk included.
fn attempted(error: &RequestAttemptError) -> PortError {
    use DbError::{
        AlreadyExists, AuthenticationError, ConfigError, FunctionFailure, Invalid, SyntaxError, Unauthorized,
    };
    match error {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => {
            refused(error)
        }
        RequestAttemptError::DbError(
            SyntaxError
            | Invalid
            | AlreadyExists { .. }
            | FunctionFailure { .. }
            | AuthenticationError
            | Unauthorized
            | ConfigError,
            _,
        ) => refused(error),
        _ => unavailable(error),
    }
}
