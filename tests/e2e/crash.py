"""kill -9 of the whole program while conversations are uploaded: nothing acknowledged is lost, nothing is delivered
early, and a kill costs at most the calls that were under way."""

import shutil
import socket
import tempfile
import threading
import time
import unittest
import urllib.error

import hansard
from hansard import Answer, Hansard, Speech, piece, put

CONVERSATIONS, KILLS = (200, 20) if hansard.FULL else (16, 4)
CHUNKS, IN_FLIGHT, PRODUCERS = 2, 8, 4
PAUSE_S = 2 if hansard.FULL else 0.5
# What a producer sees of a kill: it tries the same call again.
BROKEN = (ConnectionError, urllib.error.URLError, TimeoutError, OSError)


class Producer(threading.Thread):
    """Uploads its share of the conversations, whatever happens to the other side."""

    # What else an opening says.
    opening = {}

    def __init__(self, up, numbers):
        super().__init__()
        self.up, self.numbers, self.error = up, numbers, None
        # What was acknowledged.
        self.accepted, self.finished = [], []

    def run(self):
        try:
            for number in self.numbers:
                self.conversation(number)
        except (Answer, AssertionError, *BROKEN) as error:
            # It is raised again where the test can see it.
            self.error = error

    def conversation(self, number):
        name = f"c-{number}"
        self.again(lambda: self.up.open(name, **self.opening))
        for chunk in range(CHUNKS):
            self.chunk(name, f"k{chunk}", self.content(number * CHUNKS + chunk), chunk)
        self.again(lambda: self.up.finish(name, expected_chunks=CHUNKS))
        self.finished.append(name)

    @staticmethod
    def content(number):
        """The bytes of a chunk, of each its own."""
        return piece(number)

    def chunk(self, name, chunk, content, sequence):
        invited = self.sent(name, chunk, content, sequence)
        self.again(lambda: self.up.confirm(name, chunk, invited))
        self.accepted.append((name, chunk))

    def sent(self, name, chunk, content, sequence):
        """An invitation whose bytes are stored. Links do not outlive the process that made them here."""

        def once():
            invited = self.up.invite(name, chunk, content, sequence=sequence)
            put(invited, content)
            return invited

        return self.again(once)

    @staticmethod
    def again(call):
        """Repeats a call until it is answered; an answer other than success is final, but for `unavailable`."""
        end = time.monotonic() + 120
        while True:
            try:
                return call()
            except Answer as answer:
                if answer.status != 503 or time.monotonic() > end:
                    raise
            except BROKEN:
                if time.monotonic() > end:
                    raise
            time.sleep(0.05)


class Crash(unittest.TestCase):
    """The promise of the embedded mode."""

    def test_kills_lose_nothing_and_pay_little_twice(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        speech = Speech(directory, "--delay-ms", "50")
        self.addCleanup(speech.stop)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            listen = f"127.0.0.1:{probe.getsockname()[1]}"
        up = Hansard(speech, listen, **{"transcribe-in-flight": IN_FLIGHT})
        try:
            self.upload_under_kills(up)
            statuses = [up.await_delivered(f"c-{number}", within=240) for number in range(CONVERSATIONS)]
        finally:
            up.stop()
        segments = 0
        for status in statuses:
            self.assertEqual((status["outcome"], status["revision"]), ("complete", 1), status)
            self.assertEqual(sorted(chunk["chunk_id"] for chunk in status["chunks"]), ["k0", "k1"])
            self.assertTrue(all(chunk["transcribed"] for chunk in status["chunks"]), status)
            self.assertEqual(status["progress"]["failed"] + status["progress"]["missing"], 0, status)
            segments += status["progress"]["segments"]
        billed = sum(1 for call in speech.calls() if call["billed"])
        self.assertGreaterEqual(billed, segments)
        self.assertLessEqual(billed, segments + KILLS * IN_FLIGHT)

    def upload_under_kills(self, up):
        shares = [range(first, CONVERSATIONS, PRODUCERS) for first in range(PRODUCERS)]
        producers = [Producer(up, share) for share in shares]
        for producer in producers:
            producer.start()
        for kill in range(KILLS):
            # The moments differ from kill to kill, so that they meet different work.
            time.sleep(PAUSE_S + 0.13 * (kill % 7))
            up.kill()
            up.start()
        for producer in producers:
            producer.join()
            if producer.error:
                raise producer.error
