//! Brings the schema up to this version: creates what is missing and adds columns. It can be run at any time, by anyone,
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hansard_runtime::ports::PortError;

use crate::ScyllaConfig;
use crate::cql::{Cql, refused, unreadable};
use crate::facts::FIXED;
use crate::schema::{definitions, tables, types};
use crate::value::{Columns, Value};

/// All nodes have to agree on a change of the schema, which takes far longer than a row.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the schema is looked at again after a statement was refused, and after how long.
const LOOKS_MAX: usize = 20;
const LOOK_AFTER: Duration = Duration::from_millis(250);

/// Creates the keyspace, types and tables where they are missing, adds missing columns, and records the deployment's
/// partition count.
///
/// # Errors
/// [`PortError::Refused`] when the deployment has another partition count, or the database refuses a statement.
pub async fn migrate(config: &ScyllaConfig) -> Result<(), PortError> {
    let patient = ScyllaConfig { request_timeout: config.request_timeout.max(PATIENCE), ..config.clone() };
    let cql = Cql::connect(&patient).await?;
    let keyspace = &config.keyspace;
    cql.define(&format!(
        "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {}",
        config.replication
    ))
    .await?;
    let mut refusals = 0;
    loop {
        match define(&cql, missing(&cql).await?).await {
            // Somebody else migrates too, and was faster: what is there by now is not missing at the next look.
            Err(PortError::Refused { .. }) if refusals < LOOKS_MAX => {
                refusals += 1;
                tokio::time::sleep(LOOK_AFTER).await;
            }
            defined => break defined?,
        }
    }
    if partitions(&cql).await?.is_none() {
        let insert = cql
            .prepare(&format!(
                "INSERT INTO {{}}.meta (name, value) VALUES ('partitions', ?) USING TIMESTAMP {FIXED}"
            ))
            .await?;
        cql.write(&insert, vec![Value::Text(&config.partitions.to_string())]).await?;
    }
    check_partitions(&cql, config.partitions).await
}

async fn define(cql: &Cql, statements: Vec<String>) -> Result<(), PortError> {
    for statement in statements {
        cql.define(&statement).await?;
    }
    Ok(())
}

/// The statements that make what this version has and the database has not.
async fn missing(cql: &Cql) -> Result<Vec<String>, PortError> {
    let keyspace = &cql.keyspace;
    let mut statements = Vec::new();
    let present = fields(cql, "types", "type_name", "field_names").await?;
    for (name, wanted) in types() {
        let Some(fields) = present.get(&name) else {
            let fields = definitions(&wanted);
            statements.push(format!("CREATE TYPE IF NOT EXISTS \"{keyspace}\".\"{name}\" ({fields})"));
            continue;
        };
        let added = wanted.iter().filter(|(field, _)| !fields.contains(field));
        statements.extend(
            added.map(|(field, of)| format!("ALTER TYPE \"{keyspace}\".\"{name}\" ADD \"{field}\" {of}")),
        );
    }
    let present = fields(cql, "columns", "table_name", "column_name").await?;
    for table in tables() {
        let Some(columns) = present.get(table.name) else {
            statements.push(table.create(keyspace));
            continue;
        };
        let added = table.columns.iter().filter(|(column, _)| !columns.contains(column));
        statements.extend(added.map(|(column, of)| {
            format!("ALTER TABLE \"{keyspace}\".\"{}\" ADD \"{column}\" {of}", table.name)
        }));
    }
    Ok(statements)
}

/// Refuses a partition count that is not the deployment's.
pub(crate) async fn check_partitions(cql: &Cql, wanted: u32) -> Result<(), PortError> {
    match partitions(cql).await? {
        Some(recorded) if recorded == wanted.to_string() => Ok(()),
        Some(recorded) => Err(refused(&format!("the deployment has {recorded} partitions, not {wanted}"))),
        None => Err(refused(&"no partition count is recorded; run `hansard store migrate`")),
    }
}

async fn partitions(cql: &Cql) -> Result<Option<String>, PortError> {
    let select = cql.prepare("SELECT value FROM {}.meta WHERE name = 'partitions'").await?;
    let names = ["value".to_owned()];
    let row = cql.select(&select, Vec::new()).await?.pop();
    row.map(|row| Columns::new(&names, row).take("value").map_err(unreadable("meta"))).transpose()
}

/// The fields that each type has, or the columns that each table has.
async fn fields(
    cql: &Cql,
    table: &str,
    owner: &str,
    field: &str,
) -> Result<BTreeMap<String, BTreeSet<String>>, PortError> {
    let select = format!("SELECT {owner}, {field} FROM system_schema.{table} WHERE keyspace_name = ?");
    let select = cql.prepare(&select).await?;
    let names = ["owner".to_owned(), "field".to_owned()];
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in cql.select(&select, vec![Value::Text(&cql.keyspace)]).await? {
        let of_type =
            row.get(1).is_some_and(|value| value.as_ref().is_some_and(|value| value.as_list().is_some()));
        let mut row = Columns::new(&names, row);
        let owner = row.take("owner").map_err(unreadable(table))?;
        let fields = found.entry(owner).or_default();
        if of_type {
            fields.extend(row.take::<Vec<String>>("field").map_err(unreadable(table))?);
        } else {
            fields.insert(row.take("field").map_err(unreadable(table))?);
        }
    }
    Ok(found)
}
