"""A disk that is full, and has room again: calls are refused in time, nothing that was accepted is lost."""

import shutil
import tempfile
import unittest
from pathlib import Path

import hansard
from hansard import Answer, Hansard, Speech, piece, put

SIZE_MB = 64
RESERVE_MB = 16


class FullDisk(unittest.TestCase):
    """The data directory is a small file system, made in a mount namespace of the process."""

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        self.speech = Speech(directory)
        self.addCleanup(self.speech.stop)
        self.up = Small(self.speech, **{"engine-reserve": f"{RESERVE_MB} MiB", "window-pace-base": "100 ms"})
        self.addCleanup(lambda: self.up.process.poll() is None and self.up.kill())

    def fill(self):
        """Takes all room but half of the reserve."""
        filler = self.up.inside() / "filler"
        with filler.open("wb") as file:
            free = shutil.disk_usage(self.up.inside()).free
            file.write(b"\0" * (free - (RESERVE_MB << 19)))
        return filler

    def test_refused_while_full_and_whole_afterwards(self):
        self.up.open("before")
        self.up.upload("before", "a", piece(1))
        self.up.open("during")
        content = piece(2)
        invited = self.up.invite("during", "a", content)
        put(invited, content)
        filler = self.fill()
        with self.assertRaises(Answer) as caught:
            self.up.confirm("during", "a", invited)
        self.assertEqual((caught.exception.status, caught.exception.code), (503, "unavailable"))
        self.assertTrue(self.up.call("GET", "/healthz"))
        self.assertIsNone(self.up.process.poll(), "it goes on running")
        filler.unlink()
        self.up.confirm("during", "a", invited)
        for conversation in ("before", "during"):
            self.up.finish(conversation, expected_chunks=1)
            status = self.up.await_delivered(conversation)
            self.assertEqual((status["outcome"], len(status["chunks"])), ("complete", 1))
        self.assertEqual(self.up.stop(), 0)


class Small(Hansard):
    """`hansard up` whose data directory's file system is small."""

    def command(self):
        made = f"mkdir {self.directory}/data && mount -t tmpfs -o size={SIZE_MB}m,mode=0700 tmpfs {self.directory}/data"
        return ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{made} && exec "$@"', "sh", *super().command()]

    def inside(self):
        """The data directory as the process sees it."""
        return Path(f"/proc/{self.process.pid}/root{self.directory}/data")
