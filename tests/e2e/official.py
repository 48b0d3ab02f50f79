"""The providers' official Python clients against the providers for tests: unchanged, they must work as with the real ones,
or the providers for tests prove nothing."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
import wave
from pathlib import Path

from hansard import ROOT

sys.path[:0] = [str(ROOT / "tests" / "services"), str(ROOT / "tests" / "providers")]

import service
from fake import text_of

# They come from PyPI once, into the cache.
CLIENTS = ["assemblyai==1.8.2", "openai==3.57.0"]


def clients():
    """Makes the official clients importable."""

    def fetch(target):
        service.retried([sys.executable, "-m", "pip", "install", "--quiet", "--target", target, *CLIENTS])

    name = hashlib.sha256(" ".join([sys.version, *CLIENTS]).encode()).hexdigest()[:12]
    path = str(service.cached(f"python-official-{name}", fetch))
    if path not in sys.path:
        sys.path.insert(0, path)


class Fake:
    """A provider for tests."""

    def __init__(self, script, *options):
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "ledger"
        command = [sys.executable, "-B", str(ROOT / "tests" / "providers" / script), "--ledger", str(self.path), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def ledger(self):
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.directory.cleanup()


def recording(seconds, tone=0):
    """A WAV file of this length, 16 kHz, mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(b"".join((tone + at % 100).to_bytes(2, "little") for at in range(int(seconds * 16_000))))
    return file.getvalue()


class Official(unittest.TestCase):
    """One provider, one client."""

    script, options = "", []

    @classmethod
    def setUpClass(cls):
        clients()
        # A proxy of the machine's has nothing to do with what is on this machine.
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"

    def setUp(self):
        self.fake = Fake(self.script, *self.options)
        self.addCleanup(self.fake.stop)


class AssemblyAi(Official):
    script, options = "fake_assemblyai.py", ["--key", "aai-key", "--work-ms", "300"]

    def setUp(self):
        super().setUp()
        import assemblyai

        self.aai = assemblyai
        settings = assemblyai.settings
        settings.base_url, settings.api_key, settings.polling_interval = self.fake.url, "aai-key", 0.1

    def test_a_file_is_uploaded_transcribed_listed_and_deleted(self):
        aai, audio = self.aai, recording(2)
        config = aai.TranscriptionConfig(
            speech_models=["universal-3-5-pro", "universal-2"],
            language_detection=True,
            speaker_labels=True,
            keyterms_prompt=["Hansard"],
        )
        config.set_redact_pii(policies=[aai.PIIRedactionPolicy.person_name], substitution=aai.PIISubstitutionPolicy.hash)
        config.set_webhook("http://127.0.0.1:9/unreachable")
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            file.write(audio)
            file.flush()
            transcript = aai.Transcriber().transcribe(file.name, config)
        self.assertEqual((transcript.status, transcript.error), (aai.TranscriptStatus.completed, None))
        sha256 = hashlib.sha256(audio).hexdigest()
        self.assertEqual(transcript.text, text_of(sha256))
        self.assertEqual([word.text for word in transcript.words], transcript.text.split())
        self.assertEqual((transcript.words[0].start, transcript.words[-1].end, transcript.audio_duration), (0, 2000, 2))
        self.assertEqual([each.speaker for each in transcript.utterances], ["A", "B"])
        self.assertEqual(transcript.json_response["speech_model_used"], "universal-3-5-pro")

        page = aai.Transcriber().list_transcripts(aai.ListTranscriptParameters(limit=5, status="completed"))
        self.assertEqual([item.id for item in page.transcripts], [transcript.id])
        self.assertIsNone(aai.Transcriber().list_transcripts(
            aai.ListTranscriptParameters(before_id=page.page_details.before_id_of_prev_url)).page_details.prev_url)

        self.assertEqual(aai.Transcript.delete_by_id(transcript.id).text, "Deleted by user.")
        self.assertEqual(aai.Transcript.get_by_id(transcript.id).audio_url, "http://deleted_by_user")

        ledger = [line for line in self.fake.ledger() if line["what"] != "webhook"]
        calls = [line["what"] for line in ledger]
        self.assertEqual((calls[:2], calls[-4:]), (["upload", "submit"], ["list", "list", "delete", "check"]))
        self.assertTrue(set(calls[2:-4]) == {"check"} and len(calls) > 6, calls)
        self.assertEqual((ledger[0]["sha256"], ledger[1]["sha256"], ledger[1]["job"]), (sha256, sha256, transcript.id))
        self.assertEqual({line["status"] for line in ledger}, {200})

    def test_what_is_wrong_is_told_as_the_client_expects(self):
        aai = self.aai
        silent = aai.Transcriber().transcribe(recording(0.1))
        self.assertEqual((silent.status, silent.error), (aai.TranscriptStatus.error, "Audio duration is too short."))
        page = aai.Transcriber().transcribe(b"<html>no audio</html>")
        self.assertIn("File does not appear to contain audio", page.error)
        unreachable = aai.Transcriber().transcribe("http://127.0.0.1:9/nothing.flac")
        self.assertIn("Download error", unreachable.error)
        with self.assertRaises(aai.TranscriptError) as unknown:
            aai.Transcript.get_by_id("5552493-16d8-42d8-8feb-c2a16b56f6e8")
        self.assertEqual(unknown.exception.status_code, 400)
        with self.assertRaises(aai.TranscriptError) as model:
            aai.Transcriber().submit("http://127.0.0.1:9/a", aai.TranscriptionConfig(speech_models=["best-ever"]))
        self.assertIn("must be a non-empty list", str(model.exception))
        with self.assertRaises(aai.TranscriptError) as key:
            aai.Transcriber(api_key="another").transcribe(recording(1))
        self.assertEqual(key.exception.status_code, 401)


class OpenAi(Official):
    script, options = "fake_speech.py", ["--key", "sk-key", "--models", "whisper-1", "gpt-4o-transcribe"]

    def setUp(self):
        super().setUp()
        import openai

        self.openai = openai
        self.client = openai.OpenAI(api_key="sk-key", base_url=f"{self.fake.url}/v1", max_retries=0)
        self.addCleanup(self.client.close)

    def transcribe(self, audio, **options):
        return self.client.audio.transcriptions.create(file=("segment.wav", audio), **{"model": "whisper-1", **options})

    def test_words_come_with_their_times(self):
        audio = recording(2)
        grains = ["word", "segment"]
        options = {"language": "en", "prompt": "Hansard", "temperature": 0}
        heard = self.transcribe(audio, response_format="verbose_json", timestamp_granularities=grains, **options)
        sha256 = hashlib.sha256(audio).hexdigest()
        self.assertEqual((heard.text, heard.language, float(heard.duration)), (text_of(sha256), "english", 2.0))
        self.assertEqual([word.word for word in heard.words], heard.text.split())
        self.assertEqual((heard.words[0].start, heard.words[-1].end, len(heard.segments)), (0, 2, 1))
        self.assertEqual(self.transcribe(audio, model="gpt-4o-transcribe").text, heard.text)
        self.assertIn("whisper-1", [model.id for model in self.client.models.list()])
        ledger = self.fake.ledger()
        self.assertEqual([(line["sha256"], line["outcome"], line["billed"]) for line in ledger], [(sha256, "ok", True)] * 2)

    def test_what_is_wrong_is_told_as_the_client_expects(self):
        audio, openai = recording(1), self.openai
        table = [
            (openai.BadRequestError, "invalid_language_format", {"file": audio, "language": "en-GB"}),
            (openai.BadRequestError, "audio_too_short", {"file": recording(0.05)}),
            (openai.BadRequestError, None, {"file": b"no audio"}),
            (openai.NotFoundError, "model_not_found", {"file": audio, "model": "another"}),
            (openai.BadRequestError, "unsupported_value", {"file": audio, "model": "gpt-4o-transcribe", "response_format": "verbose_json"}),
        ]
        for error, code, options in table:
            with self.subTest(code), self.assertRaises(error) as refused:
                self.transcribe(options.pop("file"), **options)
            self.assertEqual(refused.exception.code, code)
        stranger = openai.OpenAI(api_key="another", base_url=f"{self.fake.url}/v1", max_retries=0)
        self.addCleanup(stranger.close)
        with self.assertRaises(openai.AuthenticationError):
            stranger.models.list()
        self.assertFalse(any(line["billed"] for line in self.fake.ledger()))

