"""What the chart is tested with, fetched once into the cache: helm, kubeconform, helm-unittest, and the schemas of
Kubernetes, KEDA and the Prometheus operator."""

import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import service

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm" / "hansard"
VALUES = Path(__file__).resolve().parent / "values"
KUBERNETES, KUBERNETES_VALIDATE = "1.34.0", "1.34.1"
HELM = "helm.sh/helm/v3/cmd/helm@v3.20.2"
KUBECONFORM = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"
UNITTEST = "github.com/helm-unittest/helm-unittest@v1.1.2"
# The resources of others that the chart makes: module, and where in it they are defined.
FOREIGN = {
    "github.com/kedacore/keda/v2@v2.16.1": ["config/crd/bases/keda.sh_scaledobjects.yaml"],
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": [
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
}


def go(*arguments, **environment):
    """Runs `go`; programs are made without C, so that they need no compiler."""
    service.retried(["go", *arguments], env={**os.environ, "CGO_ENABLED": "0", **environment})


def module(name):
    """The directory of a module in Go's own cache."""
    go("mod", "download", name)
    told = subprocess.run(["go", "mod", "download", "-json", name], capture_output=True, check=True)
    return Path(json.loads(told.stdout)["Dir"])


def program(package):
    """The path of a Go program."""
    name, version = package.split("/")[-1].split("@")
    fetch = lambda target: go("install", package, GOBIN=str(target))
    return service.cached(f"{name}-{version}", fetch) / name


def unittest():
    """The path of helm-unittest, which replaces modules and so can only be built from its own directory."""
    name, version = UNITTEST.split("/")[-1].split("@")
    fetch = lambda target: go("build", "-C", str(module(UNITTEST)), "-o", str(target / name), "./cmd/helm-unittest")
    return service.cached(f"{name}-{version}", fetch) / name


@functools.cache
def python():
    """The directory with Kubernetes' schemas and the YAML reader, both Python packages."""
    packages = ["kubernetes-validate==" + KUBERNETES_VALIDATE, "PyYAML==6.0.3"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]
    return service.cached(
        f"chart-python-{KUBERNETES_VALIDATE}", lambda target: service.retried([*pip, str(target), *packages])
    )


@functools.cache
def yaml():
    """The YAML reader."""
    sys.path.insert(0, str(python()))
    return importlib.import_module("yaml")


@functools.cache
def schemas():
    """The directory with schemas for kubeconform: Kubernetes' and those of others."""
    return service.cached(f"chart-schemas-{KUBERNETES}", _collect)


def _collect(target):
    own = python() / "kubernetes_validate" / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    for path in own.glob("*.json"):
        # They name themselves and their definitions by places in the network.
        schema = json.loads(path.read_text(encoding="utf-8").replace("/api/_definitions.json", "_definitions.json"))
        schema.pop("$id", None)
        (target / path.name).write_text(json.dumps(schema), encoding="utf-8")
    if not (target / "deployment-apps-v1.json").is_file():
        raise service.ServiceError(f"kubernetes-validate has no schemas in {own}")
    for name, files in FOREIGN.items():
        for file in files:
            definition = yaml().safe_load((module(name) / file).read_text(encoding="utf-8"))["spec"]
            group = definition["group"].split(".")[0]
            for version in definition["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                path = target / f"{definition['names']['kind'].lower()}-{group}-{version['name']}.json"
                path.write_text(json.dumps(schema), encoding="utf-8")


def closed(schema):
    """An OpenAPI schema as a JSON schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema["oneOf"] = [{"type": "string"}, {"type": "integer"}]
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    # What only names metadata leaves its content to Kubernetes.
    if named and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def helm(*arguments):
    """Runs helm with a home of its own: exit code, standard output, standard error."""
    home = {name: os.devnull for name in ("HELM_REPOSITORY_CONFIG", "HELM_REGISTRY_CONFIG", "KUBECONFIG")}
    command = [program(HELM), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **home}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def template(*arguments):
    """Renders the chart."""
    return helm("template", "rel", CHART, "--namespace=speech", f"--kube-version={KUBERNETES}", *arguments)


@functools.cache
def rendered(values):
    """The resources that a value set gives."""
    code, out, said = template("-f", VALUES / f"{values}.yaml")
    if code != 0:
        raise AssertionError(said)
    return [each for each in yaml().safe_load_all(out) if each]


def sets():
    """The names of the value sets."""
    return sorted(path.stem for path in VALUES.glob("*.yaml"))
