"""The demonstration from end to end, over real recordings and the real local model."""

import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import hansard

# Charles Dickens, A Tale of Two Cities, 1859: what is read in the recording.
TWO_CITIES = """It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of
foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was the season
of darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had nothing before
us, we were all going direct to heaven, we were all going direct the other way. In short, the period was so far like the
present period, that some of its noisiest authorities insisted on its being received, for good or for evil, in the
superlative degree of comparison only."""


def words(text):
    return re.findall(r"[a-z']+", text.lower())


def word_errors(said, heard):
    """Insertions, deletions and replacements, for each word that was said."""
    said, heard = words(said), words(heard)
    row = list(range(len(heard) + 1))
    for above, one in enumerate(said):
        diagonal, row[0] = row[0], above + 1
        for at, other in enumerate(heard):
            diagonal, row[at + 1] = row[at + 1], min(diagonal + (one != other), row[at] + 1, row[at + 1] + 1)
    return row[-1] / len(said)


def demo(*options, **variables):
    """The demonstration's JSON, and what ffprobe says of the merged file."""
    with tempfile.TemporaryDirectory(prefix="hansard-e2e-") as directory:
        path = Path(directory) / "merged.ogg"
        env = hansard.environment(**variables)
        code, out, err = hansard.run("demo", "--exit", "--json", f"--output={path}", *options, env=env)
        if code != 0:
            raise AssertionError(f"exit code {code}: {err}")
        probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "json", str(path)]
        found = subprocess.run(probe, check=True, capture_output=True, text=True)
        return json.loads(out), float(json.loads(found.stdout)["format"]["duration"])


class Demo(unittest.TestCase):
    """What a first user sees."""

    def test_a_conversation_is_delivered(self):
        told, seconds = demo()
        self.assertEqual((told["status"], told["outcome"], told["revision"]), ("delivered", "complete", 1))
        self.assertTrue(all(chunk["status"] == "complete" for chunk in told["chunks"]), told["chunks"])
        self.assertGreater(told["counts"]["transcribed"], 0)
        self.assertEqual(told["counts"]["failed"] + told["counts"]["missing"], 0)
        self.assertTrue(told["summary"])
        of_recording = [chunk for chunk in told["chunks"] if chunk["chunk_id"].startswith("two-cities")]
        of_recording.sort(key=lambda chunk: chunk["sequence"])
        texts = [segment["text"] or "" for chunk in of_recording for segment in chunk["segments"]]
        errors = word_errors(TWO_CITIES, " ".join(texts))
        self.assertLess(errors, 0.10, texts)
        total = sum(chunk["duration_ms"] for chunk in told["chunks"]) / 1000
        self.assertAlmostEqual(seconds, total, delta=0.01 * total)

    def test_a_chunk_that_is_no_audio_is_named_on_a_new_machine(self):
        """With an empty cache: model and recordings are fetched."""
        with tempfile.TemporaryDirectory(prefix="hansard-e2e-") as cache:
            told, seconds = demo("--bad-chunk", HANSARD_CACHE=cache)
            self.assertTrue(list(Path(cache).rglob("*.wav")), "the recordings were fetched into the cache")
        self.assertEqual((told["status"], told["outcome"]), ("delivered", "with_failures"))
        [bad] = [chunk for chunk in told["chunks"] if chunk["status"] != "complete"]
        self.assertEqual((bad["chunk_id"], bad["status"]), ("not-audio", "failed"))
        self.assertTrue(bad["failure"]["code"] and bad["failure"]["reason"], bad)
        total = sum(chunk["duration_ms"] or 0 for chunk in told["chunks"]) / 1000
        self.assertAlmostEqual(seconds, total, delta=0.01 * total)
