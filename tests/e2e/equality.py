"""The same log on a cluster and in one process gives the same, byte for byte: manifest, transcript and merged audio.

A manifest's digest covers where each upload lies, and the gateway gives every object a name of its own. So what one
process was given is carried over: the objects under their names, the records as they are, by a foreign client."""

import datetime
import hashlib
import hmac
import json
import shutil
import signal
import subprocess
import tempfile
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

import hansard
import history
from cluster import Cluster, service
from crash import CHUNKS, Producer
from hansard import Hansard, Speech, answer_of, environment, recording, wav
from webhooks import SECRETS

# The last ones are heard by the local model, the others by the provider for tests.
CONVERSATIONS, BY_MODEL, PRODUCERS = (100, 5, 4) if hansard.FULL else (20, 1, 2)
HEARD, SPOKEN = range(CONVERSATIONS - BY_MODEL), range(CONVERSATIONS - BY_MODEL, CONVERSATIONS)
JOBS = ["split", "transcribe", "aggregate", "merge", "summarize", "notify"]
# One process a line: two of every job, and one that is called.
PROCESSES = {"gateway": ["gateway", "sweep"], **{f"{job}-{number}": [job] for job in JOBS for number in (1, 2)}}
OF_A_CHUNK = ("chunk_id", "status", "sequence", "duration_ms", "transcribed", "failed", "key", "upload_digest")
OF_A_SEGMENT = ("index", "start_ms", "end_ms", "status", "provider", "model")
SPOKEN_S, APART_S = 8, 3


class Reader(Producer):
    """Uploads passages of a reading, since a model hears words."""

    @staticmethod
    def content(number):
        samples, rate = recording("two_cities.wav")
        start = 2 * rate * APART_S * (number % (CHUNKS * BY_MODEL))
        return wav(samples[start : start + 2 * rate * SPOKEN_S], rate)


class Equality(unittest.TestCase):
    """Fixed conversations, brought in once and worked on twice."""

    def setUp(self):
        history.clients()
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        self.speech = Speech(directory)
        self.addCleanup(self.speech.stop)
        self.cluster = Cluster(self.speech, PROCESSES)
        self.addCleanup(self.cluster.close)

    def test_a_cluster_gives_what_one_process_gives(self):
        up = Hansard(self.speech)
        try:
            of_up = self.produced(up, Producer, HEARD)
            up.restart(**{"speech-provider": "local"})
            of_up |= self.produced(up, Reader, SPOKEN)
            records = self.carried(up)
        finally:
            up.stop()
        self.begin()
        self.publish(records, HEARD)
        of_cluster = self.outcomes(self.cluster, HEARD)
        self.hear_by_model()
        self.publish(records, SPOKEN)
        of_cluster |= self.outcomes(self.cluster, SPOKEN)
        self.assertEqual(len(set(of_up.values())), CONVERSATIONS, "each conversation has its own content")
        for name, outcome in of_up.items():
            self.assertEqual(of_cluster[name], outcome, name)
        providers = ["local" if '"provider": "local"' in outcome[0] else "" for outcome in of_cluster.values()]
        self.assertEqual(providers.count("local"), BY_MODEL)

    def produced(self, up, kind, numbers):
        """Brings conversations in, and waits for what becomes of them."""
        producers = [kind(up, numbers[first::PRODUCERS]) for first in range(PRODUCERS)]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()
            if producer.error:
                raise producer.error
        return self.outcomes(up, numbers)

    def carried(self, up):
        """The records of `uploads`, each conversation's in order; their objects are put into the cluster's storage."""
        tail = ["tail", "uploads", "--from-beginning", "--once", f"--url={up.url}"]
        code, out, said = hansard.run(*tail, env=environment())
        self.assertEqual(code, 0, said)
        records = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(len(records), CONVERSATIONS * (CHUNKS + 2))
        uploads = [record for record in records if record["record"] == "Upload"]
        [bucket] = {upload["object"]["bucket"] for upload in uploads}
        self.cluster.env["HANSARD_S3_BUCKET"] = bucket
        self.cluster.make_bucket()
        self.addCleanup(shutil.rmtree, Path(service("S3_DATA")) / bucket)
        for upload in uploads:
            place = upload["object"]
            number = int(upload["conversation_id"].removeprefix("c-"))
            kind = Reader if number in SPOKEN else Producer
            content = kind.content(number * CHUNKS + upload["sequence"])
            self.assertEqual(put_object(bucket, place["key"], content), place["etag"])
        return records

    def begin(self):
        """The deployment steps, and every process."""
        self.cluster.env["HANSARD_WEBHOOK_SECRET"] = SECRETS
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = self.cluster.command(*step)
            self.assertEqual(code, 0, said)
        for name in PROCESSES:
            self.cluster.begin(name)

    def hear_by_model(self):
        """The transcribing processes go, and others with the local model take their place."""
        self.cluster.env["HANSARD_SPEECH_PROVIDER"] = "local"
        # The model is loaded within the first call, by more processes than there are cores.
        self.cluster.env |= {"HANSARD_SPEECH_ANSWER_WITHIN": "1 min", "HANSARD_TRANSCRIBE_CALL": "1 min"}
        for name in ("transcribe-1", "transcribe-2"):
            self.cluster.end(name, signal.SIGTERM)
            self.cluster.begin(name)

    def publish(self, records, numbers):
        """Writes these conversations' records to the log as they are, with a foreign client."""
        from confluent_kafka import Producer as Writer

        schemas, wanted = history.Schemas(), {f"c-{number}" for number in numbers}
        broker = {"bootstrap.servers": self.cluster.env["HANSARD_KAFKA_BROKERS"]}
        writer = Writer({**broker, "enable.idempotence": True, "partitioner": "murmur2_random"})
        topic = self.cluster.env["HANSARD_TOPICS_PREFIX"] + "uploads"
        for record in records:
            if record["conversation_id"] in wanted:
                writer.produce(topic, schemas.write(record["record"], record), record["conversation_id"])
        self.assertEqual(writer.flush(30), 0)

    def outcomes(self, up, numbers):
        """By conversation, what comes of it."""
        try:
            return {f"c-{number}": self.outcome(up, f"c-{number}") for number in numbers}
        except AssertionError as late:
            raise AssertionError(f"{late}\n{up.logs()}") from None

    def outcome(self, up, name):
        """What is told of it with its waveform, the manifest's digest, the transcript's bytes and the hash of the audio."""
        status = up.await_delivered(name)
        told = {part: status[part] for part in ("outcome", "cause", "revision", "progress")}
        for chunk in status["chunks"]:
            segments = [{part: segment[part] for part in OF_A_SEGMENT} for segment in chunk["segments"]]
            told[chunk["chunk_id"]] = {**{part: chunk[part] for part in OF_A_CHUNK}, "segments": segments}
        path = f"{up.url}/v1/conversations/{name}/transcript?format=json"
        with urllib.request.urlopen(path, timeout=60) as answer:
            transcript = answer.read()
        digest = json.loads(transcript)["finalize_digest"]
        self.assertRegex(digest, "^1:[0-9a-f]{64}$")
        links = up.call("GET", f"/v1/conversations/{name}/audio")
        told["peaks"] = answer_of(urllib.request.Request(links["peaks_url"]))
        self.assertGreater(max(told["peaks"]["data"]), 0)
        audio = answer_of(urllib.request.Request(links["url"]))
        return json.dumps(told), digest, transcript, samples_of(audio)


def put_object(bucket, key, content):
    """Puts an object into the cluster's storage, signed as S3 wants it; its entity tag."""
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    path, digest = urllib.parse.quote(f"/{bucket}/{key}"), hashlib.sha256(content).hexdigest()
    headers = {"host": service("S3").partition("//")[2], "x-amz-content-sha256": digest, "x-amz-date": at}
    lines, names = [f"{name}:{value}" for name, value in headers.items()], ";".join(headers)
    request = "\n".join(["PUT", path, "", *lines, "", names, digest])
    scope = f"{at[:8]}/{service('S3_REGION')}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256(request.encode()).hexdigest()])
    signature = f"AWS4{service('S3_SECRET_KEY')}".encode()
    for part in [*scope.split("/"), to_sign]:
        signature = hmac.digest(signature, part.encode(), "sha256")
    signed = f"Credential={service('S3_ACCESS_KEY')}/{scope}, SignedHeaders={names}, Signature={signature.hex()}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {signed}"
    sent = urllib.request.Request(service("S3") + path, content, headers, method="PUT")
    with urllib.request.urlopen(sent, timeout=60) as answer:
        return answer.headers["etag"].strip('"')


def samples_of(audio):
    """The SHA-256 of what a foreign decoder makes of it."""
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", "-f", "s16le", "-ac", "1", "-ar", "16000", "pipe:1"]
    decoded = subprocess.run(command, input=audio, capture_output=True, check=True).stdout
    assert decoded, "no samples"
    return hashlib.sha256(decoded).hexdigest()
