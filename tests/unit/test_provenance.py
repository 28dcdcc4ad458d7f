"""The statements on how an image was made, and what it was tested for."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from imagematrix.release.provenance import Materials, Run, chain_digests, provenance
from imagematrix.release.test_results import check_results
from imagematrix.repository.passed import CheckResult, Outcome
from tests.unit.helpers import XGBOOST, Repository, lock_of, lock_text
from tests.unit.test_sbom import CONTENTS

SOURCE = "https://git.example/images"
COMMIT = "1" * 40
BUILDER = "https://ci.example/workflow"
PINS = ("httptools==2.0", "numpy==2.1")


def materials() -> Materials:
    lock = dict(lock_of(*PINS, digest="c" * 64))
    lock["numpy"] = lock["numpy"]._replace(sha256=frozenset({"d" * 64, "c" * 64}))
    return Materials(
        source=SOURCE,
        commit=COMMIT,
        key="k" * 64,
        lock_text=lock_text(PINS),
        lock=lock,
        bases=chain_digests({"debian:trixie-slim": f"sha256:{'b' * 64}", "python:3.12-slim": ""}),
        contents=CONTENTS,
        debian_sha256={"libc6": "e" * 64},
    )


def made(repository: Repository, run: Run) -> Any:
    predicate = provenance(repository.variant(XGBOOST), materials(), run)
    return json.loads(json.dumps(predicate))


def test_provenance_names_all_that_the_image_was_made_of(repository: Repository) -> None:
    predicate = made(repository, Run(BUILDER))
    parts = {one["name"]: one for one in predicate["buildDefinition"]["resolvedDependencies"]}

    lock = f"frameworks/xgboost/{XGBOOST}/requirements.txt"
    assert parts.keys() == {
        "source", "debian:trixie-slim", "lock", "httptools", "numpy", "bash", "libc6", "tzdata",
    }  # fmt: skip
    assert parts["source"] == {
        "uri": f"git+{SOURCE}@{COMMIT}", "digest": {"gitCommit": COMMIT}, "name": "source",
    }  # fmt: skip
    base = parts["debian:trixie-slim"]
    assert base["uri"] == "pkg:docker/debian@trixie-slim"
    assert base["digest"] == {"ociChainId": "b" * 64}
    assert parts["lock"]["uri"] == f"git+{SOURCE}@{COMMIT}#{lock}"
    text = lock_text(PINS).encode()
    assert parts["lock"]["digest"] == {"sha256": hashlib.sha256(text).hexdigest()}
    assert parts["httptools"]["digest"] == {"sha256": "c" * 64}
    assert parts["numpy"]["annotations"] == {"sha256OneOf": ["c" * 64, "d" * 64]}
    assert "digest" not in parts["numpy"]
    assert parts["libc6"]["digest"] == {"sha256": "e" * 64}
    assert parts["bash"]["uri"].startswith("pkg:deb/debian/bash@5.2.37-2%2Bb10?")


def test_provenance_names_the_build_and_its_parameters(repository: Repository) -> None:
    definition = made(repository, Run(BUILDER))["buildDefinition"]

    assert definition["buildType"].startswith(f"{SOURCE}/blob/main/docs/architecture.md#")
    assert definition["externalParameters"] == {
        "image": XGBOOST,
        "matrix": {"uri": f"git+{SOURCE}", "path": "matrix.yaml"},
        "platform": "linux/amd64",
    }
    assert definition["internalParameters"]["contentKey"] == "k" * 64


def test_times_are_only_those_that_are_given(repository: Repository) -> None:
    run = Run(BUILDER, f"{BUILDER}/1", "2026-11-28T10:00:00Z", "2026-11-28T11:00:00Z")

    assert made(repository, Run(BUILDER))["runDetails"] == {
        "builder": {"id": BUILDER}, "metadata": {},
    }  # fmt: skip
    assert made(repository, run)["runDetails"]["metadata"] == {
        "invocationId": f"{BUILDER}/1",
        "startedOn": "2026-11-28T10:00:00Z",
        "finishedOn": "2026-11-28T11:00:00Z",
    }
    assert made(repository, replace(run)) == made(repository, run)


def test_no_path_of_the_host_is_in_it(repository: Repository) -> None:
    assert str(repository.root) not in json.dumps(made(repository, Run(BUILDER)))


PASSED, SKIPPED, FAILED = (
    CheckResult(Outcome.PASSED),
    CheckResult(Outcome.SKIPPED, "there is no GPU"),
    CheckResult(Outcome.FAILED, "runs as root"),
)


@pytest.mark.parametrize(
    ("results", "result"),
    [
        ({"a": PASSED, "b": PASSED}, "PASSED"),
        ({"a": PASSED, "b": SKIPPED}, "WARNED"),
        ({"a": PASSED, "b": SKIPPED, "c": FAILED}, "FAILED"),
        ({"a": FAILED}, "FAILED"),
        ({}, "FAILED"),
    ],
)
def test_result_is_passed_only_if_all_passed(results: dict[str, CheckResult], result: str) -> None:
    assert check_results(results, SOURCE, COMMIT)["result"] == result


def test_every_check_is_named_and_why_it_was_skipped() -> None:
    results = {"user": PASSED, "gpu": SKIPPED, "port": PASSED, "root": FAILED}

    assert check_results(results, SOURCE, COMMIT, "https://ci.example/1") == {
        "result": "FAILED",
        "configuration": [
            {
                "uri": f"git+{SOURCE}@{COMMIT}#tests/images",
                "digest": {"gitCommit": COMMIT},
                "name": "checks",
                "annotations": {"skipped": {"gpu": "there is no GPU"}},
            }
        ],
        "url": "https://ci.example/1",
        "passedTests": ["port", "user"],
        "warnedTests": ["gpu"],
        "failedTests": ["root"],
    }
    passed = check_results({"user": PASSED}, SOURCE, COMMIT)
    assert "annotations" not in passed["configuration"][0]
    assert "url" not in passed
