"""How a container of an image runs, from its Dockerfile and those of its parents.

https://docs.docker.com/reference/dockerfile/
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_INSTRUCTION = re.compile(r"([A-Z]+)\s+(.*)", re.DOTALL)


@dataclass(frozen=True)
class Settings:
    """What a container of an image gets where `docker run` says nothing else."""

    user: str = ""
    folder: str = ""
    ports: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def settings_of(dockerfiles: Sequence[str]) -> Settings:
    """The settings of an image from the texts of Dockerfiles: that of its root first, its own last.

    Only the last stage of each counts. Instructions that set nothing are passed over.
    """
    values: dict[str, str] = {}
    ports: list[str] = []
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}
    for text in dockerfiles:
        for instruction, rest in _last_stage(text):
            if instruction == "ENV":
                environment |= _pairs(rest)
            elif instruction == "LABEL":
                labels |= _pairs(rest)
            elif instruction == "EXPOSE":
                ports += rest.split()
            else:
                values[instruction] = rest
    return Settings(
        values.get("USER", ""),
        values.get("WORKDIR", ""),
        tuple(dict.fromkeys(ports)),
        _words(values.get("ENTRYPOINT", "[]")),
        _words(values.get("CMD", "[]")),
        environment,
        labels,
    )


def _last_stage(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions after the last FROM, each with the rest of its line."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n", " ", "\n".join(lines))
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if match and match[1] == "FROM":
            found = []
        elif match:
            found.append((match[1], match[2].strip()))
    return found


def _pairs(text: str) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in shlex.split(text))


def _words(text: str) -> tuple[str, ...]:
    """The words of an instruction in JSON form."""
    return tuple(json.loads(text)) if text.startswith("[") else (text,)
