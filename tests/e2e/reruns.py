"""Reruns of what providers have made, by two of them and by their own ledgers: only what is asked for is paid, a better answer
replaces a worse one and never the other way round, and what has changed is told in a new revision."""

import re
import shutil
import tempfile
import unittest

import hansard
from hansard import Hansard, Speech, piece
from jobs import AssemblyAi

CONVERSATION, CHUNKS = "c", 4
# OpenAI's stand-in refuses what is said in it, and says every text so often.
REFUSED, SAID = "de", 2


class Reruns(unittest.TestCase):
    """One conversation, of which the deployment's own provider hears nothing at first."""

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        self.openai = Speech(directory, "--refuse-language", REFUSED, "--times", str(SAID), "--models", "fake")
        self.addCleanup(self.openai.stop)
        self.assemblyai = AssemblyAi(directory, "--work-ms", "50")
        self.addCleanup(self.assemblyai.stop)
        settings = {"assemblyai-url": self.assemblyai.url, "assemblyai-audio": "link", "openai-model": "fake"}
        # What no conversation here says by itself.
        settings["speech-language"] = REFUSED
        self.up = Hansard(self.openai, **settings, **{"speech-also": "assemblyai", "window-pace-base": "1 ms"})
        self.addCleanup(self.up.stop)
        self.revision = 0

    def paid(self):
        """Submissions to each that are paid, since the last time."""
        made = [sum(1 for call in provider.calls() if call.get("billed")) for provider in (self.openai, self.assemblyai)]
        before, self.made = getattr(self, "made", [0, 0]), made
        return [now - then for now, then in zip(made, before)]

    def delivered(self, outcome):
        """The next revision: the words of each segment, or why it has none."""
        self.revision += 1
        status = self.up.await_delivered(CONVERSATION, self.revision)
        self.assertEqual((status["outcome"], status["revision"]), (outcome, self.revision), status)
        text = self.up.call("GET", f"/v1/conversations/{CONVERSATION}/transcript?format=txt").decode()
        return [re.sub(r"^\[[0-9:]+\] ", "", line).split() for line in text.splitlines() if line]

    def rerun(self, stage, only, outcome="complete", **options):
        """Has it done again, and waits for what comes of it: that, and what was paid for it."""
        self.up.call("POST", f"/v1/conversations/{CONVERSATION}/rerun", {"stage": stage, "only": only, "options": options})
        return self.delivered(outcome), self.paid()

    def test_a_better_answer_supersedes_and_a_worse_one_does_not(self):
        self.up.open(CONVERSATION)
        for number in range(CHUNKS):
            self.up.upload(CONVERSATION, f"k{number}", piece(number), sequence=number)
        self.up.finish(CONVERSATION)
        refused = self.delivered("with_failures")
        self.assertTrue(len(refused) == CHUNKS and all(line[-1] == "rejected]" for line in refused), refused)
        self.assertEqual(self.paid()[1], 0)
        # What follows is an operator's.
        self.up.tokens.clear()

        # What failed, by another provider, which fetches the audio by a link.
        heard, paid = self.rerun("transcribe", "failed", provider="assemblyai")
        self.assertEqual(([len(words) for words in heard], paid), ([8] * CHUNKS, [0, CHUNKS]))
        # Nothing failed since.
        self.assertEqual(self.rerun("transcribe", "failed", provider="assemblyai"), (heard, [0, 0]))

        # All: by one that refuses it, which is paid for that; with a model that there is not; by one that is not there.
        again, [_, elsewhere] = self.rerun("transcribe", "all", provider="openai")
        self.assertEqual((again, elsewhere), (heard, 0))
        self.assertEqual(self.rerun("transcribe", "all", language="en", model="none-such"), (heard, [0, 0]))
        self.assertEqual(self.rerun("transcribe", "all", provider="local"), (heard, [0, 0]))

        # All, in a language that is taken.
        better, paid = self.rerun("transcribe", "all", language="en")
        self.assertEqual((better, paid), ([words * SAID for words in heard], [CHUNKS, 0]))

        # What rests on it, alone.
        for stage in ("merge", "summarize"):
            self.assertEqual(self.rerun(stage, "all"), (better, [0, 0]))

    def test_what_is_no_rerun_is_refused(self):
        self.up.open(CONVERSATION)
        self.up.await_status(CONVERSATION, lambda status: True)
        self.up.tokens.clear()
        for wrong in ({"stage": "split", "only": "all"}, {"stage": "transcribe", "only": "some"}, {"only": "all"}):
            with self.assertRaises(hansard.Answer) as refused:
                self.up.call("POST", f"/v1/conversations/{CONVERSATION}/rerun", wrong)
            self.assertEqual(refused.exception.status, 400, refused.exception.body)


if __name__ == "__main__":
    unittest.main()
