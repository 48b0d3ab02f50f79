"""Webhooks as a receiver meets them that shares no code with the program: signed over the raw bytes, repeated under one id
over refusals and kills, and never sent where nobody outside may call."""

import base64
import hashlib
import hmac
import http.server
import json
import shutil
import signal
import tempfile
import threading
import time
import unittest
from collections import Counter

import broken
import hansard
import history
from checker import Checker
from cluster import Cluster
from hansard import Answer, Hansard, Speech, environment, piece

KEYS = [bytes(range(24)), bytes(range(64))]
SECRETS = ",".join(f"whsec_{base64.b64encode(key).decode()}" for key in KEYS)
CHANGES = {f"conversation.{status}" for status in ("open", "closing", "finalized", "delivered")}
JOBS = {
    "gateway": ["gateway", "sweep"],
    "others": ["split", "transcribe", "aggregate", "merge", "summarize"],
    "notify-1": ["notify"],
    "notify-2": ["notify"],
}
KILLED = ["notify-1", "notify-2"]


class Receiver(http.server.ThreadingHTTPServer):
    """Takes what is posted, and answers as `answer` says of path, id and how often it came."""

    daemon_threads = True
    # Of the usual five the kernel drops what comes at once after an outage, and tries again in seconds.
    request_queue_size = 1024

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Taker)
        self.answer, self.calls = answer, []
        # Counted as they come: whoever looks through all calls at each is too slow for long runs, and a late answer is none.
        self.came = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()

    def of(self, path):
        return [call for call in list(self.calls) if call["path"] == path]

    def is_told(self, path):
        """Whether the whole of a conversation's way was told; what follows at once on something else may be left out."""
        told = {json.loads(call["body"])["type"] for call in self.of(path)}
        return {"conversation.finalized", "conversation.delivered"} <= told <= CHANGES


class Taker(http.server.BaseHTTPRequestHandler):
    """One call."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        once = self.path, self.headers["webhook-id"]
        before = self.server.came[once]
        self.server.came[once] += 1
        call = {"path": self.path, "id": self.headers["webhook-id"], "headers": dict(self.headers), "body": body}
        self.server.calls.append(call | {"began_ms": time.time_ns() // 1_000_000})
        status, more = self.server.answer(self.path, body, before)
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def verified(call):
    """How many of the keys have signed the bytes as they came."""
    headers = {name.lower(): value for name, value in call["headers"].items()}
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 120, headers
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), call["body"]])
    wanted = {"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in KEYS}
    return len(wanted & set(headers["webhook-signature"].split()))


def until(wanted, within=60):
    """Waits for something to hold."""
    end = time.monotonic() + within
    while not wanted():
        if time.monotonic() > end:
            raise AssertionError("it never came to hold")
        time.sleep(0.05)


class Told(unittest.TestCase):
    """What all of these need."""

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        self.speech = Speech(directory, "--delay-ms", "20")
        self.addCleanup(self.speech.stop)

    def receive(self, answer):
        receiver = Receiver(answer)
        self.addCleanup(receiver.close)
        return receiver

    def up(self, **settings):
        settings = {name.replace("_", "-"): value for name, value in settings.items()}
        up = Hansard(self.speech, **{"notify-tiers": "1 s", **settings})
        self.addCleanup(up.stop)
        return up

    def deliver(self, up, name, urls):
        up.open(name, webhook_urls=urls)
        up.upload(name, "k", piece(0))
        up.finish(name, expected_chunks=1)
        up.await_delivered(name)

    def deliveries(self, up):
        code, out, said = hansard.run("tail", "deliveries", "--from-beginning", "--once", f"--url={up.url}", env=environment())
        self.assertEqual(code, 0, said)
        return [json.loads(line) for line in out.splitlines()]


class OnALaptop(Told):
    """`hansard up`."""

    def test_each_change_is_told_and_signed(self):
        # One refuses each notice once, one redirects, one is fine.
        answers = {"/fine?a=b": lambda _: (204, {}), "/slow": lambda before: (503 if before == 0 else 200, {"retry-after": "1"}),
                   "/moved": lambda _: (302, {"location": "/fine?a=b"})}
        receiver = self.receive(lambda path, _, before: answers[path](before))
        up = self.up(webhook_secret=SECRETS, webhook_networks="127.0.0.0/8")
        self.deliver(up, "c-1", [receiver.url + path for path in answers])
        self.deliver(up, "c-2", [])
        until(lambda: all(receiver.is_told(path) for path in answers))
        notices = len({call["id"] for call in receiver.of("/moved")})
        until(lambda: len(self.deliveries(up)) == 3 * notices)
        calls = list(receiver.calls)
        self.assertEqual([verified(call) for call in calls], [2] * len(calls))
        for path, times in (("/fine?a=b", 1), ("/slow", 2), ("/moved", 1)):
            own = receiver.of(path)
            ids = {call["id"] for call in own}
            self.assertEqual((len(ids), len(own)), (notices, notices * times), path)
            self.assertEqual(len({(call["id"], call["body"]) for call in own}), notices, "a repetition has the same bytes")
        told = json.loads(receiver.of("/fine?a=b")[-1]["body"])
        self.assertEqual((told["data"]["id"], told["data"]["revision"], told["data"]["outcome"]), ("c-1", 1, "complete"))
        outcomes = sorted((each["outcome"], each["http_status"]) for each in self.deliveries(up))
        self.assertEqual(outcomes, [(outcome, status) for outcome, status in (("delivered", 200), ("delivered", 204), ("failed", 302)) for _ in range(notices)])
        self.assertNotIn("fine", json.dumps(self.deliveries(up)), "a URL may hold a secret")

    def test_a_kill_repeats_the_notice_under_its_id(self):
        held = threading.Event()
        self.addCleanup(held.set)

        def answer(_, body, before):
            if b"conversation.delivered" in body and before == 0:
                held.wait(60)
            return 200, {}

        receiver = self.receive(answer)
        up = self.up(webhook_secret=SECRETS, webhook_networks="127.0.0.0/8")
        self.deliver(up, "c-1", [receiver.url + "/hook"])
        until(lambda: receiver.is_told("/hook"))
        notices = len(receiver.of("/hook"))
        up.kill()
        up.start()
        until(lambda: len(receiver.of("/hook")) == notices + 1)
        held.set()
        until(lambda: len(self.deliveries(up)) == notices)
        first, again = receiver.of("/hook")[-2:]
        self.assertEqual((first["id"], first["body"]), (again["id"], again["body"]))
        self.assertEqual({verified(call) for call in receiver.calls}, {2})

    def test_a_receiver_that_is_gone_can_be_told_later(self):
        well = threading.Event()
        receiver = self.receive(lambda path, *_: (200 if path == "/fine" or well.is_set() else 500, {}))
        up = self.up(webhook_secret=SECRETS, webhook_networks="127.0.0.0/8", notify_attempts="2")
        self.deliver(up, "c-1", [receiver.url + "/fine", receiver.url + "/gone"])
        depth = lambda: len(up.call("GET", "/v1/dead-letters?stage=notify")["dead_letters"])
        until(lambda: receiver.is_told("/fine") and depth() == len(receiver.of("/fine")))
        notices = depth()
        self.assertEqual(self.deliveries(up), [])
        well.set()
        code, _, said = hansard.run("dead-letters", "redrive", "--stage=notify", f"--url={up.url}", env=environment())
        self.assertEqual(code, 0, said)
        until(lambda: len(self.deliveries(up)) == 2 * notices)
        self.assertEqual((len(receiver.of("/fine")), len(receiver.of("/gone"))), (notices, 3 * notices), "who has answered is left alone")

    def test_nobody_inside_is_called(self):
        receiver = self.receive(lambda *_: (200, {}))
        up = self.up(webhook_secret=SECRETS)
        port = receiver.server_port
        for url, why in (
            (f"http://127.0.0.1:{port}/", "is no https URL"),
            (f"https://127.0.0.1:{port}/", "not public"),
            ("https://[::ffff:10.0.0.1]/", "not public"),
            ("https://169.254.169.254/latest", "not public"),
            ("https://name:t0ken@example.org/", "holds a user or a password"),
            ("https://example.org:25/", "port"),
        ):
            with self.assertRaises(Answer) as refused:
                up.open("c-0", webhook_urls=["https://example.org/", url])
            self.assertEqual((refused.exception.status, refused.exception.code), (400, "invalid_field"))
            self.assertIn("webhook_urls[1] ", refused.exception.body["detail"])
            self.assertIn(why, refused.exception.body["detail"])
            self.assertNotIn("t0ken", json.dumps(refused.exception.body))
        # What a name stands for is seen when it is called.
        self.deliver(up, "c-1", [f"https://localhost:{port}/"])
        until(lambda: len(self.deliveries(up)) > 1)
        self.assertEqual({(each["outcome"], each["http_status"]) for each in self.deliveries(up)}, {("failed", None)})
        self.assertEqual(receiver.calls, [])

    def test_without_a_secret_nothing_is_promised(self):
        up = self.up()
        with self.assertRaises(Answer) as refused:
            up.open("c-0", webhook_urls=["https://example.org/"])
        self.assertIn("webhook.secret", refused.exception.body["detail"])
        code, _, said = hansard.run("up", env=environment(HANSARD_WEBHOOK_SECRET="t0ken"))
        self.assertEqual(code, 78, said)
        self.assertIn("whsec_", said)
        self.assertNotIn("t0ken", said)


class OnServices(Told):
    """A cluster, with notify as processes of its own."""

    def test_a_killed_process_loses_no_notice(self):
        receiver = self.receive(lambda _, __, before: (time.sleep(0.3), (200, {}))[1])
        cluster = Cluster(self.speech, JOBS)
        self.addCleanup(cluster.close)
        code, _, said = cluster.command("run", "notify")
        self.assertEqual(code, 78, said)
        self.assertIn("webhook.secret", said)
        cluster.env |= {"HANSARD_WEBHOOK_SECRET": SECRETS, "HANSARD_WEBHOOK_NETWORKS": "127.0.0.0/8",
                        "HANSARD_NOTIFY_CALL": "5 s", "HANSARD_NOTIFY_TIERS": "1 s"}
        for step in (["topics", "apply"], ["store", "migrate"]):
            self.assertEqual(cluster.command(*step)[0], 0)
        cluster.make_bucket()
        for name in JOBS:
            cluster.begin(name)
        names = [f"c-{number}" for number in range(6)]
        for name in names:
            cluster.open(name, webhook_urls=[f"{receiver.url}/{name}"])
            cluster.upload(name, "k", piece(0))
            cluster.finish(name, expected_chunks=1)
        for name in KILLED:
            told = len(receiver.calls)
            until(lambda: len(receiver.calls) > told)
            cluster.end(name, signal.SIGKILL)
            cluster.begin(name)
        until(lambda: all(receiver.is_told(f"/{name}") for name in names), within=120)
        calls = list(receiver.calls)
        self.assertEqual({verified(call) for call in calls}, {2})
        times = Counter(call["id"] for call in calls)
        print(json.dumps({"notices": len(times), "repeated": len(calls) - len(times)}))
        self.assertEqual(len({(call["id"], call["body"]) for call in calls}), len(times), "a repetition has the same bytes")
        # A kill repeats what was under way, and so may each of its hand-overs: when the new process joins and when the
        # dead one is missed. What its Delivery says is over is never sent again, which `check` sees.
        self.assertLessEqual(max(times.values()), 1 + 3 * len(KILLED))
        self.check(cluster, names, receiver)

    def check(self, cluster, names, receiver):
        """Topics, tables and the receiver tell the same, and the checker finds what would not be so."""
        left, accepted = history.at_rest(cluster.env, self.speech.calls(), ()), [(name, "k") for name in names]
        over = {}
        for each in left.records:
            if each.name == "Delivery":
                over.setdefault(each.value["delivery_id"], each.time)
        late = [call["id"] for call in receiver.calls if call["began_ms"] > over[call["id"]]]
        self.assertEqual(late, [], "sent again although its Delivery was in the log")
        notices = [call["id"] for call in receiver.calls]
        self.assertEqual(Checker(left, accepted, names, notices=notices).check(), [])
        self.assertEqual(broken.unseen(left, accepted, names, notices), [])
