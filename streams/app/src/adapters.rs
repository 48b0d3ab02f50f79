//! What knows nothing of each other, joined: links made by S3 and the job sweep for the gateway, speech for transcribe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hansard_core::redelivery::Class;
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

impl<S: hansard_speech::Speech> SpeechPort<S> {
    /// The failure of a call. What looks like the failure of one record is the provider's where it fails a probe too:
    /// a provider that stops breaks off the calls that are under way, and these need no other attempt but a pause.
    async fn failed(&self, error: hansard_speech::SpeechError) -> Failed {
        let class = match error.class {
            Class::Transient if self.0.probe().await.is_err() => Class::Unavailable,
            class => class,
        };
        Failed {
            retry_after: error.retry_after,
            http_status: error.http_status,
            ..Failed::new(class, error.code, error.message)
        }
    }
}

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
        let reply = match self.0.transcribe(request).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.failed(error).await),
        };
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

#[cfg(test)]
mod tests {
    use hansard_jobs::ports::Speech as _;
    use hansard_speech::{Reply, Request, SpeechError};

    use super::*;

    /// A provider that refuses every call in one class, and answers probes or does not.
    struct Refusing {
        class: Class,
        answers_probes: bool,
    }

    fn refusal(class: Class) -> SpeechError {
        let retry_after = Some(Duration::from_secs(7));
        SpeechError {
            class,
            code: "refused",
            message: "refused".to_owned(),
            http_status: Some(500),
            retry_after,
        }
    }

    #[async_trait]
    impl hansard_speech::Speech for Refusing {
        async fn transcribe(&self, _: Request) -> Result<Reply, SpeechError> {
            Err(refusal(self.class))
        }

        async fn probe(&self) -> Result<(), SpeechError> {
            if self.answers_probes { Ok(()) } else { Err(refusal(Class::Transient)) }
        }
    }

    #[tokio::test]
    async fn a_failure_is_the_providers_where_a_probe_fails_too() {
        use Class::{Permanent, Transient, Unavailable};
        let expected = [
            (Transient, true, Transient),
            (Transient, false, Unavailable),
            (Permanent, false, Permanent),
            (Unavailable, true, Unavailable),
        ];
        for (class, answers_probes, told) in expected {
            let port = SpeechPort(Refusing { class, answers_probes }, Duration::from_secs(1));
            let request = SpeechRequest {
                audio: bytes::Bytes::new(),
                start_ms: 0,
                end_ms: 1_000,
                options: hansard_schemas::Options::default(),
                idempotency_key: String::new(),
            };
            let failed = port.transcribe(request).await.expect_err("it refuses");
            assert_eq!(failed.class, told, "{class:?}, probes answered: {answers_probes}");
            assert_eq!((failed.http_status, failed.retry_after), (Some(500), Some(Duration::from_secs(7))));
        }
    }
}
