"""The manifests for Kubernetes, as far as they can be checked without a cluster to apply them."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonpatch
import kubernetes_validate
import pytest
import yaml
from starlette.responses import PlainTextResponse

from profiler_service.api.origins import RefuseForeign
from profiler_service.processes import serve, worker
from profiler_service.settings import Settings
from reference_pages import commands, http
from tests.deploy.test_images import COMPOSE, read_stages

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
GUIDE = (ROOT / "docs" / "guides" / "kubernetes.md").read_text()
VERSIONS = ("1.31", "1.37")
"""Of Kubernetes: the guide names the first as the oldest, and the second is the newest known."""

Document = dict[str, Any]


def build(directory: Path) -> list[Document]:
    """The documents that `kubectl kustomize` makes of a directory, in the order of its files."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    documents: list[Document] = []
    for name in kustomization["resources"]:
        path = directory / name
        documents += (
            build(path.resolve()) if path.is_dir() else yaml.safe_load_all(path.read_text())
        )
    for patch in kustomization.get("patches", []):
        [found] = [
            each
            for each in documents
            if (each["kind"], each["metadata"]["name"])
            == (patch["target"]["kind"], patch["target"]["name"])
        ]
        jsonpatch.apply_patch(found, yaml.safe_load(patch["patch"]), in_place=True)
    return documents


DIRECTORIES = sorted(path.parent.name for path in MANIFESTS.glob("*/kustomization.yaml"))
BUILT = {name: build(MANIFESTS / name) for name in DIRECTORIES}
DOCUMENTS = [(name, each) for name, documents in BUILT.items() for each in documents]


def name_of(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def find(directory: str, kind: str) -> Document:
    [found] = [each for each in BUILT[directory] if each["kind"] == kind]
    return found


def templates() -> Iterator[tuple[Document, Document]]:
    """Each document that makes Pods, and its template for them."""
    for _, document in DOCUMENTS:
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield document, spec["template"]


TEMPLATES = [
    pytest.param(document, template, id=f"{document['kind']}-{document['metadata']['name']}")
    for document, template in templates()
]
every_template = pytest.mark.parametrize(("document", "template"), TEMPLATES)


def containers_of(template: Document) -> list[Document]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def literal_settings(directory: str) -> dict[str, str]:
    """The settings that the directory's ConfigMaps and containers give as they are."""
    given: dict[str, str] = {}
    for document in BUILT[directory]:
        if document["kind"] == "ConfigMap":
            given |= document["data"]
    for document, template in templates():
        if document in BUILT[directory]:
            for container in containers_of(template):
                environment = container.get("env", [])
                given |= {each["name"]: each["value"] for each in environment if "value" in each}
    return given


def test_there_are_the_service_hosts_and_hosts_with_gpus() -> None:
    assert DIRECTORIES == ["hosts", "hosts-gpu", "service"]
    assert [name_of(each) for each in BUILT["service"]] == [
        ("Namespace", "lhp"),
        ("ConfigMap", "lhp-settings"),
        ("Job", "lhp-upgrade"),
        ("CronJob", "lhp-operator"),
        ("Deployment", "lhp-api"),
        ("Service", "lhp"),
        ("PodDisruptionBudget", "lhp-api"),
    ]
    assert [name_of(each)[1] for each in BUILT["hosts"]][-1] == "lhp-worker"
    assert [name_of(each)[1] for each in BUILT["hosts-gpu"]][-1] == "lhp-worker-gpu"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "document",
    [pytest.param(each, id="-".join((name, *name_of(each)))) for name, each in DOCUMENTS],
)
def test_every_document_is_as_kubernetes_describes_it(document: Document, version: str) -> None:
    assert f"{VERSIONS[0]} and {VERSIONS[1]}" in GUIDE
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelled_field_is_found(version: str) -> None:
    document = copy.deepcopy(find("hosts", "DaemonSet"))
    spec = document["spec"]["template"]["spec"]
    spec["nodeSelectors"] = spec.pop("nodeSelector")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_kustomize_makes_the_same_of_them(directory: str) -> None:
    """Where kubectl is installed. That needs no cluster."""
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("needs kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", MANIFESTS / directory],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    made = {name_of(each): each for each in yaml.safe_load_all(done.stdout)}
    assert made == {name_of(each): each for each in BUILT[directory]}


def test_every_file_is_part_of_a_kustomization() -> None:
    used = {
        (path.parent / name).resolve()
        for path in MANIFESTS.glob("*/kustomization.yaml")
        for name in yaml.safe_load(path.read_text())["resources"]
    }
    files = set(MANIFESTS.rglob("*.yaml")) - set(MANIFESTS.rglob("kustomization.yaml"))
    assert {path for path in used if path.is_file()} == files


def secrets_of_the_guide() -> set[tuple[str, str, str]]:
    """Namespace, name and key of each Secret that the guide has somebody make."""
    made = r"kubectl --namespace (\S+) create secret generic (\S+) --from-file=(\w+)="
    return set(re.findall(made, GUIDE))


@every_template
def test_what_a_pod_names_is_there(document: Document, template: Document) -> None:
    namespace = document["metadata"]["namespace"]
    config_maps = {
        each["metadata"]["name"]
        for _, each in DOCUMENTS
        if each["kind"] == "ConfigMap" and each["metadata"]["namespace"] == namespace
    }
    secrets = secrets_of_the_guide()
    volumes = {each["name"] for each in template["spec"]["volumes"]}
    for container in containers_of(template):
        for each in container.get("envFrom", []):
            assert each["configMapRef"]["name"] in config_maps
        for each in container.get("env", []):
            if (secret := each.get("valueFrom", {}).get("secretKeyRef")) is not None:
                assert (namespace, secret["name"], secret["key"]) in secrets
        assert {each["name"] for each in container["volumeMounts"]} <= volumes
        assert container["image"].removesuffix("-gpu") in {
            each["image"] for each in COMPOSE.values() if "build" in each
        }


def test_every_document_is_in_a_namespace_that_is_made() -> None:
    for documents in BUILT.values():
        made = {each["metadata"]["name"] for each in documents if each["kind"] == "Namespace"}
        used = {each["metadata"]["namespace"] for each in documents if each["kind"] != "Namespace"}
        assert used == made


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_settings_exist_and_have_values_that_are_accepted(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = literal_settings(directory)
    known = {f"LHP_{name.upper()}" for name in Settings.model_fields}
    named = {
        each["name"]
        for document, template in templates()
        if document in BUILT[directory]
        for container in containers_of(template)
        for each in container.get("env", [])
    }
    assert given and named | set(given) <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    for name, value in given.items():
        assert str(getattr(settings, name.removeprefix("LHP_").lower())).lower() == value


def test_passwords_and_keys_are_only_named() -> None:
    secret = {"LHP_DATABASE_URL", "LHP_JOIN_KEY", "LHP_TOKEN"}
    for directory in DIRECTORIES:
        assert not secret & set(literal_settings(directory))
    assert all(document["kind"] != "Secret" for _, document in DOCUMENTS)
    # Workers' Pods can't even name the service's database: it is in another namespace.
    hosts = {(namespace, name) for namespace, name, _ in secrets_of_the_guide()}
    assert hosts == {("lhp", "lhp-database"), ("lhp-hosts", "lhp-join-key")}


def test_the_service_answers_to_the_names_by_which_it_is_asked() -> None:
    service = find("service", "Service")["metadata"]
    given = literal_settings("service")
    port = Settings.model_fields["port"].default
    name = f"{service['name']}.{service['namespace']}.svc"
    assert given["LHP_URL"] == f"http://{service['name']}:{port}"
    assert literal_settings("hosts")["LHP_URL"] == f"http://{name}:{port}"
    layer = RefuseForeign(
        PlainTextResponse("hello"),
        listen=given["LHP_LISTEN"],
        allowed_hosts=given["LHP_ALLOWED_HOSTS"].split(","),
    )

    async def ask(*hosts: str) -> list[int]:
        """The statuses of a Pod's answers. Its address is 10.1.2.3."""
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(layer), base_url=f"http://10.1.2.3:{port}"
        ) as client:
            return [(await client.get("/", headers={"Host": host})).status_code for host in hosts]

    # By workers and operators; by the kubelet and Prometheus; by a page of somebody else.
    asked = (f"{name}:{port}", f"{service['name']}:{port}", f"10.1.2.3:{port}", "elsewhere.example")
    assert asyncio.run(ask(*asked)) == [200, 200, 200, 421]


def test_probes_are_routes_that_need_no_token() -> None:
    [container] = find("service", "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": Settings.model_fields["port"].default}
    public = {
        path
        for method, path, operation in http.operations()
        if method == "get" and operation["security"] == []
    }
    probes = {
        name: container[name]["httpGet"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert {each["path"] for each in probes.values()} <= public
    assert {name: each["path"] for name, each in probes.items()} == {
        "startupProbe": "/readyz",
        # Not /readyz: without the database, known questions are answered all the same.
        "readinessProbe": "/healthz",
        "livenessProbe": "/healthz",
    }
    assert {each["port"] for each in probes.values()} == {"http"}


def test_selectors_select_the_pods_that_they_mean_and_no_others() -> None:
    labels = {
        name_of(document): template["metadata"]["labels"] for document, template in templates()
    }
    assert len({json.dumps(each, sort_keys=True) for each in labels.values()}) == len(labels)
    for document, template in templates():
        if document["kind"] in ("Deployment", "DaemonSet"):
            assert document["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    pods = labels["Deployment", "lhp-api"]
    service = find("service", "Service")["spec"]
    assert service["selector"] == pods
    assert service["ports"] == [
        {"name": "http", "port": Settings.model_fields["port"].default, "targetPort": "http"}
    ]
    assert find("service", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == pods
    spread = find("service", "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [each["labelSelector"]["matchLabels"] for each in spread] == [pods]


@every_template
def test_containers_may_do_nothing_that_they_need_not(
    document: Document, template: Document
) -> None:
    """As `restricted` asks, Pod Security Standards, and more."""
    [user] = re.findall(r"USER (\d+)", "\n".join(read_stages()["base"][1]))
    pod = template["spec"]["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] == pod["runAsGroup"] == int(user)
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert template["spec"]["automountServiceAccountToken"] is False
    # A Service called `lhp` would set LHP_PORT, and the service wouldn't start.
    assert template["spec"]["enableServiceLinks"] is False
    for container in containers_of(template):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"]["drop"] == ["ALL"]
        if container["name"] == "own-directory":
            # Gives a directory to the worker, once, and ends.
            assert own["capabilities"]["add"] == ["CHOWN", "FOWNER"] and own["runAsUser"] == 0
            assert [each["name"] for each in container["volumeMounts"]] == ["credentials"]
        else:
            assert "add" not in own["capabilities"] and "runAsUser" not in own


@every_template
def test_containers_run_commands_that_there_are(document: Document, template: Document) -> None:
    for container in containers_of(template):
        given = container.get("args", [])
        if given[:1] == ["lhp"]:
            assert " ".join(given) in commands.lhp_commands()
        elif given:
            assert given == ["sleep", "infinity"]  # with the image's init, which hands on signals
        if "command" in container:  # without it
            assert container["command"][0] == "install"


@pytest.mark.parametrize("directory", ["hosts", "hosts-gpu"])
def test_a_worker_gets_whole_cpus_of_its_own(directory: str) -> None:
    """Its Pod is guaranteed: for every container, limits equal requests. The CPUs are whole."""
    for container in containers_of(find(directory, "DaemonSet")["spec"]["template"]):
        resources = container["resources"]
        assert resources["limits"] == resources["requests"] and "memory" in resources["limits"]
        # One measures and one doesn't; by default, two of a core.
        assert int(resources["limits"]["cpu"]) >= 4


@pytest.mark.parametrize("directory", ["hosts", "hosts-gpu"])
def test_a_worker_measures_its_node_and_keeps_its_identity(directory: str) -> None:
    spec = find(directory, "DaemonSet")["spec"]["template"]["spec"]
    # Workers see each other's locks only in the machine's own network.
    assert spec["hostNetwork"] is True and spec["dnsPolicy"] == "ClusterFirstWithHostNet"
    [container] = spec["containers"]
    environment = {each["name"]: each for each in container["env"]}
    field = environment["LHP_HOST"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "spec.nodeName"
    paths = {each["name"]: each["hostPath"] for each in spec["volumes"] if "hostPath" in each}
    assert paths["machine-id"] == {"path": "/etc/machine-id", "type": "File"}
    assert paths["credentials"]["type"] == "DirectoryOrCreate"
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert mounts["machine-id"]["mountPath"] == "/etc/machine-id"
    assert mounts["machine-id"]["readOnly"] is True
    [made] = re.findall(r"mkdir --parents (\S+)", "\n".join(read_stages()["base"][1]))
    assert mounts["credentials"]["mountPath"] == made
    # As the image's own health check.
    [check] = [each for each in read_stages()["worker"][1] if each.startswith("HEALTHCHECK")]
    words = json.loads(check.split(" CMD ")[1])
    assert container["readinessProbe"]["exec"]["command"] == words
    assert "livenessProbe" not in container


def test_the_variant_for_gpus_gets_one_and_measures_it() -> None:
    plain, changed = find("hosts", "DaemonSet"), find("hosts-gpu", "DaemonSet")
    spec = changed["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    [image] = {each["image"] for each in containers_of(changed["spec"]["template"])}
    assert image == "lhp-worker-gpu"
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["LHP_DEVICE"] == "cuda"
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in spec["tolerations"]
    selectors = [each["spec"]["template"]["spec"]["nodeSelector"] for each in (plain, changed)]
    assert selectors == [{"lhp-measure": "cpu"}, {"lhp-measure": "gpu"}]  # never both on a node


def test_pods_may_take_longer_to_end_than_what_runs_in_them() -> None:
    api = find("service", "Deployment")["spec"]["template"]["spec"]
    [command] = [each["lifecycle"]["preStop"]["exec"]["command"] for each in api["containers"]]
    assert command[0] == "sleep"
    assert api["terminationGracePeriodSeconds"] >= int(command[1]) + 2 * serve.GRACE_S
    spec = find("hosts", "DaemonSet")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= 2 * worker.STOP_LIMIT_S
