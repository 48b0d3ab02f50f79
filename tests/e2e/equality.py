"""The same recordings on a cluster and in one process give the same: what the manifest says, transcript and merged
audio."""

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.request

import hansard
from cluster import PROCESSES, Cluster
from crash import Producer
from hansard import Hansard, Speech, answer_of

CONVERSATIONS, PRODUCERS = (100, 4) if hansard.FULL else (20, 2)
OF_A_CHUNK = ("chunk_id", "status", "sequence", "duration_ms", "segments", "transcribed", "failed")


class Equality(unittest.TestCase):
    """Fixed conversations, brought in twice."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.speech = Speech(self.directory)
        self.addCleanup(self.speech.stop)

    def test_a_cluster_gives_what_one_process_gives(self):
        cluster = Cluster(self.speech)
        self.addCleanup(cluster.close)
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = cluster.command(*step)
            self.assertEqual(code, 0, said)
        cluster.make_bucket()
        for name in PROCESSES:
            cluster.begin(name)
        of_cluster = self.outcomes(cluster)
        up = Hansard(self.speech)
        try:
            of_up = self.outcomes(up)
        finally:
            up.stop()
        self.assertEqual(len(set(of_cluster.values())), CONVERSATIONS, "each conversation has its own content")
        self.assertEqual(of_cluster, of_up)

    def outcomes(self, up):
        """By conversation, what the manifest says, the transcript's bytes and the hash of the audio."""
        producers = [Producer(up, range(first, CONVERSATIONS, PRODUCERS)) for first in range(PRODUCERS)]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()
            if producer.error:
                raise producer.error
        return {name: self.outcome(up, name) for producer in producers for name in producer.finished}

    def outcome(self, up, name):
        status = up.await_delivered(name)
        told = {part: status[part] for part in ("outcome", "cause", "revision", "progress")}
        chunks = [{part: chunk[part] for part in OF_A_CHUNK} for chunk in status["chunks"]]
        path = f"{up.url}/v1/conversations/{name}/transcript?format=json"
        with urllib.request.urlopen(path, timeout=60) as answer:
            transcript = answer.read()
        # The manifest's digest covers where an upload lies, and the gateway gives each a name of its own.
        transcript, masked = re.subn(rb'"1:[0-9a-f]{64}"', b"null", transcript)
        self.assertEqual(masked, 1)
        audio = answer_of(urllib.request.Request(up.call("GET", f"/v1/conversations/{name}/audio")["url"]))
        return json.dumps([told, chunks]), transcript, samples_of(audio)


def samples_of(audio):
    """The SHA-256 of what a foreign decoder makes of it."""
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", "-f", "s16le", "-ac", "1", "-ar", "16000", "pipe:1"]
    decoded = subprocess.run(command, input=audio, capture_output=True, check=True).stdout
    assert decoded, "no samples"
    return hashlib.sha256(decoded).hexdigest()
