"""deploy/: what can be checked without Docker and without a cluster: schemas, references, commands."""

import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from flows._server import _MANY_IN_ONE_TRANSACTION

DEPLOY = Path(__file__).parents[1] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUBERNETES = [
    document
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for document in yaml.safe_load_all(file.read_text())
]
API = {
    "ConfigMap": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}
KUBERNETES_VERSIONS = ("1.25", "1.37")
SERVER = ("Deployment", "server")
SECRET_KEYS = {
    "postgres-password",
    "database-url",
    "prefect-auth",
    "aws-access-key-id",
    "aws-secret-access-key",
}


def manifests():
    """Every manifest of Kubernetes, named by kind and name."""
    return [pytest.param(d, id=f"{d['kind']}-{d['metadata']['name']}") for d in KUBERNETES]


def pods():
    """Name and pod template of everything that runs."""
    found = [d for d in KUBERNETES if d["kind"] in ("Deployment", "StatefulSet", "Job")]
    return [pytest.param(d, id=d["metadata"]["name"]) for d in found]


def commands():
    """Every command line that is started anywhere, without repetition."""
    lines = [service["command"] for service in COMPOSE["services"].values() if "command" in service]
    for document in KUBERNETES:
        template = document["spec"].get("template") if "spec" in document else None
        for container in template["spec"]["containers"] if template else []:
            lines += [container["args"]] if "args" in container else []
    return sorted({tuple(map(str, line)) for line in lines})


def options():
    """What is started, with its verbs, and every option that it is given."""
    found = {}
    for line in commands():
        verb = line[:3] if line[0] == "prefect" else line[:2]
        found.setdefault(verb, set()).update(word for word in line if word.startswith("--"))
    return [pytest.param(verb, given, id=" ".join(verb)) for verb, given in found.items()]


def compose_faults(file):
    """What the schema of the Compose specification says against it; nothing if it is valid."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    told = subprocess.run([*check, str(file)], capture_output=True, text=True, check=False)
    assert (told.returncode == 0) == ("validation done" in told.stdout), told.stderr
    return "" if told.returncode == 0 else told.stdout


def manifest(kind, name):
    """A copy of it, to be spoilt."""
    (found,) = [d for d in KUBERNETES if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return deepcopy(found)


def test_compose_is_of_its_schema():
    assert compose_faults(DEPLOY / "compose.yaml") == ""


def test_compose_with_misspelt_fields_is_not(tmp_path):
    misspelt = {"stop_grace_period:": "stop_time:", "retries:": "retry:", "\nvolumes:": "\nvolume:"}
    text = (DEPLOY / "compose.yaml").read_text()
    for word, wrong in misspelt.items():
        text = text.replace(word, wrong)
    (tmp_path / "compose.yaml").write_text(text)
    faults = compose_faults(tmp_path / "compose.yaml")
    assert all(f"'{wrong.strip(chr(10) + ':')}' " in faults for wrong in misspelt.values()), faults


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("document", manifests())
def test_a_manifest_is_of_its_schema(document, version):
    assert kubernetes_validate.validate(document, version, strict=True) == version


def test_a_misspelt_field_or_a_wrong_type_in_a_manifest_is_refused():
    spoilt = [manifest(*SERVER) for _ in range(3)]
    (container,) = spoilt[0]["spec"]["template"]["spec"]["containers"]
    container["readinessprobe"] = container.pop("readinessProbe")
    spoilt[1]["spec"]["replicas"] = "one"
    del spoilt[2]["spec"]["selector"]
    for document, fault in zip(spoilt, ("readinessprobe", "'one'", "'selector'"), strict=True):
        with pytest.raises(kubernetes_validate.ValidationError, match=fault):
            kubernetes_validate.validate(document, KUBERNETES_VERSIONS[-1], strict=True)


def test_compose_refers_to_what_is_there():
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]
    for name, service in services.items():
        assert service["image"], name
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in services[needed]
        for mount in service.get("volumes", []):
            assert mount.partition(":")[0] in volumes
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    assert "gpu" in services["gpu"]["profiles"]
    assert services["mining"]["environment"]["PREFECT_API_URL"] == "http://server:4200/api"


def test_secrets_come_from_the_environment():
    named = set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    required = set(re.findall(r"\$\{([A-Z_]+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert required == {"POSTGRES_PASSWORD", "PREFECT_AUTH", "SAGE_WORKSPACE"}
    assert required <= named
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|AUTH", name):
                assert value.startswith("${"), name
    assert not [d for d in KUBERNETES if d["kind"] == "Secret"]


def test_every_manifest_is_of_a_known_kind_and_has_a_name_of_its_own():
    assert all(d["apiVersion"] == API[d["kind"]] for d in KUBERNETES)
    names = [(d["kind"], d["metadata"]["name"]) for d in KUBERNETES]
    assert len(names) == len(set(names))
    listed = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())
    files = {file.name for file in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert {*listed["resources"], "kustomization.yaml"} == files


@pytest.mark.parametrize("document", pods())
def test_a_pod_fits_together(document):
    spec, template = document["spec"], document["spec"]["template"]
    labels = template["metadata"]["labels"]
    if document["kind"] != "Job":
        assert spec["selector"]["matchLabels"].items() <= labels.items()
    mounted = {v["name"] for v in template["spec"].get("volumes", [])}
    mounted |= {v["metadata"]["name"] for v in spec.get("volumeClaimTemplates", [])}
    settings = {d["metadata"]["name"]: d["data"] for d in KUBERNETES if d["kind"] == "ConfigMap"}
    for container in template["spec"]["containers"]:
        assert {m["name"] for m in container.get("volumeMounts", [])} == mounted
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        known = {
            v for s in container.get("envFrom", []) for v in settings[s["configMapRef"]["name"]]
        }
        assert set(re.findall(r"\$\((\w+)\)", str(container.get("args")))) <= known
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                secret = variable["valueFrom"]["secretKeyRef"]
                assert secret["name"] == "sage"
                assert secret["key"] in SECRET_KEYS
            else:
                assert not re.search("PASSWORD|SECRET|AUTH", variable["name"])


def test_services_and_policies_find_their_pods():
    pods_ = {
        d["spec"]["template"]["metadata"]["labels"]["app"]: d["spec"]["template"]["spec"]
        for d in KUBERNETES
        if d["kind"] in ("Deployment", "StatefulSet", "Job")
    }
    for document in KUBERNETES:
        if document["kind"] == "Service":
            served = pods_[document["spec"]["selector"]["app"]]["containers"][0]["ports"]
            for port in document["spec"]["ports"]:
                assert port["targetPort"] in {p["name"] for p in served}
                assert port["port"] in {p["containerPort"] for p in served}
        if document["kind"] == "NetworkPolicy":
            spec = document["spec"]
            sources = [f["podSelector"] for rule in spec["ingress"] for f in rule["from"]]
            for one in [spec["podSelector"], *sources]:
                assert one["matchLabels"]["app"] in pods_


def test_compose_and_kubernetes_start_the_same():
    kubernetes = {
        d["metadata"]["name"]: list(map(str, c["args"]))
        for d in KUBERNETES
        if d["kind"] in ("Deployment", "Job")
        for c in d["spec"]["template"]["spec"]["containers"]
    }
    for name, args in kubernetes.items():
        theirs = COMPOSE["services"][name]["command"]
        assert [w for w in args if "$" not in w and "*" not in w] == [
            w for w in theirs if "$" not in w
        ]


def test_their_server_has_the_batches_of_our_own():
    (server,) = [d for d in KUBERNETES if (d["kind"], d["metadata"]["name"]) == SERVER]
    (container,) = server["spec"]["template"]["spec"]["containers"]
    pod = {variable["name"]: variable.get("value") for variable in container["env"]}
    documented = (DEPLOY.parent / "docs/scale.md").read_text()
    for name, value in _MANY_IN_ONE_TRANSACTION.items():
        assert COMPOSE["services"]["server"]["environment"][name] == value
        assert pod[name] == value
        assert f"{name}={value}\n" in documented


def test_the_image_holds_what_is_started():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = {
        source
        for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert all((DEPLOY.parent / path).exists() for path in copied)
    allowed = re.findall(r"^!(.+)$", (DEPLOY.parent / ".dockerignore").read_text(), re.MULTILINE)
    assert copied == set(allowed)
    assert {line[0] for line in commands()} == {"prefect", "sage"}
    extras = re.search(r"^ARG EXTRAS=(.+)$", dockerfile, re.MULTILINE)[1].split(",")
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "given"), options())
def test_commands_know_their_options(verb, given):
    words = ["-m", {"sage": "flows.cli"}.get(verb[0], verb[0]), *verb[1:]]
    told = subprocess.run(
        [sys.executable, *words, "--help"],
        capture_output=True,
        text=True,
        cwd=DEPLOY.parent,
        env={**os.environ, "PYTHONPATH": str(DEPLOY.parent)},
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert given <= set(re.findall(r"--[a-z-]+", told.stdout))
