"""The jobs of a cluster as separate processes, on a real broker, a CQL server and an S3 server that is not ours: set up
by the deployment steps, uploaded to through the gateway, with one process after the other killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request
import uuid
from pathlib import Path

import broken
import hansard
import history
from checker import Checker
from crash import Producer
from hansard import Answer, Hansard, Speech, answer_of, binary, environment

CONVERSATIONS = 12
PRODUCERS = 3
# One process a line; every stage has two, but for the gateway, which the producers call.
PROCESSES = {
    "gateway": ["gateway", "sweep"],
    "split-transcribe-1": ["split", "transcribe"],
    "split-transcribe-2": ["split", "transcribe"],
    "aggregate-1": ["aggregate"],
    "aggregate-2": ["aggregate"],
    "merge-summarize-1": ["merge", "summarize"],
    "merge-summarize-2": ["merge", "summarize"],
}
KILLED = ["split-transcribe-1", "aggregate-1", "merge-summarize-2"]
EFFECTS = ["SPLIT", "TRANSCRIBE", "MERGE", "SUMMARIZE"]


def service(name):
    """The address of a service that `tests/run` started."""
    address = os.environ.get(f"HANSARD_TEST_{name}")
    if not address:
        raise AssertionError(f"HANSARD_TEST_{name} is not set; tests/run starts the services")
    return address


class Cluster(Hansard):
    """A deployment of its own on the services; its calls are the gateway's."""

    def __init__(self, speech, jobs=None):
        self.jobs = jobs or PROCESSES
        name = f"e2e_{uuid.uuid4().hex[:12]}"
        self.directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.env = environment(
            TMPDIR=self.directory,
            HANSARD_KAFKA_BROKERS=service("KAFKA"),
            HANSARD_TOPICS_PREFIX=f"{name}.",
            HANSARD_TOPICS_PARTITIONS="4",
            HANSARD_TOPICS_REPLICATION="1",
            HANSARD_STORE_NODES=service("CQL"),
            HANSARD_STORE_KEYSPACE=name,
            HANSARD_STORE_REPLICATION="1",
            HANSARD_S3_ENDPOINT=service("S3"),
            HANSARD_S3_REGION=service("S3_REGION"),
            HANSARD_S3_BUCKET=name.replace("_", "-"),
            HANSARD_S3_ACCESS_KEY=service("S3_ACCESS_KEY"),
            HANSARD_S3_SECRET_KEY=service("S3_SECRET_KEY"),
            HANSARD_RUN_LISTEN="127.0.0.1:0",
            HANSARD_RUN_ADMIN_LISTEN="127.0.0.1:0",
            HANSARD_RUN_SIGNING_KEY=uuid.uuid4().hex,
            HANSARD_SPEECH_PROVIDER="openai",
            HANSARD_OPENAI_URL=speech.url,
            # A call of a process that was killed counts as under way until its time is over.
            HANSARD_SPEECH_ANSWER_WITHIN="5 s",
            **{f"HANSARD_{job}_CALL": "5 s" for job in EFFECTS},
            **{f"HANSARD_{job}_TIERS": "1 s" for job in EFFECTS},
        )
        self.tokens, self.processes, self.admin = {}, {}, {}

    def command(self, *arguments):
        """Runs a command to its end: exit code, standard output, standard error."""
        return hansard.run(*arguments, env=self.env)

    def bucket(self):
        """A bucket is a directory of the server for tests; the program never makes one."""
        return Path(service("S3_DATA")) / self.env["HANSARD_S3_BUCKET"]

    def make_bucket(self):
        """Makes the deployment's."""
        self.bucket().mkdir()

    def begin(self, name):
        """Starts a process and waits until it runs; its instance has the same name each time."""
        said = Path(self.directory) / f"{name}.log"
        command = [binary(), "run", "--json", f"--instance={name}", *self.jobs[name]]
        with said.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=log, text=True)
        self.processes[name] = process
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{name} did not start: {said.read_text()[-2000:]}")
        told = json.loads(line)
        self.admin[name] = told["admin_url"]
        if told["url"]:
            self.url = told["url"]

    def end(self, name, number):
        """Sends a signal and waits for the end; the exit code."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(timeout=60)
        process.stdout.close()
        return process.returncode

    def logs(self):
        """The ends of all logs, for a failure."""
        ends = [(path.stem, path.read_text()[-1500:]) for path in Path(self.directory).glob("*.log")]
        return "\n".join(f"== {name}\n{end}" for name, end in sorted(ends))

    def close(self):
        for name in list(self.processes):
            self.end(name, signal.SIGKILL)
        shutil.rmtree(self.directory)


class OnServices(unittest.TestCase):
    """A deployment from nothing to delivered conversations."""

    def setUp(self):
        self.provider = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, self.provider)
        self.speech = Speech(self.provider, "--delay-ms", "50")
        self.addCleanup(self.speech.stop)
        self.cluster = Cluster(self.speech)
        self.addCleanup(self.cluster.close)

    def test_a_killed_process_loses_nothing(self):
        self.deploy()
        for name in PROCESSES:
            self.cluster.begin(name)
        producers = self.upload_under_kills()
        try:
            statuses = [self.cluster.await_delivered(f"c-{number}") for number in range(CONVERSATIONS)]
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.cluster.logs()}") from None
        segments = 0
        for number, status in enumerate(statuses):
            self.assertEqual((status["outcome"], status["revision"]), ("complete", 1), status)
            self.assertEqual(sorted(chunk["chunk_id"] for chunk in status["chunks"]), ["k0", "k1"])
            self.assertEqual(status["progress"]["failed"] + status["progress"]["missing"], 0, status)
            segments += status["progress"]["segments"]
            transcript = self.cluster.call("GET", f"/v1/conversations/c-{number}/transcript?format=json")
            self.assertEqual(len(transcript["lines"]), status["progress"]["segments"])
        self.assertGreaterEqual(sum(1 for call in self.speech.calls() if call["billed"]), segments)
        self.check(producers)
        self.answers_of_listeners()
        self.standing_without_a_bucket()
        codes = {name: self.cluster.end(name, signal.SIGTERM) for name in list(self.cluster.processes)}
        self.assertEqual(codes, dict.fromkeys(PROCESSES, 0), self.cluster.logs())

    def deploy(self):
        """The deployment steps: each says what is missing before, and does nothing when it comes again."""
        code, out, _ = self.cluster.command("topics", "diff")
        self.assertEqual((code, len(out.splitlines())), (1, 35), out)
        code, _, said = self.cluster.command("run", "aggregate")
        self.assertEqual(code, 1, said)
        self.assertIn("hansard store migrate", said)
        for step in (["topics", "apply"], ["store", "migrate"]):
            for _ in range(2):
                code, out, said = self.cluster.command(*step)
                self.assertEqual(code, 0, said)
        self.assertEqual(self.cluster.command("topics", "diff")[:2], (0, ""))
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = self.cluster.command(*step, "--topics-partitions=5")
            self.assertEqual(code, 1, said)
            self.assertIn("4 partitions", said)
        self.assertEqual(self.cluster.command("check")[0], 1)
        self.cluster.make_bucket()
        code, out, said = self.cluster.command("check")
        self.assertEqual((code, out.splitlines()), (0, ["kafka: yes", "store: yes", "objects: yes", "openai: yes"]), said)

    def upload_under_kills(self):
        shares = [range(first, CONVERSATIONS, PRODUCERS) for first in range(PRODUCERS)]
        producers = [Producer(self.cluster, share) for share in shares]
        for producer in producers:
            producer.start()
        for name in KILLED:
            time.sleep(0.5)
            self.cluster.end(name, signal.SIGKILL)
            self.cluster.begin(name)
        for producer in producers:
            producer.join()
            if producer.error:
                raise producer.error
        return producers

    def check(self, producers):
        """The checker finds nothing wrong, and finds each of the ways to break what it saw."""
        accepted = [one for producer in producers for one in producer.accepted]
        finished = [one for producer in producers for one in producer.finished]
        left = history.at_rest(self.cluster.env, self.speech.calls())
        checker = Checker(left, accepted, finished)
        self.assertEqual(checker.check(), [], self.cluster.logs())
        print(json.dumps(checker.figures()))
        self.assertEqual(broken.unseen(left, accepted, finished), [])

    def await_metric(self, get, line):
        """What a loop does not know of itself is told every ten seconds."""
        end = time.monotonic() + 25
        while line not in (metrics := get("/metrics").decode()):
            self.assertLess(time.monotonic(), end, f"no {line} in\n{metrics}")
            time.sleep(0.2)

    def answers_of_listeners(self):
        """Every process answers probes and gives metrics; only the gateway's answers operators, and not in public."""
        for name, admin in self.cluster.admin.items():
            get = lambda path, to=admin: answer_of(urllib.request.Request(to + path))
            self.assertEqual(get("/healthz"), b"ok\n")
            self.assertEqual(get("/readyz")["ready"], True, name)
            for job in set(PROCESSES[name]) - {"gateway", "sweep"}:
                self.await_metric(get, f'hansard_dead_letters{{stage="{job}"}} 0')
                self.await_metric(get, f'hansard_lag_records{{job="{job}",topic="')
            if name == "gateway":
                self.assertEqual(get("/v1/dead-letters")["dead_letters"], [])
            else:
                self.assertRaises(Answer, get, "/v1/conversations")
        for path in ("/metrics", "/v1/dead-letters"):
            with self.assertRaises(Answer) as refused:
                self.cluster.call("GET", path)
            self.assertEqual(refused.exception.status, 404)

    def standing_without_a_bucket(self):
        """A service that answers and has not what was put there is none."""
        bucket = self.cluster.bucket()
        away = bucket.rename(bucket.with_name(f"{bucket.name}-away"))
        try:
            for name, admin in self.cluster.admin.items():
                with self.assertRaises(Answer) as refused:
                    answer_of(urllib.request.Request(f"{admin}/readyz"))
                self.assertIn("create the bucket", refused.exception.body["why"]["objects"], name)
        finally:
            away.rename(bucket)
