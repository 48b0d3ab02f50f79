#!/usr/bin/env python3
"""AssemblyAI for tests: a process of its own, strict about what it is sent, with a ledger of every call.

It serves POST /v2/upload, POST and GET /v2/transcript, GET and DELETE /v2/transcript/{id} on loopback and calls webhooks, as
https://www.assemblyai.com/docs/api-reference says; `fake.py` has what every such provider shares. A job costs some hundred
bytes, and neither a task nor a timer: how far it is follows from the time alone. No audio is kept.

The ledger gets one JSON line a call, written before the answer is sent: {"call", "time", "open", "what", "job", "outcome",
"status", "under_way", …}. `what` is upload, submit, check, list, delete or webhook; `open` is how many calls were in hand,
`under_way` how many jobs. A submission's line has "audio" (the path of its audio_url), "sha256" (of an upload), "webhook",
"takes_ms", "fate" and "billed"; a webhook's has "attempt" and the receiver's status. Faults of calls and the fates of jobs
depend on the seed, on the audio and on how often that was asked.
"""

import asyncio
import datetime
import hashlib
import heapq
import json
import math
import ssl
import time
import urllib.parse

import fake
import orders
from fake import Digest, Held, Refusal, draw, fault_of, text_of

UPLOAD_BYTES_MAX = 2_200_000_000
ORDER_BYTES_MAX = 1 << 20
AUDIO_SECONDS_MIN = 0.16
FETCH_WITHIN_S = 30
# What the provider promises of webhooks.
WEBHOOK_WITHIN_S, WEBHOOK_ATTEMPTS = 10, 10
PAGE_JOBS_MAX = 200
# The keyterm of a job that takes --work-ms-brief.
BRIEF = "brief"
DELETED = "http://deleted_by_user"
NOT_FOUND = "Transcript lookup error, transcript id not found"
SILENT = "language_detection cannot be performed on files with no spoken audio."

# The fates of jobs, in the order in which a draw is divided among their shares, and what their options say.
FATES = {
    "job_error": "jobs that end with --job-error-text",
    "silent": "jobs in which nothing is said: an error with language detection, else an empty text",
    "never": "jobs that never end",
    "flips": "jobs that, once completed, say at every second look that they are processed",
    "error_first": "jobs that end with an error, and at the second look are completed",
}
# What becomes of a job's webhook, likewise.
NOTICES = {
    "lost": "webhooks that are never sent",
    "doubled": "webhooks that are sent twice",
    "reordered": "webhooks that come up to --webhook-late-ms late",
    "early": "webhooks that are sent before the submission is answered; the job is done by then",
}


def share(options, prefix, names, number):
    """The name on whose share a draw falls."""
    for name in names:
        of_it = getattr(options, prefix + name)
        if number < of_it:
            return name
        number -= of_it
    return "ok"


class Job:
    """A job. `ends` is when it has a result; `audio` is known once it is fetched."""

    __slots__ = ("id", "number", "made", "begins", "ends", "fate", "order", "audio", "error", "looks", "deleted", "told")

    def __init__(self, number, job_id, order):
        self.number, self.id, self.order = number, job_id, order
        self.made = time.time()
        self.begins = self.ends = self.made
        self.audio = self.error = self.told = None
        self.fate, self.looks, self.deleted = "ok", 0, False

    def status(self, now, look=0):
        """What it says of itself at this time; `look` counts the checks since it ended."""
        if self.fate == "never" or now < self.ends or not (self.audio or self.error):
            return "queued" if now < self.begins else "processing"
        if self.error or (self.fate == "error_first" and look == 1):
            return "error"
        return "processing" if self.fate == "flips" and look and look % 2 == 0 else "completed"


class AssemblyAi(fake.Provider):
    """The jobs, the audios that are uploaded, and the webhooks that are due."""

    def __init__(self, options):
        super().__init__(options)
        self.jobs, self.order, self.dropped = {}, [], 0
        self.uploads = {}
        # When the jobs end that are worked on at the same time, and all that are under way.
        self.working, self.ending, self.never = [], [], 0
        self.due, self.wake = [], asyncio.Event()
        self.sending, self.fetching = asyncio.Semaphore(options.webhooks_at_once), asyncio.Semaphore(64)
        self.tasks = set()
        self.allowed, self.allowed_at = float(options.calls_per_s), time.monotonic()
        self.tls = ssl.create_default_context(cafile=options.webhook_ca) if options.webhook_ca else None

    def refused(self, refusal):
        return {"error": str(refusal)}

    def under_way(self):
        now = time.time()
        while self.ending and self.ending[0] <= now:
            heapq.heappop(self.ending)
        return len(self.ending) + self.never

    def note(self, call, what, outcome, status, job=None, **more):
        number = self.record(call, what=what, job=job, outcome=outcome, status=status, under_way=self.under_way(), **more)
        return {"X-Request-Id": f"call-{number}"}

    def check_call(self, call):
        """The key, which stands in its header without any other word, and the rate."""
        if self.options.key and call.headers.get("authorization") != self.options.key:
            raise Refusal(401, "unauthorized", "Authentication error, API token missing/invalid.")
        if not self.options.calls_per_s:
            return
        now = time.monotonic()
        self.allowed = min(self.options.calls_per_s, self.allowed + (now - self.allowed_at) * self.options.calls_per_s)
        self.allowed_at = now
        if self.allowed < 1:
            wait = {"Retry-After": str(self.options.retry_after_s)}
            raise Refusal(429, "over_rate", "Too many requests, please slow down.", wait)
        self.allowed -= 1

    async def answer(self, call):
        """Finds the call that is meant, and writes it down also where it is refused."""
        what, answering, job = self.meant(call)
        try:
            self.check_call(call)
            # A submission draws for itself, since its fault depends on its audio.
            fault = None if what in ("submit", "unknown") else fault_of(self.options, f"{what}-", self.draw(what, call))
            if fault is None:
                await asyncio.sleep(self.options.delay_ms / 1000)
                return await answering(call, job)
            headers = self.note(call, what, fault, {"rate_limited": 429, "server_error": 503, "timeout": None}.get(fault, 200), job)
            return await self.broken(fault, headers, self.another(job))
        except Refusal as refusal:
            if not refusal.headers.get("X-Request-Id"):
                self.note(call, what, refusal.code, refusal.status, job)
            raise

    def draw(self, what, call):
        if not any(getattr(self.options, f"{what}_{fault}") for fault in fake.FAULTS):
            return 1
        return draw(self.options.seed, what, call.path, self.nth(what, call.path))

    def meant(self, call):
        """What the call is, by which method it is answered, and the id of the job that it is about."""
        known = {("POST", "/v2/upload"): ("upload", self.upload), ("POST", "/v2/transcript"): ("submit", self.submit),
                 ("GET", "/v2/transcript"): ("list", self.list)}
        if found := known.get((call.method, call.path)):
            return *found, None
        start, _, job = call.path.rpartition("/")
        by_method = {"GET": ("check", self.check), "DELETE": ("delete", self.delete)}
        if start == "/v2/transcript" and job and call.method in by_method:
            return *by_method[call.method], job
        return "unknown", self.unknown, None

    async def unknown(self, call, _):
        raise Refusal(404, "not_found", "Not found")

    def another(self, job):
        """The answer of some other job, with a text that nobody said."""
        other = hashlib.sha256(f"{self.options.seed}/another/{job}".encode()).hexdigest()
        return {"id": uuid_of(other), "status": "completed", "text": "this is the text of somebody else", "words": [],
                "audio_url": "https://cdn.assemblyai.invalid/another", "webhook_url": None, "error": None}

    async def upload(self, call, _):
        kind = call.headers.get("content-type", "application/octet-stream").partition(";")[0]
        if kind in ("multipart/form-data", "application/json", "application/x-www-form-urlencoded"):
            raise Refusal(422, "not_raw", "Upload failed, please send the raw bytes of the file")
        digest = Digest()
        async for part in call.parts(UPLOAD_BYTES_MAX):
            digest.add(part)
        if not digest.size:
            raise Refusal(422, "empty_upload", "Upload failed, the file is empty")
        audio = digest.audio()
        number = len(self.uploads)
        if number >= self.options.keep:
            self.uploads.pop(next(iter(self.uploads)))
        host = call.headers.get("host", "127.0.0.1")
        url = f"{'https' if self.options.certificate else 'http'}://{host}/upload/{audio.sha256[:16]}-{self.calls}"
        self.uploads[url] = audio
        headers = self.note(call, "upload", "ok", 200, sha256=audio.sha256, bytes=audio.size)
        return 200, headers, {"upload_url": url}

    async def submit(self, call, _):
        """Takes a job. What goes wrong after that is only that nobody learns its id."""
        body = await call.body(ORDER_BYTES_MAX)
        if call.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refusal(400, "not_json", "Request body must be JSON with Content-Type application/json")
        if self.options.no_balance:
            raise Refusal(400, "no_balance", "Your current account balance is negative. Please top up to continue using the API.")
        order = orders.read(body)
        where = urllib.parse.urlsplit(order["audio_url"])
        audio = self.uploads.get(order["audio_url"])
        key = audio.sha256 if audio else where.path
        nth = self.nth("submit", key)
        fault = fault_of(self.options, "", draw(self.options.seed, key, nth))
        about = {"audio": where.path, "sha256": audio and audio.sha256, "webhook": order.get("webhook_url"), "bytes": len(body)}
        if fault in ("rate_limited", "server_error"):
            headers = self.note(call, "submit", fault, 429 if fault == "rate_limited" else 503, **about, billed=False)
            return await self.broken(fault, headers)
        job, notice = self.begin(order, audio, key, nth)
        status = None if fault == "timeout" else 200
        headers = self.note(call, "submit", fault or "ok", status, job.id, **about, fate=job.fate, notice=notice,
                            takes_ms=round((job.ends - job.begins) * 1000), billed=not job.error)
        if notice == "early":
            await self.tell_in_turn(job, 1)
        if fault == "timeout":
            raise Held
        if fault:
            return await self.broken(fault, headers, self.another(job.id))
        return 200, headers, self.shown(job, job.status(time.time()))

    def begin(self, order, audio, key, nth):
        """Makes a job, and says when it ends and what becomes of its webhook."""
        options, number = self.options, self.dropped + len(self.order)
        seeds = (options.seed, key, nth)
        job = Job(number, uuid_of(hashlib.sha256(f"{options.seed}/job/{number}".encode()).hexdigest()), order)
        job.fate = share(options, "", FATES, draw(*seeds, "fate"))
        notice = share(options, "webhook_", NOTICES, draw(*seeds, "webhook")) if order.get("webhook_url") else "none"
        takes_s = spread(options.work_ms, options.work_ms_max, draw(*seeds, "work")) / 1000
        if options.work_ms_brief is not None and BRIEF in order.get("keyterms_prompt", []):
            takes_s = options.work_ms_brief / 1000
            notice = "ok" if notice == "lost" else notice
        if notice == "early" and job.fate != "never":
            takes_s = 0
        if len(self.working) >= options.parallel:
            job.begins = max(job.begins, heapq.heappop(self.working))
        job.ends = job.begins + takes_s
        heapq.heappush(self.working, job.ends)
        if job.fate == "never":
            self.never += 1
        else:
            heapq.heappush(self.ending, job.ends)
        if job.fate == "job_error":
            job.error = options.job_error_text
        self.jobs[job.id] = job
        self.order.append(job)
        if len(self.order) >= 2 * options.keep:
            self.drop()
        if audio:
            self.hear(job, audio)
        elif not job.error:
            self.spawn(self.fetch(job))
        if notice in ("ok", "doubled", "reordered") and job.fate != "never":
            late_s = draw(*seeds, "late") * options.webhook_late_ms / 1000 if notice == "reordered" else 0
            for _ in range(2 if notice == "doubled" else 1):
                self.schedule(job.ends + late_s, job, 1)
        return job, notice

    def drop(self):
        """Forgets the oldest jobs, so that a long run does not fill the memory."""
        for job in self.order[: self.options.keep]:
            self.jobs.pop(job.id, None)
        self.dropped += self.options.keep
        self.order = self.order[self.options.keep :]

    def hear(self, job, audio):
        """What the job finds when it reads its audio."""
        if job.error:
            return
        if audio.seconds is None:
            kind = "text/html (HTML document, ASCII text)" if audio.begins.lstrip()[:1] == b"<" else "application/octet-stream (data)"
            job.error = f"File does not appear to contain audio. File type is {kind}."
        elif audio.seconds < AUDIO_SECONDS_MIN:
            job.error = "Audio duration is too short."
        elif job.fate == "silent" and job.order.get("language_detection"):
            job.error = SILENT
        job.audio = audio

    async def fetch(self, job):
        """Gets the audio by its link."""
        url, digest = job.order["audio_url"], Digest()
        try:
            async with self.fetching:
                status = await fake.request("GET", url, {}, b"", FETCH_WITHIN_S, digest.add, self.tls)
        except (OSError, ValueError, Refusal, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            status = 0
        if status == 200:
            self.hear(job, digest.audio())
        else:
            job.error = f"Download error, unable to download {url}. Please make sure the file exists and is accessible from the internet."

    def spawn(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def check(self, call, job_id):
        job = self.jobs.get(job_id)
        if not job:
            raise Refusal(400, "no_such_job", NOT_FOUND)
        now = time.time()
        if job.status(now) in ("completed", "error"):
            job.looks += 1
        status = job.status(now, job.looks)
        return 200, self.note(call, "check", status, 200, job_id), self.shown(job, status)

    async def delete(self, call, job_id):
        """Only what has ended can be deleted."""
        job = self.jobs.get(job_id)
        if not job:
            raise Refusal(404, "no_such_job", NOT_FOUND)
        status = job.status(time.time())
        if status in ("queued", "processing"):
            raise Refusal(400, "under_way", "Transcript is still being processed and cannot be deleted yet")
        job.deleted = True
        return 200, self.note(call, "delete", "ok", 200, job_id), self.shown(job, status)

    async def list(self, call, _):
        wanted = orders.query(call.query)
        first = self.dropped
        start, end = first, first + len(self.order)
        for name in ("before_id", "after_id"):
            if name in wanted and wanted[name] not in self.jobs:
                raise Refusal(400, "no_such_job", NOT_FOUND)
        if "before_id" in wanted:
            end = self.jobs[wanted["before_id"]].number
        if "after_id" in wanted:
            start = self.jobs[wanted["after_id"]].number + 1
        limit, now, page = wanted.get("limit", 10), time.time(), []
        numbers = range(end - 1, start - 1, -1)
        if "after_id" in wanted and "before_id" not in wanted:
            numbers = range(min(end, start + limit) - 1, start - 1, -1)
        for number in numbers:
            job = self.order[number - first]
            status = job.status(now)
            if wanted.get("status", status) == status and moment(job.made).startswith(wanted.get("created_on", "")):
                page.append(self.listed(job, status, call))
            if len(page) >= limit:
                break
        here = f"{self.base(call)}/v2/transcript?limit={limit}"
        older = f"{here}&before_id={page[-1]['id']}" if page else None
        newer = f"{here}&after_id={page[0]['id']}" if page else None
        details = {"limit": limit, "result_count": len(page), "current_url": here, "prev_url": older, "next_url": newer}
        return 200, self.note(call, "list", "ok", 200, jobs=len(page)), {"page_details": details, "transcripts": page}

    def base(self, call):
        return f"{'https' if self.options.certificate else 'http'}://{call.headers.get('host', '127.0.0.1')}"

    def listed(self, job, status, call):
        ended = status in ("completed", "error")
        return {"id": job.id, "resource_url": f"{self.base(call)}/v2/transcript/{job.id}", "status": status,
                "created": moment(job.made), "completed": moment(job.ends) if ended else None,
                "audio_url": DELETED if job.deleted else job.order["audio_url"], "error": job.error if status == "error" else None}

    def shown(self, job, status):
        """The job as it is told: the order, and what came of it."""
        order, audio = job.order, job.audio
        told = {"language_code": "en_us", "language_detection": False, "punctuate": True, "format_text": True,
                "speaker_labels": False, "redact_pii": False, "webhook_url": None, "webhook_status_code": job.told,
                "webhook_auth": "webhook_auth_header_name" in order, "text": None, "words": None, "utterances": None,
                "confidence": None, "audio_duration": None, "error": None, "language_confidence": None,
                "speech_model_used": None}
        told |= {name: value for name, value in order.items() if name != "webhook_auth_header_value"}
        told |= {"id": job.id, "status": status}
        if job.deleted:
            return told | {"audio_url": DELETED, "webhook_url": DELETED, "text": "Deleted by user.", "error": None}
        if status == "error":
            return told | {"error": job.error or self.options.job_error_text}
        if status != "completed":
            return told
        spoken = [] if job.fate == "silent" else text_of(audio.sha256).split()
        step = audio.seconds * 1000 / max(1, len(spoken))
        labels = order.get("speaker_labels", False)
        words = [{"text": word, "start": round(n * step), "end": round((n + 1) * step), "confidence": 0.95,
                  "speaker": "AB"[n * 2 // len(spoken)] if labels else None} for n, word in enumerate(spoken)]
        told |= {"text": " ".join(spoken), "words": words, "confidence": 0.95, "audio_duration": round(audio.seconds),
                 "speech_model_used": order.get("speech_models", ["universal-3-5-pro"])[0]}
        if order.get("language_detection"):
            told["language_confidence"] = 0.97
        if labels:
            told["utterances"] = [utterance(words, speaker) for speaker in "AB" if any(w["speaker"] == speaker for w in words)]
        return told

    def schedule(self, when, job, attempt):
        heapq.heappush(self.due, (when, job.number, attempt, job))
        self.wake.set()

    async def work(self):
        """Sends the webhooks that are due, some at the same time."""
        while True:
            self.wake.clear()
            wait_s = self.due[0][0] - time.time() if self.due else None
            if wait_s is None or wait_s > 0:
                try:
                    await asyncio.wait_for(self.wake.wait(), wait_s)
                except TimeoutError:
                    pass
                continue
            _, _, attempt, job = heapq.heappop(self.due)
            if not (job.audio or job.error):
                self.schedule(time.time() + 0.05, job, attempt)
                await asyncio.sleep(0)
                continue
            await self.sending.acquire()
            self.spawn(self.tell_in_turn(job, attempt)).add_done_callback(lambda _: self.sending.release())

    async def tell_in_turn(self, job, attempt):
        """Calls the webhook, and has it called again later where that is promised."""
        status = await self.tell(job, attempt)
        if not 200 <= status < 300 and not 400 <= status < 500 and attempt < WEBHOOK_ATTEMPTS:
            wait_ms = min(self.options.webhook_backoff_ms * 2 ** (attempt - 1), 600_000)
            self.schedule(time.time() + wait_ms / 1000, job, attempt + 1)

    async def tell(self, job, attempt):
        """Calls the webhook once; its status, 0 where none came."""
        order, call = job.order, fake.Call("POST", "/", {}, None)
        status = "error" if job.error else "completed"
        body = json.dumps({"transcript_id": job.id, "status": status}).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "AssemblyAI-Webhook"}
        if "webhook_auth_header_name" in order:
            headers[order["webhook_auth_header_name"]] = order.get("webhook_auth_header_value", "")
        try:
            job.told = await fake.request("POST", order["webhook_url"], headers, body, WEBHOOK_WITHIN_S, None, self.tls)
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            job.told = 0
        self.note(call, "webhook", status, job.told, job.id, attempt=attempt, webhook=order["webhook_url"])
        return job.told


def uuid_of(digest):
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def moment(seconds):
    """A time as the provider writes it: UTC, without a zone."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def spread(least, most, number):
    """A length between two, so that each factor is as likely as the next; always the same where both are equal."""
    if most <= least:
        return least
    return math.exp(math.log(max(least, 1)) + number * (math.log(most) - math.log(max(least, 1))))


def utterance(words, speaker):
    said = [word for word in words if word["speaker"] == speaker]
    return {"text": " ".join(word["text"] for word in said), "start": said[0]["start"], "end": said[-1]["end"],
            "confidence": 0.95, "speaker": speaker, "words": said}


def main():
    parser = fake.arguments(__doc__.splitlines()[0], ("", "upload-", "check-", "list-", "delete-"))
    for fate, what in FATES.items():
        parser.add_argument(f"--{fate}".replace("_", "-"), type=float, default=0, metavar="SHARE", help=what)
    for notice, what in NOTICES.items():
        parser.add_argument(f"--webhook-{notice}", type=float, default=0, metavar="SHARE", help=what)
    parser.add_argument("--job-error-text", default="Server error, developers have been alerted.")
    parser.add_argument("--work-ms", type=float, default=100, help="how long a job takes")
    parser.add_argument("--work-ms-max", type=float, default=0, help="with it, from --work-ms to this (600000 is 10 minutes)")
    parser.add_argument("--work-ms-brief", type=float, help=f"how long a job with the keyterm `{BRIEF}` takes, whose webhook is never lost")
    parser.add_argument("--parallel", type=int, default=1 << 30, help="jobs worked on at the same time; more are queued")
    parser.add_argument("--calls-per-s", type=int, default=0, help="calls a second; more are answered 429 (0: any)")
    parser.add_argument("--keep", type=int, default=200_000, help="jobs that are remembered at least")
    parser.add_argument("--no-balance", action="store_true", help="the account has nothing left")
    parser.add_argument("--webhook-late-ms", type=float, default=5_000, help="how late a reordered webhook may come")
    parser.add_argument("--webhook-backoff-ms", type=float, default=10_000, help="before a webhook's second attempt; then doubled")
    parser.add_argument("--webhooks-at-once", type=int, default=64)
    parser.add_argument("--webhook-ca", help="whose certificates are accepted of webhooks and of links")
    options = parser.parse_args()

    async def start():
        await fake.run(AssemblyAi(options))

    asyncio.run(start())


if __name__ == "__main__":
    main()
