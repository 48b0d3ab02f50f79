"""Versity's S3 gateway over a directory: an S3 server that is not ours, so that the client is not proven on itself."""

import os

import service

VERSION = "1.8.0"
ACCESS_KEY, SECRET_KEY, REGION = "hansard-tests", "hansard-tests-secret", "us-east-1"


def start(home):
    """Starts the gateway in `home`; returns the environment that leads to it."""
    return service.start(home, _launch)


def _fetch(target):
    module = f"github.com/versity/versitygw/cmd/versitygw@v{VERSION}"
    service.retried(["go", "install", module], env={**os.environ, "GOBIN": str(target), "CGO_ENABLED": "0"})


def _launch(home):
    port = service.free_port()
    program = service.cached(f"versitygw-{VERSION}", _fetch)
    (home / "data").mkdir()
    keys = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--region", REGION]
    return service.Launch(
        home,
        [program / "versitygw", *keys, "--port", f"127.0.0.1:{port}", "posix", home / "data"],
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
