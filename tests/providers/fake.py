"""What the providers for tests share: HTTP on loopback, a ledger, seeded draws, and the transcript that is known from the
audio alone. Python's standard library is all that it needs.

A provider is a process of its own that prints its port as the first line and stops on SIGTERM. Faults depend on the
seed, on what a call is about and on how often that came, not on the order in which calls arrive, so a run can be repeated.
"""

import argparse
import asyncio
import collections
import hashlib
import json
import random
import signal
import ssl
import time
import urllib.parse
from http import HTTPStatus

HEAD_BYTES_MAX = 32_768
# What is read of a body although its call is refused, so that its client gets to read the refusal.
REFUSED_BYTES_MAX = 1 << 25
# What of an audio is kept to tell what it is.
AUDIO_HEAD_BYTES = 64
# How often it is looked at whether this process gets its turns: by so much a delay may be told too short.
WATCH_S = 0.005

# The faults of a call, in the order in which a draw is divided among their shares, and what their options say.
FAULTS = {
    "rate_limited": "answered 429",
    "server_error": "answered 503",
    "timeout": "that get no answer",
    "garbage": "answered 200 with HTML",
    "empty": "answered 200 without a body",
    "huge": "answered 200 with JSON of --huge-bytes",
    "wrong": "answered 200 with what answers another call",
}


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, status, code, message, headers=None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


class Held(Exception):
    """There is to be no answer."""


def text_of(sha256_hex):
    """The transcript of the audio with this hash: a word for each of its first eight bytes."""
    words = ("bdfghjklmnprstvz"[byte >> 4] + "aeiu"[byte >> 2 & 3] + "lmnr"[byte & 3]
             for byte in bytes.fromhex(sha256_hex)[:8])
    return " ".join(words)


def duration_s(head, size):
    """How long FLAC or WAV audio of this size lasts, by its first bytes; None for anything else."""
    if head[:4] == b"fLaC" and len(head) >= 26:
        packed = int.from_bytes(head[18:26], "big")
        rate, samples = packed >> 44, packed & (1 << 36) - 1
        return samples / rate if rate else 0.0
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE" and len(head) >= 44:
        return max(0, size - 44) / max(1, int.from_bytes(head[28:32], "little"))
    return None


def draw(*about):
    """A number between 0 and 1 that is always the same for the same things."""
    return random.Random("/".join(map(str, about))).random()


def fault_of(options, prefix, number):
    """The fault on which a draw falls, by the options `--<prefix><fault>`; None where on none."""
    for fault in FAULTS:
        share = getattr(options, (prefix + fault).replace("-", "_"), 0)
        if number < share:
            return fault
        number -= share
    return None


class Audio:
    """What is known of an audio once its bytes are gone."""

    __slots__ = ("sha256", "size", "seconds", "begins")

    def __init__(self, sha256, size, head):
        self.sha256, self.size, self.seconds, self.begins = sha256, size, duration_s(head, size), head[:16]


class Digest:
    """Reads an audio in parts and keeps nothing of it but what it is."""

    def __init__(self):
        self.hash, self.size, self.head = hashlib.sha256(), 0, b""

    def add(self, part):
        self.hash.update(part)
        self.size += len(part)
        if len(self.head) < AUDIO_HEAD_BYTES:
            self.head += part[: AUDIO_HEAD_BYTES - len(self.head)]

    def audio(self):
        return Audio(self.hash.hexdigest(), self.size, self.head)


class Call:
    """One call: its line, its headers in lower case, and its body, which is read when it is asked for."""

    def __init__(self, method, target, headers, reader):
        self.method, self.headers, self.reader = method, headers, reader
        self.path, _, query = target.partition("?")
        self.query = urllib.parse.parse_qsl(query, keep_blank_values=True)
        self.time = time.time()
        self.read = False

    async def parts(self, bytes_max):
        """The body in parts."""
        self.read = True
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                bytes_max = self.room(bytes_max, size)
                yield await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return
        if "content-length" not in self.headers:
            if self.method in ("GET", "DELETE"):
                return
            raise Refusal(411, "length_required", "send a Content-Length")
        left = int(self.headers["content-length"])
        self.room(bytes_max, left)
        while left:
            part = await self.reader.read(min(left, 1 << 16))
            if not part:
                raise ConnectionError("the body breaks off")
            left -= len(part)
            yield part

    def room(self, bytes_max, size):
        if size > bytes_max:
            self.read = False
            raise Refusal(413, "too_large", "the body is larger than what is taken")
        return bytes_max - size

    async def body(self, bytes_max):
        """The whole body."""
        return b"".join([part async for part in self.parts(bytes_max)])

    async def drained(self):
        """Whether the next call follows on the connection: what is left of the body would be taken for it."""
        has_body = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        if has_body and not self.read:
            try:
                async for _ in self.parts(REFUSED_BYTES_MAX):
                    pass
            except Refusal:
                return False
        return True


class Provider:
    """A server with a ledger. A provider says what it answers in `answer`, and how it refuses in `refused`."""

    def __init__(self, options):
        self.options = options
        self.ledger = open(options.ledger, "a", encoding="utf-8", buffering=1)
        self.calls, self.open_calls, self.seen, self.huge = 0, 0, {}, None
        self.behind = collections.deque()
        self.room = asyncio.Semaphore(options.concurrency)

    async def answer(self, call):
        """Answers one call: status, further headers, body (an object, or text that is no JSON)."""
        raise NotImplementedError

    def refused(self, refusal):
        """The body of a refusal."""
        raise NotImplementedError

    def record(self, call, **facts):
        """Appends a call to the ledger, before it is answered; the number of the call."""
        self.calls += 1
        line = {"call": self.calls, "time": call.time, "late_s": self.late_s(), "open": self.open_calls, **facts}
        self.ledger.write(json.dumps(line) + "\n")
        return self.calls

    def late_s(self):
        """By how much this process was behind at most within the last second: calls may have come so much sooner."""
        now = time.monotonic()
        while self.behind and self.behind[0][0] < now - 1:
            self.behind.popleft()
        return round(max((late for _, late in self.behind), default=0), 3)

    async def watch(self):
        """Notes when this process gets no turn."""
        while True:
            due = time.monotonic() + WATCH_S
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            self.behind.append((now, now - due))

    def nth(self, *about):
        """How often this was asked before, and once more."""
        self.seen[about] = self.seen.get(about, 0) + 1
        return self.seen[about]

    async def broken(self, fault, headers, wrong=None):
        """What answers a call with this fault, where its body does not matter. `wrong` is what answers another call."""
        if fault == "timeout":
            raise Held
        if fault == "rate_limited":
            wait = {"Retry-After": str(self.options.retry_after_s)}
            raise Refusal(429, "rate_limit_exceeded", "slow down", headers | wait)
        if fault == "server_error":
            raise Refusal(503, "server_error", "out of order", headers)
        if fault == "huge":
            self.huge = self.huge or json.dumps({"text": "x" * self.options.huge_bytes})
        bodies = {"garbage": "<!doctype html><title>Please sign in</title>", "empty": "", "wrong": wrong, "huge": self.huge}
        return 200, headers, bodies[fault]

    async def serve(self, reader, writer):
        """Serves one connection, call by call."""
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.options.hold_s)
                request, _, rest = head.decode("latin-1").partition("\r\n")
                method, target, _ = request.split(" ")
                lines = (line.partition(":") for line in rest.strip().split("\r\n") if line)
                headers = {name.lower(): value.strip() for name, _, value in lines}
                call = Call(method, target, headers, reader)
                if headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.open_calls += 1
                try:
                    async with self.room:
                        answer = await self.answer(call)
                except Refusal as refusal:
                    answer = refusal.status, refusal.headers, self.refused(refusal)
                except Held:
                    await asyncio.wait_for(reader.read(1), self.options.hold_s)
                    return
                finally:
                    self.open_calls -= 1
                ends = not await call.drained() or headers.get("connection", "").lower() == "close"
                await self.send(writer, ends, *answer)
                if ends:
                    return
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, TimeoutError, ValueError):
            pass  # The client has gone, or does not speak HTTP.
        except asyncio.CancelledError:
            pass  # The server stops.
        finally:
            writer.close()

    async def send(self, writer, ends, status, further, body):
        is_text = isinstance(body, str)
        payload = (body if is_text else json.dumps(body)).encode()
        kind = "text/html" if is_text and body.startswith("<") else "application/json"
        headers = {"Content-Type": kind, "Content-Length": str(len(payload))} | further
        if ends:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + payload)
        await writer.drain()

    async def work(self):
        """What goes on beside the calls."""


async def request(method, url, headers, body, within_s, into=None, tls=None):
    """One call of this provider's own: the status. The body of the answer goes to `into`, part by part."""
    where = urllib.parse.urlsplit(url)
    port = where.port or (443 if where.scheme == "https" else 80)
    async with asyncio.timeout(within_s):
        tls = (tls or ssl.create_default_context()) if where.scheme == "https" else None
        reader, writer = await asyncio.open_connection(where.hostname, port, ssl=tls, limit=1 << 16)
        try:
            target = (where.path or "/") + (f"?{where.query}" if where.query else "")
            lines = [f"{method} {target} HTTP/1.1", f"Host: {where.netloc}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in (headers | {"Content-Length": len(body)}).items()]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            answered = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            if into:
                call = Call("GET", "/", answered, reader)
                if answered.keys() & {"content-length", "transfer-encoding"}:
                    async for part in call.parts(1 << 40):
                        into(part)
                else:
                    while part := await reader.read(1 << 16):
                        into(part)
            return int(head[0].split(" ")[1])
        finally:
            writer.close()


def arguments(description, prefixes=("",)):
    """The options that every provider has; the faults once for each kind of call."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--ledger", required=True, help="file that gets a line a call; appended to")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--certificate", help="file with key and certificate; with it only TLS is spoken")
    parser.add_argument("--key", help="the only key that is taken; without it none is needed")
    parser.add_argument("--seed", type=int, default=1)
    for prefix in prefixes:
        for fault, what in FAULTS.items():
            name = f"--{prefix}{fault}".replace("_", "-")
            parser.add_argument(name, type=float, default=0, metavar="SHARE", help=f"calls {what}")
    parser.add_argument("--retry-after-s", type=int, default=1, help="the Retry-After of each 429")
    parser.add_argument("--huge-bytes", type=int, default=16 << 20, help="the size of a huge answer")
    parser.add_argument("--hold-s", type=float, default=600, help="how long a call without an answer is held open")
    parser.add_argument("--delay-ms", type=float, default=0, help="how long each answer takes")
    parser.add_argument("--concurrency", type=int, default=512, help="calls at work at the same time")
    return parser


async def run(provider):
    """Serves until SIGTERM or SIGINT."""
    options = provider.options
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
    beside = [asyncio.create_task(provider.work()), asyncio.create_task(provider.watch())]
    for task in beside:
        # What fails there is not to be missed.
        task.add_done_callback(lambda ended: ended.cancelled() or (ended.exception() and stop.set()))
    await stop.wait()
    server.close()
    for task in beside:
        if not task.cancel():
            task.result()
