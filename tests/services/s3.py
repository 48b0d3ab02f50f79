"""Versity's S3 gateway over a directory: an S3 server that is not ours, so that the client is not proven on itself."""

import os

import certificates
import service

VERSION = "1.8.0"
ACCESS_KEY, SECRET_KEY, REGION = "hansard-tests", "hansard-tests-secret", "us-east-1"


def start(home):
    """Starts the gateway in `home`; returns the environment that leads to it."""
    return service.start(home, _launch)


def _fetch(target):
    module = f"github.com/versity/versitygw/cmd/versitygw@v{VERSION}"
    service.retried(["go", "install", module], env={**os.environ, "GOBIN": str(target), "CGO_ENABLED": "0"})


def secured(home, data):
    """Starts another gateway in `home`, with TLS, over the data of the first; returns its URL."""

    def launch(home):
        certificates.make(home)
        port = service.free_port()
        options = ["--cert", home / "server.crt", "--key", home / "server.key"]
        at = {"HANSARD_TEST_S3": f"https://localhost:{port}"}
        command = _command(port, data, *options)
        # The beginning of a handshake, and that of its answer.
        hello = {"greeting": certificates.client_hello(), "answer": b"\x16\x03"}
        return service.Launch(home, command, port=port, environment=at, seconds=60, **hello)

    return service.start(home, launch)["HANSARD_TEST_S3"]


def _command(port, data, *options):
    program = service.cached(f"versitygw-{VERSION}", _fetch) / "versitygw"
    keys = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--region", REGION]
    return [program, *keys, "--port", f"127.0.0.1:{port}", *options, "posix", data]


def _launch(home):
    port = service.free_port()
    (home / "data").mkdir()
    return service.Launch(
        home,
        _command(port, home / "data"),
        port=port,
        greeting=b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        # Without a signature it refuses, which it can only do once it serves.
        answer=b"HTTP/1.1 403",
        environment={
            "HANSARD_TEST_S3": f"http://127.0.0.1:{port}",
            "HANSARD_TEST_S3_ACCESS_KEY": ACCESS_KEY,
            "HANSARD_TEST_S3_SECRET_KEY": SECRET_KEY,
            "HANSARD_TEST_S3_REGION": REGION,
            # Each directory in it is a bucket.
            "HANSARD_TEST_S3_DATA": str(home / "data"),
        },
        seconds=60,
    )
