"""What producers and operators get wrong, by the calls that they make."""

import json
import random
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

import hansard
from hansard import Answer, Hansard, Speech, piece, put

HTML = b"<!doctype html><title>Sign in</title>"


class BadInputs(unittest.TestCase):
    """Each bad input gets its own code, and no conversation waits for ever."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        cls.speech = Speech(cls.directory)
        tiers = {"window-pace-base": "100 ms", "split-tiers": "100 ms", "transcribe-tiers": "100 ms"}
        cls.up = Hansard(cls.speech, **tiers)

    @classmethod
    def tearDownClass(cls):
        ended = cls.up.stop()
        cls.speech.stop()
        shutil.rmtree(cls.directory)
        assert ended == 0, ended

    def refused(self, status, code, call, *arguments, **more):
        with self.assertRaises(Answer) as caught:
            call(*arguments, **more)
        self.assertEqual((caught.exception.status, caught.exception.code), (status, code))

    def test_an_empty_recording_is_refused(self):
        self.up.open("empty")
        self.refused(400, "invalid_field", self.up.invite, "empty", "a", b"")

    def test_what_is_no_audio_fails_alone(self):
        self.up.open("mixed")
        noise = random.Random(1).randbytes(5000)
        self.up.upload("mixed", "page", HTML, "audio/webm", sequence=0)
        self.up.upload("mixed", "noise", noise, "audio/mpeg", sequence=1)
        self.up.upload("mixed", "good", piece(1), sequence=2)
        self.up.finish("mixed", expected_chunks=3)
        status = self.up.await_delivered("mixed")
        self.assertEqual(status["outcome"], "with_failures")
        states = {chunk["chunk_id"]: chunk["status"] for chunk in status["chunks"]}
        self.assertEqual(states, {"page": "failed", "noise": "failed", "good": "complete"})
        for chunk in status["chunks"]:
            if chunk["status"] == "failed":
                self.assertTrue(chunk["failure"]["terminal"] and chunk["failure"]["code"], chunk)
        resting = self.up.call("GET", "/v1/dead-letters?conversation=mixed")["dead_letters"]
        self.assertEqual(len(resting), 2, resting)

    def test_nothing_usable_still_ends(self):
        self.up.open("nothing")
        self.up.upload("nothing", "page", HTML, "audio/webm")
        self.up.finish("nothing", expected_chunks=1)
        status = self.up.await_delivered("nothing")
        self.assertEqual(status["outcome"], "with_failures")
        self.refused(409, "no_audio", self.up.call, "GET", "/v1/conversations/nothing/audio")

    def test_other_bytes_than_declared_are_refused(self):
        self.up.open("other")
        content = piece(2)
        invited = self.up.invite("other", "a", content)
        for wrong in (content[:-1], content + b"x"):
            with self.assertRaises(Answer) as caught:
                put(invited, wrong)
            self.assertIn(caught.exception.status, (400, 403))
        with self.assertRaises(Answer):
            put(invited, content[:-1] + bytes([content[-1] ^ 1]))
        self.refused(409, "not_uploaded", self.up.confirm, "other", "a", invited)
        self.refused(400, "invalid_upload", self.up.confirm, "other", "b", invited)
        self.refused(400, "invalid_upload", self.up.confirm, "other", "a", {"upload": "forged.forged"})

    def test_what_was_never_uploaded_is_not_confirmed(self):
        self.up.open("never")
        invited = self.up.invite("never", "a", piece(14))
        self.refused(409, "not_uploaded", self.up.confirm, "never", "a", invited)
        put(invited, piece(14))
        self.assertTrue(self.up.confirm("never", "a", invited))

    def test_a_wrong_media_type_is_refused_or_does_no_harm(self):
        self.up.open("typed")
        self.refused(415, "unsupported_audio", self.up.invite, "typed", "page", HTML, "text/html")
        self.up.upload("typed", "a", piece(15), "audio/mpeg")
        self.up.finish("typed", expected_chunks=1)
        self.assertEqual(self.up.await_delivered("typed")["outcome"], "complete")

    def test_a_recording_that_breaks_off_counts_as_far_as_it_goes(self):
        whole = piece(16, seconds=4)
        self.up.open("broken-off")
        self.up.upload("broken-off", "a", whole[: len(whole) // 2])
        self.up.finish("broken-off", expected_chunks=1)
        status = self.up.await_delivered("broken-off")
        [chunk] = status["chunks"]
        self.assertEqual((status["outcome"], chunk["truncated"]), ("complete", True), chunk)
        self.assertAlmostEqual(chunk["duration_ms"], 2000, delta=20)

    def test_confirming_twice_makes_one_chunk(self):
        self.up.open("twice")
        invited = self.up.invite("twice", "a", piece(3))
        put(invited, piece(3))
        first, second = (self.up.confirm("twice", "a", invited) for _ in range(2))
        self.assertEqual(first["upload_digest"], second["upload_digest"])
        self.up.finish("twice", expected_chunks=1)
        status = self.up.await_delivered("twice")
        self.assertEqual((len(status["chunks"]), status["outcome"], status["revision"]), (1, "complete", 1))

    def test_the_first_of_two_objects_stands(self):
        self.up.open("conflict")
        self.up.upload("conflict", "a", piece(4))
        self.up.upload("conflict", "a", piece(5))
        self.up.finish("conflict", expected_chunks=1)
        status = self.up.await_delivered("conflict")
        [chunk] = status["chunks"]
        self.assertEqual((chunk["bytes"], status["outcome"]), (len(piece(4)), "complete"))
        codes = [failure["code"] for failure in status["failures"]]
        self.assertEqual(codes, ["conflicting_upload"])

    def test_the_last_finish_stands(self):
        self.up.open("finishes")
        self.up.finish("finishes", expected_chunks=5)
        self.up.upload("finishes", "a", piece(6))
        waiting = self.up.await_status("finishes", lambda status: status["progress"]["transcribed"] > 0)
        self.assertEqual((waiting["status"], waiting["revision"]), ("closing", 0))
        self.up.finish("finishes", expected_chunks=1)
        self.assertEqual(self.up.await_delivered("finishes")["outcome"], "complete")

    def test_what_comes_late_makes_a_revision(self):
        self.up.open("late")
        self.up.upload("late", "a", piece(7), sequence=0)
        self.up.finish("late")
        self.up.await_delivered("late")
        self.up.upload("late", "b", piece(8), sequence=1)
        self.up.finish("late")
        status = self.up.await_delivered("late", revision=2)
        self.assertEqual((len(status["chunks"]), status["outcome"]), (2, "complete"))
        document = self.up.call("GET", "/v1/conversations/late/transcript")
        self.assertEqual({line["chunk_id"] for line in document["lines"]}, {"a", "b"})

    def test_odd_ids_and_keys_are_refused(self):
        for odd in ("a b", "ü", "..", "x" * 129, ""):
            self.refused(400, "invalid_id", self.up.open, odd)
        self.refused(400, "invalid_request", self.up.open, "keys", titel="x")
        self.refused(415, "unsupported_audio", self.invite_text)
        self.refused(404, "unknown_conversation", self.up.status, "never-opened")
        self.refused(404, "no_such_call", self.up.call, "GET", "/v1/nothing")

    def invite_text(self):
        self.up.open("text")
        self.up.invite("text", "a", b"x", "text/plain")

    def test_results_before_there_are_any_say_so(self):
        self.up.open("early")
        self.up.await_status("early", lambda status: status["status"] == "open")
        for call in ("transcript", "summary", "audio"):
            self.refused(409, "not_finalized", self.up.call, "GET", f"/v1/conversations/early/{call}")

    def test_the_commands_show_the_same(self):
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "piece one.wav"
            file.write_bytes(piece(9))
            url = f"--url={self.up.url}"
            code, out, err = hansard.run("upload", str(file), "--conversation=cli", "--finish", "--wait", "--json", url)
            self.assertEqual(code, 0, err)
            self.assertEqual(json.loads(out)["outcome"], "complete")
            merged = Path(directory) / "merged.ogg"
            commands = [
                ("status", "cli"),
                ("status",),
                ("explain", "cli"),
                ("transcript", "cli", "--format=srt"),
                ("transcript", "cli", "--format=json"),
                ("summary", "cli"),
                ("audio", "cli", f"--output={merged}"),
                ("dead-letters", "list"),
                ("dead-letters", "redrive", "--all", "--dry-run"),
                ("tail", "finalizes", "--from-beginning", "--once"),
                ("check",),
            ]
            for command in commands:
                code, out, err = hansard.run(*command, url)
                self.assertEqual(code, 0, (command, err))
                self.assertTrue(out or command[0] == "dead-letters", command)
            self.assertGreater(merged.stat().st_size, 1000)
            records = [json.loads(line) for line in hansard.run(*commands[9], url)[1].splitlines()]
            self.assertIn("cli", {record["conversation_id"] for record in records})
        code, _, err = hansard.run("status", "never-opened", url)
        self.assertEqual((code, "unknown_conversation" in err), (1, True), err)

    def test_a_rerun_makes_a_revision_and_pays_again(self):
        self.up.open("again")
        self.up.upload("again", "a", piece(10))
        self.up.finish("again", expected_chunks=1)
        self.up.await_delivered("again")
        before = len(self.speech.calls())
        code, _, err = hansard.run("rerun", "again", "--stage=transcribe", "--only=all", f"--url={self.up.url}")
        self.assertEqual(code, 0, err)
        status = self.up.await_delivered("again", revision=2)
        self.assertEqual((status["outcome"], status["cause"]), ("complete", "rerun"))
        self.assertGreater(len(self.speech.calls()), before)

    def test_what_was_erased_stays_gone(self):
        self.up.open("gone")
        self.up.upload("gone", "a", piece(11))
        self.up.finish("gone", expected_chunks=1)
        self.up.await_delivered("gone")
        code, _, err = hansard.run("erase", "gone", f"--url={self.up.url}")
        self.assertEqual((code, "--yes" in err), (1, True), err)
        code, _, err = hansard.run("erase", "gone", "--yes", f"--url={self.up.url}")
        self.assertEqual(code, 0, err)
        end = time.monotonic() + hansard.DELIVERED_WITHIN_S
        while time.monotonic() < end:
            try:
                self.up.status("gone")
            except Answer as answer:
                self.assertEqual((answer.status, answer.code), (410, "erased"))
                break
            time.sleep(0.1)
        self.refused(410, "erased", self.up.open, "gone")

    def test_a_data_directory_has_one_owner(self):
        code, _, err = hansard.run(*self.up.command()[1:])
        self.assertEqual((code, "in use" in err), (1, True), err)


class Keys(unittest.TestCase):
    """With keys, each caller may do what its roles say; and a stream that is open keeps nobody from stopping."""

    def test_roles(self):
        directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.addCleanup(shutil.rmtree, directory)
        speech = Speech(directory)
        self.addCleanup(speech.stop)
        secrets = {"producer": "p" * 16, "reader": "r" * 16, "operator": "o" * 16}
        up = Hansard(speech, keys=",".join(f"{role}:{role}:{secret}" for role, secret in secrets.items()))
        stopped = []
        self.addCleanup(lambda: stopped or up.kill())
        file = Path(directory) / "a.wav"
        file.write_bytes(piece(12))

        def said(role, *arguments):
            key = [f"--key={secrets[role]}"] if role else []
            code, _, err = hansard.run(*arguments, f"--url={up.url}", *key)
            return code, err

        upload = ("upload", str(file), "--conversation=k", "--finish", "--wait")
        for role, command, refusal in [
            (None, ("status",), "unauthorized"),
            ("reader", upload, "forbidden"),
            ("producer", upload, None),
            ("producer", ("transcript", "k"), "forbidden"),
            ("reader", ("transcript", "k"), None),
            ("reader", ("dead-letters", "list"), "forbidden"),
            ("operator", ("dead-letters", "list"), None),
        ]:
            code, err = said(role, *command)
            self.assertEqual((code, (refusal or "") in err), (int(refusal is not None), True), (role, command, err))
        request = urllib.request.Request(f"{up.url}/v1/conversations/k/events")
        request.add_header("authorization", f"Bearer {secrets['reader']}")
        with urllib.request.urlopen(request, timeout=60) as events:
            self.assertIn(b"hello", events.readline())
            stopped.append(up.stop())
        self.assertEqual(stopped, [0])


class Starting(unittest.TestCase):
    """What keeps the program from starting is said, with an exit code of its own kind."""

    def started(self, *arguments, **variables):
        with tempfile.TemporaryDirectory(prefix="hansard-e2e-") as directory:
            return hansard.run("up", f"--data-dir={directory}/data", *arguments, env=hansard.environment(**variables))

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = f"--listen=127.0.0.1:{taken.getsockname()[1]}"
            code, _, err = self.started(listen, "--speech-provider=openai")
        self.assertEqual((code, "--listen" in err), (1, True), err)

    def test_a_model_that_cannot_be_fetched(self):
        with tempfile.TemporaryDirectory(prefix="hansard-e2e-") as cache:
            code, _, err = self.started("--listen=127.0.0.1:0", HANSARD_CACHE=cache, PIP_NO_INDEX="1")
        self.assertEqual((code, "speech model" in err), (1, True), err)

    def test_a_wrong_configuration(self):
        cases = [
            (78, "HANSARD_LISTEN", ["--listen=127.0.0.1:0"], {"HANSARD_LISTN": "x"}),
            (78, "no loopback", ["--listen=0.0.0.0:0"], {}),
            (78, "HANSARD_DRAIN", [], {"HANSARD_DRAIN": "soon"}),
            (2, "--drain", ["--drain=soon"], {}),
            (2, "--listen", ["--listn=x"], {}),
        ]
        for expected, said, arguments, variables in cases:
            code, _, err = self.started(*arguments, **variables)
            self.assertEqual((code, said in err), (expected, True), err)

    def test_a_full_standard_output(self):
        command = [hansard.binary(), "config", "print"]
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run(command, env=hansard.environment(), stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
