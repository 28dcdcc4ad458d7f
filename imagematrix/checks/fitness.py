"""Whether an image from anywhere is fit to serve by the contract: what it is checked for, in
groups, and how to mend what is wrong."""

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar
from unittest.mock import patch

from imagematrix.checks.absent import no_compiler, no_credential, no_setuid_file
from imagematrix.checks.behaviour import (
    becomes_healthy,
    faults_have_their_exit_codes,
    has_a_command,
    serves_as_any_user,
    serves_on_a_read_only_root,
    stops_when_asked,
)
from imagematrix.checks.content import extension_modules_resolve, requirements_are_consistent
from imagematrix.checks.cuda import (
    cuda_libraries_resolve,
    cuda_only_where_declared,
    declared_cuda_is_there,
)
from imagematrix.checks.foreign import ForeignImage, looked_into, serving
from imagematrix.checks.foundation import (
    a_shell_runs,
    c_library_is_glibc,
    conda_is_new_enough,
    has_conda,
    is_debian_or_ubuntu,
    python_is_one_that_the_server_runs_on,
)
from imagematrix.checks.identity import nothing_runs_as_root, user_is_not_root
from imagematrix.checks.labels import (
    health_route_answers,
    only_5001_is_exposed,
    python_version_label_is_that_of_cpython,
)
from imagematrix.checks.running import RunningImage
from imagematrix.checks.serving import example_is_scored, health_check_succeeds
from imagematrix.errors import UserError
from imagematrix.host.engine import Engine
from imagematrix.plan.content import PYTHON_LABEL
from imagematrix.repository.passed import Outcome


class Group(StrEnum):
    """What a check is about."""

    BASE = "base"
    CONTRACT = "contract"
    CONTENT = "content"


@dataclass(frozen=True)
class Finding:
    """What a check found. `what` names it, `holds` is what should hold, `found` what is the case,
    `mend` what to do; the last two may be empty."""

    group: Group
    what: str
    outcome: Outcome
    holds: str
    found: str = ""
    mend: str = ""


_Image = TypeVar("_Image", bound=RunningImage)


@dataclass(frozen=True)
class _Requirement(Generic[_Image]):
    """A check of images from anywhere. It is skipped where one of `needs` did not pass, and left
    out of those that it does not apply to."""

    group: Group
    what: str
    check: Callable[[_Image], str | None]
    mend: str
    needs: tuple[Callable[..., object], ...] = (a_shell_runs,)
    applies: Callable[[RunningImage], bool] = lambda _: True


_BASED_ON_OURS = (
    "base it on an image of this repository, or make one of your environment:"
    " `nox -s environment -- env.yml`"
)
_PYTHON = (python_is_one_that_the_server_runs_on,)
# What reads the file system by GNU find, and knows where Debian puts things.
_DEBIAN = (a_shell_runs, is_debian_or_ubuntu, c_library_is_glibc)

# What is seen from outside, or in a container that does nothing.
_LOOKED_INTO: Sequence[_Requirement[RunningImage]] = (
    _Requirement(
        Group.BASE,
        "system",
        is_debian_or_ubuntu,
        "use an image on Debian, or on Ubuntu 16.04 or newer, as debian:trixie-slim",
        needs=(),
    ),
    _Requirement(
        Group.BASE, "shell", a_shell_runs, "use an image with a shell, no distroless one", needs=()
    ),
    _Requirement(
        Group.BASE,
        "C library",
        c_library_is_glibc,
        "use an image with glibc: packages of PyPI are not built for others",
    ),
    _Requirement(
        Group.BASE,
        "Python",
        python_is_one_that_the_server_runs_on,
        "install CPython 3.7 to 3.13 first on the PATH, or let a condaFile bring one",
    ),
    _Requirement(
        Group.BASE,
        "standard library",
        extension_modules_resolve,
        "install the Debian packages that have these libraries",
        needs=(*_DEBIAN, *_PYTHON),
    ),
    _Requirement(
        Group.BASE,
        "conda",
        conda_is_new_enough,
        "update conda: `conda update --name base conda`",
        applies=lambda image: has_conda(image),
    ),
    _Requirement(
        Group.CONTRACT,
        "user",
        user_is_not_root,
        "end the Dockerfile with `USER 1000:1000`, by number",
    ),
    _Requirement(
        Group.CONTRACT,
        "port exposed",
        only_5001_is_exposed,
        "let it serve on 5001, with `EXPOSE 5001` as the only one; what a parent exposes stays",
        needs=(),
    ),
    _Requirement(Group.CONTRACT, "command", has_a_command, _BASED_ON_OURS, needs=()),
    _Requirement(
        Group.CONTENT,
        "compilers",
        no_compiler,
        "build in another stage, and copy what was built; or remove their packages in the step that"
        " installs them",
        needs=(*_DEBIAN, *_PYTHON),
    ),
    _Requirement(
        Group.CONTENT,
        "setuid files",
        no_setuid_file,
        r"`RUN find / -xdev -perm /6000 -type f -exec chmod ug-s {} +`, as root",
        needs=_DEBIAN,
    ),
    _Requirement(
        Group.CONTENT,
        "secrets",
        no_credential,
        "change them, since who has the image has them; then build with `RUN --mount=type=secret`",
        needs=_DEBIAN,
    ),
    _Requirement(
        Group.CONTENT,
        "no CUDA",
        cuda_only_where_declared,
        "install the builds for the CPU; or set NVIDIA_VISIBLE_DEVICES=all and"
        " NVIDIA_DRIVER_CAPABILITIES=compute,utility if it is for GPUs",
        needs=(*_DEBIAN, *_PYTHON),
        applies=lambda image: not image.declares_cuda,
    ),
    _Requirement(
        Group.CONTENT,
        "CUDA",
        declared_cuda_is_there,
        "unset NVIDIA_VISIBLE_DEVICES if it is not for GPUs, or install CUDA's libraries",
        needs=_DEBIAN,
        applies=lambda image: image.declares_cuda,
    ),
    _Requirement(
        Group.CONTENT,
        "CUDA libraries",
        cuda_libraries_resolve,
        "install what is missing, and register its folder in /etc/ld.so.conf.d",
        needs=(declared_cuda_is_there, *_PYTHON),
        applies=lambda image: image.declares_cuda,
    ),
    _Requirement(
        Group.CONTENT,
        "requirements",
        requirements_are_consistent,
        "install versions that agree: `pip check` lists them",
        needs=_PYTHON,
    ),
    _Requirement(
        Group.CONTENT,
        "Python label",
        python_version_label_is_that_of_cpython,
        "build it again on a base image of now",
        needs=_PYTHON,
        applies=lambda image: PYTHON_LABEL in image.own_labels,
    ),
)

_HEALTHY = (becomes_healthy,)
# In containers that serve.
_SERVING: Sequence[_Requirement[ForeignImage]] = (
    _Requirement(Group.CONTRACT, "health", becomes_healthy, _BASED_ON_OURS, needs=(has_a_command,)),
    _Requirement(
        Group.CONTRACT,
        "health route",
        health_route_answers,
        "answer `Healthy` as text/html there",
        needs=_HEALTHY,
    ),
    _Requirement(
        Group.CONTRACT,
        "health check",
        health_check_succeeds,
        "correct its HEALTHCHECK",
        needs=_HEALTHY,
        applies=lambda image: bool(image.config.get("Healthcheck")),
    ),
    _Requirement(
        Group.CONTRACT, "score", example_is_scored, "see docs/scoring-server.md", needs=_HEALTHY
    ),
    _Requirement(
        Group.CONTRACT,
        "processes",
        nothing_runs_as_root,
        "start nothing as root, also not by a start script",
        needs=_HEALTHY,
    ),
    _Requirement(
        Group.CONTRACT,
        "read-only root",
        serves_on_a_read_only_root,
        "write to /tmp alone",
        needs=_HEALTHY,
    ),
    _Requirement(
        Group.CONTRACT,
        "any user",
        serves_as_any_user,
        "make what it reads readable for everybody, and need no home",
        needs=_HEALTHY,
    ),
    _Requirement(
        Group.CONTRACT,
        "exit codes",
        faults_have_their_exit_codes,
        "hand on the server's exit code: start it with exec",
        needs=_HEALTHY,
    ),
    _Requirement(
        Group.CONTRACT,
        "stop",
        stops_when_asked,
        "hand SIGTERM on to the server: start it with exec, and CMD as a list",
        needs=_HEALTHY,
    ),
)

REQUIREMENTS: Sequence[_Requirement[Any]] = (*_LOOKED_INTO, *_SERVING)


def findings_of(engine: Engine, reference: str, root: Path, patience: float) -> tuple[Finding, ...]:
    """What the checks find in an image of the engine, by group.

    `root` is this repository, which has the example that is served; `patience` how many seconds a
    container may take to get healthy. Nothing is left in the engine.
    """
    if not __debug__:
        raise UserError("the checks are assertions: unset PYTHONOPTIMIZE, or leave out -O")
    found: list[Finding] = []
    results: dict[Callable[..., object], _Result] = {}
    # testinfra runs `docker exec`, which looks for the engine in the environment.
    with patch.dict(os.environ, engine.environ()), ExitStack() as stack:
        image = stack.enter_context(looked_into(engine, reference, root))
        found += _run(_LOOKED_INTO, image, results)
        # The engine makes no container without a command.
        served = None
        if results[has_a_command].outcome is Outcome.PASSED:
            served = stack.enter_context(serving(engine, reference, root, patience))
        found += _run(_SERVING, served, results)
    order = list(Group)
    return tuple(sorted(found, key=lambda one: order.index(one.group)))


@dataclass(frozen=True)
class _Result:
    """How a check ended, and what it is called."""

    outcome: Outcome
    what: str


def _run(
    requirements: Iterable[_Requirement[_Image]],
    image: _Image | None,
    results: dict[Callable[..., object], _Result],
) -> Iterator[Finding]:
    for one in requirements:
        lacking = [results[need].what for need in one.needs if _did_not_pass(results, need)]
        found, mend = "", ""
        if image is not None and not one.applies(image):
            continue
        if lacking or image is None:
            outcome, found = Outcome.SKIPPED, f"needs: {', '.join(lacking)}"
        else:
            try:
                found = one.check(image) or ""
                outcome = Outcome.PASSED
            except (AssertionError, OSError) as error:
                outcome, found, mend = Outcome.FAILED, str(error), one.mend
        results[one.check] = _Result(outcome, one.what)
        yield Finding(one.group, one.what, outcome, holding(one.check), found, mend)


def holding(check: Callable[..., object]) -> str:
    """What holds where the check passes, for people."""
    return " ".join((inspect.getdoc(check) or "").split())


def _did_not_pass(
    results: dict[Callable[..., object], _Result], check: Callable[..., object]
) -> bool:
    return check in results and results[check].outcome is not Outcome.PASSED
