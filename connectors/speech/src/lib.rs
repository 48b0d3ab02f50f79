//! Speech recognition behind one port, a file a provider: a local model in a child process, any server with OpenAI's
//! transcription call, and AssemblyAI, which works in jobs. The crate never retries, never decides what a failure leads to, never touches Kafka,
//! the database or objects, and never loads native code into the calling process.
//!
//! | Provider | What it needs | Where the audio goes |
//! |---|---|---|
//! | [`Local`] | the files of [`fetch`], a program that calls [`child_main`] | nowhere |
//! | [`OpenAi`] | a base URL, a model's name, usually a key | to that server |
//! | [`AssemblyAi`] | a key | there, or to the object store's link that it fetches |

mod answer;
mod assemblyai;
mod child;
mod fetch;
mod frame;
mod local;
mod moonshine;
mod openai;
mod package;
mod piece;
#[cfg(test)]
mod tests;
mod voice;
mod wav;
mod words;

pub use assemblyai::{AssemblyAi, AssemblyAiConfig, AudioBy, Substitute};
pub use child::{CHILD_REFUSED, child_main};
pub use fetch::{FetchError, Progress, fetch};
pub use local::{Local, LocalConfig};
pub use openai::{AudioFormat, Detail, OpenAi, OpenAiConfig};
pub use package::{LOCAL_BASE_MODEL, LOCAL_MODEL, LocalModel, ModelFiles, Recording};
