"""What must hold when a deployment has come to rest, worked out from its history alone, without the code that is
checked: nothing lost, nothing early, nothing twice, and topics and tables tell the same."""

import hashlib
import sys
from collections import Counter, defaultdict

from hansard import ROOT

sys.path.insert(0, str(ROOT / "tests" / "providers"))

from fake_speech import text_of

READS = {
    "split": ["uploads"],
    "transcribe": ["segments", "callbacks"],
    "aggregate": ["uploads", "splits", "transcripts", "failures", "finalizes", "merges", "summaries"],
    "merge": ["finalizes"],
    "summarize": ["finalizes"],
    "notify": ["conversations"],
}
FACTS = {"Open", "Upload", "Finish", "Split", "Transcript", "Finalize", "Merge", "Summary"}
# What two writings of one content may differ in.
OF_THE_WRITER = ("source", "occurred_at", "attributes")


class Story:
    """The records of one conversation, by name, in the order of each topic."""

    def __init__(self):
        self.records = defaultdict(list)

    def of(self, name):
        return self.records[name]

    def uploads(self):
        """The Upload that stands for each chunk: the first in the log."""
        standing = {}
        for record in self.of("Upload"):
            standing.setdefault(record.value["chunk_id"], record)
        return standing

    def split(self, upload):
        """The standing Split of an Upload, or None."""
        wanted = upload.value["upload_digest"]
        own = (split for split in self.of("Split") if split.value["upload_digest"] == wanted)
        return next(own, None)

    def ending(self, upload, by=None):
        """Per segment the text's hash, "failed" or None, of answers no later than `by`; None where it is not cut."""
        known = lambda record: by is None or record.time <= by
        split = self.split(upload)
        if split is None or not known(split):
            told = (failed for failed in self.of("Failure") if known(failed) and failed.value["terminal"])
            mine = upload.value["upload_digest"]
            return ["failed"] if any(failed.value["upload_digest"] == mine for failed in told) else None
        answers = [None] * len(split.value["segments"])
        for name in ("Failure", "Transcript"):
            for record in self.of(name):
                value = record.value
                if value["split_digest"] == split.value["digest"] and known(record) and value.get("terminal", True):
                    answers[value["segment"]] = value.get("text_sha256", "failed")
        return answers


class Checker:
    """Goes through one history. `accepted` are the (conversation, chunk) that the gateway acknowledged, `finished` the
    conversations of which it acknowledged the end, `notices` the ids that came to the receiver of webhooks, if there is one."""

    def __init__(self, history, accepted=(), finished=(), retries=True, notices=None):
        self.history, self.accepted, self.finished, self.retries = history, accepted, finished, retries
        self.notices = notices
        self.wrong, self.stories = [], defaultdict(Story)

    def check(self):
        """Everything that does not hold."""
        for record in self.history.records:
            self.placed(record)
            if "." not in record.topic and record.name:
                self.stories[record.value["conversation_id"]].of(record.name).append(record)
        for conversation, story in sorted(self.stories.items()):
            for rule in (uploaded, cut, transcribed, finalized, in_time, accounted, delivered):
                self.wrong += [f"{conversation}: {wrong}" for wrong in rule(story)]
        self.nothing_lost()
        self.all_read()
        self.tables()
        if self.notices is not None:
            self.told()
        return self.wrong

    def placed(self, record):
        """A record is readable, under its own key, in its partition, and neither rests nor, where told, waits."""
        where = f"{record.topic}-{record.partition}@{record.offset}"
        if ".dead-letter" in record.topic or (".retry." in record.topic and not self.retries):
            reason = {name: record.headers[name] for name in record.headers if "failure" in name}
            self.wrong.append(f"{where} holds {record.name} of {record.key}: {reason}")
        if not record.name:
            self.wrong.append(f"{where} is no record of ours")
        elif record.key != record.value["conversation_id"].encode():
            self.wrong.append(f"{where} has the key {record.key}")
        elif record.partition != partition_of(record.key, self.history.partitions):
            self.wrong.append(f"{where} is in the wrong partition")

    def nothing_lost(self):
        """What the gateway acknowledged is in the log."""
        for conversation, chunk in self.accepted:
            if chunk not in self.stories[conversation].uploads():
                self.wrong.append(f"{conversation}: chunk {chunk} was accepted and is lost")
        for conversation in self.finished:
            if not self.stories[conversation].of("Finish"):
                self.wrong.append(f"{conversation}: its end was accepted and is lost")

    def all_read(self):
        """Every stage has read and committed everything."""
        for stage, topics in READS.items():
            if stage == "notify" and self.notices is None:
                continue
            own = [*topics, *(f"{stage}.retry.{tier}" for tier in (1, 2, 3)), f"{stage}.dead-letter"]
            for record in self.history.records:
                if record.topic in own:
                    prefix, runs = self.history.commits.get((stage, record.topic, record.partition), (0, ""))
                    if record.offset >= prefix and not any(
                        first <= record.offset - prefix <= last for first, last in map(run_of, runs.split())
                    ):
                        where = f"{record.topic}-{record.partition}@{record.offset}"
                        self.wrong.append(f"{stage} has not read {where}")

    def tables(self):
        """The rows of the facts are those of the topics, and each text is as it was told."""
        told, events = set(), defaultdict(set)
        for record in self.history.records:
            if "." not in record.topic and record.name in FACTS:
                conversation, kind = record.value["conversation_id"], record.name.lower()
                fact = conversation, kind, chunk_of(record), segment_of(record), record.offset
                told.add(fact)
                events[record.name, record.value["event_id"]].add(fact)
        columns = ("conversation", "kind", "chunk", "segment", "log_offset")
        kept = {tuple(row[name] for name in columns) for row in self.history.rows["facts"]}
        kinds = {name.lower() for name in FACTS}
        # What is told again may have one row, at any of its places.
        self.wrong += [f"no row has the fact {min(facts)}" for facts in events.values() if not facts & kept]
        self.wrong += [f"no record tells the fact {fact}" for fact in sorted(kept - told) if fact[1] in kinds]
        said = {
            (record.value["conversation_id"], chunk_of(record), segment_of(record), record.value["text"])
            for record in self.history.records
            if record.topic == "transcripts"
        }
        rows = {(row["conversation"], row["chunk"], row["segment"], row["text"]) for row in self.history.rows["texts"]}
        self.wrong += [f"texts and transcripts differ in {text}" for text in sorted(said ^ rows)]
        for row in self.history.rows["dead_letters"]:
            self.wrong.append(f"a dead letter is kept: {row}")

    def told(self):
        """Each change of a status came to each URL that its Open names, has one delivery, and nothing else came."""
        owed, done = Counter(), Counter()
        for story in self.stories.values():
            urls = {url for opened in story.of("Open")[:1] for url in opened.value["webhook_urls"]}
            owed.update(notice_of(status, url) for status in story.of("Conversation") for url in urls if is_told(status))
            done.update((each.value["delivery_id"], each.value["outcome"]) for each in story.of("Delivery"))
        came = set(self.notices)
        self.wrong += [f"the notice {notice} is owed and did not come" for notice in sorted(set(owed) - came)]
        self.wrong += [f"the notice {notice} is of no status" for notice in sorted(came - set(owed))]
        owed = Counter({(notice, "delivered"): times for notice, times in owed.items()})
        for notice, outcome in sorted(set(owed) | set(done)):
            times, wanted = done[notice, outcome], owed[notice, outcome]
            if times != wanted:
                self.wrong.append(f"the notice {notice} is {outcome} {times} times, not {wanted}")

    def figures(self):
        """What repeated itself: events of the same id, and calls that were paid beyond one a segment."""
        events = Counter((record.topic, record.value["event_id"]) for record in self.own())
        splits = {split.value["digest"]: split.value for story in self.stories.values() for split in story.of("Split")}
        segments = sum(len(split["segments"]) for split in splits.values())
        billed = sum(1 for call in self.history.calls if call["billed"])
        retried = Counter(record.topic for record in self.history.records if ".retry." in record.topic)
        return {
            "conversations": len(self.stories),
            "records": len(self.history.records),
            "duplicates": sum(times - 1 for times in events.values()),
            "segments": segments,
            "extra_calls": billed - segments,
            "retries": dict(retried),
            **({} if self.notices is None else {"notices_repeated": len(self.notices) - len(set(self.notices))}),
        }

    def own(self):
        """The records of the dataflow; a status is told each time that it changes, and a Failure at each attempt."""
        skipped = ("Conversation", "Failure", "")
        return [record for record in self.history.records if "." not in record.topic and record.name not in skipped]


def uploaded(story):
    """One content was confirmed for each chunk."""
    for chunk, first in story.uploads().items():
        digests = {record.value["upload_digest"] for record in story.of("Upload") if record.value["chunk_id"] == chunk}
        if digests != {first.value["upload_digest"]}:
            yield f"chunk {chunk} has {len(digests)} contents"


def cut(story):
    """Each Upload is cut once, and each piece is asked for once. A producer that misses the answer to its confirmation
    confirms again, and an Upload that comes again is answered again, by the same."""
    known = Counter(record.value["upload_digest"] for record in story.of("Upload"))
    asked = Counter((one.value["split_digest"], one.value["segment"]) for one in story.of("Segment"))
    told = Counter(split.value["digest"] for split in story.of("Split"))
    splits = {split.value["digest"]: split.value for split in story.of("Split")}
    for digest, split in splits.items():
        if split["upload_digest"] not in known:
            yield f"a split of {split['chunk_id']} belongs to no upload"
        elif told[digest] > known[split["upload_digest"]]:
            yield f"a split of {split['chunk_id']} is told {told[digest]} times"
        for segment in split["segments"]:
            times = asked.pop((digest, segment["index"]), 0)
            if times != told[digest]:
                yield f"segment {segment['index']} of {split['chunk_id']} is asked for {times} times"
    if asked:
        yield f"segments of no split are asked for: {sorted(asked)}"
    if len({split["upload_digest"] for split in splits.values()}) < len(splits):
        yield f"an upload is cut in several ways: {sorted(splits)}"


def transcribed(story):
    """Each piece has one text for each time that it was asked for, which is that of its audio."""
    pieces = {
        (split.value["digest"], segment["index"]): segment["sha256"].hex()
        for split in story.of("Split")
        for segment in split.value["segments"]
    }
    place = lambda value: ((value["split_digest"], value["segment"]), value["generation"])
    asked = Counter(place(record.value) for record in story.of("Segment"))
    answers = Counter(place(record.value) for record in story.of("Transcript"))
    for record in story.of("Transcript"):
        value = record.value
        piece, _ = place(value)
        if piece not in pieces:
            yield f"a transcript of {value['chunk_id']} belongs to no split"
        elif value["provider"] != "local" and value["text"] != text_of(pieces[piece]):
            yield f"segment {value['segment']} of {value['chunk_id']} has the text of other audio"
    for (piece, generation), times in answers.items():
        if times > max(1, asked[piece, generation]):
            yield f"segment {piece[1]} of split {piece[0][:8]} has {times} transcripts"


def finalized(story):
    """Revisions rise by one, and one has one content."""
    contents, highest = {}, 0
    for record in story.of("Finalize"):
        revision = record.value["revision"]
        content = {name: value for name, value in record.value.items() if name not in OF_THE_WRITER}
        if contents.setdefault(revision, content) != content:
            yield f"revision {revision} has two contents"
        if revision > highest + 1:
            yield f"revision {revision} follows {highest}"
        highest = max(highest, revision)


def in_time(story):
    """No finalize came while something was missing, unless it says what."""
    declared = [finish.value["expected_chunks"] or 0 for finish in story.of("Finish")]
    for record in story.of("Finalize"):
        value, say = record.value, f"revision {record.value['revision']} is {record.value['outcome']}"
        if value["cause"] == "finish" and not any(finish.time <= record.time for finish in story.of("Finish")):
            yield f"{say} by a finish that is not there"
        if value["outcome"] == "incomplete":
            if not value["gaps"]:
                yield f"{say} and names no gap"
            continue
        if value["counts"]["chunks"] < max(declared, default=0):
            yield f"{say} with {value['counts']['chunks']} of {declared} chunks"
        for chunk in value["chunks"]:
            upload = story.uploads().get(chunk["chunk_id"])
            answers = story.ending(upload, record.time) if upload and upload.time <= record.time else None
            if answers is None or None in answers:
                yield f"{say} before chunk {chunk['chunk_id']} was answered"
            elif chunk["status"] != "failed" and chunk["digest"] != digest_of(answers):
                yield f"{say} with another text of chunk {chunk['chunk_id']}"


def accounted(story):
    """The last finalize has every accepted chunk, and its counts are those of the facts."""
    if not story.of("Finalize"):
        yield "it was never finalized"
        return
    last, uploads = story.of("Finalize")[-1].value, story.uploads()
    told = [chunk["chunk_id"] for chunk in last["chunks"]]
    if sorted(told) != sorted(uploads):
        yield f"revision {last['revision']} has {told} of {sorted(uploads)}"
    endings = [story.ending(upload) for upload in uploads.values()]
    answers = [answer for ending in endings for answer in ending or [None]]
    if None in answers:
        yield f"{answers.count(None)} pieces have no answer in the log"
    done, failed = sum(answer not in (None, "failed") for answer in answers), answers.count("failed")
    counts = last["counts"]
    if (counts["chunks"], counts["transcribed"], counts["failed"]) != (len(uploads), done, failed):
        yield f"revision {last['revision']} counts {counts}, the log {len(uploads)}, {done} and {failed}"
    if len(last["gaps"]) != counts["failed"] + counts["missing"] and not last["gaps_truncated"]:
        yield f"{len(last['gaps'])} gaps are named of {counts}"


def delivered(story):
    """The last revision was merged and summarised with all its chunks, once, and the status says so, last and not
    before."""
    if not story.of("Finalize"):
        return
    last = story.of("Finalize")[-1].value
    chunks, ends = {chunk["chunk_id"] for chunk in last["chunks"]}, []
    for name in ("Merge", "Summary"):
        own = [record for record in story.of(name) if record.value["finalize_digest"] == last["digest"]]
        if len(own) != 1 or own[0].value["outcome"] != "done":
            yield f"revision {last['revision']} has {[one.value['outcome'] for one in own]} as {name}"
        ends += [one.time for one in own]
        if name == "Merge" and own and {one["chunk_id"] for one in own[0].value["inputs"]} != chunks:
            yield f"the merge of revision {last['revision']} lacks chunks"
    statuses = story.of("Conversation")
    said = (statuses[-1].value["status"], statuses[-1].value["revision"]) if statuses else None
    if said != ("delivered", last["revision"]):
        yield f"it ends as {said} after revision {last['revision']}"
    for status in statuses:
        value = status.value
        if (value["status"], value["revision"]) == ("delivered", last["revision"]) and status.time < max(ends):
            yield "it was called delivered too early"


def is_told(status):
    """Whether webhooks tell it: not that only one of merge and summary ended, since the other will change it."""
    value = status.value
    half = value["status"] == "finalized" and (value["merge_status"] or value["summary_status"])
    return value["webhooks"] and not value["erased"] and not half


def notice_of(status, url):
    """The id under which a status is told to a URL."""
    return hashlib.sha256(f"{status.value['event_id']}\0{url}".encode()).hexdigest()


def chunk_of(record):
    return record.value.get("chunk_id") or ""


def segment_of(record):
    return record.value.get("segment", -1)


def run_of(text):
    """A run of completed offsets above the committed one: `first-last` or `first`, relative to it."""
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def digest_of(answers):
    """The digest of a chunk's content, as the published text of the design has it."""
    content = (b"\1" if answer == "failed" else b"\2" + bytes.fromhex(answer) for answer in answers)
    return hashlib.sha256(b"hansard chunk 1\n" + b"".join(content)).digest()


def partition_of(key, partitions):
    """Where Kafka's Java client puts a key: murmur2 without its sign."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    value, whole = 0x9747B28C ^ len(key), len(key) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * factor & mask
        value = value * factor & mask ^ ((word ^ word >> 24) * factor & mask)
    if len(key) > whole:
        value = (value ^ int.from_bytes(key[whole:], "little")) * factor & mask
    value = (value ^ value >> 13) * factor & mask
    return ((value ^ value >> 15) & 0x7FFFFFFF) % partitions
