"""Kafka over TLS with a password: the jobs deliver over it, and what is wrong is said once, by the setting, without a secret."""

import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

from cluster import Cluster, service
from crash import Producer
from hansard import ROOT, Speech

sys.path.insert(0, str(ROOT / "tests" / "services"))
import kafka  # noqa: E402

JOBS = {"gateway": ["gateway", "sweep"], "others": ["split", "transcribe", "aggregate", "merge", "summarize"]}


def settings(user="hansard", password=None, authority="authority"):
    """What `kafka.set` has to hold."""
    pairs = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": kafka.MECHANISM,
        "sasl.username": user,
        "sasl.password": password or kafka.USERS[user],
        "ssl.ca.location": Path(service("KAFKA_AUTHORITIES")) / f"{authority}.pem",
        "broker.address.family": "v4",
    }
    return ", ".join(f"{name}={value}" for name, value in pairs.items())


class Secured(unittest.TestCase):
    """A deployment on the broker's secured listener."""

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        speech = Speech(directory, "--delay-ms", "50")
        self.addCleanup(speech.stop)
        self.cluster = Cluster(speech, JOBS)
        self.addCleanup(self.cluster.close)
        self.cluster.env["HANSARD_KAFKA_BROKERS"] = service("KAFKA_SECURED")
        self.cluster.env["HANSARD_KAFKA_SET"] = settings()

    def test_the_jobs_deliver(self):
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = self.cluster.command(*step)
            self.assertEqual(code, 0, said)
        self.cluster.make_bucket()
        for name in JOBS:
            self.cluster.begin(name)
        producer = Producer(self.cluster, range(2))
        producer.run()
        if producer.error:
            raise producer.error
        for number in range(2):
            status = self.cluster.await_delivered(f"c-{number}")
            self.assertEqual((status["outcome"], status["revision"]), ("complete", 1), self.cluster.logs())

    def test_a_wrong_password_is_named(self):
        self.refused(settings(password="a-wrong-secret"), "invalid credentials", "sasl.password")

    def test_a_wrong_authority_is_named(self):
        self.refused(settings(authority="stranger"), "certificate verify failed", "ssl.ca.location")

    def test_a_topic_that_is_not_allowed_is_named(self):
        uploads = self.cluster.env["HANSARD_TOPICS_PREFIX"] + "uploads"
        self.refused(settings(user="nobody"), f"topic {uploads} is forbidden", "sasl.username")

    def test_a_job_names_a_topic_that_is_not_allowed(self):
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = self.cluster.command(*step)
            self.assertEqual(code, 0, said)
        self.cluster.env["HANSARD_KAFKA_SET"] = settings(user="nobody")
        self.cluster.begin("others")
        end = time.monotonic() + 30
        while "is forbidden to kafka.set's sasl.username" not in (logs := self.cluster.logs()):
            self.assertLess(time.monotonic(), end, logs)
            time.sleep(0.2)
        self.assertNotIn(kafka.USERS["nobody"], logs)

    def refused(self, wrong, *named):
        """Whoever deploys is told in one line, which names what is to be mended and no secret."""
        self.cluster.env["HANSARD_KAFKA_SET"] = wrong
        code, out, said = self.cluster.command("topics", "apply")
        self.assertEqual(code, 1, out + said)
        self.assertEqual(len(said.splitlines()), 1, said)
        for text in [*named, "kafka.set"]:
            self.assertIn(text, said)
        for secret in ["a-wrong-secret", *kafka.USERS.values()]:
            self.assertNotIn(secret, out + said)
