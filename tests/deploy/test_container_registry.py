"""The manifests of a registry on Kubernetes: valid, and in agreement with each other."""

from __future__ import annotations

import json
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.sources import ROOT

FOLDER = ROOT / "deploy" / "container-registry"
ORDER = ["pv.yaml", "pvc.yaml", "deployment.yaml", "svc.yaml"]
VERSIONS = ["1.27", "1.30", "1.33", "1.36"]


def manifest(name: str) -> dict[str, Any]:
    documents = list(yaml.safe_load_all((FOLDER / name).read_text()))
    assert len(documents) == 1
    return dict(documents[0])


PV, PVC, DEPLOYMENT, SERVICE = (manifest(name) for name in ORDER)
POD = DEPLOYMENT["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]
README = (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ORDER)
def test_it_is_what_kubernetes_takes(name: str, version: str) -> None:
    kubernetes_validate.validate(manifest(name), version, strict=True)


def test_kinds_names_and_namespace() -> None:
    kinds = [each["kind"] for each in (PV, PVC, DEPLOYMENT, SERVICE)]
    assert kinds == ["PersistentVolume", "PersistentVolumeClaim", "Deployment", "Service"]
    for each in (PVC, DEPLOYMENT, SERVICE):
        assert each["metadata"]["namespace"] == "registry"
    assert "namespace" not in PV["metadata"]


def test_the_claim_fits_the_volume() -> None:
    volume, claim = PV["spec"], PVC["spec"]
    assert claim["volumeName"] == PV["metadata"]["name"]
    assert claim["storageClassName"] == volume["storageClassName"]
    assert set(claim["accessModes"]) <= set(volume["accessModes"])
    assert claim["resources"]["requests"]["storage"] == volume["capacity"]["storage"] == "50Gi"
    assert volume["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["hostPath"]["path"]


def test_the_pod_mounts_the_claim_where_the_registry_keeps_its_data() -> None:
    volumes = {each["name"]: each for each in POD["spec"]["volumes"]}
    mounts = {each["mountPath"]: each["name"] for each in CONTAINER["volumeMounts"]}
    claimed = volumes[mounts["/var/lib/registry"]]["persistentVolumeClaim"]
    assert claimed["claimName"] == PVC["metadata"]["name"]
    assert set(mounts.values()) == set(volumes)


def test_labels_and_ports_agree() -> None:
    labels = POD["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert SERVICE["spec"]["selector"].items() <= labels.items()
    [inner] = CONTAINER["ports"]
    [outer] = SERVICE["spec"]["ports"]
    assert inner["containerPort"] == outer["port"] == 5000
    assert outer["targetPort"] in (inner["name"], inner["containerPort"])
    assert (SERVICE["spec"]["type"], outer["nodePort"]) == ("NodePort", 32633)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = CONTAINER[probe]["httpGet"]
        assert (asked["path"], asked["port"]) == ("/v2/", inner["name"])


def test_the_registry_is_bounded_and_not_root() -> None:
    assert CONTAINER["image"] == "registry:2"
    assert set(CONTAINER["resources"]["limits"]) == {"cpu", "memory"}
    assert POD["spec"]["securityContext"]["runAsNonRoot"]
    own = CONTAINER["securityContext"]
    assert own["runAsNonRoot"]
    assert own["runAsUser"] > 0
    assert not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}


def test_only_the_folder_is_handed_over_by_root_who_may_do_nothing_else() -> None:
    [before] = POD["spec"]["initContainers"]
    own = before["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert not own["allowPrivilegeEscalation"]
    assert own["readOnlyRootFilesystem"]
    assert set(before["resources"]["limits"]) == {"cpu", "memory"}
    program, owner, folder = before["command"]
    user = CONTAINER["securityContext"]["runAsUser"]
    assert (program, owner) == ("chown", f"{user}:{POD['spec']['securityContext']['runAsGroup']}")
    [mount] = before["volumeMounts"]
    assert mount["mountPath"] == folder == "/var/lib/registry"


def test_the_readme_creates_them_in_their_order() -> None:
    steps = re.findall(r"^kubectl create (.+)$", README, re.M)
    assert steps == ["ns registry", *(f"-f {name}" for name in ORDER)]


def test_each_step_finds_what_it_needs_from_those_before() -> None:
    made = {("Namespace", "registry")}
    for each in (PV, PVC, DEPLOYMENT, SERVICE):
        namespace = each["metadata"].get("namespace")
        assert namespace is None or ("Namespace", namespace) in made
        made.add((each["kind"], each["metadata"]["name"]))
    assert ("PersistentVolume", PVC["spec"]["volumeName"]) in made
    for volume in POD["spec"]["volumes"]:
        claim = volume.get("persistentVolumeClaim", {"claimName": PVC["metadata"]["name"]})
        assert ("PersistentVolumeClaim", claim["claimName"]) in made


def test_the_readme_says_how_to_do_without_kubernetes() -> None:
    assert 'docker run --rm -d --name="registry" -p "5000:5000" registry:2' in README


def test_the_readme_names_the_defaults_that_the_files_have() -> None:
    assert "50 Gi" in README
    assert PV["spec"]["hostPath"]["path"] in README
    [outer] = SERVICE["spec"]["ports"]
    assert f"http://NODE:{outer['nodePort']}/v2/" in README
    entry = json.loads((FOLDER / "entry.json").read_text())
    assert entry["container_registry_public_url"].endswith(f":{outer['nodePort']}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"spec": {"type": "NodePort", "ports": "5000"}}, "ports"),
        ({"spec": {"type": "NodePort", "port": 5000}}, "port"),
    ],
)
def test_the_schemas_tell_a_broken_manifest(change: dict[str, Any], told: str) -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match=told):
        kubernetes_validate.validate(SERVICE | change, VERSIONS[-1], strict=True)
