"""`verify` on images from elsewhere, each made here: what it refuses, and that nothing is left."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from imagematrix.checks import BY_LAYER
from imagematrix.checks.fitness import REQUIREMENTS
from imagematrix.checks.foreign import LABELS
from imagematrix.cli import main
from imagematrix.host.bases import BaseSource, ensure_bases
from imagematrix.host.engine import Engine
from imagematrix.plan.bake import image_tag
from tests.engine.conftest import require
from tests.engine.registries import PASSWORD, log_in_to, serve_registry
from tests.example_images import example
from tests.images.running import build_images

MINIMAL = example()
DEBIAN, OURS = "$DEBIAN", image_tag(MINIMAL.name)
# What an image without a server cannot show.
SERVING = {
    *("health route", "score", "processes", "read-only root", "any user", "exit codes", "stop"),
}
NEED_PYTHON = {"standard library", "compilers", "no CUDA", "requirements"}
SITE = f"/usr/local/lib/python{MINIMAL.python}/site-packages"
# Answers on the port, but not by HTTP.
ANOTHER_PROTOCOL = (
    "import socket; server = socket.create_server(('', 5001)); print('listening', flush=True)\n"
    "while True: server.accept()[0].send(b'220 hello\\r\\n')"
)
# Ends at once, which spares the tests the time in which it would serve.
SHELL = 'CMD ["sh", "-c", "echo hello"]\n'
# As an image from elsewhere has it: a Python on Debian, of which nothing is ours any more.
STANDIN = f"""
FROM {OURS} AS ours
USER 0
RUN rm -r /opt/inference-server /usr/local/lib/python3.*/site-packages/*.pth
FROM scratch
COPY --from=ours / /
CMD ["python3"]
"""


@dataclass(frozen=True)
class Foreign:
    """A Dockerfile, and of each check that must fail a part of what it finds; those in `skipped`
    are skipped, and all others pass. `shown` has parts of what passing checks find."""

    name: str
    dockerfile: str
    failed: dict[str, str]
    skipped: set[str] = field(default_factory=set)
    shown: dict[str, str] = field(default_factory=dict)
    wait: int = 8


def on_ours(steps: str) -> str:
    return f"FROM {OURS}\n{steps}\n"


def conda(version: str) -> str:
    program = f"printf '#!/bin/sh\\necho conda {version}\\n' > /opt/miniconda/bin/conda"
    return on_ours(
        f"USER 0\nRUN mkdir -p /opt/miniconda/bin && {program}"
        " && chmod 755 /opt/miniconda/bin/conda\nUSER 1000:1000\n"
    )


IMAGES = (
    Foreign(
        "plain",
        STANDIN,
        {
            "user": "the image's user is root",
            "port exposed": "exposed: []",
            "health": "it ended with exit code 0; its log is empty",
        },
        SERVING,
        {"Python": f"Python {MINIMAL.python}.", "C library": "glibc 2."},
    ),
    Foreign("ours", on_ours(""), {}),
    Foreign(
        "root",
        on_ours("USER root"),
        {"user": "the image's user is root", "processes": "not as uid 1000: ['1 tini'"},
    ),
    Foreign(
        "careless",
        on_ours(
            "ENV INDEX=https://me:canary@index.example/simple SERVICE_TOKEN=canary\n"
            "USER 0\n"
            # Conda's Python brings a linker, there.
            "RUN mkdir /usr/local/compiler_compat && cp /bin/true /usr/local/compiler_compat/ld\n"
            "RUN cp /bin/true /usr/bin/x86_64-linux-gnu-gcc-14\n"
            "RUN cp /bin/true /usr/bin/up && chmod 4755 /usr/bin/up\n"
            # In the home of the image's root, where a build that downloads as root leaves it.
            "RUN touch /root/.netrc && PASSWORD=canary true\n"
            "RUN touch /usr/lib/libcudart.so.12\n"
            "USER 1000:1000"
        ),
        {
            "compilers": "/usr/bin/x86_64-linux-gnu-gcc-14, /usr/local/compiler_compat/ld",
            "setuid files": "setuid or setgid: /usr/bin/up",
            "secrets": "/root/.netrc, PASSWORD in the history, SERVICE_TOKEN in the history, a URL",
            "no CUDA": "CUDA libraries in a CPU image: /usr/lib/libcudart.so.12",
        },
    ),
    Foreign(
        "port",
        on_ours("ENV SERVER_PORT=8080\nEXPOSE 8080"),
        {
            "port exposed": "exposed: ['5001/tcp', '8080/tcp']",
            "health": "no answer on port 5001 in 8 s; the last line of its log: ",
        },
        {*SERVING, "health check"},
    ),
    Foreign(
        "another-protocol",
        on_ours(
            f"USER 0\nRUN cd {SITE} && mkdir odd-1.dist-info && printf"
            " 'Metadata-Version: 2.1\\nName: odd\\nVersion: 1\\nRequires-Dist: !?\\n'"
            " > odd-1.dist-info/METADATA\nUSER 1000:1000\n"
            f"CMD {json.dumps(['python3', '-c', ANOTHER_PROTOCOL])}"
        ),
        {
            "health": "no answer on port 5001 in 2 s; the last line of its log: listening",
            "requirements": "!?",
        },
        {*SERVING, "health check"},
        wait=2,
    ),
    Foreign(
        "broken",
        on_ours('CMD ["python3", "-c", "raise SystemExit(\'no licence was found\')"]'),
        {"health": "exit code 1; the last line of its log: no licence was found"},
        {*SERVING, "health check"},
    ),
    Foreign(
        "no-such-program",
        on_ours('ENTRYPOINT ["/opt/serve"]'),
        {"health": "/opt/serve"},
        {*SERVING, "health check"},
    ),
    Foreign(
        "conda-old",
        conda("4.4.10") + SHELL,
        {
            "conda": "conda is 4.4.10 (/opt/miniconda/bin/conda)",
            "health": "exit code 0; the last line of its log: hello",
        },
        {*SERVING, "health check"},
    ),
    Foreign(
        "conda-for-gpus-without-cuda",
        conda("23.11.0") + SHELL + "ENV NVIDIA_VISIBLE_DEVICES=all\n",
        {"CUDA": "it asks for GPUs, and holds no CUDA library", "health": "exit code 0"},
        {*SERVING, "health check", "CUDA libraries"},
        {"conda": "conda 23.11.0 ("},
    ),
    Foreign(
        "not-handing-on",
        on_ours('ENTRYPOINT ["sh", "-c", "python3 -I -m inference_server; sleep 0"]\nCMD []'),
        {
            "exit codes": "where the script is missing, it ends with 0, not 3; where",
            "stop": "it had to be killed after 10 s",
        },
    ),
    Foreign(
        "only-as-its-user",
        on_ours(
            "USER 0\nRUN chown -R 1000 /opt/inference-server && chmod 700 /opt/inference-server\n"
            "USER 1000:1000\n"
            'ENTRYPOINT ["sh", "-c", "touch ~/seen && exec tini -- \\"$0\\" \\"$@\\""]\n'
            f"CMD {json.dumps(['python3', '-I', '-m', 'inference_server'])}"
        ),
        {
            "read-only root": "exit code 1; the last line of its log: touch: cannot touch",
            "any user": "exit code 1; the last line of its log: ",
        },
    ),
    Foreign(
        "musl",
        f"FROM {DEBIAN}\nRUN rm $(command -v getconf) && touch /lib/ld-musl-x86_64.so.1"
        " && rm /etc/os-release"
        " && printf 'ID=alpine\\nPRETTY_NAME=\"Alpine Linux v3.21\"\\n' > /usr/lib/os-release\n"
        f"USER 1000\nEXPOSE 5001\n{SHELL}",
        {
            "system": "it is Alpine Linux v3.21",
            "C library": "it is musl",
            "Python": "there is no python3 and no python on its PATH",
            "health": "exit code 0; the last line of its log: hello",
        },
        {*SERVING, *NEED_PYTHON, "setuid files", "secrets"},
    ),
    Foreign(
        "no-command",
        f"FROM {DEBIAN}\nUSER 1000\nEXPOSE 5001\n",
        {
            "Python": "there is no python3 and no python on its PATH",
            "command": "it has no CMD",
            # Debian's own.
            "setuid files": "setuid or setgid: /usr/bin/chage, ",
        },
        {*SERVING, *NEED_PYTHON, "health", "health check"},
    ),
    Foreign(
        "no-shell",
        f"FROM {DEBIAN} AS debian\nFROM scratch\n"
        "COPY --from=debian /usr/lib/os-release /usr/lib/os-release\n"
        'CMD ["/serve"]\nEXPOSE 5001\n',
        {"shell": "/bin/sh does not run: ", "health": "/serve"},
        {*SERVING, *NEED_PYTHON, "C library", "Python", "user", "setuid files", "secrets"},
    ),
)


@pytest.fixture(scope="module")
def debian(engine: Engine) -> str:
    """Debian as this engine has it, for images on it; those on our image find it up to date."""
    build_images(engine, MINIMAL.name)
    local = ensure_bases(engine, [MINIMAL], BaseSource.AUTO).images
    (found,) = (name for official, name in local.items() if official.startswith("debian:"))
    return found


@contextmanager
def built(engine: Engine, name: str, dockerfile: str, *options: str) -> Iterator[str]:
    """An image of a Dockerfile, which is removed at the end."""
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", name, *options, "-"],
        input=dockerfile.encode(),
        env=engine.environ(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield name
    finally:
        with closing(engine.client()) as client:
            client.images.remove(name, force=True)


def pushed(engine: Engine, reference: str) -> None:
    """Pushes an image with nothing in it, of which the engine keeps nothing."""
    with built(engine, reference, "FROM scratch\nEXPOSE 5001\n"):
        subprocess.run(
            ["docker", "push", "--quiet", reference],
            env=engine.environ(),
            check=True,
            stdout=subprocess.DEVNULL,
        )


def verified(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status of the command, and what it prints with --json."""
    status = main(["verify", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def left_behind(engine: Engine) -> list[Any]:
    """The containers of the command that are there."""
    label = "=".join(*LABELS.items())
    with closing(engine.client()) as client:
        return [one.id for one in client.containers.list(all=True, filters={"label": label})]


@pytest.mark.parametrize("foreign", IMAGES, ids=lambda one: one.name)
def test_verdict(
    foreign: Foreign, engine: Engine, debian: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exactly the checks that are named fail, each with what it found and how to mend it."""
    dockerfile = foreign.dockerfile.replace(DEBIAN, debian)
    with built(engine, f"verify-{foreign.name}", dockerfile) as name:
        status, document = verified(capsys, name, "--wait", str(foreign.wait))
    found = {one["what"]: one for one in document["findings"]}
    text = "\n".join(f"{one['what']}: {one['outcome']} {one['found']}" for one in found.values())
    outcomes = {
        outcome: {what for what, one in found.items() if one["outcome"] == outcome}
        for outcome in ("passed", "failed", "skipped")
    }
    assert outcomes["failed"] == foreign.failed.keys(), text
    assert outcomes["skipped"] == foreign.skipped, text
    for what, part in (foreign.failed | foreign.shown).items():
        assert part in found[what]["found"], text
    assert all(found[what]["mend"] for what in foreign.failed)
    assert status == (1 if foreign.failed else 0)
    assert document["fit"] is (not foreign.failed)
    of_base = {one["what"] for one in document["findings"] if one["group"] == "base"}
    assert document["base"] is not bool(of_base & foreign.failed.keys())
    assert left_behind(engine) == []


def test_image_of_a_registry_is_pulled_and_removed(
    engine: Engine, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that the engine does not have; as people read it."""
    reference = f"{registry}/verify/empty:1"
    pushed(engine, reference)
    assert main(["verify", reference]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["group", "check", "result", "found"]
    assert re.fullmatch("base +system +failed +it has no /usr/lib/os-release, .*", lines[1])
    assert lines[-1].startswith(f"{reference}: not fit to serve (3 failed, 1 passed, ")
    assert reference not in engine.inspect([reference])
    assert left_behind(engine) == []


def test_private_registry_needs_a_login(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of `docker login` is used; without, and with a wrong password, it is a bad request."""
    program = require("docker-registry", "docker-registry")
    with serve_registry(program, needs_login=True) as host:
        reference = f"{host}/verify/private:1"

        def log_in(password: str) -> Any:
            folder = tmp_path / (password or "nothing")
            return patch.dict(os.environ, {"DOCKER_CONFIG": str(log_in_to(host, password, folder))})

        with log_in(PASSWORD):
            pushed(engine, reference)
        for password in ("", "wrong"):
            with log_in(password):
                assert main(["verify", reference]) == 2
            error = capsys.readouterr().err
            assert f"{reference} is not in the engine, and cannot be pulled: " in error
            assert f"log in first: docker login {host}" in error
        with log_in(PASSWORD):
            status, document = verified(capsys, reference)
        assert status == 1
        assert document["base"] is False
        assert PASSWORD not in json.dumps(document)
    assert left_behind(engine) == []


def test_image_of_another_platform_is_a_bad_request(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image that the engine has, for machines of another kind."""
    arm = ("--platform", "linux/arm64")
    with built(engine, "verify-arm", "FROM scratch\nEXPOSE 5001\n", *arm) as name:
        assert main(["verify", name]) == 2
    message = "verify-arm is for linux/arm64; these checks are for linux/amd64"
    assert message in capsys.readouterr().err


def test_what_cannot_be_pulled_is_a_bad_request(
    engine: Engine, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No such image, and no name of one."""
    assert main(["verify", f"{registry}/verify/absent:1"]) == 2
    assert f"{registry}/verify/absent:1 is not in the engine, and cannot be pulled: " in (
        capsys.readouterr().err
    )
    assert main(["verify", "No Image"]) == 2
    assert "'No Image' is no name of an image" in capsys.readouterr().err


def test_every_check_of_its_own_rejects_something() -> None:
    """Those that are checks of our images have an image in tests/broken, too."""
    rejecting = {what for foreign in IMAGES for what in foreign.failed}
    of_ours = {check for checks in BY_LAYER.values() for check in checks}
    own = {one.what for one in REQUIREMENTS if one.check not in of_ours}
    # A part of `port_is_5001`.
    assert own - rejecting == {"health route"}
