"""Copies of a good history, each broken in one way that the checker must find: what cannot fail proves nothing."""

import copy

from checker import Checker


def drop(name):
    """The last record of this name is gone."""

    def breaking(history):
        history.records.remove(of(history, name)[-1])

    return breaking


def change(name, alter, which=-1):
    """A record of this name says something else."""

    def breaking(history):
        alter(of(history, name)[which])

    return breaking


def again(name, alter=lambda record: None):
    """The last record of this name is written once more, perhaps otherwise."""

    def breaking(history):
        record = of(history, name)[-1]
        second = copy.deepcopy(record)
        second.offset += 1
        alter(second)
        history.records.insert(history.records.index(record) + 1, second)
        for key, (_, metadata) in list(history.commits.items()):
            history.commits[key] = 1_000_000, metadata

    return breaking


def of(history, name):
    return [record for record in history.records if record.name == name and "." not in record.topic]


def fields(**more):
    return lambda record: record.value.update(more)


def early(record):
    record.time -= 600_000


def count_more(record):
    record.value["counts"]["transcribed"] += 1


def less(name):
    return lambda record: record.value[name].pop()


def elsewhere(topic):
    def move(record):
        record.topic = topic

    return move


def commit_less(history):
    """A group has committed less than the log."""
    key = max(key for key, (offset, _) in history.commits.items() if offset > 0)
    history.commits[key] = 0, ""


def other_partition(record):
    record.partition = (record.partition + 1) % 4


# What is done to a history, and words of what is then said.
BREAKS = [
    (drop("Upload"), "accepted and is lost"),
    (drop("Finish"), "its end was accepted and is lost"),
    (drop("Split"), "no answer in the log"),
    (again("Split"), "is told 2 times"),
    (drop("Segment"), "asked for 0 times"),
    (again("Segment"), "asked for 2 times"),
    (drop("Transcript"), "no answer in the log"),
    (again("Transcript"), "has 2 transcripts"),
    (change("Transcript", fields(text="another text")), "has the text of other audio"),
    (change("Transcript", fields(text_sha256="00" * 32)), "with another text"),
    (drop("Finalize"), "never finalized"),
    (change("Finalize", early), "by a finish that is not there"),
    (change("Finalize", early), "was answered"),
    (change("Finalize", count_more), "counts"),
    (change("Finalize", less("chunks")), "has ['"),
    (change("Finalize", fields(gaps=[{}])), "1 gaps are named"),
    (change("Finalize", fields(outcome="incomplete")), "names no gap"),
    (change("Finalize", fields(revision=3)), "revision 3 follows 0"),
    (again("Finalize", fields(cause="idle")), "has two contents"),
    (drop("Merge"), "has [] as Merge"),
    (again("Merge"), "has ['done', 'done'] as Merge"),
    (change("Merge", less("inputs")), "lacks chunks"),
    (change("Summary", fields(finalize_digest="1:00")), "has [] as Summary"),
    (change("Conversation", early), "called delivered too early"),
    (again("Conversation", fields(status="closing")), "it ends as ('closing'"),
    (again("Segment", elsewhere("transcribe.dead-letter")), "dead-letter"),
    (again("Segment", elsewhere("transcribe.retry.1")), "retry.1"),
    (change("Upload", other_partition), "wrong partition"),
    (change("Upload", fields(upload_digest="00")), "belongs to no upload"),
    (commit_less, "has not read"),
    (lambda history: history.rows["facts"].pop(), "no row has the fact"),
    (lambda history: history.rows["facts"].append({**history.rows["facts"][0], "log_offset": 99_999}), "no record tells"),
    (lambda history: history.rows["texts"].pop(), "texts and transcripts differ"),
]

# The same where somebody is told by webhooks.
BREAKS_OF_NOTICES = [
    (drop("Delivery"), "is delivered 0 times, not 1"),
    (again("Delivery"), "is delivered 2 times, not 1"),
    (change("Delivery", fields(outcome="failed")), "is failed 1 times, not 0"),
    (change("Conversation", fields(event_id="00")), "owed and did not come"),
    (drop("Conversation"), "is of no status"),
    (again("Conversation", lambda record: setattr(record, "offset", 1_000_001)), "notify has not read"),
]


def unseen(history, accepted, finished, notices=None):
    """The breaks that the checker does not find in copies of this history; it should be short, since each is copied."""
    missed = []
    for number, (breaking, words) in enumerate(BREAKS if notices is None else BREAKS_OF_NOTICES):
        broken = copy.deepcopy(history)
        breaking(broken)
        wrong = Checker(broken, accepted, finished, retries=False, notices=notices).check()
        if not any(words in one for one in wrong):
            missed.append(f"break {number}, {words!r}, gave {wrong[:3]}")
    return missed
