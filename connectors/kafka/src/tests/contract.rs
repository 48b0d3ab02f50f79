//! The log's contract on Kafka.

use super::Deployment;

hansard_contract::log_contract!(Deployment::new);
