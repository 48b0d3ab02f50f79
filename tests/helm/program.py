"""The chart against the program: every job, command, option, topic and metric that it names exists, no job is missing,
and the image has the libraries that the program wants."""

import functools
import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import certificates
import hansard
import tools
from chart import pods

# The packages of Debian 12 that have what the program is linked to; libc6 is in every image.
PACKAGES = {"libz": "zlib1g", "libssl": "libssl3", "libcrypto": "libssl3", "libgcc_s": "libgcc-s1"}
IN_EVERY_IMAGE = {"libc", "libm", "ld-linux-x86-64", "linux-vdso", "libdl", "libpthread", "librt"}


class Program(unittest.TestCase):
    """What the chart names, and what the program has."""

    def test_every_container_configures_the_program(self):
        for values in tools.sets():
            files = [each["data"]["hansard.toml"] for each in tools.rendered(values) if each["kind"] == "ConfigMap"]
            self.assertEqual(len(set(files)), 1, "the hooks have other settings than the processes")
            for pod in pods(values):
                with self.subTest(values, pod=pod["containers"][0]["args"]):
                    self.configure(pod, files[0])

    def configure(self, pod, settings):
        """The program reads what the pod gives it, and nothing that it does not know."""
        given = pod["containers"][0]["env"]
        with tempfile.TemporaryDirectory(prefix="hansard-helm-") as directory:
            path = Path(directory) / "hansard.toml"
            path.write_text(settings, encoding="utf-8")
            secret = Path(directory) / "secret"
            environment = {each["name"]: each.get("value", "a-pod-0") for each in given}
            self.assertEqual(environment["HANSARD_CONFIG"], "/etc/hansard/settings/hansard.toml")
            environment = {name: value for name, value in environment.items() if name.startswith("HANSARD_")}
            signing, kafka = Path(directory) / "signing", Path(directory) / "kafka"
            files = {"HANSARD_WEBHOOK_SECRET_FILE": signing, "HANSARD_KAFKA_SET_FILE": kafka}
            certificates.make(Path(directory))
            for name in environment:
                if name.endswith("_CA"):
                    environment[name] = f"{directory}/authority.pem"
                elif name.endswith("_FILE"):
                    environment[name] = str(files.get(name, secret))
            secret.write_text("name:operator:0123456789abcdef0123456789abcdef=", encoding="utf-8")
            kafka.write_text("security.protocol=SSL", encoding="utf-8")
            signing.write_text(f"whsec_{'A' * 32}", encoding="utf-8")
            environment["HANSARD_CONFIG"] = str(path)
            code, out, said = hansard.run("config", "print", "--json", env=hansard.environment(**environment))
        self.assertEqual(code, 0, said)
        shown = json.loads(out)
        self.assertEqual(shown["run.admin-listen"], {"source": "file", "value": "0.0.0.0:8081"})
        found = [key for key, value in shown.items() if value["source"] == "environment"]
        self.assertEqual(len(found), len(environment) - 1, "all but the file's name are settings")

    def test_every_command_exists(self):
        for values in tools.sets():
            for pod in pods(values):
                words = pod["containers"][0]["args"]
                code, _, said = hansard.run(*words, "--help")
                self.assertEqual(code, 0, said)

    def test_the_jobs_are_the_programs(self):
        _, help_text, _ = hansard.run("run", "--help")
        jobs = re.findall(r"^ +- ([a-z]+):", help_text, re.MULTILINE)
        self.assertIn("aggregate", jobs)
        allowed = schema()["jobs"]["additionalProperties"]["properties"]["run"]["items"]["enum"]
        self.assertEqual(sorted(allowed), sorted(jobs))
        for values in tools.sets():
            words = [pod["containers"][0]["args"] for pod in pods(values)]
            running = [job for command in words if command[0] == "run" for job in command[1:]]
            self.assertEqual(sorted(running), sorted(jobs), values)

    def test_secrets_and_settings_are_the_programs(self):
        _, out, _ = hansard.run("config", "print", "--json")
        known = set(json.loads(out))
        _, help_text, _ = hansard.run("run", "--help")
        names = re.findall(r"or HANSARD_([A-Z0-9_]+)_FILE", help_text)
        variable = lambda key: key.upper().replace(".", "_").replace("-", "_")
        secrets = set(schema()["secrets"]["properties"])
        files = {key for key in known if key.endswith(".ca")} | {"speech.redaction-rules"}
        self.assertEqual({variable(key) for key in secrets - files}, set(names))
        self.assertLess(files, secrets)
        refused = set(schema()["settings"]["propertyNames"]["not"]["enum"])
        self.assertLess(secrets, refused)
        self.assertEqual(refused - known, set())

    def test_every_topic_and_group_exists(self):
        source = (tools.ROOT / "schemas" / "src" / "topics.rs").read_text(encoding="utf-8")
        topics = set(re.findall(r'f\.write_str\("([a-z]+)"\)', source))
        self.assertIn("uploads", topics)
        named, groups = set(), set()
        for each in tools.rendered("full"):
            if each["kind"] == "ScaledObject":
                triggers = [trigger["metadata"] for trigger in each["spec"]["triggers"] if trigger["type"] == "kafka"]
                named |= {trigger["topic"] for trigger in triggers}
                groups |= {trigger["consumerGroup"] for trigger in triggers}
        self.assertTrue(named)
        self.assertEqual({name for name in named if name.removeprefix("speech.") not in topics}, set())
        stages = set(re.findall(r'Self::[A-Z]\w+ => "([a-z]+)"', source))
        self.assertEqual({name for name in groups if name.removeprefix("speech.") not in stages}, set())

    def test_every_metric_exists(self):
        program = Path(hansard.binary()).read_bytes()
        text = json.dumps(
            [each for each in tools.rendered("full") if each["kind"] in ("ScaledObject", "PrometheusRule")]
        )
        metrics = {name.removesuffix("_bucket") for name in re.findall(r"hansard_[a-z_]+", text)}
        self.assertGreater(len(metrics), 4)
        self.assertEqual({name for name in metrics if name.encode() not in program}, set())
        self.assertNotIn(b"hansard_of_no_such_name", program)

    def test_every_alert_says_what_to_do(self):
        rules = [each for each in tools.rendered("full") if each["kind"] == "PrometheusRule"]
        alerts = [rule for each in rules for group in each["spec"]["groups"] for rule in group["rules"]]
        self.assertGreater(len(alerts), 4)
        for alert in alerts:
            self.assertGreater(len(alert["annotations"]["runbook"].split()), 6, alert["alert"])


class Image(unittest.TestCase):
    """The Dockerfile, as far as it can be read without building it."""

    def test_it_has_the_libraries_of_the_program(self):
        final = dockerfile().split("\nFROM ")[-1]
        out = subprocess.run(["ldd", hansard.binary()], capture_output=True, text=True, check=True).stdout
        libraries = set(re.findall(r"([\w-]+)\.so", out)) - IN_EVERY_IMAGE
        self.assertIn("libssl", libraries)
        self.assertEqual(libraries - set(PACKAGES), set(), "no package is known")
        for library in libraries:
            self.assertRegex(final, rf"(?m)\s{re.escape(PACKAGES[library])}\s", library)

    def test_it_builds_what_runs_with_the_projects_rust(self):
        text = dockerfile()
        version = re.search(r'rust-version = "(\d+\.\d+)', (tools.ROOT / "Cargo.toml").read_text(encoding="utf-8"))[1]
        self.assertIn(f"FROM rust:{version}-", text)
        self.assertIn("-p hansard --bin hansard", text)
        self.assertRegex(text, r"(?m)^USER [1-9]\d*:[1-9]\d*$")
        user = re.search(r"USER (\d+):", text)[1]
        for pod in pods("minimal"):
            self.assertEqual(str(pod["securityContext"]["runAsUser"]), user)


@functools.cache
def schema():
    """The properties of the values' schema."""
    return json.loads((tools.CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]


def dockerfile():
    """The Dockerfile."""
    return (tools.ROOT / "helm" / "Dockerfile").read_text(encoding="utf-8")
