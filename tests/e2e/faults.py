"""Every fault that a cluster must survive, on real services under steady load: what was accepted is delivered, the
checker finds nothing wrong, and an outage of what Hansard depends on sends nothing to the retry topics.

Each fault comes once and briefly; HANSARD_TEST_FULL=1 makes outages last a minute and the random kills ten.
"""

import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

import hansard
import history
from checker import Checker
from cluster import Cluster, service
from crash import Producer
from hansard import Answer, Speech, answer_of, piece
from webhooks import SECRETS, Receiver

import service as services

SEED = int(os.environ.get("HANSARD_TEST_SEED", "1"))
OUTAGE_S, KILLS_S = (60, 600) if hansard.FULL else (10, 8)
# Longer than a member of a group may be silent.
STOPPED_S = 14
STAGES = ["split", "transcribe", "aggregate", "merge", "summarize", "notify"]
PROCESSES = {
    "gateway": ["gateway", "sweep"],
    **{stage: [stage] for stage in STAGES},
    "aggregate-2": ["aggregate"],
}
MORE = {"all-2": STAGES, "all-3": STAGES}


class Steady(Producer):
    """A producer that goes on until it is told to stop."""

    def __init__(self, up, opening, first, step):
        super().__init__(up, itertools.count(first, step))
        self.opening, self.step, self.stopped = opening, step, False

    def conversation(self, number):
        if self.stopped:
            self.numbers = iter(())
            raise StopIteration
        self.number = number
        super().conversation(number)
        time.sleep(0.4)

    def run(self):
        try:
            super().run()
        except StopIteration:
            pass


class Faults(unittest.TestCase):
    """One deployment, one fault after the other."""

    @classmethod
    def setUpClass(cls):
        print(f"seed {SEED}", flush=True)
        cls.random = random.Random(SEED)
        cls.directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.speech = Speech(cls.directory, "--delay-ms", "50")
        cls.addClassCleanup(lambda: cls.speech.stop())
        cls.receiver = Receiver(lambda *_: (200, {}))
        cls.addClassCleanup(cls.receiver.close)
        cls.opening = {"webhook_urls": [cls.receiver.url + "/"]}
        cls.cluster = Cluster(cls.speech, {**PROCESSES, **MORE})
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.env |= {"HANSARD_WEBHOOK_SECRET": SECRETS, "HANSARD_WEBHOOK_NETWORKS": "127.0.0.0/8"}
        cls.cluster.env |= {"HANSARD_NOTIFY_CALL": "5 s", "HANSARD_NOTIFY_TIERS": "1 s"}
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = cls.cluster.command(*step)
            assert code == 0, said
        cls.cluster.make_bucket()
        for name in PROCESSES:
            cls.cluster.begin(name)
        cls.accepted, cls.finished, cls.next = [], [], 0
        # Services that were started again outlive the suite, as those do that it found.
        cls.again = []
        cls.home = Path(service("SERVICES"))

    def survive(self, fault, sends_to_retry=True):
        """Puts a fault under load; afterwards everything is delivered and the checker content."""
        before = Checker(history.at_rest(self.cluster.env)).figures()["retries"]
        producers = [Steady(self.cluster, self.opening, self.next + first, 2) for first in range(2)]
        for producer in producers:
            producer.start()
        try:
            time.sleep(1)
            caused = fault() or {}
            over = time.monotonic()
            waiting = [name for producer in producers for name in list(producer.finished)]
            time.sleep(1)
        finally:
            for producer in producers:
                producer.stopped = True
            for producer in producers:
                producer.join()
        for producer in producers:
            if producer.error:
                raise producer.error
            type(self).accepted += producer.accepted
            type(self).finished += producer.finished
        type(self).next = 1 + max(producer.number for producer in producers)
        recovered = self.all_delivered(waiting, over)
        for name in PROCESSES:
            self.await_standing(name, None)
        own = [name for producer in producers for name in producer.finished]
        self.all_delivered(own, over)
        left = history.at_rest(self.cluster.env, self.speech.calls(), ())
        notices = [call["id"] for call in list(self.receiver.calls)]
        checker = Checker(left, self.accepted, self.finished, notices=notices)
        violations = checker.check()
        self.assertFalse(violations, "\n".join([*violations, self.cluster.logs()]))
        figures = checker.figures()
        told = {"fault": self.id().rpartition(".")[2], "recovered_s": round(recovered, 1), "under_load": len(own)}
        print(json.dumps({**told, **caused, **figures}), flush=True)
        if not sends_to_retry:
            self.assertEqual(figures["retries"], before)

    def all_delivered(self, names, since):
        """Waits for these conversations; the seconds from `since` to the last of them."""
        try:
            for name in names:
                Producer.again(lambda name=name: self.cluster.await_delivered(name))
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.cluster.logs()}") from None
        return time.monotonic() - since

    def test_1_kills(self):
        def kills():
            end, names, killed = time.monotonic() + KILLS_S, list(PROCESSES), 0
            order = self.random.sample(names, len(names))
            while order or time.monotonic() < end:
                name = order.pop() if order else self.random.choice(names)
                self.cluster.end(name, signal.SIGKILL)
                self.cluster.begin(name)
                killed += 1
                time.sleep(self.random.uniform(0.2, 2 if hansard.FULL else 1))
            return {"kills": killed}

        self.survive(kills)

    def test_2_stopped_aggregator(self):
        def stopped():
            process = self.cluster.processes["aggregate"]
            process.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED_S)
            process.send_signal(signal.SIGCONT)

        self.survive(stopped)

    def test_3_broker(self):
        def restart():
            services.kill(self.home / "kafka")
            self.again.append(services.start_again(self.home / "kafka"))

        self.survive(restart)

    def test_4_silent_database(self):
        def silent():
            with self.paused("cassandra"):
                self.ingest_goes_on()
                self.await_standing("aggregate", "database")
                time.sleep(OUTAGE_S)

        self.survive(silent, sends_to_retry=False)

    def test_5_killed_database(self):
        def killed():
            services.kill(self.home / "cassandra")
            self.ingest_goes_on()
            self.await_standing("merge", "database")
            time.sleep(OUTAGE_S if hansard.FULL else 1)
            self.again.append(services.start_again(self.home / "cassandra"))

        self.survive(killed, sends_to_retry=False)

    def test_6_silent_objects(self):
        def silent():
            with self.paused("s3"):
                self.await_standing("gateway", "objects")
                time.sleep(OUTAGE_S)

        self.survive(silent)

    def test_7_provider(self):
        def down():
            ledger, port = Path(self.speech.ledger).parent, self.speech.url.rpartition(":")[2]
            self.speech.stop()
            self.await_standing("transcribe", "transcribe")
            time.sleep(OUTAGE_S)
            type(self).speech = Speech(ledger, "--delay-ms", "50", "--port", port)

        self.survive(down, sends_to_retry=False)

    def test_8_scale(self):
        def scale():
            for name in MORE:
                self.cluster.begin(name)
            time.sleep(4)
            for name in MORE:
                self.assertEqual(self.cluster.end(name, signal.SIGTERM), 0, self.cluster.logs())

        self.survive(scale)

    def await_standing(self, name, why):
        """Waits until the process says that it is ready, or that it is not and that this is why."""
        ready, end = None, time.monotonic() + 60
        while time.monotonic() < end:
            try:
                ready = answer_of(urllib.request.Request(self.cluster.admin[name] + "/readyz"))
            except Answer as answer:
                ready = answer.body
            if ready["ready"] == (why is None) and (why is None or why in ready["why"]):
                return
            time.sleep(0.1)
        raise AssertionError(f"{name} says {ready}, not {why or 'that it is ready'}\n{self.cluster.logs()}")

    def paused(self, name):
        """Within it the service is there and silent."""
        return Paused(self.home / name)

    def ingest_goes_on(self):
        """What the gateway needs for a confirmation and an end is the broker and the objects."""
        name = f"during-{self.id().rpartition('.')[2]}"
        self.cluster.open(name, **self.opening)
        self.cluster.upload(name, "k0", piece(0), sequence=0)
        self.cluster.finish(name, expected_chunks=1)
        type(self).accepted.append((name, "k0"))
        type(self).finished.append(name)


class Paused:
    """A service that does not answer for a while."""

    def __init__(self, home):
        self.home = home

    def __enter__(self):
        services.send(self.home, signal.SIGSTOP)

    def __exit__(self, *_):
        services.send(self.home, signal.SIGCONT)
