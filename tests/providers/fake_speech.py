#!/usr/bin/env python3
"""A speech provider for tests: a process of its own, strict about what it is sent, with a ledger of every call.

It serves POST /v1/audio/transcriptions and GET /v1/models on loopback, prints its port as the first line, and
stops on SIGTERM. Python's standard library is all that it needs.

The transcript is known from the audio alone: each of the first eight bytes of the audio's SHA-256 gives one word
(see `text_of`); with --say it is one text for all. The ledger gets one JSON line a call, written before the answer is sent:
{"call", "time", "idempotency_key", "sha256", "bytes", "outcome", "status", "billed"}; `billed` marks the calls
for which a real provider would send a bill. Faults depend on the seed, the audio and how often that audio came, not
on the order in which calls arrive, so a run can be repeated.
"""

import argparse
import asyncio
import email.parser
import email.policy
import hashlib
import json
import random
import signal
import ssl
import time
from http import HTTPStatus

BODY_BYTES_MAX = 26_000_000
HEAD_BYTES_MAX = 32_768
FIELDS = {"file", "model", "language", "prompt", "response_format", "temperature", "timestamp_granularities[]"}


def text_of(sha256_hex):
    """The transcript of the audio with this hash: a word for each of its first eight bytes."""
    words = ("bdfghjklmnprstvz"[byte >> 4] + "aeiu"[byte >> 2 & 3] + "lmnr"[byte & 3]
             for byte in bytes.fromhex(sha256_hex)[:8])
    return " ".join(words)


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code

    def body(self):
        return {"error": {"message": str(self), "type": "invalid_request_error", "code": self.code}}


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


def check_form(fields):
    """The audio, the response format and the language of a form that a real server would take."""
    names = [name for name, _, _ in fields]
    unknown = set(names) - FIELDS
    if unknown:
        raise Refusal(400, "unknown_parameter", f"unknown fields: {sorted(unknown)}")
    for name in set(names) - {"timestamp_granularities[]"}:
        if names.count(name) > 1:
            raise Refusal(400, "repeated_parameter", f"{name} is given more than once")
    values = {name: content for name, _, content in fields}
    if not values.get("model"):
        raise Refusal(400, "missing_parameter", "model is missing")
    if "file" not in values or any(name == "file" and not file for name, file, _ in fields):
        raise Refusal(400, "missing_parameter", "file is missing, or has no file name")
    style = values.get("response_format", b"json").decode()
    if style not in ("json", "verbose_json"):
        raise Refusal(400, "bad_response_format", f"{style} is not served")
    grains = [content for name, _, content in fields if name == "timestamp_granularities[]"]
    if (grains and style != "verbose_json") or set(grains) - {b"word", b"segment"}:
        raise Refusal(400, "bad_granularity", "granularities are word and segment, with verbose_json only")
    return values["file"], style, values.get("language", b"").decode()


def duration_s(audio):
    """How long FLAC or WAV audio lasts, by its header."""
    if audio[:4] == b"fLaC" and len(audio) >= 26:
        packed = int.from_bytes(audio[18:26], "big")
        rate, samples = packed >> 44, packed & (1 << 36) - 1
        return samples / rate if rate else 0.0
    if audio[:4] == b"RIFF" and audio[8:12] == b"WAVE" and len(audio) >= 44:
        return (len(audio) - 44) / max(1, int.from_bytes(audio[28:32], "little"))
    raise Refusal(400, "invalid_audio", "the file is neither FLAC nor WAV")


def transcript(text, seconds, style):
    """The answer with this text: its words share the time equally."""
    if style == "json":
        return {"text": text}
    words = text.split()
    step = seconds / len(words)
    timed = [{"word": word, "start": n * step, "end": (n + 1) * step} for n, word in enumerate(words)]
    whole = {"id": 0, "start": 0.0, "end": seconds, "text": text}
    return {"task": "transcribe", "language": "english", "duration": seconds, "text": text, "words": timed,
            "segments": [whole]}


class Provider:
    """The server's state: options, ledger, and how often each audio came."""

    def __init__(self, options):
        self.options = options
        self.ledger = open(options.ledger, "a", encoding="utf-8")
        self.seen = {}
        self.calls = 0
        self.room = asyncio.Semaphore(options.concurrency)

    def draw_fault(self, sha256_hex):
        """What happens to this call: `ok` or the name of a fault."""
        nth = self.seen[sha256_hex] = self.seen.get(sha256_hex, 0) + 1
        draw = random.Random(f"{self.options.seed}/{sha256_hex}/{nth}").random()
        shares = [("rate_limited", self.options.rate_limited), ("server_error", self.options.server_error),
                  ("timeout", self.options.timeout), ("garbage", self.options.garbage)]
        for fault, share in shares:
            if draw < share:
                return fault
            draw -= share
        return "ok"

    def record(self, headers, audio, sha256_hex, outcome, status):
        """Appends a call to the ledger."""
        self.calls += 1
        line = {"call": self.calls, "time": time.time(), "idempotency_key": headers.get("idempotency-key"),
                "sha256": sha256_hex, "bytes": len(audio), "outcome": outcome, "status": status,
                "billed": outcome in ("ok", "timeout", "garbage")}
        self.ledger.write(json.dumps(line) + "\n")
        self.ledger.flush()
        return f"req-{self.calls}"

    def check_key(self, headers):
        if self.options.key and headers.get("authorization") != f"Bearer {self.options.key}":
            raise Refusal(401, "invalid_api_key", "the key is missing or wrong")

    async def transcribe(self, headers, body):
        """Answers one call: status, further headers, body; or None where no answer is to be sent."""
        audio, sha256_hex = b"", None
        try:
            self.check_key(headers)
            audio, style, language = check_form(parse_form(headers.get("content-type", ""), body))
            sha256_hex = hashlib.sha256(audio).hexdigest()
            seconds = duration_s(audio)
        except Refusal as refusal:
            self.record(headers, audio, sha256_hex, refusal.code, refusal.status)
            raise
        outcome = self.draw_fault(sha256_hex)
        text = self.options.say or text_of(sha256_hex)
        if outcome == "ok" and language and language == self.options.refuse_language:
            outcome = "refused"
        status = {"rate_limited": 429, "server_error": 503, "timeout": None, "refused": 400}.get(outcome, 200)
        call = {"X-Request-Id": self.record(headers, audio, sha256_hex, outcome, status)}
        if outcome == "timeout":
            return None
        await asyncio.sleep(self.options.delay_ms / 1000)
        if outcome == "rate_limited":
            wait = {"Retry-After": str(self.options.retry_after_s)}
            return 429, call | wait, Refusal(429, "rate_limit_exceeded", "slow down").body()
        if outcome == "server_error":
            return 503, call, Refusal(503, "server_error", "out of order").body()
        if outcome == "refused":
            return 400, call, Refusal(400, "content_refused", f"this cannot be transcribed: {text}").body()
        if outcome == "garbage":
            return 200, call, "<!doctype html><title>Please sign in</title>"
        return 200, call, transcript(text, seconds, style)

    async def answer(self, method, path, headers, body):
        """Finds the call that is meant."""
        if (method, path) == ("POST", "/v1/audio/transcriptions"):
            return await self.transcribe(headers, body)
        if (method, path) == ("GET", "/v1/models"):
            self.check_key(headers)
            return 200, {}, {"object": "list", "data": [{"id": "fake", "object": "model"}]}
        raise Refusal(404, "not_found", f"there is no {method} {path}")

    async def serve(self, reader, writer):
        """Serves one connection, call by call."""
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.options.hold_s)
                request, _, rest = head.decode("latin-1").partition("\r\n")
                method, path, _ = request.split(" ")
                lines = (line.partition(":") for line in rest.strip().split("\r\n") if line)
                headers = {name.lower(): value.strip() for name, _, value in lines}
                try:
                    body = await self.body(method, headers, reader)
                except Refusal as refusal:
                    await self.send(writer, refusal.status, {}, refusal.body())
                    return
                try:
                    async with self.room:
                        answer = await self.answer(method, path, headers, body)
                except Refusal as refusal:
                    answer = refusal.status, {}, refusal.body()
                if answer is None:
                    await asyncio.wait_for(reader.read(1), self.options.hold_s)
                    return
                await self.send(writer, *answer)
                if headers.get("connection", "").lower() == "close":
                    return
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, TimeoutError, ValueError):
            pass  # The client has gone, or does not speak HTTP.
        except asyncio.CancelledError:
            pass  # The server stops.
        finally:
            writer.close()

    async def body(self, method, headers, reader):
        if method == "GET":
            return b""
        if "content-length" not in headers:
            raise Refusal(411, "length_required", "send a Content-Length")
        length = int(headers["content-length"])
        if length > BODY_BYTES_MAX:
            raise Refusal(413, "too_large", f"at most {BODY_BYTES_MAX} bytes are taken")
        return await reader.readexactly(length)

    async def send(self, writer, status, further, body):
        is_text = isinstance(body, str)
        payload = (body if is_text else json.dumps(body)).encode()
        headers = {"Content-Type": "text/html" if is_text else "application/json",
                   "Content-Length": str(len(payload))} | further
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + payload)
        await writer.drain()


async def run(options):
    """Serves until SIGTERM or SIGINT."""
    provider = Provider(options)
    tls = None
    if options.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.certificate)
    limits = {"limit": HEAD_BYTES_MAX, "backlog": 512}
    server = await asyncio.start_server(provider.serve, "127.0.0.1", options.port, ssl=tls, **limits)
    print(server.sockets[0].getsockname()[1], flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ledger", required=True, help="file that gets a line a call; appended to")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--certificate", help="file with key and certificate; with it only TLS is spoken")
    parser.add_argument("--key", help="the only bearer token that is taken; without it none is needed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate-limited", type=float, default=0, metavar="SHARE", help="calls answered 429")
    parser.add_argument("--retry-after-s", type=int, default=1, help="the Retry-After of each 429")
    parser.add_argument("--server-error", type=float, default=0, metavar="SHARE", help="calls answered 503")
    parser.add_argument("--timeout", type=float, default=0, metavar="SHARE", help="calls that get no answer")
    parser.add_argument("--hold-s", type=float, default=600, help="how long such a call is held open")
    parser.add_argument("--garbage", type=float, default=0, metavar="SHARE", help="calls answered 200 with HTML")
    parser.add_argument("--delay-ms", type=float, default=0, help="how long each answer takes")
    parser.add_argument("--say", metavar="TEXT", help="the transcript of every audio")
    parser.add_argument("--refuse-language", metavar="CODE", help="calls in it are answered 400, with the transcript")
    parser.add_argument("--concurrency", type=int, default=512, help="calls at work at the same time")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
