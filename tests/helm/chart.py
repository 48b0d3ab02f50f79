"""The chart by itself: Helm reads it, Kubernetes would take what it gives, and wrong values are refused by name."""

import json
import subprocess
import unittest

import tools

MINIMAL = tools.VALUES / "minimal.yaml"
# Wrong values, and what the refusal has to name.
REFUSED = [
    (["--set", "replicas=3"], "replicas"),
    (["--set", "jobs.split.replica=3"], "replica"),
    (["--set", "jobs.split.kind=DaemonSet"], "kind"),
    (["--set", "jobs.split.run={split,mix}"], "run"),
    (["--set", "jobs.sweep=null"], "no process runs the job sweep"),
    (["--set", "jobs.split=null"], "no process runs the job split"),
    (["--set", "jobs.split.run={split,gateway}"], "several of jobs run gateway"),
    (["--set", "keda.enabled=true"], "set keda.prometheusAddress"),
    (["--set", "jobs.split.scale.age=5"], "scale"),
    (["--set-json", 'settings={"s3.secret-key":"open"}'], "s3.secret-key"),
    (["--set-json", 'settings={"run.listen":"0.0.0.0:1"}'], "run.listen"),
    (["--set-json", 'settings={"kafka.brokers":""}'], "kafka.brokers is not set"),
    (["--set-json", 'settings={"speech.provider":"local"}'], "speech.provider"),
    (["--set-json", 'secrets={"store.password":"open"}'], "store.password"),
    (["--set-json", 'secrets={"store.password":{"name":"a","value":"b"}}'], "store.password"),
    (["--set", "ingress.enabled=true"], "ingress.host is not set"),
    (["--set", "serviceMonitor.enabled=true"], "serviceMonitor.credentials.name is not set"),
    (["--set", "drainSeconds=0"], "drainSeconds"),
]


class Chart(unittest.TestCase):
    """What Helm, Kubernetes' schemas and the chart's own suites say."""

    def test_helm_finds_nothing_to_mend(self):
        for values in tools.sets():
            with self.subTest(values):
                path = tools.VALUES / f"{values}.yaml"
                code, out, said = tools.helm(
                    "lint", "--strict", tools.CHART, "-f", path, f"--kube-version={tools.KUBERNETES}"
                )
                self.assertEqual(code, 0, out + said)
                self.assertNotIn("[WARNING]", out)

    def test_kubernetes_takes_every_resource(self):
        for values in tools.sets():
            with self.subTest(values):
                done = conform(json.dumps({"apiVersion": "v1", "kind": "List", "items": tools.rendered(values)}))
                told = json.loads(done.stdout)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertEqual(told["summary"]["valid"], len(tools.rendered(values)), told)
                self.assertEqual(told["summary"]["skipped"], 0, told)

    def test_the_schemas_refuse_what_they_do_not_name(self):
        kinds = {"Deployment", "StatefulSet", "NetworkPolicy", "ScaledObject", "ServiceMonitor", "PrometheusRule"}
        wrong = [json.loads(json.dumps(each)) for each in tools.rendered("full") if each["kind"] in kinds]
        self.assertEqual({each["kind"] for each in wrong}, kinds)
        for each in wrong:
            each["spec"]["misspelt"] = True
            self.assertNotEqual(conform(json.dumps(each)).returncode, 0, each["kind"])

    def test_wrong_values_are_refused_by_name(self):
        for arguments, text in REFUSED:
            with self.subTest(arguments):
                code, out, said = tools.template("-f", MINIMAL, *arguments)
                self.assertNotEqual(code, 0, out)
                self.assertIn(text, said)

    def test_what_is_missing_is_named(self):
        needed = ["--set-json", 'settings={"kafka.brokers":"a:1","store.nodes":"b:1","s3.bucket":"c"}']
        for arguments, text in [([], "kafka.brokers is not set"), (needed, "keys is not set; name an existing Secret")]:
            code, out, said = tools.template(*arguments)
            self.assertNotEqual(code, 0, out)
            self.assertIn(text, said)

    def test_the_charts_own_suites_pass(self):
        command = [tools.unittest(), "--strict", "--file", "tests/*_test.yaml", tools.CHART]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"Tests:\s+[1-9]\d* passed")

    def test_no_pod_is_more_than_it_must_be(self):
        for values in tools.sets():
            for pod in pods(values):
                with self.subTest(values, pod=pod["containers"][0]["args"]):
                    self.assertIs(pod["automountServiceAccountToken"], False)
                    self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                    self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                    container = pod["containers"][0]
                    security = container["securityContext"]
                    self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
                    self.assertTrue(security["readOnlyRootFilesystem"])
                    self.assertFalse(security["allowPrivilegeEscalation"])
                    self.assertIn("memory", container["resources"]["limits"])
                    plain = [each["name"] for each in container["env"] if "KEY" in each["name"] and "value" in each]
                    self.assertTrue(all(name.endswith("_FILE") for name in plain), plain)


def conform(text):
    """Asks kubeconform, with local schemas only."""
    place = f"{tools.schemas()}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    options = ["-strict", "-summary", "-output", "json", "-schema-location", place]
    command = [tools.program(tools.KUBECONFORM), *options, "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def pods(values):
    """The pods of a value set."""
    for each in tools.rendered(values):
        if each["kind"] == "Pod":
            yield each["spec"]
        elif each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield each["spec"]["template"]["spec"]
