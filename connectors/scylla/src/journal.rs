//! The journal of effects: a row a submission, a cell a step; and the job ids once more, where an erasure leaves them.

use async_trait::async_trait;
use bytes::Bytes;
use hansard_core::id::{Digest, Generation, Timestamp};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::journal::{Journal, JournalKey, Step, Submission, SubmissionId};
use hansard_schemas::Stage;
use scylla::statement::prepared::PreparedStatement;

use crate::ScyllaStore;
use crate::cql::{Cql, corrupt, unreadable};
use crate::facts::{DELETED, FIXED};
use crate::value::{Columns, Unreadable, Value};

/// The statements on the journal.
pub(crate) struct Statements {
    started: PreparedStatement,
    job: PreparedStatement,
    ended: PreparedStatement,
    result: PreparedStatement,
    insert_job: PreparedStatement,
    select: PreparedStatement,
    select_jobs: PreparedStatement,
    select_results: PreparedStatement,
    find_job: PreparedStatement,
    delete_job: PreparedStatement,
    delete: PreparedStatement,
}

/// The columns of a submission, in the order in which they are selected.
const COLUMNS: [&str; 9] = [
    "submission",
    "started_at",
    "until_at",
    "job",
    "deadline_at",
    "asked",
    "ended_class",
    "ended_code",
    "result",
];

impl Statements {
    pub(crate) async fn prepare(cql: &Cql) -> Result<Self, PortError> {
        let insert = async |table: &str, columns: &str| {
            let holes = ", ?".repeat(columns.split(',').count());
            cql.prepare(&format!(
                "INSERT INTO {{}}.{table} (conversation, stage, input, generation, submission, {columns}) \
                 VALUES (?, ?, ?, ?, ?{holes}) USING TIMESTAMP {FIXED}"
            ))
            .await
        };
        let select = format!(
            "SELECT {} FROM {{}}.journal WHERE conversation = ? AND stage = ? AND input = ? AND generation = ?",
            COLUMNS.join(", ")
        );
        let select_jobs = "SELECT stage, input, generation, job FROM {}.jobs WHERE conversation = ?";
        let select_results =
            "SELECT input, generation, result FROM {}.journal WHERE conversation = ? AND stage = ?";
        let of_key = "conversation = ? AND stage = ? AND input = ? AND generation = ?";
        let find_job = format!("SELECT submission, job FROM {{}}.jobs WHERE {of_key}");
        let delete_job =
            format!("DELETE FROM {{}}.jobs USING TIMESTAMP {DELETED} WHERE {of_key} AND submission = ?");
        let delete = format!("DELETE FROM {{}}.journal USING TIMESTAMP {DELETED} WHERE conversation = ?");
        Ok(Self {
            started: insert("journal", "started_at, until_at").await?,
            job: insert("journal", "job, deadline_at, asked").await?,
            ended: insert("journal", "ended_class, ended_code").await?,
            result: insert("journal", "result").await?,
            insert_job: insert("jobs", "job").await?,
            select: cql.prepare(&select).await?,
            select_jobs: cql.prepare(select_jobs).await?,
            select_results: cql.prepare(select_results).await?,
            find_job: cql.prepare(&find_job).await?,
            delete_job: cql.prepare(&delete_job).await?,
            delete: cql.prepare(&delete).await?,
        })
    }
}

fn key(key: &JournalKey) -> Vec<Value<'_>> {
    vec![
        Value::Text(&key.conversation),
        Value::Text(key.stage.as_str()),
        Value::Blob(&key.input.0),
        Value::BigInt(key.generation.0),
    ]
}

#[async_trait]
impl Journal for ScyllaStore {
    async fn write(&self, at: &JournalKey, id: SubmissionId, step: Step) -> Result<(), PortError> {
        let store = self.connected().await?;
        let cell = |values: Vec<_>| [key(at), vec![Value::Blob(&id.0)], values].concat();
        let statements = &store.journal;
        let (statement, values) = match &step {
            // All writes have one timestamp, so of two values of a cell the greater stands: a lease's latest end.
            Step::Started { at, until } => {
                (&statements.started, vec![Value::Time(at.0), Value::Time(until.0)])
            }
            Step::Job { id, deadline, asked } => {
                // First where it outlives an erasure.
                store.cql.write(&statements.insert_job, cell(vec![Value::Text(id)])).await?;
                // Of two that know of one job, the one that knows what was asked has the greater value.
                (&statements.job, vec![Value::Text(id), Value::Time(deadline.0), Value::Blob(asked)])
            }
            Step::Ended { class, code } => {
                (&statements.ended, vec![Value::Text(class.as_str()), Value::Text(code)])
            }
            Step::Result(bytes) => (&statements.result, vec![Value::Blob(bytes)]),
        };
        store.cql.write(statement, cell(values)).await
    }

    async fn read(&self, at: &JournalKey) -> Result<Vec<Submission>, PortError> {
        let store = self.connected().await?;
        let names = COLUMNS.map(str::to_owned);
        let rows = store.cql.select(&store.journal.select, key(at)).await?;
        rows.into_iter().map(|row| submission(Columns::new(&names, row))).collect()
    }

    async fn jobs(&self, conversation: &str) -> Result<Vec<(JournalKey, String)>, PortError> {
        let store = self.connected().await?;
        let wrong = unreadable("jobs");
        let names = ["stage", "input", "generation", "job"].map(str::to_owned);
        let rows = store.cql.select(&store.journal.select_jobs, vec![Value::Text(conversation)]).await?;
        rows.into_iter()
            .map(|row| {
                let mut columns = Columns::new(&names, row);
                let stage: String = columns.take("stage").map_err(&wrong)?;
                let stage = stage.parse().map_err(|error| corrupt("jobs", &error))?;
                let key = effect(&mut columns, "jobs", conversation, stage)?;
                Ok((key, columns.take("job").map_err(&wrong)?))
            })
            .collect()
    }

    async fn results(&self, conversation: &str, stage: Stage) -> Result<Vec<(JournalKey, Bytes)>, PortError> {
        let store = self.connected().await?;
        let names = ["input", "generation", "result"].map(str::to_owned);
        let values = vec![Value::Text(conversation), Value::Text(stage.as_str())];
        let mut results = Vec::new();
        for row in store.cql.select(&store.journal.select_results, values).await? {
            let mut columns = Columns::new(&names, row);
            let key = effect(&mut columns, "journal", conversation, stage)?;
            let result: Option<Vec<u8>> = columns.take("result").map_err(unreadable("journal"))?;
            results.extend(result.map(|result| (key, Bytes::from(result))));
        }
        Ok(results)
    }

    async fn forget(&self, at: &JournalKey, job: &str) -> Result<(), PortError> {
        let store = self.connected().await?;
        let wrong = unreadable("jobs");
        let names = ["submission", "job"].map(str::to_owned);
        for row in store.cql.select(&store.journal.find_job, key(at)).await? {
            let mut columns = Columns::new(&names, row);
            let submission: Vec<u8> = columns.take("submission").map_err(&wrong)?;
            if columns.take::<String>("job").map_err(&wrong)? == job {
                let values = [key(at), vec![Value::Blob(&submission)]].concat();
                store.cql.write(&store.journal.delete_job, values).await?;
            }
        }
        Ok(())
    }

    async fn erase(&self, conversation: &str) -> Result<(), PortError> {
        let store = self.connected().await?;
        store.cql.write(&store.journal.delete, vec![Value::Text(conversation)]).await
    }
}

/// The effect in a row that has its input and generation.
fn effect(
    columns: &mut Columns<'_>,
    table: &str,
    conversation: &str,
    stage: Stage,
) -> Result<JournalKey, PortError> {
    let wrong = unreadable(table);
    let input: Vec<u8> = columns.take("input").map_err(&wrong)?;
    let input = <[u8; 32]>::try_from(input).map_err(|_| corrupt(table, &"input is no digest"))?;
    Ok(JournalKey {
        conversation: conversation.to_owned(),
        stage,
        input: Digest(input),
        generation: Generation(columns.take("generation").map_err(&wrong)?),
    })
}

fn submission(mut columns: Columns<'_>) -> Result<Submission, PortError> {
    let wrong = unreadable("journal");
    let time = |columns: &mut Columns<'_>, name| -> Result<Timestamp, Unreadable> {
        columns.take(name).map(Timestamp)
    };
    let id: Vec<u8> = columns.take("submission").map_err(&wrong)?;
    let id = <[u8; 16]>::try_from(id).map_err(|_| corrupt("journal", &"submission is not of 16 bytes"))?;
    let mut steps = Vec::new();
    if let Some(at) = columns.take::<Option<i64>>("started_at").map_err(&wrong)? {
        let until = time(&mut columns, "until_at").map_err(&wrong)?;
        steps.push(Step::Started { at: Timestamp(at), until });
    }
    if let Some(id) = columns.take("job").map_err(&wrong)? {
        let deadline = time(&mut columns, "deadline_at").map_err(&wrong)?;
        let asked: Option<Vec<u8>> = columns.take("asked").map_err(&wrong)?;
        steps.push(Step::Job { id, deadline, asked: asked.unwrap_or_default().into() });
    }
    if let Some(class) = columns.take::<Option<String>>("ended_class").map_err(&wrong)? {
        let class = class.parse().map_err(|error| corrupt("journal", &error))?;
        steps.push(Step::Ended { class, code: columns.take("ended_code").map_err(&wrong)? });
    }
    if let Some(result) = columns.take::<Option<Vec<u8>>>("result").map_err(&wrong)? {
        steps.push(Step::Result(Bytes::from(result)));
    }
    Ok(Submission { id: SubmissionId(id), steps })
}
