"""A real Chromium without a window, spoken to by its DevTools protocol over a pipe: JSON, each message ended by a zero byte.

Python's standard library is all that it needs. The pipe is the files 3 and 4 of the browser's process
(`--remote-debugging-pipe`), so that there is no port and nobody else can speak to it.
"""

import itertools
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time

ANSWER_WITHIN_S = 60
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
]


class Chromium:
    """A browser with a profile of its own."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="hansard-chromium-")
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        program = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
        command = [program, *FLAGS, f"--user-data-dir={self.directory}", "about:blank"]

        def connect():
            # By way of high numbers, since one of the pipe's own may be 3 or 4.
            source = os.dup2(theirs_in, 200), os.dup2(theirs_out, 201)
            os.dup2(source[0], 3)
            os.dup2(source[1], 4)

        with open(os.path.join(self.directory, "log"), "wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, close_fds=False, preexec_fn=connect, start_new_session=True
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self.out, self.incoming = ours_out, ours_in
        self.numbers, self.bytes = itertools.count(1), b""

    def message(self, end):
        """The next message, or what is wrong."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.incoming, selectors.EVENT_READ)
            while b"\0" not in self.bytes:
                if not selector.select(max(end - time.monotonic(), 0)):
                    raise TimeoutError(f"Chromium did not answer within {ANSWER_WITHIN_S} s")
                part = os.read(self.incoming, 1 << 16)
                if not part:
                    raise ConnectionError("Chromium has ended")
                self.bytes += part
        message, self.bytes = self.bytes.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, page=None, **parameters):
        """Calls a method of the protocol and gives its result."""
        number, end = next(self.numbers), time.monotonic() + ANSWER_WITHIN_S
        call = {"id": number, "method": method, "params": parameters}
        if page:
            call["sessionId"] = page
        left = json.dumps(call).encode() + b"\0"
        while left:
            left = left[os.write(self.out, left) :]
        while True:
            message = self.message(end)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def page(self, url="about:blank", width=1280, height=900):
        """Opens a page; what it gives names the page."""
        target = self.call("Target.createTarget", url=url, newWindow=True, width=width, height=height)["targetId"]
        return self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def run(self, page, script, *arguments):
        """Runs an async function in the page with these arguments, and gives what it returns."""
        values = ", ".join(json.dumps(argument) for argument in arguments)
        expression = f"({script})({values})"
        result = self.call(
            "Runtime.evaluate", page, expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def close(self):
        """Ends it with all its processes."""
        try:
            self.call("Browser.close")
            self.process.wait(timeout=10)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.out)
        os.close(self.incoming)
        shutil.rmtree(self.directory, ignore_errors=True)
