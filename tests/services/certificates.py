"""Certificates for the encrypted listeners of a service: by an authority made for the run."""

import ssl
import subprocess

import service

# Of the stores with keys that want one.
PASSWORD = "hansard-tests-password"


def make(home):
    """In `home`: `authority.pem`; `server.key` and `server.crt`, by that authority for this machine, both in one file
    `server.pem` and in one store `server.p12`; and `stranger.pem`, an authority that nobody here is known to."""
    request = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout"]
    for name in ("authority", "stranger"):
        _openssl(home, *request, f"{name}.key", "-x509", "-days", "2", "-subj", f"/CN={name}", "-out", f"{name}.pem")
    _openssl(home, *request, "server.key", "-subj", "/CN=localhost", "-out", "server.csr")
    (home / "server.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="utf-8")
    sign = ["x509", "-req", "-in", "server.csr", "-days", "2", "-extfile", "server.ext", "-CAcreateserial"]
    _openssl(home, *sign, "-CA", "authority.pem", "-CAkey", "authority.key", "-out", "server.crt")
    both = [(home / name).read_text(encoding="utf-8") for name in ("server.key", "server.crt")]
    (home / "server.pem").write_text("".join(both), encoding="utf-8")
    _openssl(home, "pkcs12", "-export", "-in", "server.pem", "-out", "server.p12", "-passout", f"pass:{PASSWORD}")


def client_hello():
    """What a client says first."""
    begun = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), begun, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return begun.read()
    raise service.ServiceError("a handshake ended without the other side")


def _openssl(home, *arguments):
    done = subprocess.run(["openssl", *arguments], cwd=home, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise service.ServiceError(f"no certificate could be made:\n{done.stderr}")
