"""Ten thousand segments through each provider that is called, while it fails in every way that it can and the processes that
call it are killed: each segment ends once, nothing is paid twice that neither a fault nor a kill explains, and the agreed pace
is kept. Then ten thousand jobs of ten minutes, all under way at once, which delay nobody. Takes about half an hour."""

import collections
import dataclasses
import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
import unittest
import urllib.request
from collections import Counter
from pathlib import Path

import hansard
import history
from checker import Checker, partition_of
from cluster import Cluster, service
from hansard import Speech, answer_of, piece
from jobs import AssemblyAi, most_in_a_second

from fake import text_of

SEGMENTS, CONVERSATIONS = 10_000, 100
JOBS = {"gateway": ["gateway"], "split": ["split"], "transcribe-1": ["transcribe"], "transcribe-2": ["transcribe"]}
KILLED = ["transcribe-1", "transcribe-2"]
CALLS_PER_S, CALLS_AT_ONCE, CALL_S = 200, 32, 10
KILLS, KILL_EVERY_S, AWAY_EVERY, AWAY_S = 30, 3, 5, 6
# So much has to come into the ledger before the next kill, some hundred calls, within so long.
AT_WORK_BYTES, WORKS_WITHIN_S = 50_000, 120
ENDED_WITHIN_S, REST_WITHIN_S = 1_500, 90
# Of calls that take a segment.
FAULTS = {
    "rate-limited": 0.005,
    "server-error": 0.05,
    "timeout": 0.01,
    "garbage": 0.05,
    "empty": 0.05,
    "huge": 0.002,
    "wrong": 0.05,
}
# Of jobs, and of their webhooks and the calls around them.
JOB_FAULTS = {
    "job-error": 0.01,
    "never": 0.002,
    "flips": 0.1,
    "error-first": 0.01,
    "webhook-lost": 0.1,
    "webhook-doubled": 0.1,
    "webhook-reordered": 0.1,
    "webhook-early": 0.1,
    "upload-server-error": 0.01,
    "upload-garbage": 0.01,
    "check-server-error": 0.03,
    "check-timeout": 0.002,
    "check-garbage": 0.03,
    "check-empty": 0.03,
    "check-wrong": 0.03,
    "list-server-error": 0.05,
}
# A submission that is paid and has one of these gives nothing that could be used.
SPOILT = {"timeout", "garbage", "empty", "huge", "wrong", "job_error", "never", "error_first"}
JOB_S, SAMPLE_S = 600, 2
# The stand-in's keyterm for a job that is short.
BRIEF, BRIEF_WITHIN_S, BRIEF_IN_TURN_WITHIN_S = "brief", 5, 20
GROWTH_MIB_MAX, GROWTH_FDS_MAX = 32, 64


class Registered(history.Schemas):
    """Records as every Confluent client frames them: a zero byte, the schema's id in the registry, and the record."""

    def __init__(self):
        super().__init__()
        self.ids, self.subjects = {}, {}

    @staticmethod
    def ask(path):
        return answer_of(urllib.request.Request(service("REGISTRY") + path))

    def read(self, data):
        from fastavro import parse_schema, schemaless_reader

        number = int.from_bytes(data[1:5], "big")
        if number not in self.ids:
            self.ids[number] = parse_schema(json.loads(self.ask(f"/schemas/ids/{number}")["schema"]))
        schema = self.ids[number]
        return schema["name"].removeprefix("hansard."), schemaless_reader(io.BytesIO(data[5:]), schema, schema)

    def framed(self, topic, value):
        """A record for a topic that has one kind."""
        from fastavro import parse_schema, schemaless_writer

        if topic not in self.subjects:
            latest = self.ask(f"/subjects/{topic}-value/versions/latest")
            self.subjects[topic] = latest["id"], parse_schema(json.loads(latest["schema"]))
        number, schema = self.subjects[topic]
        out = io.BytesIO(b"\0" + number.to_bytes(4, "big"))
        out.seek(0, io.SEEK_END)
        schemaless_writer(out, schema, value)
        return out.getvalue()


class Follower(threading.Thread):
    """Runs beside a test until it is stopped; what went wrong is raised then."""

    def __init__(self):
        super().__init__(daemon=True)
        self.over, self.error = threading.Event(), None
        self.start()

    def run(self):
        try:
            self.follow()
        except Exception as error:  # It is raised again where the test can see it.
            self.error = error

    def stop(self):
        self.over.set()
        self.join()
        if self.error:
            raise self.error


class Endings(Follower):
    """What became of each segment, by (conversation, segment), as a consumer outside reads it."""

    def __init__(self, env, schemas):
        self.env, self.schemas = env, schemas
        self.transcripts, self.failures, self.at = collections.defaultdict(list), collections.defaultdict(list), {}
        super().__init__()

    def follow(self):
        from confluent_kafka import TopicPartition

        reader, prefix = history.consumer(self.env, "read_committed"), self.env["HANSARD_TOPICS_PREFIX"]
        partitions = range(int(self.env["HANSARD_TOPICS_PARTITIONS"]))
        reader.assign([TopicPartition(prefix + name, at, 0) for name in ("transcripts", "failures") for at in partitions])
        while not self.over.is_set():
            for got in reader.consume(500, timeout=0.2):
                if got.error() is None:
                    self.take(*self.schemas.read(got.value()))
        reader.close()

    def take(self, name, value):
        which = value["conversation_id"], value["segment"]
        if name == "Transcript":
            self.transcripts[which].append(value)
        elif value["terminal"]:
            self.failures[which].append(value)
        else:
            return
        self.at.setdefault(which, time.time())

    def within(self, seconds, wanted):
        """Whether all of them have ended before so long."""
        end = time.monotonic() + seconds
        while not wanted <= self.at.keys():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True


@dataclasses.dataclass
class Use:
    """What a process has taken; the highest of each, and all of the processor's time."""

    rss_kib: int = 0
    threads: int = 0
    fds: int = 0
    cpu_s: float = 0


class Meter(Follower):
    """Looks at the processes that transcribe."""

    def __init__(self, cluster):
        self.cluster, self.peak, self.now, self.cpu = cluster, Use(), Use(), {}
        super().__init__()

    def follow(self):
        while not self.over.wait(SAMPLE_S / 4):
            self.look()

    def look(self):
        seen = [self.use(process.pid) for name, process in list(self.cluster.processes.items()) if name in KILLED]
        for which in ("rss_kib", "threads", "fds"):
            setattr(self.now, which, max((getattr(use, which) for use in seen), default=0))
            setattr(self.peak, which, max(getattr(self.peak, which), getattr(self.now, which)))
        self.peak.cpu_s = self.now.cpu_s = round(sum(self.cpu.values()), 1)

    def use(self, pid):
        """Nothing, of a process that has just ended."""
        try:
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
            spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            fds = len(os.listdir(f"/proc/{pid}/fd"))
            self.cpu[pid] = sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")
            return Use(int(status["VmRSS"].split()[0]), int(status["Threads"]), fds)
        except (OSError, KeyError):
            return Use()


class Sender:
    """Asks for segments as a split does, each with audio of its own."""

    def __init__(self, env, schemas, template, audio):
        from confluent_kafka import Producer

        self.schemas, self.template, self.audio = schemas, template, audio
        self.topic, self.partitions = env["HANSARD_TOPICS_PREFIX"] + "segments", int(env["HANSARD_TOPICS_PARTITIONS"])
        self.bucket = Path(service("S3_DATA")) / env["HANSARD_S3_BUCKET"]
        (self.bucket / "segments" / "volume").mkdir(parents=True)
        self.producer = Producer({"bootstrap.servers": env["HANSARD_KAFKA_BROKERS"], "linger.ms": 5})
        # Which segment an audio is of.
        self.of = {}

    def send(self, conversation, number, *keyterms):
        """One segment, by its conversation and number."""
        audio = variant(self.audio, len(self.of))
        sha256, digest = hashlib.sha256(audio).hexdigest(), hashlib.sha256(conversation.encode()).hexdigest()
        key = f"segments/volume/{sha256}.flac"
        (self.bucket / key).write_bytes(audio)
        which = self.of[sha256] = conversation, number
        about = {"conversation_id": conversation, "event_id": sha256, "chunk_id": "k0", "segment": number, "of": number + 1}
        about |= {"upload_digest": digest, "split_digest": digest}
        lies = self.template["object"] | {"key": key, "bytes": len(audio)}
        value = self.template | about | {"object": lies, "options": self.template["options"] | {"keyterms": list(keyterms)}}
        name = conversation.encode()
        self.producer.produce(self.topic, self.schemas.framed(self.topic, value), name, partition_of(name, self.partitions))
        self.producer.poll(0)
        return which

    def flush(self):
        assert self.producer.flush(60) == 0, "the log has not taken all"


def variant(flac, number):
    """The same audio in other bytes: a block with a number follows the first, which may have been the last."""
    is_last, ends, block = flac[4] & 0x80, 42, b"test" + number.to_bytes(4, "big")
    head = bytes([is_last | 2, 0, 0, len(block)])
    return flac[:4] + bytes([flac[4] & 0x7F]) + flac[5:ends] + head + block + flac[ends:]


@unittest.skipUnless(hansard.FULL, "long")
class Volume(unittest.TestCase):
    """A deployment of which only transcribe works; what it is asked for comes from outside."""

    def deploy(self, provider, faults, *options, **settings):
        """Starts it, and has one recording cut, for the shape of a Segment and its audio."""
        history.clients()
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        shares = [word for name, share in faults.items() for word in (f"--{name}", str(share))]
        self.provider = provider(directory, *shares, *options)
        self.addCleanup(self.provider.stop)
        self.cluster = Cluster(self.provider, JOBS)
        self.addCleanup(self.cluster.close)
        env = self.cluster.env
        env |= {"HANSARD_REGISTRY_URL": service("REGISTRY"), "HANSARD_TRANSCRIBE_CALL": f"{CALL_S} s"}
        env |= {"HANSARD_SPEECH_ANSWER_WITHIN": f"{CALL_S} s"} | settings
        for step in (["topics", "apply"], ["store", "migrate"], ["schemas", "register"]):
            code, _, said = self.cluster.command(*step)
            self.assertEqual(code, 0, said)
        self.cluster.make_bucket()
        self.addCleanup(shutil.rmtree, Path(service("S3_DATA")) / env["HANSARD_S3_BUCKET"])
        for job in ("gateway", "split"):
            self.cluster.begin(job)
        self.cluster.open("template")
        self.cluster.upload("template", "k0", piece(0, seconds=1))
        schemas = Registered()
        segments = lambda: history.read_topics(env, lambda name: name == env["HANSARD_TOPICS_PREFIX"] + "segments")
        end = time.monotonic() + 60
        while not (asked := segments()):
            self.assertLess(time.monotonic(), end, self.cluster.logs())
        _, template = schemas.read(asked[0].value())
        self.assertEqual(self.cluster.end("split", signal.SIGTERM), 0)
        audio = (Path(service("S3_DATA")) / env["HANSARD_S3_BUCKET"] / template["object"]["key"]).read_bytes()
        self.sender = Sender(env, schemas, template, audio)
        self.endings = Endings(env, schemas)
        self.meter = Meter(self.cluster)

    def send(self):
        """All segments, of all conversations in turn; which they are."""
        which = [(f"c-{number % CONVERSATIONS}", number // CONVERSATIONS) for number in range(SEGMENTS)]
        sent = {self.sender.send(*one) for one in which}
        self.sender.flush()
        return sent

    def over(self):
        for follower in (self.meter, self.endings):
            follower.stop()

    def await_all(self, sent, within):
        if not self.endings.within(within, sent):
            left = sorted(sent - self.endings.at.keys())
            raise AssertionError(f"{len(left)} have not ended, as {left[:5]}\n{self.cluster.logs()}")


class Segments(Volume):
    """Many at once, against all faults."""

    def test_openai(self):
        self.go("openai", Speech, FAULTS, "--delay-ms", "50")

    def test_assemblyai(self):
        work = ["--delay-ms", "20", "--work-ms", "200", "--work-ms-max", "4000", "--webhook-late-ms", "5000"]
        tiers = {"HANSARD_TRANSCRIBE_TIERS": "1 s, 5 s, 20 s", "HANSARD_SPEECH_DEADLINE": "40 s", "HANSARD_SPEECH_GIVE_UP_AFTER": "15 min"}
        self.go("assemblyai", AssemblyAi, FAULTS | JOB_FAULTS, *work, **tiers)

    def go(self, name, provider, faults, *options, **settings):
        calls = f"HANSARD_{name.upper()}_CALLS"
        limits = {f"{calls}_PER_SECOND": str(CALLS_PER_S), f"{calls}_AT_ONCE": str(CALLS_AT_ONCE)}
        # The least that a broker takes by default, so that a killed process is missed soon.
        settings |= limits | {"HANSARD_KAFKA_SET": "consumer.session.timeout.ms=6000"}
        self.deploy(provider, faults, *options, HANSARD_SPEECH_PROVIDER=name, **settings)
        if name == "assemblyai":
            self.cluster.env |= {"HANSARD_ASSEMBLYAI_URL": self.provider.url, "HANSARD_SPEECH_CALLBACK_URL": self.cluster.url}
        sent = self.send()
        began = time.monotonic()
        for process in KILLED:
            self.cluster.begin(process)
        kills = self.disturb(sent)
        self.await_all(sent, ENDED_WITHIN_S)
        took_s = time.monotonic() - began
        self.at_rest()
        self.over()
        self.judge(name, sent, kills, took_s)

    def disturb(self, sent):
        """Kills one process after the other while they are at work, and has one leave for a while now and then; when the kills
        were."""
        kills = []
        for turn in itertools.count():
            self.await_work(sent)
            if len(kills) == KILLS or self.endings.within(KILL_EVERY_S, sent):
                return kills
            name = KILLED[turn % 2]
            if turn % AWAY_EVERY == AWAY_EVERY - 1:
                self.assertEqual(self.cluster.end(name, signal.SIGTERM), 0, self.cluster.logs())
                self.endings.within(AWAY_S, sent)
            else:
                self.cluster.end(name, signal.SIGKILL)
                kills.append(time.time())
            self.cluster.begin(name)

    def await_work(self, sent):
        """Waits until more calls have come: a group that is still dividing its partitions has nothing to lose."""
        size, end = self.provider.ledger.stat().st_size, time.monotonic() + WORKS_WITHIN_S
        while self.provider.ledger.stat().st_size < size + AT_WORK_BYTES and not sent <= self.endings.at.keys():
            self.assertLess(time.monotonic(), end, self.cluster.logs())
            time.sleep(0.1)

    def at_rest(self):
        """All that transcribe reads, it has read, and said so."""
        end = time.monotonic() + REST_WITHIN_S
        while left := self.unread():
            self.assertLess(time.monotonic(), end, f"{len(left)} are left, as {left[:5]}\n{self.cluster.logs()}")
            time.sleep(1)

    def unread(self):
        env, schemas = self.cluster.env, self.sender.schemas
        prefix = env["HANSARD_TOPICS_PREFIX"]
        commits = history.read_commits(history.read_topics(env, lambda name: name == "__consumer_offsets"), prefix)
        read = [name for name in ("segments", "callbacks", *(f"transcribe.retry.{tier}" for tier in (1, 2, 3)))]
        raw = history.read_topics(env, lambda name: name.removeprefix(prefix) in read)
        self.callbacks = sum(1 for got in raw if got.topic() == prefix + "callbacks")
        self.retried = len(raw) - self.callbacks - len(self.sender.of)
        records = [history.stored(got, prefix, schemas) for got in raw]
        checker = Checker(history.History(self.sender.partitions, records, commits, {}, []))
        checker.all_read()
        return [wrong for wrong in checker.wrong if wrong.startswith("transcribe ")]

    def judge(self, name, sent, kills, took_s):
        """By the log and by the provider's own ledger."""
        done, failed = self.endings.transcripts, self.endings.failures
        for sha256, which in self.sender.of.items():
            told = {value["event_id"]: value["text"] for value in done[which]}
            self.assertEqual(len(told) + bool(failed[which]), 1, (which, told, failed[which]))
            self.assertLessEqual(set(told.values()), {text_of(sha256)}, "the text of other audio")
            self.assertTrue(all(value["code"] for value in failed[which]), failed[which])
        letters = self.letters()
        self.assertEqual(letters, {which for which in sent if failed[which]}, "a dead letter for each Failure, and no other")
        calls = [call for call in self.provider.calls() if call.get("what") != "webhook"]
        own = collections.defaultdict(list)
        for call in calls:
            if call.get("what", "submit") == "submit" and call["sha256"] in self.sender.of:
                own[call["sha256"]].append(call)
        submissions = list(itertools.chain(*own.values()))
        most, above = most_in_a_second(calls, CALLS_PER_S)
        busiest = max(calls, key=lambda call: call["open"])
        repeated = [again for each in own.values() for again in useful(each)[:-1]]
        unexplained = [call for call in repeated if not any(call["time"] <= at <= call["time"] + CALL_S for at in kills)]
        figures = {
            "provider": name,
            "segments": len(sent),
            "failed": dict(Counter(values[0]["code"] for values in failed.values() if values)),
            "submissions": len(submissions),
            "billed": sum(call["billed"] for call in submissions),
            "spoilt": sum(call["billed"] and is_spoilt(call) for call in submissions),
            "repeated": len(repeated),
            "unexplained": len(unexplained),
            "kills": len(kills),
            "calls": dict(Counter(f"{call.get('what', 'submit')} {call['outcome']}" for call in calls)),
            "transcripts_repeated": sum(len(values) - 1 for values in done.values() if values),
            "retried": self.retried,
            "callbacks": self.callbacks,
            "most_in_a_second": most,
            "late_s": max(call["late_s"] for call in calls),
            "most_in_flight": busiest["open"],
            "seconds": round(took_s, 1),
            "segments_a_second": round(len(sent) / took_s, 1),
            **dataclasses.asdict(self.meter.peak),
        }
        print(json.dumps(figures), end=" ", flush=True)
        self.assertEqual(unexplained, [], "paid again, and neither a fault nor a kill is why")
        self.assertLessEqual(len(repeated), len(kills) * CALLS_AT_ONCE)
        self.assertEqual(above, 0, "calls above the pace")
        self.assertLessEqual(busiest["open"], CALLS_AT_ONCE, busiest)
        self.assertTrue(any(failed.values()) and figures["spoilt"] and figures["retried"], "too few faults to show anything")

    def letters(self):
        """The segments that rest as dead letters."""
        env = self.cluster.env
        raw = history.read_topics(env, lambda name: name == env["HANSARD_TOPICS_PREFIX"] + "transcribe.dead-letter")
        values = [self.sender.schemas.read(got.value())[1] for got in raw]
        return {(value["conversation_id"], value["segment"]) for value in values}


def is_spoilt(call):
    return call["outcome"] in SPOILT or call.get("fate") in SPOILT


def useful(submissions):
    """What was paid and could be used, of one segment's submissions, in time order."""
    return [call for call in sorted(submissions, key=lambda call: call["time"]) if call["billed"] and not is_spoilt(call)]


class LongJobs(Volume):
    """Many jobs that are all under way at once."""

    def test_parked_jobs_delay_nobody(self):
        work = ["--work-ms", str(JOB_S * 1000), "--work-ms-brief", "200", "--webhook-lost", "0.5"]
        limits = {"HANSARD_ASSEMBLYAI_CALLS_PER_SECOND": str(CALLS_PER_S), "HANSARD_TRANSCRIBE_TIERS": "5 s, 1 min"}
        self.deploy(AssemblyAi, {}, *work, HANSARD_SPEECH_PROVIDER="assemblyai", **limits)
        self.cluster.env |= {"HANSARD_ASSEMBLYAI_URL": self.provider.url, "HANSARD_SPEECH_CALLBACK_URL": self.cluster.url}
        for process in KILLED:
            self.cluster.begin(process)
        time.sleep(2 * SAMPLE_S)
        seen, parked_at = {"start": dataclasses.replace(self.meter.now)}, 0
        sent, briefs = self.send(), {}
        names = by_partition(self.sender.partitions)
        for second in itertools.count():
            which = self.sender.send(names[second % len(names)], second, BRIEF)
            self.sender.flush()
            briefs[which] = time.time()
            parked = self.under_way()
            for level in (SEGMENTS // 10, SEGMENTS):
                if parked >= level and level not in seen:
                    seen[level], parked_at = dataclasses.replace(self.meter.now), time.time()
            if self.endings.within(1, sent):
                break
            self.assertLess(second, 2 * JOB_S + ENDED_WITHIN_S, self.cluster.logs())
        self.await_all(briefs.keys(), 60)
        self.over()
        self.judge(sent, briefs, seen, parked_at)

    def under_way(self):
        """Jobs, by the last whole line of the ledger."""
        with self.provider.ledger.open("rb") as ledger:
            ledger.seek(max(0, ledger.seek(0, io.SEEK_END) - 4096))
            *lines, _ = ledger.read().split(b"\n")
        return json.loads(lines[-1])["under_way"] if lines else 0

    def judge(self, sent, briefs, seen, parked_at):
        calls = self.provider.calls()
        submitted = [call for call in calls if call["what"] == "submit"]
        long = [call for call in submitted if self.sender.of.get(call["sha256"]) in sent]
        first_end = min(call["time"] for call in long) + JOB_S
        took = lambda which: self.endings.at[which] - briefs[which]
        parked = [took(which) for which, at in briefs.items() if parked_at < at < first_end - BRIEF_WITHIN_S]
        submitting = [took(which) for which, at in briefs.items() if at < parked_at]
        percentiles = lambda values: [round(statistics.quantiles(values, n=100)[at - 1], 2) for at in (50, 99)]
        most, above = most_in_a_second([call for call in calls if call["what"] != "webhook"], CALLS_PER_S)
        last_ended = max(self.endings.at[which] for which in sent)
        figures = {
            "segments": len(sent),
            "submissions": len(long),
            "checks": sum(call["what"] == "check" for call in calls),
            "checks_a_job": round(sum(call["what"] == "check" for call in calls) / len(sent), 1),
            "most_under_way": max(call["under_way"] for call in calls),
            "most_in_a_second": most,
            "late_s": max(call["late_s"] for call in calls),
            "brief_while_all_parked": [len(parked), *percentiles(parked)],
            "brief_while_submitting": [len(submitting), *percentiles(submitting)],
            "last_s_after_job": round(last_ended - max(call["time"] for call in long) - JOB_S, 1),
            "use": {str(when): dataclasses.asdict(use) for when, use in (seen | {"peak": self.meter.peak}).items()},
        }
        print(json.dumps(figures), end=" ", flush=True)
        self.assertGreaterEqual(figures["most_under_way"], SEGMENTS)
        self.assertEqual(above, 0, "calls above the pace")
        self.assertEqual(len(long), SEGMENTS, "each is submitted once")
        events = lambda which: {value["event_id"] for value in self.endings.transcripts[which]}
        self.assertEqual([which for which in sent if len(events(which)) != 1], [])
        few, all_of_them = seen[SEGMENTS // 10], seen[SEGMENTS]
        self.assertLess(all_of_them.rss_kib - few.rss_kib, GROWTH_MIB_MAX << 10)
        self.assertLess(all_of_them.fds - few.fds, GROWTH_FDS_MAX)
        self.assertLess(figures["brief_while_all_parked"][2], BRIEF_WITHIN_S)
        self.assertLess(figures["brief_while_submitting"][2], BRIEF_IN_TURN_WITHIN_S, "what was asked for before goes first")


def by_partition(partitions):
    """A conversation's name for each partition."""
    found = {}
    for number in itertools.count():
        name = f"{BRIEF}-{number}"
        found.setdefault(partition_of(name.encode(), partitions), name)
        if len(found) == partitions:
            break
    return list(found.values())
