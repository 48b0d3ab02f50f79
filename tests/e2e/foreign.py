"""Programs that share nothing with ours but the schema registry: they publish recordings that lie in S3 already, read
transcripts and finalizes, and write what is no record of ours, which stops nobody."""

import collections
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from cluster import Cluster, service
from hansard import ROOT, Speech, answer_of, environment, piece

sys.path.insert(0, str(ROOT / "tests" / "services"))
import service as services

CLIENTS = ROOT / "tests" / "clients"
CONFLUENT = "2.16.0"
PYTHON = [f"confluent-kafka[avro,schemaregistry]=={CONFLUENT}"]
SERDE = "3.1.7"
JAVA = [f"io.apicurio:apicurio-registry-avro-serde-kafka:{SERDE}", "org.apache.kafka:kafka-clients:4.1.0"]
JAVA += ["org.slf4j:slf4j-nop:1.7.36"]
PROCESSES = ["gateway", "split-transcribe-1", "aggregate-1", "merge-summarize-1"]
# Enough for some that CRC32, the default of librdkafka, sends to another partition than murmur2.
OF_PYTHON = [f"py-{number}" for number in range(6)]
RAN_WITHIN_S = 120


def _python(target):
    services.retried([sys.executable, "-m", "pip", "install", "-q", "--target", target, *PYTHON])


class Relay(http.server.ThreadingHTTPServer):
    """The registry at another address, where it can be down."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Relayed)
        self.url, self.is_down = f"http://127.0.0.1:{self.server_port}", False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class Relayed(http.server.BaseHTTPRequestHandler):
    """One call."""

    def relay(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.server.is_down:
            return
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(service("REGISTRY") + self.path, body or None, headers, method=self.command)
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            self.send_response(answer.status)
            self.end_headers()
            self.wfile.write(answer.read())

    do_GET = do_POST = do_PUT = relay

    def log_message(self, *_):
        """Says nothing."""


class Foreign(unittest.TestCase):
    """One deployment; all that is written to it comes from outside."""

    def setUp(self):
        provider = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, provider)
        speech = Speech(provider)
        self.addCleanup(speech.stop)
        self.cluster = Cluster(speech)
        self.addCleanup(self.cluster.close)
        self.bucket = self.cluster.env["HANSARD_S3_BUCKET"]
        self.relay = Relay()
        self.addCleanup(self.relay.close)
        self.cluster.env["HANSARD_REGISTRY_URL"] = self.relay.url
        self.cluster.env["HANSARD_UPLOAD_PREFIXES"] = f"{self.bucket}/foreign/"
        version = "{}.{}".format(*sys.version_info)
        self.python = services.cached(f"clients-python-{CONFLUENT}-{version}", _python)
        self.java = ["-cp", str(services.jars(f"clients-java-{SERDE}", JAVA))]

    def topic(self, name):
        return self.cluster.env["HANSARD_TOPICS_PREFIX"] + name

    def test_foreign_programs_take_part(self):
        self.deploy()
        self.put("foreign/a.wav", 1)
        self.put("foreign/b.wav", 2)
        self.put("elsewhere/c.wav", 3)
        for conversation in OF_PYTHON:
            self.produce("python", conversation, "foreign/a.wav", "foreign/b.wav")
        self.produce("java", "java-0", "foreign/b.wav", "foreign/a.wav")
        self.produce("python", "outside", "foreign/a.wav", "elsewhere/c.wav")
        for conversation in [*OF_PYTHON, "java-0"]:
            status = self.delivered(conversation)
            self.assertEqual((status["outcome"], len(status["chunks"])), ("complete", 2), status)
        status = self.delivered("outside")
        self.assertEqual(status["outcome"], "with_failures")
        codes = {chunk["chunk_id"]: (chunk["failure"] or {}).get("code") for chunk in status["chunks"]}
        self.assertEqual(codes, {"k0": None, "k1": "object_forbidden"})
        self.forwarded()
        self.read("python")
        self.read("java")
        self.bad_records()
        self.registry_down()

    def deploy(self):
        """Without the schemas nothing runs; they are registered like the other steps, any number of times."""
        self.assertEqual(self.cluster.command("schemas", "check")[0], 1)
        code, _, said = self.cluster.command("run", "aggregate")
        self.assertEqual(code, 1, said)
        self.assertIn("hansard schemas register", said)
        for step in (["topics", "apply"], ["store", "migrate"], ["schemas", "register"], ["schemas", "register"]):
            code, _, said = self.cluster.command(*step)
            self.assertEqual(code, 0, said)
        self.assertEqual(self.cluster.command("schemas", "check")[:2], (0, ""))
        (Path(service("S3_DATA")) / self.bucket).mkdir()
        code, out, said = self.cluster.command("check")
        self.assertEqual((code, "registry: yes" in out), (0, True), out + said)
        for name in PROCESSES:
            self.cluster.begin(name)

    def put(self, key, number):
        path = Path(service("S3_DATA")) / self.bucket / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(piece(number))

    def client(self, language, name, *arguments):
        """Runs a client to its end; its standard output."""
        registry = service("REGISTRY")
        if language == "python":
            command = [sys.executable, CLIENTS / "python" / f"{name}.py"]
        else:
            command = [services.java(17), *self.java, CLIENTS / "java" / f"{name.title()}.java"]
            # Apicurio's serde asks for the same schemas by the registry's own API.
            registry = registry.replace("/ccompat/v7", "/registry/v3")
        done = subprocess.run(
            [*command, service("KAFKA"), registry, *arguments],
            capture_output=True, text=True, timeout=RAN_WITHIN_S, check=False,
            env=environment(PYTHONPATH=str(self.python)),
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def produce(self, language, conversation, *keys):
        size = lambda key: (Path(service("S3_DATA")) / self.bucket / key).stat().st_size
        objects = [f"{key}={size(key)}" for key in keys]
        self.client(language, "producer", self.topic("uploads"), conversation, self.bucket, *objects)

    def delivered(self, conversation):
        try:
            return self.cluster.await_delivered(conversation)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.cluster.logs()}") from None

    def read(self, language):
        """Everything that is said of each conversation can be had from the topics alone."""
        lines = self.client(language, "consumer", self.topic("transcripts"), self.topic("finalizes")).splitlines()
        texts, outcomes = collections.defaultdict(list), {}
        for record in map(json.loads, lines):
            value = record["value"]
            self.assertEqual(record["key"], value["conversation_id"])
            if record["topic"] == self.topic("transcripts"):
                texts[record["key"]].append(value["text"])
            else:
                outcomes[record["key"]] = value["outcome"]
        for conversation in [*OF_PYTHON, "java-0", "outside"]:
            expected = "with_failures" if conversation == "outside" else "complete"
            self.assertEqual(outcomes[conversation], expected)
            shown = self.cluster.call("GET", f"/v1/conversations/{conversation}/transcript?format=json")["lines"]
            self.assertEqual(sorted(texts[conversation]), sorted(line["text"] for line in shown))

    def kcat(self, topic, *arguments, given=None):
        command = ["kcat", "-q", "-b", service("KAFKA"), "-t", self.topic(topic), *arguments]
        done = subprocess.run(command, input=given, capture_output=True, timeout=RAN_WITHIN_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def forwarded(self):
        """What came to the partition of another partitioner is in the right one too."""
        places = collections.defaultdict(set)
        for line in self.kcat("uploads", "-C", "-e", "-f", "%k %p\n").decode().splitlines():
            key, partition = line.split()
            places[key].add(partition)
        self.assertEqual(set(places), {*OF_PYTHON, "java-0", "outside"})
        self.assertEqual(len(places["java-0"]), 1, "Java's partitioner is ours")
        self.assertIn(2, {len(places[key]) for key in OF_PYTHON}, "none was misrouted")

    def bad_records(self):
        """Each rests as a dead letter with its code, and what comes after it in the same partition is delivered."""
        upload = self.kcat("uploads", "-C", "-e", "-c", "1", "-f", "%s")
        # What stands in the topic is one record, and the newline is none of it.
        self.assertEqual(upload[:1], b"\0")
        bad = {
            "undecodable": (["-k", "bad-0"], b"garbage"),
            "unknown_schema": (["-k", "bad-1"], b"\0\x7f\xff\xff\xff" + upload[5:]),
            "key_mismatch": (["-k", "bad-2"], upload),
            "no_key": ([], upload),
        }
        murmur2 = ["-P", "-X", "partitioner=murmur2_random"]
        for code, (key, value) in bad.items():
            path = Path(self.cluster.directory) / code
            path.write_bytes(value)
            self.kcat("uploads", *murmur2, *key, str(path))
        self.kcat("uploads", *murmur2, "-Z", "-K", "=", given=b"bad-3=\n")
        expected = {(stage, code) for stage in ("split", "aggregate") for code in [*bad, "no_value"]}
        for number in range(4):
            self.produce("python", f"bad-{number}", "foreign/a.wav")
            self.delivered(f"bad-{number}")
        # The one of the chunk outside the prefixes is there already.
        self.await_letters({("split", "object_forbidden"), *expected})
        headers = self.kcat("aggregate.dead-letter", "-C", "-e", "-f", "%k %h\n").decode()
        origin = f"redelivery.origin.topic={self.topic('uploads')}"
        for wanted in ("redelivery.failure.code=unknown_schema", origin, "bad-3 "):
            self.assertIn(wanted, headers)

    def registry_down(self):
        """Who needs it waits in place; nothing goes to a retry topic or rests, and all goes on by itself."""
        upload = self.kcat("uploads", "-C", "-e", "-c", "1", "-f", "%s")
        path = Path(self.cluster.directory) / "later"
        path.write_bytes(b"\0\x7f\xff\xff\xfe" + upload[5:])
        self.relay.is_down = True
        self.kcat("uploads", "-P", "-X", "partitioner=murmur2_random", "-k", "later", str(path))
        self.produce("python", "later", "foreign/a.wav")
        for name in ("aggregate-1", "split-transcribe-1"):
            end = time.monotonic() + 30
            while "registry_unavailable" not in (Path(self.cluster.directory) / f"{name}.log").read_text():
                self.assertLess(time.monotonic(), end, f"{name} does not say what it waits for")
                time.sleep(0.1)
        self.assertEqual(self.letters("later"), set())
        for stage in ("aggregate", "split"):
            self.assertEqual(self.kcat(f"{stage}.retry.1", "-C", "-e", "-f", "%k\n"), b"")
        self.relay.is_down = False
        self.delivered("later")
        self.await_letters({("split", "unknown_schema"), ("aggregate", "unknown_schema")}, "later")

    def await_letters(self, expected, conversation=None):
        """A stage reads its dead letters back before it lists them."""
        end = time.monotonic() + 30
        while (found := self.letters(conversation)) != expected and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(found, expected)

    def letters(self, conversation=None):
        """Stage and code of dead letters."""
        query = f"?conversation={conversation}" if conversation else ""
        url = self.cluster.admin["gateway"] + "/v1/dead-letters" + query
        listed = answer_of(urllib.request.Request(url))["dead_letters"]
        return {(letter["stage"], letter["code"]) for letter in listed}
