//! AssemblyAI, which works on jobs: the audio is uploaded or named by a link, a job is begun, and later it is asked for or
//! tells by a webhook that it has ended. The calls are those of <https://www.assemblyai.com/docs/api-reference>.

mod job;

use async_trait::async_trait;
use hansard_core::id::{Millis, Timestamp};
use hansard_jobs::ports::{JobState, Speech, SpeechReply, SpeechRequest, Submitted};
use hansard_provider::{Account, Authorization, Cause, Service, ServiceConfig, ServiceError};
use hansard_runtime::pace::Permit;
use hansard_runtime::stage::Failed;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Url};
use serde::{Deserialize, Serialize};

use crate::answer::Unreadable;

use self::job::{Job, Listed, Page, Stage};

/// Jobs on a page of the list, which is the most that is given.
const PAGE_JOBS: usize = 200;
/// How far the clocks here and there may be apart when a lost job is looked for.
const CLOCKS_APART: Millis = Millis::minutes(2);
/// Jobs with the audio of a lost one that are asked whether they are it, at most.
const CANDIDATES_MAX: usize = 10;
/// Words of a keyterm, at most; a longer one would have the whole job refused.
const KEYTERM_WORDS_MAX: usize = 6;
/// Keyterms, at most, by whether one of the models takes fewer.
const KEYTERMS_MAX: (usize, usize) = (200, 1_000);
/// The models that take the larger number.
const MANY_KEYTERMS: [&str; 2] = ["universal-3", "assemblyai-stt-3"];
/// Spoken languages that stand in its list with a country.
const COUNTRIES: [(&str, &str, &str); 4] =
    [("en", "gb", "en_uk"), ("en", "us", "en_us"), ("en", "au", "en_au"), ("de", "ch", "de_ch")];
/// The setting of the authorities, which an error names.
const AUTHORITIES: &str = "assemblyai.ca";

/// How the audio comes to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioBy {
    /// Its bytes are uploaded. A job whose id was lost cannot be found again.
    Upload,
    /// By a link, from which the provider fetches it: the object store must be reachable from there.
    Link,
}

/// What stands where something was redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Substitute {
    /// `####`.
    Hash,
    /// Its kind: `[PERSON_NAME]`.
    EntityName,
}

/// What is sent to AssemblyAI and asked of it; [`AssemblyAiConfig::new`] gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssemblyAiConfig {
    /// The server; of its settings the base URL chooses the region.
    pub service: ServiceConfig,
    /// The models, by preference: the first that knows the language hears the audio. A conversation may name another
    /// (`universal-3-5-pro`, then `universal-2` for the languages that it does not know).
    pub models: Vec<String>,
    /// How the audio comes there (by upload).
    pub audio: AudioBy,
    /// What is redacted where that is asked for, by the provider's names (what tells who somebody is).
    pub redact_policies: Vec<String>,
    /// What stands in its place (its kind).
    pub redact_substitute: Substitute,
    /// Largest audio that is uploaded, in bytes (2.2 GB, which is the provider's limit).
    pub audio_bytes_max: usize,
    /// Pages of 200 jobs that are read to find a lost one, at most (50).
    pub find_pages_max: usize,
}

impl AssemblyAiConfig {
    /// The defaults, for a base URL: `https://api.assemblyai.com`, or `https://api.eu.assemblyai.com`.
    pub fn new(base_url: impl Into<String>) -> Self {
        let mut service = ServiceConfig::new("assemblyai", base_url, AUTHORITIES);
        service.authorization = Authorization::Plain;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            service,
            models: names(&["universal-3-5-pro", "universal-2"]),
            audio: AudioBy::Upload,
            redact_policies: names(&[
                "person_name",
                "phone_number",
                "email_address",
                "location",
                "date_of_birth",
                "account_number",
                "banking_information",
                "credit_card_number",
                "credit_card_cvv",
                "credit_card_expiration",
                "us_social_security_number",
                "drivers_license",
                "passport_number",
                "healthcare_number",
                "ip_address",
                "username",
                "password",
                "vehicle_id",
            ]),
            redact_substitute: Substitute::EntityName,
            audio_bytes_max: 2_200_000_000,
            find_pages_max: 50,
        }
    }
}

/// Speech recognition by AssemblyAI.
#[derive(Debug)]
pub struct AssemblyAi {
    config: AssemblyAiConfig,
    service: Service,
}

/// The body of a submission.
#[derive(Serialize)]
struct Order<'a> {
    audio_url: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    speech_models: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    language_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language_detection: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keyterms_prompt: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker_labels: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redact_pii: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redact_pii_policies: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redact_pii_sub: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<&'a str>,
}

#[derive(Deserialize)]
struct Uploaded {
    upload_url: String,
}

#[derive(Deserialize)]
struct Notice {
    transcript_id: String,
}

impl AssemblyAi {
    /// Checks the configuration; connects to nothing yet.
    ///
    /// # Errors
    /// The server's address or key are none.
    pub fn new(config: AssemblyAiConfig) -> Result<Self, ServiceError> {
        let service = Service::new(config.service.clone())?;
        Ok(Self { config, service })
    }

    fn models<'a>(&'a self, request: &'a SpeechRequest) -> &'a [String] {
        request.options.model.as_ref().map_or(&self.config.models, std::slice::from_ref)
    }

    fn account(&self, request: &SpeechRequest) -> Account {
        let own = request.options.model.as_ref().is_none_or(|model| self.config.models.contains(model));
        if own && request.options.provider.is_none() { Account::Deployment } else { Account::Record }
    }

    /// The whole body of a call's answer.
    async fn answer(
        &self,
        call: RequestBuilder,
        account: Account,
        permit: &Permit<'_>,
    ) -> Result<bytes::Bytes, Failed> {
        let response = self.service.send(call, account, permit).await?;
        self.service.body(response).await
    }

    fn unreadable(&self, error: impl Into<Unreadable>) -> Failed {
        let name = self.service.name();
        Cause::BadResponse
            .failed(format!("{name} answered with what is none of its answers: {}", error.into()))
    }

    /// The link by which the provider gets the audio.
    async fn audio_url(
        &self,
        request: &SpeechRequest,
        account: Account,
        permit: &Permit<'_>,
    ) -> Result<String, Failed> {
        if self.config.audio == AudioBy::Link {
            return request.audio.link().await;
        }
        let (bytes, limit) = (request.audio.bytes().await?, self.config.audio_bytes_max);
        if bytes.len() > limit {
            let text = format!("segment of {} bytes is over the provider's limit of {limit}", bytes.len());
            return Err(Cause::TooLarge.failed(text));
        }
        let call = self.service.call(Method::POST, "/v2/upload")?;
        let call = call.header(CONTENT_TYPE, "application/octet-stream").body(bytes);
        let answer = self.answer(call, account, permit).await?;
        let uploaded: Uploaded = serde_json::from_slice(&answer).map_err(|error| self.unreadable(error))?;
        Ok(uploaded.upload_url)
    }

    fn order<'a>(&'a self, request: &'a SpeechRequest, audio_url: &'a str) -> Order<'a> {
        let models = self.models(request);
        let language_code =
            request.options.language.as_deref().map(language_code).filter(|code| !code.is_empty());
        let redact = (request.redact && !self.config.redact_policies.is_empty()).then_some(true);
        Order {
            audio_url,
            speech_models: models,
            language_detection: language_code.is_none().then_some(true),
            language_code,
            keyterms_prompt: keyterms(&request.options.keyterms, models),
            speaker_labels: request.options.diarize.filter(|diarize| *diarize),
            redact_pii: redact,
            redact_pii_policies: redact.map(|_| &*self.config.redact_policies),
            redact_pii_sub: redact.map(|_| match self.config.redact_substitute {
                Substitute::Hash => "hash",
                Substitute::EntityName => "entity_name",
            }),
            webhook_url: request.callback.as_deref(),
        }
    }

    /// The path of a job. Ids come from outside, and nothing is escaped.
    fn path(&self, job: &str) -> Result<String, Failed> {
        let is_plain = !job.is_empty()
            && job.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !is_plain {
            return Err(
                Cause::BadResponse.failed(format!("{} gives its jobs no such ids", self.service.name()))
            );
        }
        Ok(format!("/v2/transcript/{job}"))
    }

    /// A job of this id, whoever's it is.
    async fn job(
        &self,
        method: Method,
        id: &str,
        account: Account,
        permit: &Permit<'_>,
    ) -> Result<Job, Failed> {
        let call = self.service.call(method, &self.path(id)?)?;
        let job =
            Job::read(&self.answer(call, account, permit).await?).map_err(|error| self.unreadable(error))?;
        if job.id != id {
            let name = self.service.name();
            return Err(Cause::BadResponse.failed(format!("{name} answered with another job than {id}")));
        }
        Ok(job)
    }

    /// Refuses a job that tells somebody else when it ends: its text is not this submission's, whoever named it.
    fn check_ours(&self, job: &Job, request: &SpeechRequest) -> Result<(), Failed> {
        let (Some(told), Some(given)) = (&job.webhook_url, &request.callback) else { return Ok(()) };
        if is_callback(told, given) {
            return Ok(());
        }
        let name = self.service.name();
        Err(Cause::BadResponse.failed(format!("{name} answered with a job of another submission")))
    }

    fn ended(&self, cause: Cause, job: &Job) -> JobState {
        let (name, said) = (self.service.name(), self.service.plain(job.said()));
        JobState::Ended(cause.failed(format!("{name} gave the job up: {said}")))
    }

    async fn page(&self, before: Option<&str>, jobs: usize, permit: &Permit<'_>) -> Result<Page, Failed> {
        let before = before.map(|id| format!("&before_id={id}")).unwrap_or_default();
        let call = self.service.call(Method::GET, &format!("/v2/transcript?limit={jobs}{before}"))?;
        let call = if jobs == 1 { call.timeout(self.config.service.connect_within * 2) } else { call };
        let answer = self.answer(call, Account::Deployment, permit).await?;
        serde_json::from_slice(&answer).map_err(|error| self.unreadable(error))
    }

    /// Jobs begun since then for the audio at this link, the newest first.
    async fn jobs_of(
        &self,
        link: &Url,
        since: Timestamp,
        permit: &Permit<'_>,
    ) -> Result<Vec<String>, Failed> {
        let since_ms = since.0.saturating_sub(CLOCKS_APART.0);
        let mut found = Vec::new();
        let mut before: Option<String> = None;
        for _ in 0..self.config.find_pages_max {
            let page = self.page(before.as_deref(), PAGE_JOBS, permit).await?;
            // A time that cannot be read is taken for a late one: a page too many is read rather than one too few.
            let is_new = |job: &Listed| job.created_ms().is_none_or(|created_ms| created_ms >= since_ms);
            let goes_on = page.transcripts.len() >= PAGE_JOBS && page.transcripts.iter().all(is_new);
            // The ids come from outside, and go into paths.
            let last = page.transcripts.last().map(|job| job.id.clone()).filter(|id| self.path(id).is_ok());
            let of_it =
                |job: &Listed| is_new(job) && job.status != "error" && is_same_object(&job.audio_url, link);
            found.extend(page.transcripts.into_iter().filter(of_it).map(|job| job.id));
            if !goes_on || last.is_none() || last == before || found.len() >= CANDIDATES_MAX {
                break;
            }
            before = last;
        }
        found.truncate(CANDIDATES_MAX);
        Ok(found)
    }
}

#[async_trait]
impl Speech for AssemblyAi {
    async fn submit(&self, request: &SpeechRequest, permit: &Permit<'_>) -> Result<Submitted, Failed> {
        let account = self.account(request);
        let audio_url = self.audio_url(request, account, permit).await?;
        let order = serde_json::to_vec(&self.order(request, &audio_url));
        let order = order.map_err(|error| self.unreadable(error))?;
        let call = self.service.call(Method::POST, "/v2/transcript")?;
        let call = call.header(CONTENT_TYPE, "application/json").body(order);
        let job =
            Job::read(&self.answer(call, account, permit).await?).map_err(|error| self.unreadable(error))?;
        self.path(&job.id)?;
        self.check_ours(&job, request)?;
        Ok(Submitted::Job(job.id))
    }

    async fn check(
        &self,
        job: &str,
        request: &SpeechRequest,
        permit: &Permit<'_>,
    ) -> Result<JobState, Failed> {
        let account = self.account(request);
        let job = self.job(Method::GET, job, account, permit).await?;
        let stage = job.stage(account);
        if stage != Stage::Deleted {
            self.check_ours(&job, request)?;
        }
        let SpeechRequest { start_ms, end_ms, redact, .. } = *request;
        let model = self.models(request).first().map_or("", String::as_str);
        match stage {
            Stage::UnderWay => Ok(JobState::UnderWay),
            Stage::Completed => {
                let reply = job.reply(start_ms, end_ms, redact, model);
                Ok(JobState::Done(reply.map_err(|error| self.unreadable(error))?))
            }
            Stage::Silent => Ok(JobState::Done(SpeechReply {
                model: model.to_owned(),
                audio_ms: end_ms.saturating_sub(start_ms).max(0),
                call_id: Some(job.id),
                ..SpeechReply::default()
            })),
            Stage::Ended(cause) => Ok(self.ended(cause, &job)),
            Stage::Deleted => Ok(JobState::Ended(Cause::JobFailed.failed("somebody has deleted the job"))),
            Stage::Unknown => {
                let name = self.service.name();
                Err(Cause::BadResponse.failed(format!("{name} gives the job a state that is unknown here")))
            }
        }
    }

    /// A job is known by the path of its audio's link, and, where it is to tell that it has ended, by whom it tells.
    async fn find(
        &self,
        request: &SpeechRequest,
        since: Timestamp,
        permit: &Permit<'_>,
    ) -> Result<Option<String>, Failed> {
        if self.config.audio == AudioBy::Upload {
            return Ok(None);
        }
        let link = request.audio.link().await?;
        let Ok(link) = Url::parse(&link) else { return Ok(None) };
        let candidates = self.jobs_of(&link, since, permit).await?;
        let Some(given) = &request.callback else { return Ok(candidates.into_iter().next()) };
        for id in candidates {
            let job = self.job(Method::GET, &id, Account::Deployment, permit).await?;
            if job.webhook_url.is_some_and(|told| is_callback(&told, given)) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// What is deleted is the text and what is left of the audio. A job that is not done has nothing to delete yet and cannot
    /// be stopped, so its deletion is confirmed only after it has ended: what it writes then would else be kept.
    async fn forget(&self, job: &str, permit: &Permit<'_>) -> Result<(), Failed> {
        let under_way = || {
            let text = format!("{} still works on job {job}; it is deleted after that", self.service.name());
            Cause::JobUnderWay.failed(text)
        };
        match self.job(Method::DELETE, job, Account::Deployment, permit).await {
            Ok(job) if job.stage(Account::Deployment) == Stage::UnderWay => Err(under_way()),
            Ok(_) => Ok(()),
            Err(failed) if failed.code == "no_such_job" => Ok(()),
            // A page that is not found is told apart from that: it says nothing of the job.
            Err(failed) if failed.http_status == Some(404) && failed.code == "rejected" => Ok(()),
            Err(failed) if failed.code == "rejected" => Err(under_way()),
            Err(failed) => Err(failed),
        }
    }

    async fn probe(&self, permit: &Permit<'_>) -> Result<(), Failed> {
        self.page(None, 1, permit).await.map(drop)
    }

    fn told(&self, body: &[u8]) -> Option<String> {
        let notice: Notice = serde_json::from_slice(body).ok()?;
        self.path(&notice.transcript_id).ok().map(|_| notice.transcript_id)
    }
}

/// The provider's code for a language in BCP 47: the language alone, but for those that it lists with a country.
fn language_code(spoken: &str) -> String {
    let spoken = spoken.to_lowercase();
    let mut parts = spoken.split(['-', '_']);
    let language = parts.next().unwrap_or_default();
    let known = |(of, country, _): &&(&str, &str, &str)| {
        *of == language && spoken.split(['-', '_']).skip(1).any(|part| part == *country)
    };
    COUNTRIES.iter().find(known).map_or(language, |(_, _, code)| code).to_owned()
}

/// The keyterms that the models take. They are hints: one too many is left out, since it would have the job refused.
fn keyterms<'a>(wanted: &'a [String], models: &[String]) -> Vec<&'a str> {
    let many = |model: &String| MANY_KEYTERMS.iter().any(|start| model.starts_with(start));
    let most = if models.iter().all(many) { KEYTERMS_MAX.1 } else { KEYTERMS_MAX.0 };
    let fits = |term: &&str| (1..=KEYTERM_WORDS_MAX).contains(&term.split_whitespace().count());
    wanted.iter().map(|term| term.trim()).filter(fits).take(most).collect()
}

/// Whether a webhook's URL is the one that was given, by the part that holds the submission's signed token: the deployment's
/// own address may have changed since.
fn is_callback(told: &str, given: &str) -> bool {
    let token = |url: &str| {
        let url = Url::parse(url).ok()?;
        let last = url.path_segments()?.next_back()?.to_owned();
        (!last.is_empty()).then(|| (last, url.query().map(str::to_owned)))
    };
    told == given || token(told).is_some_and(|told| Some(told) == token(given))
}

/// Whether a link leads to the same object; what is signed into its query differs each time.
fn is_same_object(told: &str, link: &Url) -> bool {
    Url::parse(told).is_ok_and(|told| {
        (told.host_str(), told.port_or_known_default(), told.path())
            == (link.host_str(), link.port_or_known_default(), link.path())
    })
}
