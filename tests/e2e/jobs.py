"""A provider that works in jobs: each segment is submitted once, whatever happens to webhooks, answers and processes, and never
faster than was agreed."""

import bisect
import shutil
import signal
import tempfile
import threading
import unittest
from collections import Counter

import hansard
from cluster import Cluster
from crash import CHUNKS, Producer
from hansard import Speech

CONVERSATIONS, KILLS = (100, 20) if hansard.FULL else (16, 4)
CALLS_PER_S = 30
JOBS = {
    "gateway": ["gateway", "sweep"],
    "others": ["split", "aggregate", "merge", "summarize"],
    "transcribe-1": ["transcribe"],
    "transcribe-2": ["transcribe"],
}
# Of webhooks, jobs and calls.
FAULTS = {
    "webhook-lost": 0.2,
    "webhook-doubled": 0.2,
    "webhook-reordered": 0.2,
    "webhook-early": 0.1,
    "flips": 0.1,
    "server-error": 0.05,
    "rate-limited": 0.05,
    "check-server-error": 0.05,
    "check-garbage": 0.05,
    "check-wrong": 0.05,
}


def most_in_a_second(calls, limit):
    """So many calls came within a second, at most, and by how many that is above the limit in the worst second."""
    calls = sorted(calls, key=lambda call: call["time"])
    times, most, above = [call["time"] for call in calls], 0, 0
    for at, first in enumerate(times):
        second = calls[at : bisect.bisect_left(times, first + 1, at)]
        # Two processes begin a call each at the same time, and what the ledger was late to see came sooner.
        allowed = limit * (1 + max(call["late_s"] for call in second)) + 2
        most, above = max(most, len(second)), max(above, len(second) - allowed)
    return most, above


class AssemblyAi(Speech):
    """The provider."""

    name = "assemblyai"


class Jobs(unittest.TestCase):
    """One deployment, whose processes that transcribe are killed."""

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        faults = [word for name, share in FAULTS.items() for word in (f"--{name}", str(share))]
        work = ["--work-ms", "200", "--work-ms-max", "4000", "--webhook-late-ms", "3000"]
        self.provider = AssemblyAi(directory, "--key", "aai-key", *faults, *work)
        self.addCleanup(self.provider.stop)
        self.cluster = Cluster(self.provider, JOBS)
        self.addCleanup(self.cluster.close)
        self.cluster.env |= {
            "HANSARD_SPEECH_PROVIDER": "assemblyai",
            "HANSARD_ASSEMBLYAI_URL": self.provider.url,
            "HANSARD_ASSEMBLYAI_KEY": "aai-key",
            "HANSARD_ASSEMBLYAI_CALLS_PER_SECOND": str(CALLS_PER_S),
        }

    def test_every_segment_is_submitted_once(self):
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = self.cluster.command(*step)
            self.assertEqual(code, 0, said)
        self.cluster.make_bucket()
        self.cluster.begin("gateway")
        self.cluster.env["HANSARD_SPEECH_CALLBACK_URL"] = self.cluster.url
        for name in list(JOBS)[1:]:
            self.cluster.begin(name)
        producer = Producer(self.cluster, range(CONVERSATIONS))
        producer.start()
        pause = threading.Event()
        for kill in range(KILLS):
            pause.wait(1.5)
            name = f"transcribe-{kill % 2 + 1}"
            self.cluster.end(name, signal.SIGKILL)
            self.cluster.begin(name)
        producer.join()
        if producer.error:
            raise producer.error
        segments = 0
        try:
            for number in range(CONVERSATIONS):
                status = self.cluster.await_delivered(f"c-{number}")
                self.assertEqual((status["outcome"], status["revision"]), ("complete", 1), status)
                self.assertEqual(len(status["chunks"]), CHUNKS)
                segments += status["progress"]["segments"]
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.cluster.logs()}") from None
        self.judge(segments)

    def judge(self, segments):
        """By the provider's own ledger."""
        calls = [call for call in self.provider.calls() if call["what"] != "webhook"]
        submissions = [call for call in calls if call["what"] == "submit"]
        billed = sum(1 for call in submissions if call.get("billed"))
        # At a kill so many calls may be cut off as may be under way at once.
        refused = Counter(call["outcome"] for call in submissions)
        print(f"{segments} segments, {len(submissions)} submissions, {billed} billed, {dict(refused)}, {len(calls)} calls", end=" ", flush=True)
        self.assertGreaterEqual(billed, segments)
        self.assertLessEqual(billed, segments + 8 * KILLS)
        self.assertGreater(segments, CONVERSATIONS)
        most, above = most_in_a_second(calls, CALLS_PER_S)
        print(f"at most {most} a second", end=" ", flush=True)
        self.assertEqual(above, 0)
        webhooks = [call for call in self.provider.calls() if call["what"] == "webhook"]
        self.assertTrue(webhooks and all(call["status"] in (202, None) for call in webhooks), webhooks[:3])
