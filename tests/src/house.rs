//! The rules of the house as tests, because a rule that nobody checks is a wish.
//!
//! Each rule is one test. It first proves on samples that it finds what it should and nothing else, and then reads
//! the tree; what it finds there is named by file and line.

mod code;
mod crates;
mod layout;
mod licences;
mod purity;
mod tokens;
mod tree;
