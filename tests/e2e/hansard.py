"""The program under test as a process, its HTTP calls, and the speech provider for tests: what the suites share.

Python's standard library is all that it needs. HANSARD_TEST_BINARY names a built program; without it the release build is
made and used.
"""

import functools
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FULL = os.environ.get("HANSARD_TEST_FULL") == "1"
DELIVERED_WITHIN_S = 120


@functools.cache
def binary():
    """The program."""
    if given := os.environ.get("HANSARD_TEST_BINARY"):
        return given
    command = ["cargo", "build", "--locked", "--workspace", "--bins", "--release", "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True)
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, check=True, capture_output=True
    )
    return str(Path(json.loads(metadata.stdout)["target_directory"]) / "release" / "hansard")


def environment(**more):
    """The tests' own environment without what would configure the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HANSARD_")}
    if cache := os.environ.get("HANSARD_CACHE"):
        kept["HANSARD_CACHE"] = cache
    return {**kept, **more}


def run(*arguments, env=None, within=300):
    """Runs the program to its end: exit code, standard output, standard error."""
    done = subprocess.run(
        [binary(), *arguments], env=env or environment(), capture_output=True, text=True, timeout=within, check=False
    )
    return done.returncode, done.stdout, done.stderr


class Answer(Exception):
    """An answer of the gateway other than success."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status
        self.code, self.body = body.get("code"), body


class Speech:
    """The speech provider for tests."""

    name = "speech"

    def __init__(self, directory, *options):
        self.ledger = Path(directory) / f"ledger-{self.name}"
        script = ROOT / "tests" / "providers" / f"fake_{self.name}.py"
        command = ["python3", "-B", str(script), "--ledger", str(self.ledger), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        scheme = "https" if "--certificate" in options else "http"
        self.url = f"{scheme}://127.0.0.1:{int(self.process.stdout.readline())}"

    def calls(self):
        """The calls so far."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [json.loads(line) for line in lines]

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Chat(Speech):
    """The chat provider for tests."""

    name = "chat"


class Hansard:
    """`hansard up` on a data directory of its own."""

    # What calls say of their caller's trace.
    traceparent = None

    def __init__(self, speech, listen="127.0.0.1:0", **settings):
        self.directory = tempfile.mkdtemp(prefix="hansard-e2e-")
        self.settings = {"listen": listen, "speech-provider": "openai", "openai-url": speech.url, **settings}
        self.process = None
        self.tokens = {}
        self.start()

    def command(self):
        """The command line."""
        flags = [f"--{name}={value}" for name, value in self.settings.items()]
        return [binary(), "up", "--json", f"--data-dir={self.directory}/data", *flags]

    def start(self):
        """Starts it and waits until it takes calls."""
        said = Path(self.directory) / "log"
        with said.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command(), env=environment(), stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"hansard did not start: {said.read_text()[-2000:]}")
        self.url = json.loads(line)["url"]

    def kill(self):
        """Ends it without warning."""
        self.process.kill()
        self.close()

    def stop(self):
        """Asks it to end; gives its exit code, and removes its data."""
        self.leave()
        shutil.rmtree(self.directory)
        return self.process.returncode

    def restart(self, **settings):
        """Asks it to end, and starts it on its data with other settings."""
        self.leave()
        self.settings |= settings
        self.start()

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        self.close()

    def logs(self):
        """The end of its log, for a failure."""
        return (Path(self.directory) / "log").read_text()[-1500:]

    def close(self):
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def call(self, method, path, body=None):
        """A call of the gateway: the answer's JSON, or `Answer`."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        if self.traceparent:
            headers["traceparent"] = self.traceparent
        # What was opened may be unknown to the database for a moment: the token of the opening needs none.
        conversation = path.removeprefix("/v1/conversations/").split("/")[0]
        if method == "POST" and conversation in self.tokens:
            headers["authorization"] = f"Bearer {self.tokens[conversation]}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        return answer_of(request)

    def open(self, conversation, **opening):
        opened = self.call("POST", "/v1/conversations", {"id": conversation, **opening})
        self.tokens[conversation] = opened["upload_token"]
        return opened

    def invite(self, conversation, chunk, content, content_type="audio/wav", **more):
        """Declares a chunk; the invitation says how it is uploaded."""
        declared = {"chunk_id": chunk, "content_type": content_type, "bytes": len(content), "recorded_at": 0}
        declared = {"sha256": hashlib.sha256(content).hexdigest(), **declared, **more}
        return self.call("POST", f"/v1/conversations/{conversation}/chunks", declared)

    def confirm(self, conversation, chunk, invited):
        path = f"/v1/conversations/{conversation}/chunks/{chunk}/confirm"
        return self.call("POST", path, {"upload": invited["upload"]})

    def upload(self, conversation, chunk, content, content_type="audio/wav", **more):
        """Everything that brings a chunk in."""
        invited = self.invite(conversation, chunk, content, content_type, **more)
        put(invited, content)
        return self.confirm(conversation, chunk, invited)

    def finish(self, conversation, **finish):
        return self.call("POST", f"/v1/conversations/{conversation}/finish", finish)

    def status(self, conversation):
        return self.call("GET", f"/v1/conversations/{conversation}")

    def await_status(self, conversation, wanted, within=DELIVERED_WITHIN_S):
        """The status once `wanted` holds for it."""
        end, status = time.monotonic() + within, None
        while time.monotonic() < end:
            try:
                status = self.status(conversation)
                if wanted(status):
                    return status
            except Answer as answer:
                if answer.code != "unknown_conversation":
                    raise
            time.sleep(0.1)
        raise AssertionError(f"not within {within} s: {json.dumps(status)}")

    def await_delivered(self, conversation, revision=1, within=DELIVERED_WITHIN_S):
        """The status once this revision or a later one is delivered."""
        done = lambda status: status["status"] == "delivered" and status["revision"] >= revision
        return self.await_status(conversation, done, within)


def put(invited, content):
    """Sends the bytes of an invited chunk."""
    link = invited["put"]
    headers = {name: value for name, value in link["headers"].items() if name not in ("host", "content-length")}
    request = urllib.request.Request(link["url"], content, headers, method="PUT")
    return answer_of(request)


def answer_of(request):
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
        try:
            problem = json.loads(body)
        except ValueError:
            problem = {}
        raise Answer(error.code, problem) from None
    try:
        return json.loads(body)
    except ValueError:
        return body


def recording(name="beckett.wav"):
    """A real recording that comes with the local model, as (samples, rate); the demonstration fetches it."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(os.environ.get("HANSARD_CACHE") or Path(home) / "hansard")
    [path] = cache.glob(f"models/*/moonshine_voice/assets/{name}")
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2), path
        return file.readframes(file.getnframes()), file.getframerate()


def wav(samples, rate):
    """A WAV file of mono samples of 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    return out.getvalue()


def piece(number, seconds=3):
    """A piece of a real recording; each number gives other bytes, all with speech in them."""
    samples, rate = recording()
    # Beyond the end it begins anew, two samples later than before.
    start = 2 * 16 * number % (len(samples) - 2 * rate * seconds)
    return wav(samples[start : start + 2 * rate * seconds], rate)
