//! What knows nothing of each other, joined: links made by S3 and the job sweep for the gateway, speech for transcribe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hansard_gateway::{Link, PartLink, Presign, Problem, Sweeper, Wanted};
use hansard_jobs::ports::{SpeechReply, SpeechRequest};
use hansard_jobs::sweep::{Sweep, SweepError};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::ObjectName;
use hansard_runtime::stage::Failed;
use hansard_s3::{S3Objects, SignedRequest};

/// Links to objects on S3.
pub(crate) struct S3Links(pub(crate) S3Objects);

fn link(request: SignedRequest) -> Link {
    let headers: BTreeMap<String, String> = request.headers.into_iter().collect();
    Link { method: request.method, url: request.url, headers }
}

#[async_trait]
impl Presign for S3Links {
    async fn put(&self, wanted: &Wanted, lifetime: Duration) -> Result<Link, PortError> {
        let Wanted { name, content_type, bytes, sha256 } = wanted;
        let request = self.0.presign_put(name, content_type, *bytes, sha256.as_deref(), lifetime).await?;
        Ok(link(request))
    }

    async fn begin_parts(
        &self,
        wanted: &Wanted,
        part_bytes: u64,
        lifetime: Duration,
    ) -> Result<(String, Vec<PartLink>), PortError> {
        let Wanted { name, content_type, bytes, .. } = wanted;
        let begun = self.0.presign_multipart(name, content_type, *bytes, part_bytes, lifetime).await?;
        let parts = begun.parts.into_iter().map(|part| PartLink {
            number: part.number,
            bytes: part.bytes,
            link: link(part.request),
        });
        Ok((begun.upload_id, parts.collect()))
    }

    async fn join_parts(
        &self,
        name: &ObjectName,
        upload_id: &str,
        parts: &[(i32, String)],
    ) -> Result<(), PortError> {
        self.0.complete_multipart(name, upload_id, parts).await.map(|_| ())
    }

    async fn get(&self, name: &ObjectName, file_name: &str, lifetime: Duration) -> Result<Link, PortError> {
        Ok(link(self.0.presign_get(name, Some(file_name), lifetime).await?))
    }
}

/// The job sweep for the gateway's call.
pub(crate) struct SweepPort(pub(crate) Arc<Sweep>);

#[async_trait]
impl Sweeper for SweepPort {
    async fn sweep(&self, dry_run: bool) -> Result<serde_json::Value, Problem> {
        let report = self.0.run(dry_run).await.map_err(|error| match error {
            SweepError::Port(error) => Problem::from(error),
            SweepError::Log(error) => Problem::from(error),
        })?;
        Ok(serde_json::json!(report))
    }
}

/// A provider of speech recognition behind the port of the transcribe stage.
pub(crate) struct SpeechPort<S>(pub(crate) S, pub(crate) Duration);

#[async_trait]
impl<S: hansard_speech::Speech> hansard_jobs::ports::Speech for SpeechPort<S> {
    async fn transcribe(&self, request: SpeechRequest) -> Result<SpeechReply, Failed> {
        let SpeechRequest { audio, start_ms, end_ms, options, idempotency_key } = request;
        let request = hansard_speech::Request {
            audio,
            start_ms,
            end_ms,
            language: options.language,
            keyterms: options.keyterms,
            model: options.model,
            diarize: options.diarize.unwrap_or(false),
            idempotency_key,
        };
        let reply = self.0.transcribe(request).await.map_err(|error| Failed {
            retry_after: error.retry_after,
            http_status: error.http_status,
            ..Failed::new(error.class, error.code, error.message)
        })?;
        let words = reply.words.into_iter().map(|word| hansard_schemas::Word {
            text: word.text,
            start_ms: word.start_ms,
            end_ms: word.end_ms,
            confidence: word.confidence,
            speaker: word.speaker,
        });
        Ok(SpeechReply {
            text: reply.text,
            words: words.collect(),
            language: reply.language,
            language_confidence: reply.language_confidence,
            provider: reply.provider,
            model: reply.model,
            latency_ms: reply.latency_ms,
            audio_ms: reply.audio_ms,
            provider_job_id: reply.provider_job_id,
        })
    }

    fn time_max(&self) -> Duration {
        self.1
    }
}
