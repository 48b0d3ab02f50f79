"""What a real browser records and plays: MediaRecorder whole and in slices, and the merged file in an audio element."""

import base64
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

import chromium
import hansard

SECONDS = 6
# Chromium's packets of Opus.
PACKET_MS = 60
# What Chromium's MP4 wants to be dropped at the start. Its own player does, and counts it in a duration all the same.
DELAY_S = 0.08
TYPES = {"webm": "audio/webm;codecs=opus", "mp4": "audio/mp4;codecs=opus"}

# Plays a WAV into recorders, for each type one that gives all at the end and one that gives a slice a second; what they
# gave comes back in base64. The sound goes nowhere else, so that no sound device is needed.
RECORD = """async (wav, types) => {
  const context = new AudioContext({sampleRate: 48000, sinkId: {type: 'none'}});
  const sound = await context.decodeAudioData(Uint8Array.from(atob(wav), c => c.charCodeAt(0)).buffer);
  const microphone = context.createMediaStreamDestination();
  microphone.channelCount = 1;
  const player = context.createBufferSource();
  player.buffer = sound;
  player.connect(microphone);
  const text = async blob => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(',')[1] || '');
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  const record = (type, slice) => {
    const recorder = new MediaRecorder(microphone.stream, {mimeType: type});
    const blobs = [];
    recorder.ondataavailable = event => blobs.push(event.data);
    const ended = new Promise(resolve => { recorder.onstop = resolve; });
    recorder.start(slice);
    return async () => {
      recorder.stop();
      await ended;
      return Promise.all(blobs.map(text));
    };
  };
  await context.resume();
  const ended = new Promise(resolve => { player.onended = resolve; });
  player.start();
  const recorders = Object.entries(types).flatMap(([name, type]) =>
    [[name + '-whole', record(type)], [name + '-slices', record(type, 1000)]]);
  await ended;
  const recorded = await Promise.all(recorders.map(async ([name, stop]) => [name, await stop()]));
  await context.close();
  return Object.fromEntries(recorded);
}"""

# Plays the file at an address for a while: its duration, and how far it came; then its end, after a jump.
PLAY = """async (url, seconds) => {
  const audio = new Audio();
  const happens = name => new Promise((resolve, reject) => {
    audio.addEventListener(name, resolve, {once: true});
    audio.addEventListener('error', () => reject(new Error(audio.error.message)), {once: true});
  });
  const known = happens('loadedmetadata');
  audio.src = url;
  await known;
  const duration = audio.duration;
  await audio.play();
  const began = performance.now();
  while (audio.currentTime < seconds && performance.now() - began < 20000) {
    await new Promise(resolve => setTimeout(resolve, 20));
  }
  const played = audio.currentTime, took = (performance.now() - began) / 1000;
  const ended = happens('ended');
  audio.currentTime = duration - 0.5;
  await ended;
  return {duration, played, took, end: audio.currentTime};
}"""


def duration_ms(path):
    """A file's length by the samples that ffmpeg decodes; ffprobe counts those with it that are to be dropped at the start."""
    decode = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", "48000", "-"]
    samples = subprocess.run(decode, check=True, capture_output=True).stdout
    return round(len(samples) / 2 / 48)


def as_phones_do(directory, wav):
    """The sound as AAC in MP4."""
    path = Path(directory) / "phone.m4a"
    encode = ["ffmpeg", "-v", "error", "-y", "-i", "-", "-c:a", "aac", str(path)]
    subprocess.run(encode, check=True, input=wav)
    return path.read_bytes()


class Browser(unittest.TestCase):
    """One recording session in Chromium, delivered by Hansard whole and in slices."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="hansard-browser-")
        cls.addClassCleanup(cls.directory.cleanup)
        cls.browser = chromium.Chromium()
        cls.addClassCleanup(cls.browser.close)
        wav = base64.b64encode(hansard.piece(1, SECONDS)).decode()
        page = cls.browser.page()
        recorded = cls.browser.run(page, RECORD, wav, TYPES)
        cls.recorded = {name: [base64.b64decode(blob) for blob in blobs] for name, blobs in recorded.items()}
        speech = hansard.Speech(cls.directory.name)
        cls.addClassCleanup(speech.stop)
        cls.hansard = hansard.Hansard(speech)
        cls.addClassCleanup(cls.hansard.stop)
        cls.statuses = {}
        for kind, content_type in TYPES.items():
            [whole] = cls.recorded[f"{kind}-whole"]
            slices = cls.recorded[f"{kind}-slices"]
            cls.deliver(f"{kind}-whole", [whole], content_type)
            cls.deliver(f"{kind}-slices", slices, content_type)
            # The slices together are a file; what is in it is in them.
            cls.deliver(f"{kind}-joined", [b"".join(slices)], content_type)
        phone = [as_phones_do(cls.directory.name, hansard.piece(number, SECONDS)) for number in (1, 2)]
        cls.deliver("phone", phone, "audio/mp4", slices=False)
        for name in cls.statuses:
            cls.statuses[name] = cls.hansard.await_delivered(name)

    @classmethod
    def deliver(cls, name, chunks, content_type, slices=True):
        cls.hansard.open(name)
        for number, chunk in enumerate(chunks):
            continues = {"continues": True} if slices and number else {}
            cls.hansard.upload(name, f"{number:03}", chunk, content_type, sequence=number, **continues)
        cls.hansard.finish(name, expected_chunks=len(chunks))
        cls.statuses[name] = None

    def link(self, name):
        """A link to the merged file."""
        return self.hansard.call("GET", f"/v1/conversations/{name}/audio")["url"]

    def merged_ms(self, name):
        path = Path(self.directory.name) / f"{name}.ogg"
        with urllib.request.urlopen(self.link(name), timeout=60) as answer:
            path.write_bytes(answer.read())
        return duration_ms(path)

    def test_slices_are_the_whole_recording(self):
        for kind in TYPES:
            slices, joined, whole = (self.statuses[f"{kind}-{form}"] for form in ("slices", "joined", "whole"))
            for status in (slices, joined, whole):
                self.assertEqual((status["status"], status["outcome"]), ("delivered", "complete"), status)
                self.assertTrue(all(chunk["status"] == "complete" for chunk in status["chunks"]), status)
            self.assertGreaterEqual(len(slices["chunks"]), SECONDS - 1)
            total = sum(chunk["duration_ms"] for chunk in slices["chunks"])
            self.assertEqual(total, joined["chunks"][0]["duration_ms"], kind)
            # Another recorder began and ended a moment earlier or later.
            self.assertAlmostEqual(total, whole["chunks"][0]["duration_ms"], delta=2 * PACKET_MS)
            self.assertAlmostEqual(total, 1000 * SECONDS, delta=500)
            self.assertEqual(self.merged_ms(f"{kind}-slices"), self.merged_ms(f"{kind}-joined"), kind)
            self.assertAlmostEqual(self.merged_ms(f"{kind}-slices"), total, delta=1)

    def test_most_slices_have_no_header(self):
        """Otherwise this would not show what it is to show."""
        for kind, magic in (("webm", b"\x1a\x45\xdf\xa3"), ("mp4", b"ftyp")):
            having = [magic in blob[:8] for blob in self.recorded[f"{kind}-slices"]]
            self.assertEqual(having, [True] + [False] * (len(having) - 1), kind)

    def test_the_merged_file_plays(self):
        page = self.browser.page()
        for name in ("webm-slices", "mp4-slices", "webm-whole"):
            played = self.browser.run(page, PLAY, self.link(name), 0.5)
            seconds = sum(chunk["duration_ms"] for chunk in self.statuses[name]["chunks"]) / 1000
            self.assertAlmostEqual(played["duration"], seconds, delta=DELAY_S + 0.01, msg=name)
            self.assertGreaterEqual(played["played"], 0.5, (name, played))
            self.assertLess(played["played"], played["took"] + 0.5, (name, played))
            self.assertAlmostEqual(played["end"], played["duration"], delta=0.05, msg=name)

    def test_what_phones_record_is_copied_and_plays(self):
        merged = self.hansard.call("GET", "/v1/conversations/phone/audio")
        self.assertEqual((merged["format"], len(merged["inputs"])), ("m4a", 2), merged)
        played = self.browser.run(self.browser.page(), PLAY, merged["url"], 0.5)
        self.assertAlmostEqual(played["duration"], merged["duration_ms"] / 1000, delta=0.01)
        # Between the two stay what fills the first one's last packet and the second one's delay.
        self.assertAlmostEqual(played["duration"], 2 * SECONDS, delta=0.1)
        self.assertGreaterEqual(played["played"], 0.5, played)
        self.assertAlmostEqual(played["end"], played["duration"], delta=0.05)

    def test_the_page_shows_the_conversations(self):
        page = self.browser.page(self.hansard.url)
        script = """async names => {
          const shown = () => names.filter(name => !(document.body?.innerText || '').includes(name));
          for (let n = 0; n < 100 && shown().length; n++) await new Promise(resolve => setTimeout(resolve, 100));
          return shown();
        }"""
        self.assertEqual(self.browser.run(page, script, list(self.statuses)), [], "names that are not shown")
