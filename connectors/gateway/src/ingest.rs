//! Bringing recordings in: open, chunks, confirm, finish. These need the log and the object store only; what one call
//! must remember for the next travels signed with the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hansard_runtime::ports::PortError;
use hansard_runtime::ports::objects::{ObjectHead, ObjectName};
use hansard_schemas::{
    Finish, Object, Open, Options, Record, RecordName, Upload, event_id, upload_digest, validate,
};
use serde::{Deserialize, Serialize};

use crate::Gateway;
use crate::caller::{Caller, Role};
use crate::presign::{Link, PartLink, Wanted};
use crate::problem::{Code, Problem};
use crate::request::{Call, Named, Sent, check_chunk, check_id};
use crate::token::{ChunkClaims, TokenError, UploadClaims, sign, verify};

/// S3 takes at most 10,000 parts; a tenth of that keeps the answer small.
const PARTS_MAX: u64 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Opening {
    id: Option<String>,
    title: Option<String>,
    external_ref: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    language: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    #[serde(default)]
    keyterms: Vec<String>,
    redact_pii: Option<bool>,
    diarize: Option<bool>,
    idle_after_ms: Option<i64>,
    missing_after_ms: Option<i64>,
    #[serde(default)]
    webhook_urls: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct Opened {
    id: String,
    upload_token: String,
    upload_token_expires_at: i64,
}

/// Opens a conversation. With an `Idempotency-Key` and without an id, the id follows from the key, so that a repeated
/// call opens the same one; of several Opens the first stands.
pub(crate) async fn open(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    call: Call,
    headers: HeaderMap,
    sent: Sent,
) -> Result<(StatusCode, Json<Opened>), Problem> {
    caller.demand(Role::Producer)?;
    let opening: Opening = sent.json().await?;
    let repeated = idempotency_key(&headers)?;
    let id = match (opening.id, &repeated) {
        (Some(id), _) => id,
        (None, Some(key)) => {
            // The caller is part of it, so that two callers' keys never meet.
            let text = format!("{} {key}", caller.name());
            let derived = gateway.config.signing_key.derive("hansard conversation id", &text);
            hex::encode(&derived[..16])
        }
        (None, None) => gateway.fresh(),
    };
    check_id(&id)?;
    gateway.check_webhooks(&opening.webhook_urls)?;
    let options = Options {
        language: opening.language,
        provider: opening.provider,
        model: opening.model,
        redact_pii: opening.redact_pii,
        diarize: opening.diarize,
        keyterms: opening.keyterms,
    };
    let options = Some(options).filter(|options| *options != Options::default());
    let record = Open {
        conversation_id: id.clone(),
        event_id: repeated
            .map(|key| event_id(RecordName::Open, &[id.as_bytes(), key.as_bytes()]))
            .unwrap_or_default(),
        title: opening.title,
        external_ref: opening.external_ref,
        labels: opening.labels,
        options: options.clone(),
        idle_after_ms: opening.idle_after_ms,
        missing_after_ms: opening.missing_after_ms,
        webhook_urls: opening.webhook_urls,
        ..Default::default()
    };
    gateway.refuse_erased(&id).await?;
    gateway.refuse_other_open(&record).await?;
    gateway.append(call, record).await?;
    let limits = &gateway.config.limits;
    let expires_at = (gateway.ports.clock.now() + limits.token_lifetime).0;
    let claims = UploadClaims { conversation: id.clone(), options, expires_at };
    let upload_token = sign(&gateway.config.signing_key, &claims);
    Ok((StatusCode::CREATED, Json(Opened { id, upload_token, upload_token_expires_at: expires_at })))
}

impl Gateway {
    /// A URL may hold a secret: its place is told, not its text.
    fn check_webhooks(&self, urls: &[String]) -> Result<(), Problem> {
        let refuse = |cause: String| Err(Problem::new(Code::InvalidField, &cause));
        match &self.config.webhooks {
            _ if urls.is_empty() => Ok(()),
            None => refuse("webhook_urls: nobody calls webhooks here until webhook.secret is set".to_owned()),
            Some(check) => urls.iter().enumerate().try_for_each(|(place, url)| match check.check(url) {
                Ok(()) => Ok(()),
                Err(why) => refuse(format!("webhook_urls[{place}] {why}")),
            }),
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let wrong =
        || Problem::new(Code::InvalidRequest, "Idempotency-Key must be 1 to 255 visible ASCII characters");
    let key = key.to_str().map_err(|_| wrong())?;
    if key.is_empty() || key.len() > 255 {
        return Err(wrong());
    }
    Ok(Some(key.to_owned()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Declared {
    chunk_id: Option<String>,
    content_type: String,
    bytes: u64,
    sha256: Option<String>,
    recorded_at: i64,
    #[serde(default)]
    track: String,
    sequence: Option<i64>,
    #[serde(default)]
    continues: bool,
}

#[derive(Serialize)]
pub(crate) struct Invitation {
    chunk_id: String,
    /// Signed; goes back with the confirmation.
    upload: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    put: Option<Link>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartLink>,
    expires_at: i64,
}

/// Gives a link to upload one recording.
pub(crate) async fn chunks(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Named { id, .. }: Named,
    sent: Sent,
) -> Result<(StatusCode, Json<Invitation>), Problem> {
    caller.demand_for(Role::Producer, &id)?;
    let declared: Declared = sent.json().await?;
    let limits = &gateway.config.limits;
    check_media(&declared.content_type)?;
    if declared.bytes == 0 || declared.bytes > limits.upload_bytes {
        let detail = format!("{} bytes, from 1 to {} are taken", declared.bytes, limits.upload_bytes);
        let code = if declared.bytes == 0 { Code::InvalidField } else { Code::UploadTooLarge };
        return Err(Problem::new(code, detail));
    }
    let chunk_id = declared.chunk_id.unwrap_or_else(|| gateway.fresh());
    check_chunk(&chunk_id)?;
    let now = gateway.ports.clock.now();
    let mut claims = ChunkClaims {
        key: format!("{}/{id}/{chunk_id}/{}", gateway.config.upload_prefix, gateway.fresh()),
        bucket: gateway.config.bucket.clone(),
        options: gateway.options_for(&caller, &id).await?,
        conversation: id,
        chunk_id,
        content_type: declared.content_type,
        bytes: declared.bytes,
        sha256: declared.sha256,
        recorded_at: declared.recorded_at,
        track: declared.track,
        sequence: declared.sequence,
        continues: declared.continues,
        upload_id: None,
        expires_at: (now + limits.confirm_within).0,
    };
    // Whatever the confirmation would refuse is refused before anything is uploaded.
    validate(&Record::from(gateway.upload_record(&claims, None, "0")))?;
    gateway.refuse_erased(&claims.conversation).await?;
    let wanted = Wanted {
        name: ObjectName { bucket: claims.bucket.clone(), key: claims.key.clone() },
        content_type: claims.content_type.clone(),
        bytes: claims.bytes,
        sha256: claims.sha256.clone(),
    };
    let lifetime = limits.link_lifetime;
    let (put, parts) = if claims.bytes > limits.single_bytes {
        let part_bytes = limits.part_bytes.max(claims.bytes.div_ceil(PARTS_MAX));
        let (upload_id, parts) = gateway.presign.begin_parts(&wanted, part_bytes, lifetime).await?;
        claims.upload_id = Some(upload_id);
        (None, parts)
    } else {
        (Some(gateway.presign.put(&wanted, lifetime).await?), Vec::new())
    };
    let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
    let invitation = Invitation {
        upload: sign(&gateway.config.signing_key, &claims),
        chunk_id: claims.chunk_id,
        put,
        parts,
        expires_at: now.0.saturating_add(lifetime_ms),
    };
    Ok((StatusCode::CREATED, Json(invitation)))
}

/// Audio, video (meeting recordings), and what browsers and servers call Ogg or unknown bytes.
fn check_media(content_type: &str) -> Result<(), Problem> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known =
        ["audio/", "video/"].iter().any(|kind| essence.len() > kind.len() && essence.starts_with(kind));
    let other =
        ["application/ogg", "application/octet-stream", "application/mp4"].contains(&essence.as_str());
    if known || other {
        return Ok(());
    }
    let detail = "declare the recording as audio/… or video/…, or as application/octet-stream";
    Err(Problem::new(Code::UnsupportedAudio, detail))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmation {
    upload: String,
    #[serde(default)]
    parts: Vec<PartDone>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartDone {
    number: i32,
    etag: String,
}

#[derive(Serialize)]
pub(crate) struct Confirmed {
    id: String,
    chunk_id: String,
    upload_digest: String,
    offset: i64,
}

/// Confirms an upload: looks at the object, appends the `Upload` that pins it, and waits for the log. The same
/// confirmation again appends the same record, which the window ignores.
pub(crate) async fn confirm(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    call: Call,
    Named { id, chunk }: Named,
    sent: Sent,
) -> Result<(StatusCode, Json<Confirmed>), Problem> {
    caller.demand_for(Role::Producer, &id)?;
    let confirmation: Confirmation = sent.json().await?;
    let now = gateway.ports.clock.now();
    let claims: ChunkClaims =
        verify(&gateway.config.signing_key, &confirmation.upload, now).map_err(|error| match error {
            TokenError::Expired => upload_expired(),
            TokenError::Foreign => {
                Problem::new(Code::InvalidUpload, "send `upload` as the chunks call gave it")
            }
        })?;
    if claims.conversation != id || claims.chunk_id != chunk {
        return Err(Problem::new(Code::InvalidUpload, "`upload` is that of another chunk"));
    }
    gateway.refuse_erased(&id).await?;
    let name = ObjectName { bucket: claims.bucket.clone(), key: claims.key.clone() };
    if let Some(upload_id) = &claims.upload_id
        && !confirmation.parts.is_empty()
    {
        gateway.join_parts(&name, upload_id, confirmation.parts).await?;
    }
    let head = match gateway.ports.objects.head(&name).await {
        Ok(head) => head,
        Err(PortError::NotFound { .. }) => {
            return Err(Problem::new(Code::NotUploaded, "nothing was uploaded yet, or not all parts"));
        }
        Err(error) => return Err(error.into()),
    };
    check_object(&claims, &head)?;
    if now - head.modified > gateway.config.limits.confirm_within {
        return Err(upload_expired());
    }
    let record = gateway.upload_record(&claims, Some(&head), &head.etag);
    let digest = upload_digest(&record);
    let offset = gateway.append(call, record).await?;
    let confirmed = Confirmed { id, chunk_id: chunk, upload_digest: digest, offset: offset.0 };
    Ok((StatusCode::ACCEPTED, Json(confirmed)))
}

fn upload_expired() -> Problem {
    Problem::new(Code::UploadExpired, "the upload is too old to be confirmed, upload the recording again")
}

/// Compares what lies there with what was declared.
fn check_object(claims: &ChunkClaims, head: &ObjectHead) -> Result<(), Problem> {
    let differs = |what: &str| Err(Problem::new(Code::ObjectDiffers, what));
    if head.bytes != claims.bytes {
        return differs(&format!("{} bytes were declared, {} are there", claims.bytes, head.bytes));
    }
    match (&claims.sha256, &head.sha256) {
        (Some(declared), Some(seen)) if declared != seen => {
            differs(&format!("sha256 {declared} was declared, {seen} is there"))
        }
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Finishing {
    expected_chunks: Option<i32>,
    #[serde(default)]
    expected_by_track: BTreeMap<String, i32>,
}

#[derive(Serialize)]
pub(crate) struct Accepted {
    id: String,
    offset: i64,
}

/// Says that no more chunks come.
pub(crate) async fn finish(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    call: Call,
    Named { id, .. }: Named,
    sent: Sent,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    caller.demand_for(Role::Producer, &id)?;
    let finishing: Finishing = sent.json().await?;
    gateway.refuse_erased(&id).await?;
    let record = Finish {
        conversation_id: id.clone(),
        expected_chunks: finishing.expected_chunks,
        expected_by_track: finishing.expected_by_track,
        ..Default::default()
    };
    let offset = gateway.append(call, record).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { id, offset: offset.0 })))
}

impl Gateway {
    /// The options of a conversation's chunks: signed in the upload token; for others as its Open says.
    async fn options_for(&self, caller: &Caller, conversation: &str) -> Result<Option<Options>, Problem> {
        if let Caller::Uploader(claims) = caller {
            return Ok(claims.options.clone());
        }
        let rows = self.ports.facts.read(conversation).await?;
        let opens = rows.iter().filter_map(|row| match &*row.record {
            Record::Open(open) => Some((row.offset, open)),
            _ => None,
        });
        match opens.min_by_key(|(offset, _)| *offset) {
            Some((_, open)) => Ok(open.options.clone()),
            None => Err(Problem::new(
                Code::UnknownConversation,
                "open the conversation first, or send the upload token that opening it gave",
            )),
        }
    }

    /// Opening again with other words would be ignored in silence, since the first Open stands: say so, where the
    /// database knows the first one already.
    async fn refuse_other_open(&self, wanted: &Open) -> Result<(), Problem> {
        let Some(rows) = self.opinion(self.ports.facts.read(&wanted.conversation_id)).await else {
            return Ok(());
        };
        let bare = |open: &Open| Open {
            event_id: String::new(),
            occurred_at: 0,
            source: String::new(),
            attributes: BTreeMap::new(),
            ..open.clone()
        };
        let opens = rows.iter().filter_map(|row| match &*row.record {
            Record::Open(open) => Some((row.offset, open)),
            _ => None,
        });
        match opens.min_by_key(|(offset, _)| *offset) {
            Some((_, first)) if bare(first) != bare(wanted) => {
                Err(Problem::new(Code::ConversationExists, "a conversation of this id was opened otherwise"))
            }
            _ => Ok(()),
        }
    }

    /// The record of a chunk; the same claims and object always give the same.
    fn upload_record(&self, claims: &ChunkClaims, head: Option<&ObjectHead>, etag: &str) -> Upload {
        let seen = head.and_then(|head| head.sha256.clone());
        let mut upload = Upload {
            conversation_id: claims.conversation.clone(),
            chunk_id: claims.chunk_id.clone(),
            object: Object {
                bucket: claims.bucket.clone(),
                key: claims.key.clone(),
                etag: etag.to_owned(),
                bytes: i64::try_from(claims.bytes).unwrap_or(i64::MAX),
                version_id: None,
                sha256: claims.sha256.clone().or(seen),
            },
            content_type: Some(claims.content_type.clone()),
            recorded_at: claims.recorded_at,
            track: claims.track.clone(),
            sequence: claims.sequence,
            continues: claims.continues,
            options: claims.options.clone(),
            ..Default::default()
        };
        let (conversation, digest) = (upload.conversation_id.clone(), upload_digest(&upload));
        upload.event_id = event_id(RecordName::Upload, &[conversation.as_bytes(), digest.as_bytes()]);
        upload
    }

    /// Joins the parts; where that was done before, the object itself tells.
    async fn join_parts(
        &self,
        name: &ObjectName,
        upload_id: &str,
        parts: Vec<PartDone>,
    ) -> Result<(), Problem> {
        let parts: Vec<(i32, String)> =
            parts.into_iter().map(|part| (part.number, part.etag.trim_matches('"').to_owned())).collect();
        match self.presign.join_parts(name, upload_id, &parts).await {
            Ok(()) | Err(PortError::NotFound { .. }) => Ok(()),
            Err(PortError::Differs { .. }) => {
                let detail = "send each part's number and ETag, in order, as the uploads answered";
                Err(Problem::new(Code::InvalidParts, detail))
            }
            Err(error) => Err(error.into()),
        }
    }
}
