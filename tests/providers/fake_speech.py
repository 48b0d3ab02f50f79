#!/usr/bin/env python3
"""A speech provider for tests: a process of its own, strict about what it is sent, with a ledger of every call.

It serves POST /v1/audio/transcriptions and GET /v1/models on loopback, as
https://platform.openai.com/docs/api-reference/audio/createTranscription says; `fake.py` has what every such provider shares.

The transcript is known from the audio alone: each of the first eight bytes of the audio's SHA-256 gives one word
(see `text_of`); with --say it is one text for all. The ledger gets one JSON line a call, written before the answer is sent:
{"call", "time", "open", "idempotency_key", "sha256", "bytes", "outcome", "status", "billed"}; `open` is how many calls were
in hand then, and `billed` marks the calls for which a real provider would send a bill. Faults depend on the seed, the
audio and how often that audio came.
"""

import asyncio
import email.parser
import email.policy

import fake
from fake import Digest, Held, Refusal, draw, fault_of, text_of

__all__ = ["text_of"]

# Of the file; the form around it may take a little more.
AUDIO_BYTES_MAX = 26_214_400
BODY_BYTES_MAX = AUDIO_BYTES_MAX + 65_536
AUDIO_SECONDS_MIN = 0.1
FIELDS = {"file", "model", "language", "prompt", "response_format", "temperature", "timestamp_granularities[]"}
# By their names the server knows how to read a file.
ENDINGS = {"flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "ogg", "wav", "webm"}
# What is taken of a call with each fault, and whether it is paid for.
STATUS = {"rate_limited": 429, "server_error": 503, "timeout": None}
UNBILLED = {"rate_limited", "server_error"}
LANGUAGE = "'{}' is no language; it must be specified in ISO-639-1 format."


def parse_form(content_type, body):
    """The fields of a multipart form as a list of (name, file name or None, bytes)."""
    kind, _, boundary = content_type.partition("; boundary=")
    if kind != "multipart/form-data" or not boundary:
        raise Refusal(415, "not_multipart", "multipart/form-data with a boundary is expected")
    mark = b"--" + boundary.strip('"').encode()
    if not body.startswith(mark + b"\r\n") or not body.endswith(b"\r\n" + mark + b"--\r\n"):
        raise Refusal(400, "bad_multipart", "the form does not begin and end with its boundary")
    fields = []
    for part in body[len(mark) + 2 : -len(mark) - 6].split(b"\r\n" + mark + b"\r\n"):
        head, gap, content = part.partition(b"\r\n\r\n")
        headers = email.parser.BytesHeaderParser(policy=email.policy.HTTP).parsebytes(head)
        disposition = headers["content-disposition"]
        name = disposition.params.get("name") if disposition else None
        if not gap or name is None or disposition.content_disposition != "form-data":
            raise Refusal(400, "bad_multipart", "a part has no name")
        fields.append((name, disposition.params.get("filename"), content))
    return fields


def check_form(fields, models):
    """The audio, the response format and the granularities of a form that a real server would take."""
    names = [name for name, _, _ in fields]
    unknown = set(names) - FIELDS
    if unknown:
        raise Refusal(400, "unknown_parameter", f"unknown fields: {sorted(unknown)}")
    for name in set(names) - {"timestamp_granularities[]"}:
        if names.count(name) > 1:
            raise Refusal(400, "repeated_parameter", f"{name} is given more than once")
    values = {name: content for name, _, content in fields}
    try:
        texts = {name: content.decode() for name, content in values.items() if name != "file"}
    except UnicodeDecodeError:
        raise Refusal(400, "bad_multipart", "a text field is not UTF-8") from None
    model = texts.get("model")
    if not model:
        raise Refusal(400, "missing_parameter", "model is missing")
    if models and model not in models:
        raise Refusal(404, "model_not_found", f"The model `{model}` does not exist or you do not have access to it.")
    files = [file for name, file, _ in fields if name == "file"]
    if not files or not files[0]:
        raise Refusal(400, "missing_parameter", "file is missing, or has no file name")
    if files[0].rpartition(".")[2].lower() not in ENDINGS:
        raise Refusal(400, None, f"Invalid file format. Supported formats: {sorted(ENDINGS)}")
    if len(values["file"]) > AUDIO_BYTES_MAX:
        raise Refusal(413, None, f"Maximum content size limit ({AUDIO_BYTES_MAX}) exceeded ({len(values['file'])} bytes read)")
    return values["file"], *check_style(texts, model, [content for name, _, content in fields if name == "timestamp_granularities[]"])


def check_style(texts, model, grains):
    """The response format and the granularities."""
    style = texts.get("response_format", "json")
    served = ("json",) if model.startswith("gpt-4o") else ("json", "verbose_json")
    if style not in served:
        raise Refusal(400, "unsupported_value", f"response_format '{style}' is not compatible with model '{model}'")
    if (grains and style != "verbose_json") or set(grains) - {b"word", b"segment"}:
        raise Refusal(400, "bad_granularity", "granularities are word and segment, with verbose_json only")
    language = texts.get("language", "en")
    if len(language) != 2 or not language.isascii() or not language.islower():
        raise Refusal(400, "invalid_language_format", LANGUAGE.format(language))
    try:
        temperature = float(texts.get("temperature", "0"))
    except ValueError:
        temperature = -1
    if not 0 <= temperature <= 1:
        raise Refusal(400, "decimal_out_of_range", "temperature is a number between 0 and 1")
    return style, {grain.decode() for grain in grains} or {"segment"}


def known(content):
    """What the audio is, where a real server could read it."""
    digest = Digest()
    digest.add(content)
    audio = digest.audio()
    if audio.seconds is None:
        raise Refusal(400, None, "The audio file could not be decoded or its format is not supported.")
    if audio.seconds < AUDIO_SECONDS_MIN:
        raise Refusal(400, "audio_too_short", "Audio file is too short. Minimum audio length is 0.1 seconds.")
    return audio


def transcript(audio, text, style, grains):
    """The answer for this audio with this text: its words share the time equally."""
    if style == "json":
        return {"text": text, "usage": {"type": "duration", "seconds": round(audio.seconds)}}
    words = text.split()
    step = audio.seconds / len(words)
    answer = {"task": "transcribe", "language": "english", "duration": audio.seconds, "text": text,
              "usage": {"type": "duration", "seconds": round(audio.seconds)}}
    if "word" in grains:
        answer["words"] = [{"word": word, "start": n * step, "end": (n + 1) * step} for n, word in enumerate(words)]
    if "segment" in grains:
        answer["segments"] = [{"id": 0, "seek": 0, "start": 0.0, "end": audio.seconds, "text": text, "tokens": [],
                               "temperature": 0.0, "avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.01}]
    return answer


class Speech(fake.Provider):
    """OpenAI's transcription call."""

    def refused(self, refusal):
        kind = "insufficient_quota" if refusal.code == "insufficient_quota" else "invalid_request_error"
        return {"error": {"message": str(refusal), "type": kind, "param": None, "code": refusal.code}}

    def note(self, call, audio, outcome, status):
        """Appends a call to the ledger; its id."""
        about = {"sha256": audio and audio.sha256, "bytes": audio.size if audio else 0}
        number = self.record(call, idempotency_key=call.headers.get("idempotency-key"), **about, outcome=outcome,
                             status=status, billed=audio is not None and outcome not in UNBILLED)
        return {"X-Request-Id": f"req-{number}"}

    def check_key(self, call):
        if self.options.key and call.headers.get("authorization") != f"Bearer {self.options.key}":
            raise Refusal(401, "invalid_api_key", "the key is missing or wrong")

    async def transcribe(self, call):
        try:
            body = await call.body(BODY_BYTES_MAX)
            self.check_key(call)
            if self.options.no_quota:
                raise Refusal(429, "insufficient_quota", "You exceeded your current quota, please check your plan.")
            form = parse_form(call.headers.get("content-type", ""), body)
            content, style, grains = check_form(form, self.options.models)
            audio = known(content)
            language = dict((name, value) for name, _, value in form).get("language", b"").decode()
        except Refusal as refusal:
            self.note(call, None, refusal.code or "rejected", refusal.status)
            raise
        del body, form, content
        fault = fault_of(self.options, "", draw(self.options.seed, audio.sha256, self.nth(audio.sha256)))
        headers = self.note(call, audio, fault or "ok", STATUS.get(fault, 200))
        if fault == "timeout":
            raise Held
        await asyncio.sleep(self.options.delay_ms / 1000)
        text = self.options.say or " ".join([text_of(audio.sha256)] * self.options.times)
        if language and language == self.options.refuse_language:
            raise Refusal(400, "content_refused", f"this cannot be transcribed: {text}", headers)
        if fault:
            return await self.broken(fault, headers, wrong=self.models())
        return 200, headers, transcript(audio, text, style, grains)

    def models(self):
        names = self.options.models or ["fake"]
        return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in names]}

    async def answer(self, call):
        """Finds the call that is meant."""
        if (call.method, call.path) == ("POST", "/v1/audio/transcriptions"):
            return await self.transcribe(call)
        if (call.method, call.path) == ("GET", "/v1/models"):
            self.check_key(call)
            return 200, {}, self.models()
        raise Refusal(404, "not_found", f"there is no {call.method} {call.path}")


def main():
    parser = fake.arguments(__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", help="the only models that there are; without it any is taken")
    parser.add_argument("--no-quota", action="store_true", help="the account has nothing left")
    parser.add_argument("--times", type=int, default=1, help="how often the text of an audio is said in it")
    parser.add_argument("--say", metavar="TEXT", help="the transcript of every audio")
    parser.add_argument("--refuse-language", metavar="CODE", help="calls in it are answered 400, with the transcript")
    options = parser.parse_args()

    async def start():
        await fake.run(Speech(options))

    asyncio.run(start())


if __name__ == "__main__":
    main()
