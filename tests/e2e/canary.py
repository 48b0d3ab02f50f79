"""Redaction on the real services: a provider says what is personal, and everything that the deployment leaves anywhere is
searched for it, byte by byte. That the search would find it is shown by conversations that do not ask for redaction."""

import json
import shutil
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

import history
from cluster import Cluster, service
from hansard import Speech, answer_of, piece
from traces import Collector

SAID = (
    "Mail kanarie.vogel@zanger.nl or distelvink dot geel at mus dot nl, call +31 6 5792 1386, card 4012 8888 8888 1881, "
    "account NL91 ABNA 0417 1643 00, from 172.23.91.7 by https://roodborst:kooi77@e.org/x?token=geheim77 bye"
)
# Each alone tells something: none may be left, not even as the word of a list.
CANARIES = ["kanarie", "vogel", "zanger", "distelvink", "5792", "1386", "8888", "1881", "ABNA", "0417", "172.23", "roodborst", "kooi77", "geheim77"]
IN_A_LINK = {"roodborst", "kooi77", "geheim77"}
LABELS = ["[EMAIL]", "[PHONE]", "[CARD]", "[IBAN]", "[IP]", "[CREDENTIALS]"]
# The provider refuses it, and repeats in the refusal what was said.
REFUSED_LANGUAGE = "eo"
JOBS = {"gateway": ["gateway", "sweep"], "others": ["split", "transcribe", "aggregate", "merge", "summarize"]}
FORMATS = ["json", "txt", "srt", "vtt"]


def forms(canary):
    """How a canary may stand in bytes. Four digits stand by chance in any digest; as a word they do not."""
    word = canary.lower().encode()
    if len(word) > 4:
        return [word]
    in_avro = bytes([2 * len(word)]) + word
    return [in_avro, b'"' + word + b'"', b" " + word + b" ", b" " + word + b","]


def search(places):
    """The canaries that are in the bytes of each place, by its name; places without any are left out."""
    found = {}
    for name, data in places:
        low = data.lower()
        if name.startswith("export"):
            # Subtitles are broken into lines.
            low = low.replace(b"\n", b" ")
        if seen := {canary for canary in CANARIES if any(form in low for form in forms(canary))}:
            found[name] = found.get(name, set()) | seen
    return found


class Canaries(unittest.TestCase):
    """A deployment whose provider says the same to everybody."""

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        speech = Speech(directory, "--say", SAID, "--refuse-language", REFUSED_LANGUAGE)
        self.addCleanup(speech.stop)
        self.collector = Collector()
        self.addCleanup(self.collector.close)
        self.cluster = Cluster(speech, JOBS)
        self.addCleanup(self.cluster.close)
        self.cluster.env |= {"HANSARD_TRACES_OTLP": self.collector.url, "HANSARD_LOG_FILTER": "info,hansard=trace"}

    def deploy(self):
        for step in (["topics", "apply"], ["store", "migrate"]):
            code, _, said = self.cluster.command(*step)
            self.assertEqual(code, 0, said)
        self.cluster.make_bucket()
        for name in JOBS:
            self.cluster.begin(name)

    def deliver(self, prefix, **opening):
        """A conversation that is heard, and one whose only segment rests as a dead letter."""
        for name, outcome, more in (("heard", "complete", {}), ("refused", "with_failures", {"language": REFUSED_LANGUAGE})):
            name = f"{prefix}-{name}"
            self.cluster.open(name, **opening, **more)
            self.cluster.upload(name, "k", piece(0))
            self.cluster.finish(name, expected_chunks=1)
            status = self.cluster.await_delivered(name)
            self.assertEqual(status["outcome"], outcome, self.cluster.logs())

    def exports(self, prefix):
        heard = f"/v1/conversations/{prefix}-heard"
        paths = [f"{heard}/transcript?format={style}" for style in FORMATS] + [f"{heard}/summary"]
        for name in ("heard", "refused"):
            own = f"/v1/conversations/{prefix}-{name}"
            paths += [own, f"{own}/explain"]
        for path in paths:
            yield f"export {path}", self.get(self.cluster.url + path)
        admin = self.cluster.admin["gateway"]
        yield "export dead letters", self.get(f"{admin}/v1/dead-letters?conversation={prefix}-refused")

    @staticmethod
    def get(url):
        got = answer_of(urllib.request.Request(url))
        return got if isinstance(got, bytes) else json.dumps(got, ensure_ascii=False).encode()

    def said_by_processes(self):
        """Logs and whatever else lies in the processes' directory, metrics, traces."""
        for path in Path(self.cluster.directory).rglob("*"):
            if path.is_file():
                yield f"file {path.name}", path.read_bytes()
        for name, admin in self.cluster.admin.items():
            yield f"metrics {name}", self.get(f"{admin}/metrics")
        yield from (("traces", body) for body in self.collector.bodies)

    def kept(self):
        """Every record of every topic, aborted ones too, every row of every table, every object."""
        env = self.cluster.env
        prefix = env["HANSARD_TOPICS_PREFIX"]
        ours = lambda name: name.startswith(prefix) or name == "__consumer_offsets"
        for got in history.read_topics(env, ours, "read_uncommitted"):
            headers = b" ".join(name.encode() + b"=" + (value or b"") for name, value in got.headers() or [])
            yield f"topic {got.topic().removeprefix(prefix)}", b" ".join([got.key() or b"", got.value() or b"", headers])
        yield from self.rows()
        bucket = Path(service("S3_DATA")) / env["HANSARD_S3_BUCKET"]
        for path in bucket.rglob("*"):
            if path.is_file():
                yield f"objects {path.relative_to(bucket).parts[0]}", str(path).encode() + path.read_bytes()

    def rows(self):
        from cassandra.cluster import Cluster as Database

        host, _, port = self.cluster.env["HANSARD_STORE_NODES"].rpartition(":")
        database = Database([host], port=int(port), connect_timeout=30)
        try:
            keyspace = self.cluster.env["HANSARD_STORE_KEYSPACE"]
            session = database.connect(keyspace)
            session.default_timeout = 60
            tables = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [keyspace])
            for [table] in list(tables):
                for row in session.execute(f"SELECT * FROM {table}"):
                    # The letters of bytes stand in it as they are.
                    yield f"table {table}", repr(tuple(row)).encode()
        finally:
            database.shutdown()

    def await_traces(self):
        """Spans are sent every few seconds; the last ones are those of the delivery."""
        end = time.monotonic() + 30
        while not any(span.name == "summarize Finalize" for span in list(self.collector.spans)):
            self.assertLess(time.monotonic(), end, "no traces came")
            time.sleep(0.1)

    def test_nothing_personal_is_left_anywhere(self):
        history.clients()
        self.deploy()
        self.deliver("redacted", redact_pii=True)
        self.await_traces()
        exports = dict(self.exports("redacted"))
        places = [*exports.items(), *self.kept(), *self.said_by_processes()]
        names = {name for name, _ in places}
        for wanted in ("topic transcripts", "topic failures", "topic transcribe.dead-letter", "table texts", "table journal",
                       "table dead_letters", "objects transcripts", "file others.log", "metrics others", "traces"):
            self.assertIn(wanted, names)
        self.assertEqual(search(places), {})
        for style in FORMATS:
            shown = exports[f"export /v1/conversations/redacted-heard/transcript?format={style}"].decode()
            self.assertEqual([label for label in LABELS if label not in shown], [], shown)
        self.assertIn(b"[EMAIL]", exports["export dead letters"])
        self.not_redacted()
        print(json.dumps({"searched": len(places), "bytes": sum(len(data) for _, data in places)}))

    def not_redacted(self):
        """The same search finds all of it where nobody asked for redaction."""
        self.deliver("open")
        found = search([*self.exports("open"), *self.kept()])
        transcript = [f"export /v1/conversations/open-heard/transcript?format={style}" for style in FORMATS]
        for name in [*transcript, "export dead letters", "topic transcripts", "topic failures", "topic transcribe.dead-letter",
                     "table texts", "table journal", "table dead_letters", "objects transcripts"]:
            # Of a refusal no link is kept, whoever asked for what.
            lost = IN_A_LINK if "dead" in name or "failures" in name else set()
            self.assertEqual(found.get(name), set(CANARIES) - lost, f"{name} of {sorted(found)}")
        # What runs beside the data tells nothing that was heard, whoever asked for what.
        spoken = search((name, data) for name, data in self.said_by_processes() if name.startswith(("metrics", "traces")))
        self.assertEqual(spoken, {})


class Floor(Canaries):
    """The same where the deployment demands it, of a conversation that asks for less."""

    def test_nothing_personal_is_left_anywhere(self):
        history.clients()
        self.cluster.env["HANSARD_SPEECH_REDACT"] = "true"
        self.deploy()
        self.deliver("floor", redact_pii=False)
        self.assertEqual(search([*self.exports("floor"), *self.kept(), *self.said_by_processes()]), {})
