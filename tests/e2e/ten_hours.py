"""A recording of ten hours, split and merged: memory must not grow with the length. Takes about ten minutes."""

import json
import subprocess
import unittest
from pathlib import Path

import hansard

MIB_MAX = {"parent_mib": 128, "child_mib": 256}
# What a list of so many more segments and inputs may add; a leak of one sample in a thousand would add as much.
GROWTH_MIB_MAX = 4


class TenHours(unittest.TestCase):
    """The benchmark's measurements, whose memory depends on no machine."""

    def test_memory_is_that_of_ten_minutes(self):
        program = str(Path(hansard.binary()).with_name("hansard-bench"))
        command = [program, "audio", "--memory", "--hours=10", "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
        for what in ("split of {}", "merge of {} of WebM/Opus", "merge of {} of MP4/AAC"):
            short, long = figures[what.format("10 minutes")], figures[what.format("10 hours")]
            self.assertAlmostEqual(short["audio_ms"], 600_000, delta=2_000)
            self.assertAlmostEqual(long["audio_ms"], 36_000_000, delta=100_000)
            self.assertGreater(long["pieces"], 1_000)
            for process, limit in MIB_MAX.items():
                self.assertLess(long[process], limit, what)
                self.assertLess(long[process] - short[process], GROWTH_MIB_MAX, (what, process))
