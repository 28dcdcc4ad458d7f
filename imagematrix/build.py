"""Building the images of a plan in BuildKit, and saying what became of each."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TextIO

import docker.errors

from imagematrix.availability import Supply
from imagematrix.bake import BuildEnvironment, bake_file, image_tag, target_name
from imagematrix.bases import Bases
from imagematrix.buildlog import BuildLog, FailedStep
from imagematrix.engine import Engine
from imagematrix.errors import WorkError
from imagematrix.hostconfig import PYPI, HostConfig
from imagematrix.plan import Action, Step
from imagematrix.variant import Variant

# Where a build of this repository leaves its log and stages wheels; git ignores it.
WORK_FOLDER = Path("build")
_LOG = WORK_FOLDER / "build.log"
_UV_CONFIG = "IMAGEMATRIX_UV_CONFIG_{}"
_PIP_CONFIG = "IMAGEMATRIX_PIP_CONFIG"


class Outcome(StrEnum):
    """What became of an image."""

    BUILT = "built"
    FRESH = "fresh"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Result:
    """One image of a build. `megabytes` is its uncompressed size, None where there is no image."""

    name: str
    outcome: Outcome
    megabytes: float | None
    seconds: float
    detail: str


def build_environment(
    root: Path,
    engine: Engine,
    bases: Bases,
    host: HostConfig,
    supplies: Mapping[str, Supply],
) -> tuple[BuildEnvironment, dict[str, str]]:
    """What the builds are given, and the environment variables that hold their secrets.

    Wheels are linked (or copied) below the work folder, one folder for each image that needs any.
    Secrets travel in variables, so that none of them is ever a file of ours.
    """
    secrets, variables = [], {}
    if host.ca_bundle is not None:
        secrets.append(f"id=ca-bundle,src={host.ca_bundle}")
    pip_config = _pip_config(host)
    if pip_config:
        variables[_PIP_CONFIG] = pip_config
        secrets.append(f"id=pip-config,env={_PIP_CONFIG}")
    image_secrets, wheel_folders = {}, {}
    for number, (name, supply) in enumerate(supplies.items()):
        config = uv_config(host, supply)
        variable = _UV_CONFIG.format(number)
        variables[variable] = config
        image_secrets[name] = (f"id=uv-config,env={variable}",)
        if supply.wheels:
            wheel_folders[name] = str(_stage_wheels(root, name, supply.wheels))
    environment = BuildEnvironment(
        base_sources=bases.images,
        secrets=tuple(secrets),
        image_secrets=image_secrets,
        wheel_folders=wheel_folders,
        uncompressed=engine.containerd_store,
    )
    return environment, variables


def uv_config(host: HostConfig, supply: Supply) -> str:
    """The uv.toml (https://docs.astral.sh/uv/reference/settings/#pip) of one image's build."""
    lines = ["[pip]", 'index-strategy = "unsafe-best-match"']
    if host.index_url != PYPI:
        lines.append(f"index-url = {json.dumps(host.index_url)}")
    extra = [*host.extra_index_urls, *([supply.index.url] if supply.index else [])]
    if extra:
        lines.append(f"extra-index-url = {json.dumps(extra)}")
    links = [*host.find_links, *(["/mnt/wheels"] if supply.wheels else [])]
    if links:
        lines.append(f"find-links = {json.dumps(links)}")
    return "\n".join(lines) + "\n"


def _pip_config(host: HostConfig) -> str:
    lines = []
    if host.index_url != PYPI:
        lines.append(f"index-url = {host.index_url}")
    if host.extra_index_urls:
        lines.append(f"extra-index-url = {' '.join(host.extra_index_urls)}")
    return "\n".join(["[global]", *lines]) + "\n" if lines else ""


def _stage_wheels(root: Path, image: str, wheels: Sequence[Path]) -> Path:
    folder = root / WORK_FOLDER / "wheels" / image
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for wheel in wheels:
        try:
            os.link(wheel, folder / wheel.name)
        except OSError:
            shutil.copy2(wheel, folder / wheel.name)
    return folder.relative_to(root)


def run_build(
    root: Path,
    engine: Engine,
    plan: Sequence[Step],
    environment: BuildEnvironment,
    variables: Mapping[str, str],
) -> tuple[Result, ...]:
    """Builds what the plan says, in one BuildKit run unless an image fails.

    BuildKit ends a run at the first failure: the run is then repeated without the images that
    failed and what is layered on them, on the layers that are already there.
    """
    building = {step.variant.name for step in plan if step.action is Action.BUILD}
    log_file = root / _LOG
    log_file.parent.mkdir(exist_ok=True)
    failed: dict[str, str] = {}
    seconds: dict[str, float] = {}
    remaining = tuple(plan)
    with log_file.open("w", encoding="utf-8") as log:
        while building - failed.keys():
            status, progress = _bake(root, engine, remaining, environment, variables, log)
            for name, spent in progress.seconds.items():
                seconds[name] = seconds.get(name, 0) + spent
            if status == 0:
                break
            new = {failure.image: failure for failure in progress.failures()}
            if not new:
                raise WorkError(f"the build failed before any image's step; see {_LOG}")
            for name, failure in new.items():
                failed[name] = _explain(failure)
            failed |= _children_of(failed, plan)
            remaining = tuple(
                replace(step, action=Action.UNAVAILABLE) if step.variant.name in failed else step
                for step in plan
            )
    sizes = image_megabytes(engine, [step.variant for step in plan])
    return tuple(_result(step, failed, seconds, sizes) for step in plan)


def _bake(
    root: Path,
    engine: Engine,
    plan: Sequence[Step],
    environment: BuildEnvironment,
    variables: Mapping[str, str],
    log: TextIO,
) -> tuple[int, BuildLog]:
    definition = bake_file(plan, environment)
    names = [step.variant.name for step in plan if step.action is Action.BUILD]
    progress = BuildLog({target_name(name): name for name in names})
    command = ["docker", "buildx", "bake", "--file", "-", "--progress=plain"]
    process = subprocess.Popen(
        command,
        cwd=root,
        env={**engine.environ(), **variables, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both were asked for")
    try:
        process.stdin.write(json.dumps(definition))
        process.stdin.close()
        for line in process.stdout:
            progress.feed(line.rstrip("\n"))
            log.write(line)
            sys.stderr.write(line)
        return process.wait(), progress
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _explain(failure: FailedStep) -> str:
    output = "\n    ".join(line for line in failure.output if line.strip())
    text = f"{failure.step.split(' ')[0]} failed: {failure.error}; the whole log: {_LOG}"
    return f"{text}\n    {output}" if output else text


def _children_of(failed: Mapping[str, str], plan: Sequence[Step]) -> dict[str, str]:
    return {
        step.variant.name: f"its parent {step.variant.parent} failed"
        for step in plan
        if step.variant.parent in failed
        and step.variant.name not in failed
        and step.action is Action.BUILD
    }


def _result(
    step: Step,
    failed: Mapping[str, str],
    seconds: Mapping[str, float],
    sizes: Mapping[str, float],
) -> Result:
    name = step.variant.name
    if name in failed:
        return Result(name, Outcome.FAILED, None, seconds.get(name, 0), failed[name])
    outcome = {
        Action.BUILD: Outcome.BUILT,
        Action.FRESH: Outcome.FRESH,
        Action.UNAVAILABLE: Outcome.UNAVAILABLE,
    }[step.action]
    size = sizes.get(name) if outcome is not Outcome.UNAVAILABLE else None
    return Result(name, outcome, size, seconds.get(name, 0), "; ".join(step.reasons))


def image_megabytes(engine: Engine, variants: Sequence[Variant]) -> dict[str, float]:
    """The size of each image that the engine has, in MB (10^6 bytes): the sum of its layers as
    archives, which are uncompressed as this module builds them."""
    client = engine.client()
    sizes = {}
    try:
        for variant in variants:
            with contextlib.suppress(docker.errors.ImageNotFound):
                sizes[variant.name] = (
                    client.api.inspect_image(image_tag(variant.name))["Size"] / 1e6
                )
    finally:
        client.close()
    return sizes
