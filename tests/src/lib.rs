//! What no crate can prove alone: the rules of the house, and scenarios over the whole dataflow.
//!
//! This crate is never part of the program: nothing depends on it.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod house;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
