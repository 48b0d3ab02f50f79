"""Summaries by a server: what a deployment asks of it, through kills, faults, reruns and revisions, by the server's own
ledger: no passage is paid for twice but for the calls that a kill cut off, and a rerun pays once."""

import shutil
import sys
import tempfile
import time
import unittest

import hansard
from hansard import ROOT, Chat, Hansard, Speech, piece

sys.path.insert(0, str(ROOT / "tests" / "providers"))

from fake_speech import text_of

KEY = "sk-summaries"
# Tokens of a request with its answer; so few that a dozen segments are a passage.
TOKENS_MAX, ANSWER_TOKENS = 3_000, 300
# Each segment says its eight words so often; each of the pieces is one segment.
TIMES, PIECES = 20, 24
AT_ONCE = 4
PRICE_IN, PRICE_OUT = 150_000, 600_000


class Summaries(unittest.TestCase):
    """`hansard up` with a server of summaries."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, self.directory)

    def begin(self, *faults, **settings):
        """A deployment, with its server of summaries."""
        speech = Speech(self.directory, "--times", str(TIMES))
        self.addCleanup(speech.stop)
        room = str(TOKENS_MAX)
        self.chat = Chat(self.directory, "--key", KEY, "--context", room, "--delay-ms", "150", *faults)
        self.addCleanup(self.chat.stop)
        settings = {
            "summary-provider": "openai", "summary-url": self.chat.url, "summary-key": KEY, "summary-model": "fake",
            "summary-tokens-max": TOKENS_MAX, "summary-answer-tokens": ANSWER_TOKENS, "summary-calls-per-second": 100,
            "summary-price-in": "0.15", "summary-price-out": "0.6", "window-pace-base": "1 ms",
            "summarize-tiers": "1 s", **settings,
        }
        self.up = Hansard(speech, **settings)
        self.addCleanup(self.up.stop)
        return self.up

    def say(self, conversation, first, pieces=PIECES):
        """Uploads pieces of a conversation, and finishes it."""
        for number in range(first, first + pieces):
            self.up.upload(conversation, f"k{number}", piece(number), sequence=number - first)
        self.up.finish(conversation)

    def summary(self, conversation):
        return self.up.call("GET", f"/v1/conversations/{conversation}/summary")

    def billed(self, since=0):
        return [call for call in self.chat.calls()[since:] if call["billed"]]

    def check_price(self, summary, calls):
        """That a summary says what its calls have cost."""
        read, written = summary["tokens_in"], summary["tokens_out"]
        self.assertEqual(read, sum(call["tokens"] for call in calls))
        exact = (read * PRICE_IN + written * PRICE_OUT) / 1_000_000
        self.assertTrue(exact - len(calls) <= summary["cost_micros"] <= exact, summary)
        self.assertEqual(summary["currency"], "USD")

    def test_a_long_conversation_is_summarised_and_paid_once(self):
        up = self.begin()
        up.open("c", keyterms=["Wörth"], language="en")
        self.say("c", 0)
        up.await_delivered("c")
        summary, calls = self.summary("c"), self.chat.calls()
        self.assertEqual((summary["provider"], summary["model"], summary["prompt_version"]), ("openai", "fake", "minutes-1"))
        kinds = [call["kind"] for call in calls]
        self.assertGreater(kinds.count("transcript"), 2, calls)
        self.assertEqual(kinds[-1], "summaries")
        self.assertEqual(summary["text"], text_of(calls[-1]["sha256"]))
        self.assertEqual(len({call["sha256"] for call in calls}), len(calls), "each was asked once")
        for call in calls:
            self.assertEqual((call["outcome"], call["roles"]), ("ok", ["system", "user"]), call)
            self.assertLessEqual(call["tokens"], TOKENS_MAX - ANSWER_TOKENS)
        self.check_price(summary, calls)
        needed = len(calls)

        # Nothing is asked for a restart.
        up.restart()
        time.sleep(2)
        self.assertEqual(len(self.chat.calls()), needed)

        # A chunk at the end changes the last passage, or makes one more, and what rests on it.
        up.upload("c", "late", piece(100), sequence=PIECES)
        up.finish("c")
        up.await_delivered("c", revision=2)
        late = self.billed(needed)
        self.assertLessEqual(len(late), 3, late)
        self.assertEqual(self.summary("c")["text"], text_of(late[-1]["sha256"]))

        # A rerun asks for everything, once; with another model as well. It is an operator's call, and not the uploader's.
        up.tokens.clear()
        for rerun, model in enumerate(["fake", "fake-2"]):
            before = len(self.chat.calls())
            asked = {"stage": "summarize", "only": "all", **({"options": {"model": model}} if rerun else {})}
            up.call("POST", "/v1/conversations/c/rerun", asked)
            up.await_delivered("c", revision=3 + rerun)
            again = self.billed(before)
            self.assertIn(len(again), (needed, needed + 1))
            self.assertEqual({call["model"] for call in again}, {model})
            self.assertEqual(len({call["sha256"] for call in again}), len(again), "each was asked once")
            self.assertEqual(self.summary("c")["model"], model)

        # One may also be had for nothing.
        before = len(self.chat.calls())
        up.call("POST", "/v1/conversations/c/rerun", {"stage": "summarize", "only": "all", "options": {"provider": "local"}})
        up.await_delivered("c", revision=5)
        self.assertEqual((self.summary("c")["provider"], len(self.chat.calls())), ("local", before))

        metrics = up.call("GET", "/metrics").decode()
        self.assertIn('hansard_summary_tokens_total{direction="in",provider="openai"}', metrics)

    def test_a_kill_in_the_middle_costs_the_calls_under_way(self):
        up = self.begin("--delay-ms", "700")
        up.open("c")
        self.say("c", 0)
        killed = 0
        for _ in range(2):
            self.await_calls(len(self.chat.calls()) + 2)
            up.kill()
            killed += 1
            up.start()
        up.await_delivered("c", within=300)
        calls = self.chat.calls()
        needed = {call["sha256"] for call in calls}
        self.assertLessEqual(len(calls), len(needed) + killed * AT_ONCE, calls)
        self.assertGreater(len(needed), 3)
        summary = self.summary("c")
        self.assertEqual(summary["text"], text_of(calls[-1]["sha256"]))
        self.check_price(summary, list({call["sha256"]: call for call in calls}.values()))

    def await_calls(self, wanted):
        end = time.monotonic() + hansard.DELIVERED_WITHIN_S
        while len(self.chat.calls()) < wanted:
            self.assertLess(time.monotonic(), end, self.up.logs())
            time.sleep(0.05)

    def test_faults_are_lived_through(self):
        faults = ["rate-limited", "server-error", "garbage", "empty", "unfit", "length"]
        shares = [text for fault in faults for text in (f"--{fault}", "0.06")]
        up = self.begin(*shares, "--seed", "3", **{"summarize-attempts": 20})
        for number in range(3):
            up.open(f"c{number}")
            self.say(f"c{number}", number * PIECES)
        for number in range(3):
            up.await_delivered(f"c{number}", within=300)
            summary = self.summary(f"c{number}")
            self.assertEqual(len(summary["text"].split()), 8, summary)
        calls = self.chat.calls()
        self.assertGreater(len({call["outcome"] for call in calls}), 3, calls)
        # Whatever was answered well was not asked again.
        well = [call["sha256"] for call in calls if call["outcome"] == "ok"]
        self.assertEqual(len(set(well)), len(well))

    def test_what_nobody_may_be_asked_fails_with_its_code(self):
        up = self.begin("--refused", "1")
        up.open("c")
        self.say("c", 0, pieces=2)
        status = up.await_delivered("c")
        self.assertEqual(len(self.chat.calls()), 1)
        with self.assertRaises(hansard.Answer) as refused:
            self.summary("c")
        self.assertEqual(refused.exception.code, "summary_failed")
        self.assertIn("content_refused", str(refused.exception.body), status)


if __name__ == "__main__":
    unittest.main()
