//! The writers of summaries.
