"""Apicurio Registry with the Confluent API: the schema registry against which schemas are registered and checked. A
second port has TLS."""

import shutil
import urllib.request

import certificates
import service

VERSION = "3.3.3"
API = "/apis/ccompat/v7"


def start(home):
    """Starts the registry in `home`, in memory and with full transitive compatibility."""
    environment = service.start(home, _launch)
    # It allows everything until it is told otherwise.
    change = urllib.request.Request(
        environment["HANSARD_TEST_REGISTRY"] + "/config",
        data=b'{"compatibility": "FULL_TRANSITIVE"}',
        headers={"Content-Type": "application/json"},
        method="PUT",
    )
    with urllib.request.urlopen(change, timeout=30):
        return environment


def _fetch(target):
    service.from_maven(target, [f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"])
    for archive in target.glob("*.tar.gz"):
        shutil.unpack_archive(archive, target)
        archive.unlink()


def _launch(home):
    port, secured, management = service.free_port(), service.free_port(), service.free_port()
    certificates.make(home)
    program = service.cached(f"apicurio-{VERSION}", _fetch)
    properties = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": port,
        "quarkus.http.insecure-requests": "enabled",
        "quarkus.http.ssl-port": secured,
        "quarkus.http.ssl.certificate.files": home / "server.crt",
        "quarkus.http.ssl.certificate.key-files": home / "server.key",
        "quarkus.management.host": "127.0.0.1",
        "quarkus.management.port": management,
        "quarkus.log.level": "WARN",
    }
    command = [*service.jvm(home, 21), "-Xmx384m"]
    command += [f"-D{key}={value}" for key, value in properties.items()]
    return service.Launch(
        home,
        command + ["-jar", program / "quarkus-run.jar"],
        port=port,
        greeting=f"GET {API}/subjects HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode(),
        answer=b"HTTP/1.1 200",
        environment={
            "HANSARD_TEST_REGISTRY": f"http://127.0.0.1:{port}{API}",
            "HANSARD_TEST_REGISTRY_SECURED": f"https://localhost:{secured}{API}",
            "HANSARD_TEST_REGISTRY_AUTHORITIES": str(home),
        },
        seconds=120,
    )
