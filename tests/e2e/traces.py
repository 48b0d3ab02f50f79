"""Traces as an independent collector sees them: one from the upload to the delivery, over all processes; and a collector
that never answers, which holds nobody up."""

import http.server
import shutil
import ssl
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from cluster import Cluster, service
from hansard import Hansard, Speech, piece

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
JOBS = {"gateway": ["gateway", "sweep"], "others": ["split", "transcribe", "aggregate", "merge", "summarize"]}
# What is told between the first call and the delivery, and what each follows from.
FOLLOWS = {
    "gateway Upload": "conversation",
    "split Upload": "gateway Upload",
    "transcribe Segment": "split Upload",
    "merge Finalize": "aggregate Finalize",
    "summarize Finalize": "aggregate Finalize",
}
NAMES = {*FOLLOWS, "gateway Open", "gateway Finish", "aggregate Finalize", "aggregate Conversation"}
ATTRIBUTES = {f"hansard.{name}" for name in ("conversation", "topic", "partition", "offset", "attempt", "answer", "outcome")}


def fields(data):
    """The fields of a protobuf message as pairs of number and value: a number, or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte, at = data[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        length = {1: 8, 5: 4}[kind] if kind in (1, 5) else varint()
        value, at = data[at : at + length], at + length
        assert len(value) == length and kind in (1, 2, 5), "the message is cut off"
        yield number, int.from_bytes(value, "little") if kind != 2 else value


def all_of(data, *path):
    """The values below a path of field numbers."""
    if not path:
        return [data]
    return [found for number, value in fields(data) if number == path[0] for found in all_of(value, *path[1:])]


def pairs(attributes):
    """Attributes with text."""
    return {all_of(each, 1)[0].decode(): all_of(each, 2, 1)[0].decode() for each in attributes}


class Span:
    """A span, by the numbers of opentelemetry.proto.trace.v1."""

    def __init__(self, data, process):
        self.process = process
        only = lambda number, default: next(iter(all_of(data, number)), default)
        self.trace, self.id, self.parent = only(1, b"").hex(), only(2, b"").hex(), only(4, b"").hex()
        self.name, self.begun, self.ended = only(5, b"").decode(), only(7, 0), only(8, 0)
        self.attributes = pairs(all_of(data, 9))
        self.status = dict(fields(only(15, b""))).get(3, 0)

    def __repr__(self):
        return f"{self.name} {self.id} below {self.parent} in {self.trace} by {self.process} {self.attributes}"


class Collector(http.server.ThreadingHTTPServer):
    """Takes traces by OTLP over HTTP; over TLS with the key and certificate of a file."""

    def __init__(self, certificate=None):
        super().__init__(("127.0.0.1", 0), Taker)
        self.spans, self.wrong, self.bodies = [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}"
        if certificate:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            self.url = f"https://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class Taker(http.server.BaseHTTPRequestHandler):
    """One request of an exporter."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if (self.path, self.headers["content-type"]) != ("/v1/traces", "application/x-protobuf"):
            self.server.wrong.append((self.path, dict(self.headers)))
        self.server.bodies.append(body)
        for of_process in all_of(body, 1):
            resource = pairs(all_of(of_process, 1, 1))
            if resource.get("service.name") != "hansard":
                self.server.wrong.append(resource)
            process = resource["service.instance.id"]
            self.server.spans.extend(Span(data, process) for data in all_of(of_process, 2, 2))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def sent(up):
    """The spans that a process has sent, as it counts."""
    lines = up.call("GET", "/metrics").decode().splitlines()
    [line] = [line for line in lines if line.startswith('hansard_spans_total{result="sent"}')]
    return int(line.split()[1])


class Traced(unittest.TestCase):
    """What all of these need."""

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        self.speech = Speech(directory, "--delay-ms", "20")
        self.addCleanup(self.speech.stop)
        self.collector = Collector()
        self.addCleanup(self.collector.close)

    def deliver(self, up, name, traceparent=None):
        up.traceparent = traceparent
        up.open(name)
        for number in range(2):
            up.upload(name, f"k{number}", piece(number), sequence=number)
        up.finish(name, expected_chunks=2)
        status = up.await_delivered(name)
        self.assertEqual((status["outcome"], status["revision"]), ("complete", 1), status)
        return [line["text"] for line in up.call("GET", f"/v1/conversations/{name}/transcript?format=json")["lines"]]

    def is_one_trace(self, name, texts, traceparent=None):
        """Of one conversation: all in one trace, each below what it follows from, without a word of what was said."""
        spans = [span for span in self.collector.spans if span.attributes.get("hansard.conversation") == name]
        traces = {span.trace for span in spans}
        self.assertEqual(len(traces), 1, spans)
        ids = {span.id: span for span in spans}
        self.assertEqual(len(ids), len(spans), spans)
        names = NAMES if traceparent else {*NAMES, "conversation"}
        self.assertEqual({span.name for span in spans}, names)
        for span in spans:
            follows = FOLLOWS.get(span.name)
            if traceparent and follows == "conversation":
                self.assertEqual(span.parent, traceparent.split("-")[2], span)
            elif follows:
                self.assertEqual(ids[span.parent].name, follows, span)
            elif span.name != "conversation" and span.parent not in ids:
                self.assertEqual(span.parent, (traceparent or "--").split("-")[2], span)
            self.assertLessEqual(span.begun, span.ended, span)
            self.assertEqual(span.status, 0, span)
            self.assertLessEqual(set(span.attributes), ATTRIBUTES)
            for text in texts:
                self.assertNotIn(text, repr(span))
        if traceparent:
            self.assertEqual(traces, {traceparent.split("-")[1]})
        else:
            [root] = [span for span in spans if not span.parent]
            self.assertEqual(root.name, "conversation")
            last = max(span.ended for span in spans if span.name in ("merge Finalize", "summarize Finalize"))
            self.assertGreaterEqual(root.ended, last)
        return spans


class Embedded(Traced):
    """Everything in one process."""

    def test_a_conversation_is_one_trace(self):
        up = Hansard(self.speech, **{"traces-otlp": self.collector.url})
        try:
            own, given = self.deliver(up, "own"), self.deliver(up, "given", GIVEN)
            end = time.monotonic() + 10
            while not sent(up):
                self.assertLess(time.monotonic(), end, "nothing is sent before the end")
                time.sleep(0.1)
        finally:
            # What was told last is sent before the end.
            code = up.stop()
        self.assertEqual((code, self.collector.wrong), (0, []))
        self.is_one_trace("own", own)
        self.is_one_trace("given", given, GIVEN)

    def test_a_share_of_nothing_is_nothing(self):
        up = Hansard(self.speech, **{"traces-otlp": self.collector.url, "traces-ratio": "0"})
        try:
            self.deliver(up, "own")
            given = self.deliver(up, "given", GIVEN)
        finally:
            self.assertEqual(up.stop(), 0)
        self.is_one_trace("given", given, GIVEN)
        self.assertEqual({span.attributes["hansard.conversation"] for span in self.collector.spans}, {"given"})

    def test_a_collector_that_never_answers_holds_nobody_up(self):
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            up = Hansard(self.speech, **{"traces-otlp": f"http://127.0.0.1:{deaf.getsockname()[1]}"})
            try:
                self.deliver(up, "c")
                self.assertEqual(sent(up), 0)
            finally:
                began = time.monotonic()
                code = up.stop()
        self.assertEqual(code, 0)
        self.assertLess(time.monotonic() - began, 8, "the drain is 10 s long, and the last traces have 2 s of it")


class OnKafka(Traced):
    """Two processes, with nothing between them but the log."""

    def test_a_conversation_is_one_trace_over_processes(self):
        cluster = Cluster(self.speech, JOBS)
        self.addCleanup(cluster.close)
        cluster.env["HANSARD_TRACES_OTLP"] = self.collector.url
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = cluster.command(*step)
            self.assertEqual(code, 0, said)
        cluster.make_bucket()
        for name in JOBS:
            cluster.begin(name)
        own, given = self.deliver(cluster, "own"), self.deliver(cluster, "given", GIVEN)
        for name in JOBS:
            self.assertEqual(cluster.end(name, signal.SIGTERM), 0, cluster.logs())
        for name, texts, traceparent in (("own", own, None), ("given", given, GIVEN)):
            spans = self.is_one_trace(name, texts, traceparent)
            for span in spans:
                self.assertEqual(span.process, "gateway" if span.name.startswith("gateway") else "others", span)
            [trace] = {span.trace for span in spans}
            for topic in ("uploads", "segments", "transcripts", "finalizes", "summaries", "conversations"):
                self.assertEqual(self.traces_of(cluster, topic)[name], {trace}, topic)

    def traces_of(self, cluster, topic):
        """The traces of each key's records, as a foreign client reads them."""
        topic = cluster.env["HANSARD_TOPICS_PREFIX"] + topic
        command = ["kcat", "-q", "-b", service("KAFKA"), "-t", topic, "-C", "-e", "-f", "%k %h\n"]
        out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        found = {}
        for key, headers in (line.split(" ", 1) for line in out.splitlines()):
            [place] = [value for name, value in (pair.split("=", 1) for pair in headers.split(",")) if name == "traceparent"]
            found.setdefault(key, set()).add(place.split("-")[1])
        return found
