"""Every service over TLS, by authorities that only settings name, and Kafka with a password: the jobs deliver over it, and
what is wrong is said once, by the setting, without a secret."""

import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

from cluster import Cluster, service
from crash import Producer
from hansard import ROOT, Speech
from traces import Collector

sys.path.insert(0, str(ROOT / "tests" / "services"))
import certificates  # noqa: E402
import kafka  # noqa: E402
import s3  # noqa: E402
import service as services  # noqa: E402

JOBS = {"gateway": ["gateway", "sweep"], "others": ["split", "transcribe", "aggregate", "merge", "summarize"]}
TOPICS, TABLES, SCHEMAS = ["topics", "apply"], ["store", "migrate"], ["schemas", "register"]


def settings(user="hansard", password=None):
    """What `kafka.set` has to hold."""
    pairs = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": kafka.MECHANISM,
        "sasl.username": user,
        "sasl.password": password or kafka.USERS[user],
        "broker.address.family": "v4",
    }
    return ", ".join(f"{name}={value}" for name, value in pairs.items())


class Secured(unittest.TestCase):
    """A deployment on the services' secured listeners."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        cls.addClassCleanup(shutil.rmtree, directory)
        cls.s3_home = Path(directory) / "s3-secured"
        cls.s3_url = s3.secured(cls.s3_home, service("S3_DATA"))
        cls.addClassCleanup(services.stop, cls.s3_home)

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        home = Path(directory)
        certificates.make(home)
        speech = Speech(directory, "--delay-ms", "50", "--certificate", str(home / "server.pem"))
        self.addCleanup(speech.stop)
        self.collector = Collector(home / "server.pem")
        self.addCleanup(self.collector.close)
        self.cluster = Cluster(speech, JOBS)
        self.addCleanup(self.cluster.close)
        homes = {
            "KAFKA": Path(service("KAFKA_AUTHORITIES")),
            "STORE": Path(service("CQL_AUTHORITIES")),
            "REGISTRY": Path(service("REGISTRY_AUTHORITIES")),
            "S3": self.s3_home,
            "OPENAI": home,
            "TRACES": home,
        }
        self.strangers = {name: str(home / "stranger.pem") for name, home in homes.items()}
        self.cluster.env |= {
            "HANSARD_KAFKA_BROKERS": service("KAFKA_SECURED"),
            "HANSARD_KAFKA_SET": settings(),
            "HANSARD_STORE_TLS": "true",
            "HANSARD_REGISTRY_URL": service("REGISTRY_SECURED"),
            "HANSARD_S3_ENDPOINT": self.s3_url,
            "HANSARD_TRACES_OTLP": self.collector.url,
            # The producer is one of Python's and knows the system's authorities only.
            "HANSARD_S3_PUBLIC_ENDPOINT": service("S3"),
            **{f"HANSARD_{name}_CA": str(home / "authority.pem") for name, home in homes.items()},
        }

    def deploy(self, *steps):
        for step in steps:
            code, _, said = self.cluster.command(*step)
            self.assertEqual(code, 0, said)

    def test_the_jobs_deliver(self):
        self.deploy(TOPICS, TABLES, SCHEMAS)
        self.cluster.make_bucket()
        code, out, said = self.cluster.command("check")
        self.assertEqual(code, 0, out + said)
        for name in JOBS:
            self.cluster.begin(name)
        producer = Producer(self.cluster, range(2))
        producer.run()
        if producer.error:
            raise producer.error
        for number in range(2):
            status = self.cluster.await_delivered(f"c-{number}")
            self.assertEqual((status["outcome"], status["revision"]), ("complete", 1), self.cluster.logs())
        end = time.monotonic() + 30
        while not self.collector.spans:
            self.assertLess(time.monotonic(), end, self.cluster.logs())
            time.sleep(0.2)

    def test_a_wrong_password_is_named(self):
        self.refused(settings(password="a-wrong-secret"), "invalid credentials", "sasl.password")

    def test_a_wrong_authority_is_named(self):
        self.cluster.env["HANSARD_KAFKA_CA"] = self.strangers["KAFKA"]
        self.refused(settings(), "certificate verify failed", "kafka.ca")

    def test_a_topic_that_is_not_allowed_is_named(self):
        uploads = self.cluster.env["HANSARD_TOPICS_PREFIX"] + "uploads"
        self.refused(settings(user="nobody"), f"topic {uploads} is forbidden", "sasl.username")

    def test_a_job_names_a_topic_that_is_not_allowed(self):
        self.deploy(TOPICS, TABLES, SCHEMAS)
        self.cluster.env["HANSARD_KAFKA_SET"] = settings(user="nobody")
        self.cluster.begin("others")
        self.assertNotIn(kafka.USERS["nobody"], self.await_log("is forbidden to kafka.set's sasl.username"))

    def test_a_wrong_authority_of_the_database_is_named(self):
        self.cluster.env["HANSARD_STORE_CA"] = self.strangers["STORE"]
        self.told(TABLES, "no authority that is trusted", "store.ca")

    def test_a_wrong_authority_of_the_registry_is_named(self):
        self.cluster.env["HANSARD_REGISTRY_CA"] = self.strangers["REGISTRY"]
        self.told(SCHEMAS, "no authority that is trusted", "registry.ca")

    def test_wrong_authorities_are_found_by_check(self):
        for name in ("STORE", "REGISTRY", "S3", "OPENAI"):
            self.cluster.env[f"HANSARD_{name}_CA"] = self.strangers[name]
        code, out, said = self.cluster.command("check")
        self.assertEqual(code, 1, out + said)
        told = dict(line.split(": ", 1) for line in out.splitlines())
        for name, setting in {"registry": "registry.ca", "store": "store.ca", "objects": "s3.ca", "openai": "openai.ca"}.items():
            self.assertRegex(told[name], rf"^no: .*signed its certificate; check {setting}$")

    def test_a_job_waits_for_a_certificate_and_names_the_setting(self):
        self.deploy(TOPICS, SCHEMAS)
        self.cluster.env["HANSARD_STORE_CA"] = self.strangers["STORE"]
        self.cluster.begin("others")
        self.await_log("check store.ca")

    def test_a_job_names_the_authorities_of_the_speech_server(self):
        self.deploy(TOPICS, TABLES, SCHEMAS)
        self.cluster.make_bucket()
        self.cluster.env["HANSARD_OPENAI_CA"] = self.strangers["OPENAI"]
        for name in JOBS:
            self.cluster.begin(name)
        producer = Producer(self.cluster, range(1))
        producer.start()
        self.await_log("check openai.ca")
        producer.join()

    def test_traces_are_lost_without_their_authorities_and_nothing_else(self):
        self.cluster.env["HANSARD_TRACES_CA"] = self.strangers["TRACES"]
        self.deploy(TOPICS, TABLES, SCHEMAS)
        self.cluster.make_bucket()
        for name in JOBS:
            self.cluster.begin(name)
        producer = Producer(self.cluster, range(1))
        producer.run()
        self.cluster.await_delivered("c-0")
        self.await_log("traces are not taken")
        self.assertEqual(self.collector.spans, [])

    def test_authorities_where_nothing_is_encrypted_are_refused(self):
        plain = {
            "KAFKA_SET": "security.protocol=PLAINTEXT",
            "STORE_TLS": "false",
            "REGISTRY_URL": service("REGISTRY"),
            "S3_ENDPOINT": service("S3"),
            "OPENAI_URL": "http://127.0.0.1:1",
            "TRACES_OTLP": "http://127.0.0.1:1",
        }
        for name, value in plain.items():
            setting = f"{name.partition('_')[0].lower()}.ca"
            before = self.cluster.env[f"HANSARD_{name}"]
            self.cluster.env[f"HANSARD_{name}"] = value
            code, out, said = self.cluster.command("check")
            self.assertEqual((code, len(said.splitlines())), (78, 1), out + said)
            self.assertIn(f"{setting} is set, and ", said)
            self.cluster.env[f"HANSARD_{name}"] = before

    def await_log(self, text):
        end = time.monotonic() + 30
        while text not in (logs := self.cluster.logs()):
            self.assertLess(time.monotonic(), end, logs)
            time.sleep(0.2)
        return logs

    def refused(self, wrong, *named):
        """Whoever deploys is told in one line, which names what is to be mended and no secret."""
        self.cluster.env["HANSARD_KAFKA_SET"] = wrong
        self.told(TOPICS, *named, "kafka.set")

    def told(self, step, *named):
        code, out, said = self.cluster.command(*step)
        self.assertEqual(code, 1, out + said)
        self.assertEqual(len(said.splitlines()), 1, said)
        for text in named:
            self.assertIn(text, said)
        for secret in ["a-wrong-secret", *kafka.USERS.values()]:
            self.assertNotIn(secret, out + said)
