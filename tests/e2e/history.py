"""What a deployment leaves behind, read as a stranger would: every topic from its beginning, what the groups committed,
and the tables. It uses foreign clients and the published schemas, and none of Hansard's own code."""

import dataclasses
import hashlib
import io
import json
import sys
import time

from checker import Checker
from hansard import ROOT

sys.path.insert(0, str(ROOT / "tests" / "services"))

import service

# They come from PyPI once, into the cache.
CLIENTS = ["confluent-kafka==2.16.1", "fastavro==1.13.1", "cassandra-driver==3.30.1"]
ENDS_WITHIN_S = 30
REST_WITHIN_S = 60
SINGLE_OBJECT = b"\xc3\x01"
# Of the tables, what the checker compares; a text and a header would only cost time.
TABLES = {
    "facts": ["conversation", "kind", "chunk", "segment", "rank", "log_offset"],
    "texts": ["conversation", "chunk", "segment", "sha256", "text"],
    "journal": ["conversation", "stage", "input", "generation", "submission", "ended_class", "ended_code"],
    "dead_letters": ["stage", "origin_topic", "origin_partition", "origin_offset", "redrives"],
    "open_windows": ["partition", "day", "conversation", "revision"],
}


def clients():
    """Makes the foreign clients importable."""

    def fetch(target):
        service.retried([sys.executable, "-m", "pip", "install", "--quiet", "--target", target, *CLIENTS])

    name = hashlib.sha256(" ".join([sys.version, *CLIENTS]).encode()).hexdigest()[:12]
    path = str(service.cached(f"python-clients-{name}", fetch))
    if path not in sys.path:
        sys.path.insert(0, path)


@dataclasses.dataclass
class Stored:
    """A record where it stands; `topic` is without the deployment's prefix, `name` empty for what is no record."""

    topic: str
    partition: int
    offset: int
    time: int
    key: bytes | None
    headers: dict
    name: str
    value: dict


@dataclasses.dataclass
class History:
    """Everything that a deployment left: records, commits by (group, topic, partition) as (offset, metadata), rows by
    table, and the provider's ledger."""

    partitions: int
    records: list
    commits: dict
    rows: dict
    calls: list


class Schemas:
    """The published schemas, by the fingerprint that stands before each record."""

    def __init__(self):
        from fastavro import parse_schema, schema

        self.known, self.uploads = {}, None
        for path in sorted((ROOT / "schemas" / "avro").glob("*.avsc")):
            source = json.loads(path.read_text(encoding="utf-8"))
            canonical = schema.to_parsing_canonical_form(source)
            fingerprint = bytes.fromhex(schema.fingerprint(canonical, "CRC-64-AVRO"))
            self.known[fingerprint] = source["name"], parse_schema(source)
            if source["name"] == "Upload":
                own = [field for field in source["fields"] if field["name"] not in ALL]
                self.uploads = parse_schema({**source, "name": "Own", "fields": own})

    def read(self, data):
        """The record's name and its fields; an Upload gets its digest, by which other records name it."""
        from fastavro import schemaless_reader

        name, schema = self.known.get(data[2:10], ("", None))
        if not name or data[:2] != SINGLE_OBJECT:
            return "", {}
        value = schemaless_reader(io.BytesIO(data[10:]), schema, schema)
        return name, {**value, "upload_digest": self.digest(value)} if name == "Upload" else value

    def write(self, name, value):
        """A record of this name as it stands in a topic."""
        from fastavro import schemaless_writer

        [(fingerprint, schema)] = [(mark, schema) for mark, (known, schema) in self.known.items() if known == name]
        out = io.BytesIO(SINGLE_OBJECT + fingerprint)
        out.seek(0, io.SEEK_END)
        schemaless_writer(out, schema, value)
        return out.getvalue()

    def digest(self, upload):
        """SHA-256 of an Upload's own fields in Avro."""
        from fastavro import schemaless_writer

        out = io.BytesIO()
        schemaless_writer(out, self.uploads, upload)
        return hashlib.sha256(out.getvalue()).hexdigest()


ALL = ["conversation_id", "event_id", "occurred_at", "source", "attributes"]


def read(env, calls=()):
    """The history of the deployment that this environment leads to."""
    clients()
    prefix, schemas = env["HANSARD_TOPICS_PREFIX"], Schemas()
    # The commits first, so that they cover no more than the records do.
    commits = read_commits(read_topics(env, lambda name: name == "__consumer_offsets"), prefix)
    records = [stored(got, prefix, schemas) for got in read_topics(env, lambda name: name.startswith(prefix))]
    return History(int(env["HANSARD_TOPICS_PARTITIONS"]), records, commits, read_tables(env), list(calls))


def at_rest(env, calls=(), notices=None):
    """The history once every stage has committed all that it reads, or as it is when that takes too long."""
    end = time.monotonic() + REST_WITHIN_S
    while True:
        seen = read(env, calls)
        if time.monotonic() > end or not any("has not read" in wrong for wrong in Checker(seen, notices=notices).check()):
            return seen


def consumer(env, isolation):
    from confluent_kafka import Consumer

    return Consumer(
        {
            "bootstrap.servers": env["HANSARD_KAFKA_BROKERS"],
            "group.id": "checker",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )


def read_topics(env, chosen, isolation="read_committed"):
    """All records of the chosen topics up to the ends, by default the stable ones, as the client gives them."""
    from confluent_kafka import KafkaError, TopicPartition

    reader = consumer(env, isolation)
    try:
        known = reader.list_topics(timeout=30).topics
        left = {(name, number) for name, topic in known.items() if chosen(name) for number in topic.partitions}
        records, end = [], time.monotonic() + ENDS_WITHIN_S
        reader.assign([TopicPartition(name, number, 0) for name, number in left])
        while left:
            if time.monotonic() > end:
                raise AssertionError(f"the ends were not reached in {ENDS_WITHIN_S} s: {sorted(left)}")
            for got in reader.consume(1000, timeout=0.2):
                if got.error() is None:
                    records.append(got)
                elif got.error().code() == KafkaError._PARTITION_EOF:
                    left.discard((got.topic(), got.partition()))
                elif not got.error().retriable():
                    raise AssertionError(f"{got.topic()}: {got.error()}")
    finally:
        reader.close()
    return sorted(records, key=lambda got: (got.topic(), got.partition(), got.offset()))


def stored(got, prefix, schemas):
    headers = {name: (value or b"").decode() for name, value in got.headers() or []}
    name, value = schemas.read(got.value()) if got.value() is not None else ("", {})
    topic = got.topic().removeprefix(prefix)
    return Stored(topic, got.partition(), got.offset(), got.timestamp()[1], got.key(), headers, name, value)


def read_commits(raw, prefix):
    """What the stages' groups committed, from the topic in which the broker keeps it; the last of each counts."""
    commits = {}
    for got in raw:
        key, value = Fields(got.key()), got.value() and Fields(got.value())
        # Another version is the membership of a group.
        if key.number(2) > 1:
            continue
        group, topic, partition = key.text(), key.text(), key.number(4)
        if not group.startswith(prefix):
            continue
        place = group.removeprefix(prefix), topic.removeprefix(prefix), partition
        if value is None:
            commits.pop(place, None)
            continue
        version, offset, _ = value.number(2), value.number(8), value.number(4)
        if version not in (3, 4):
            raise AssertionError(f"an offset is committed in version {version}, which is unknown here")
        commits[place] = offset, value.text() if version == 3 else value.compact_text()
    return commits


class Fields:
    """Kafka's own binary encoding, read field by field."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, size):
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big", signed=True)

    def text(self):
        return self.letters(self.number(2))

    def compact_text(self):
        """Its length and one, seven bits a byte, stands before it."""
        size, shift = 0, 0
        while True:
            part = self.number(1)
            size, shift = size | (part & 0x7F) << shift, shift + 7
            if part >= 0:
                return self.letters(size - 1)

    def letters(self, size):
        self.at += size
        return self.data[self.at - size : self.at].decode()


def read_tables(env):
    """The rows of the tables that the checker compares."""
    from cassandra.cluster import Cluster

    host, _, port = env["HANSARD_STORE_NODES"].rpartition(":")
    cluster = Cluster([host], port=int(port), connect_timeout=30)
    try:
        session = cluster.connect(env["HANSARD_STORE_KEYSPACE"])
        session.default_timeout = 60
        select = lambda table, columns: session.execute(f"SELECT {', '.join(columns)} FROM {table}")
        return {table: [row._asdict() for row in select(table, columns)] for table, columns in TABLES.items()}
    finally:
        cluster.shutdown()
