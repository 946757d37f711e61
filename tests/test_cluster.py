"""What docs/cluster holds for Slurm and Kubernetes, checked for form: neither is here to run it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).resolve().parents[1] / "docs"
VERSION = re.search(r"^ray==(\S+)$", (DOCS / "requirements-cluster.txt").read_text(), re.M)[1]


def test_the_manifest_is_a_ray_cluster_with_authentication_of_the_version_that_is_pinned():
    claim, cluster = yaml.safe_load_all((DOCS / "cluster" / "kuberay.yaml").read_text())
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert spec.keys() == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert spec["rayVersion"] == VERSION and spec["authOptions"] == {"mode": "token"}
    head, [workers] = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert head["rayStartParams"] == {"num-cpus": "0"} and workers["groupName"] and workers["rayStartParams"] == {}
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for pod in (head["template"]["spec"], workers["template"]["spec"]):
        [container] = pod["containers"]
        assert container["image"] == "monju-ray" and container["name"]
        assert all(isinstance(value, str) for kind in container["resources"].values() for value in kind.values())
        assert {mount["name"] for mount in container.get("volumeMounts", [])} == {volume["name"] for volume in pod.get("volumes", [])}
    assert head["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert f"FROM rayproject/ray:{VERSION}-" in (DOCS / "cluster" / "Dockerfile").read_text()


def test_the_slurm_script_is_whole_and_its_cluster_authenticates():
    script = DOCS / "cluster" / "slurm.sh"
    assert "RAY_AUTH_MODE=token" in script.read_text()
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
