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
use hansard_speech::SpeechError;

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

/// The longest that it is waited whether a provider answers at all.
const PROBE_WITHIN: Duration = Duration::from_secs(20);

/// A provider of speech recognition behind the port of the transcribe stage.
pub(crate) struct SpeechPort<S> {
    provider: S,
    answer_within: Duration,
    probe_within: Duration,
}

impl<S: hansard_speech::Speech> SpeechPort<S> {
    /// The job gives a call up after `call_max`. Of this the audio is fetched first, and the provider probed at last: one
    /// that takes calls and never answers would else not be known from a record that it cannot do.
    pub(crate) fn new(provider: S, call_max: Duration) -> Self {
        let probe_within = PROBE_WITHIN.min(call_max / 8);
        Self { provider, answer_within: call_max - 2 * probe_within, probe_within }
    }

    async fn answers(&self) -> bool {
        let probed = tokio::time::timeout(self.probe_within, self.provider.probe()).await;
        probed.is_ok_and(|answer| answer.is_ok())
    }

    /// The failure of a call. What looks like the failure of one record is the provider's where it fails a probe too:
    /// a provider that stops breaks off the calls that are under way, and these need no other attempt but a pause.
    async fn failed(&self, error: hansard_speech::SpeechError) -> Failed {
        let class = match error.class {
            Class::Transient if !self.answers().await => Class::Unavailable,
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
        let answer = tokio::time::timeout(self.answer_within, self.provider.transcribe(request)).await;
        let reply = match answer.unwrap_or_else(|_| Err(SpeechError::no_answer(self.answer_within))) {
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
}

#[cfg(test)]
mod tests {
    use hansard_jobs::ports::Speech as _;
    use hansard_speech::{OpenAi, OpenAiConfig, Reply, Request};
    use tokio::net::TcpListener;

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

    fn request() -> SpeechRequest {
        SpeechRequest {
            audio: bytes::Bytes::from_static(b"fLaC"),
            start_ms: 0,
            end_ms: 1_000,
            options: hansard_schemas::Options::default(),
            idempotency_key: String::new(),
        }
    }

    /// The server's own limit is longer than the job's, which leaves the time to find out.
    #[tokio::test]
    async fn a_provider_that_never_answers_is_told_within_the_jobs_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                open.push(socket);
            }
        });
        let provider = OpenAi::new(OpenAiConfig::new(url, "any")).expect("a valid configuration");
        let call_max = Duration::from_secs(2);
        let port = SpeechPort::new(provider, call_max);
        let called = tokio::time::timeout(call_max, port.transcribe(request())).await;
        let failed = called.expect("the job's bound cuts nothing off").expect_err("nobody answers");
        assert_eq!((failed.class, failed.code), (Class::Unavailable, "timeout"), "{failed}");
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
            let port = SpeechPort::new(Refusing { class, answers_probes }, Duration::from_secs(1));
            let failed = port.transcribe(request()).await.expect_err("it refuses");
            assert_eq!(failed.class, told, "{class:?}, probes answered: {answers_probes}");
            assert_eq!((failed.http_status, failed.retry_after), (Some(500), Some(Duration::from_secs(7))));
        }
    }
}
