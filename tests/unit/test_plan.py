"""Keys, and the reason for each image that is built."""

import hashlib
import re
from collections.abc import Callable, Mapping

import pytest

from imagematrix.plan.bake import TOOLS_DOCKERFILE, image_tag
from imagematrix.plan.content import (
    INPUTS_LABEL,
    KEY_LABEL,
    LOCK_LABEL,
    SOURCES_LABEL,
    Content,
    Present,
    decode_inputs,
    decode_packages,
    encode,
    image_contents,
    image_key,
    layers_id,
)
from imagematrix.plan.plan import Action, Step, make_plan
from imagematrix.repository.project import Project
from tests.unit.helpers import (
    MATRIX,
    MINIMAL,
    PYTORCH,
    REPOSITORY,
    XGBOOST,
    Repository,
    lock_text,
)

DEBIAN, PYTHON = "debian:trixie-slim", "python:3.12-slim-trixie"
SYSTEM = "system-trixie"
BASES = {DEBIAN: "sha256:debian", PYTHON: "sha256:python"}
Labels = dict[str, dict[str, str]]


def contents_of(repository: Repository, bases: Mapping[str, str] = BASES) -> dict[str, Content]:
    project = repository.project
    return image_contents(repository.root, project.variants, {MINIMAL: bases}, project.locks)


def labels_of(repository: Repository) -> Labels:
    """The labels of images that were just built."""
    return {name: content.labels for name, content in contents_of(repository).items()}


def plan(
    repository: Repository,
    labels: Labels,
    *,
    bases: Mapping[str, str] = BASES,
    unavailable: Mapping[str, str] | None = None,
    force: bool = False,
    layers: Mapping[str, tuple[str, ...]] | None = None,
    pending: Mapping[str, str] | None = None,
) -> dict[str, Step]:
    variants = repository.project.variants
    contents = contents_of(repository, bases)
    present = {name: Present(own, (layers or {}).get(name)) for name, own in labels.items()}
    steps = make_plan(variants, contents, present, unavailable or {}, force=force, pending=pending)
    assert [step.variant.name for step in steps] == [MINIMAL, XGBOOST, PYTORCH]
    return {step.variant.name: step for step in steps}


def reasons(steps: dict[str, Step]) -> dict[str, tuple[str, ...]]:
    assert all(
        bool(step.reasons) == (step.action is not Action.UP_TO_DATE) for step in steps.values()
    )
    return {name: step.reasons for name, step in steps.items() if step.action is Action.BUILD}


def test_the_inputs_of_an_image_are_all_that_goes_into_it(repository: Repository) -> None:
    inputs = {name: content.inputs for name, content in contents_of(repository).items()}

    assert inputs[MINIMAL].keys() == {
        f"base/{MINIMAL}/Dockerfile",
        f"base/{MINIMAL}/requirements.txt",
        f"base/{SYSTEM}/Dockerfile",
        f"base/{MINIMAL}/slim.txt",
        "base/server/app.py",
        "base/tools/Dockerfile",
        "base/tools/bin/finish.py",
        "base/dpkg-excludes",
        DEBIAN,
        PYTHON,
    }
    assert inputs[XGBOOST].keys() == {
        f"frameworks/xgboost/{XGBOOST}/Dockerfile",
        f"frameworks/xgboost/{XGBOOST}/requirements.txt",
        f"frameworks/xgboost/{XGBOOST}/slim.txt",
        "parent",
    }
    assert inputs[XGBOOST]["parent"] == image_key(inputs[MINIMAL])
    assert inputs[MINIMAL][DEBIAN] == "sha256:debian"


def test_the_same_inputs_have_the_same_key_in_any_order(repository: Repository) -> None:
    inputs = contents_of(repository)[MINIMAL].inputs
    reverse = dict(reversed(list(inputs.items())))

    assert contents_of(repository)[MINIMAL].inputs == inputs
    assert image_key(reverse) == image_key(inputs)
    assert re.fullmatch(r"[0-9a-f]{64}", image_key(inputs))
    assert decode_inputs(encode(inputs)) == inputs


def test_images_that_are_not_there_are_built(repository: Repository) -> None:
    missing = ("no such image yet",)

    assert reasons(plan(repository, {})) == {MINIMAL: missing, XGBOOST: missing, PYTORCH: missing}


def test_nothing_is_built_twice(repository: Repository) -> None:
    steps = plan(repository, labels_of(repository))

    assert {step.action for step in steps.values()} == {Action.UP_TO_DATE}
    assert steps[XGBOOST].key == labels_of(repository)[XGBOOST][KEY_LABEL]


CHILDREN_CHANGE = {
    XGBOOST: (f"its parent {MINIMAL} changes",),
    PYTORCH: (f"its parent {MINIMAL} changes",),
}


def append(path: str) -> Callable[[Repository], None]:
    return lambda repository: repository.put(path, (repository.root / path).read_text() + "#\n")


def lock(*requirements: str, digest: str = "0" * 64) -> Callable[[Repository], None]:
    path = f"frameworks/xgboost/{XGBOOST}/requirements.txt"
    return lambda repository: repository.put(path, lock_text(requirements, digest))


def edit(path: str, old: str, new: str, more: str = "") -> Callable[[Repository], None]:
    def change(repository: Repository) -> None:
        if more:
            repository.put("frameworks/more.j2", more)
        repository.change(path, (old, new))
        repository.render()

    return change


def server_file_goes(repository: Repository) -> None:
    repository.put("base/server/new.py", "")
    (repository.root / "base/server/app.py").unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            append(f"frameworks/xgboost/{XGBOOST}/Dockerfile"),
            {XGBOOST: (f"frameworks/xgboost/{XGBOOST}/Dockerfile changed",)},
        ),
        (
            append(f"frameworks/xgboost/{XGBOOST}/requirements.txt"),
            {XGBOOST: (f"frameworks/xgboost/{XGBOOST}/requirements.txt changed",)},
        ),
        (
            lock("httptools==2.0", "numpy==2.2", "scipy==1.0", "xgboost-cpu==3.4.1"),
            {XGBOOST: ("lock: numpy 2.1 → 2.2", "lock: scipy 1.0 is new")},
        ),
        (
            lock("httptools==2.0", "numpy==2.1", "xgboost-cpu==3.4.1", digest="1" * 64),
            {
                XGBOOST: tuple(
                    f"lock: hashes of {name} changed"
                    for name in ("httptools", "numpy", "xgboost-cpu")
                )
            },
        ),
        (
            edit("base/macros.j2", "RUN true", "RUN false"),
            {XGBOOST: ("base/macros.j2 changed",), PYTORCH: ("base/macros.j2 changed",)},
        ),
        (
            edit("frameworks/Dockerfile.j2", "USER 1000:1000", "USER 1000"),
            {
                XGBOOST: ("frameworks/Dockerfile.j2 changed",),
                PYTORCH: ("frameworks/Dockerfile.j2 changed",),
            },
        ),
        (
            edit(
                "base/Dockerfile.j2",
                "USER 1000:1000",
                "{% include 'frameworks/more.j2' %}",
                more="RUN {{ variant.title }}",
            ),
            {
                MINIMAL: ("base/Dockerfile.j2 changed", "frameworks/more.j2 is new"),
                **CHILDREN_CHANGE,
            },
        ),
        (
            append(f"base/{MINIMAL}/Dockerfile"),
            {MINIMAL: (f"base/{MINIMAL}/Dockerfile changed",), **CHILDREN_CHANGE},
        ),
        (
            append("base/server/app.py"),
            {MINIMAL: ("base/server/app.py changed",), **CHILDREN_CHANGE},
        ),
        (
            append("base/tools/bin/finish.py"),
            {MINIMAL: ("base/tools/bin/finish.py changed",), **CHILDREN_CHANGE},
        ),
        (
            append(f"base/{SYSTEM}/Dockerfile"),
            {MINIMAL: (f"base/{SYSTEM}/Dockerfile changed",), **CHILDREN_CHANGE},
        ),
        (
            server_file_goes,
            {
                MINIMAL: ("base/server/app.py is gone", "base/server/new.py is new"),
                **CHILDREN_CHANGE,
            },
        ),
        (lambda repository: repository.put("base/server/__pycache__/app.pyc", "x"), {}),
        (lambda repository: repository.put("frameworks/xgboost/example/score.py", "x"), {}),
    ],
    ids=["dockerfile", "comment in lock", "pins", "hashes", "template",
         "template of all", "included template", "parent", "server", "tools", "system",
         "server files", "bytecode", "example"],
)  # fmt: skip
def test_what_changed_is_the_reason(
    change: Callable[[Repository], None],
    expected: dict[str, tuple[str, ...]],
    repository: Repository,
) -> None:
    labels = labels_of(repository)
    change(repository)

    assert reasons(plan(repository, labels)) == expected


def test_a_package_that_is_gone_is_named(repository: Repository) -> None:
    pins = ("httptools==2.0", "numpy==2.1", "xgboost-cpu==3.4.1")
    lock(*pins, "scipy==1.0")(repository)
    labels = labels_of(repository)
    lock(*pins)(repository)

    assert reasons(plan(repository, labels)) == {XGBOOST: ("lock: scipy is gone",)}


def test_what_the_matrix_gives_to_a_dockerfile_is_named(repository: Repository) -> None:
    repository.put(
        "frameworks/Dockerfile.j2",
        "{% for package in variant.debian %}# {{ package }}\n{% endfor %}# {{ variant.title }}\n",
    )
    repository.render()
    labels = labels_of(repository)
    repository.change(
        "matrix.yaml",
        ("title: XGBoost", "title: XGBoost 3"),
        ("HOME: /tmp/xgboost", "HOME: /tmp/x"),
        ("pins: [xgboost-cpu==3.4.1", "debian: [libgomp1]\n        pins: [xgboost-cpu==3.4.1"),
    )
    repository.render()

    assert reasons(plan(repository, labels)) == {
        XGBOOST: (
            "matrix.yaml: debian libgomp1 is new",
            "matrix.yaml: environment XGBOOST_HOME=/tmp/x is new",
            "matrix.yaml: environment XGBOOST_HOME=/tmp/xgboost is gone",
            "matrix.yaml: title XGBoost → XGBoost 3",
        )
    }


@pytest.mark.parametrize(
    ("file", "names"),
    [("base/slim.yaml", [MINIMAL, XGBOOST, PYTORCH]), ("frameworks/xgboost/slim.yaml", [XGBOOST])],
)
def test_rules_that_change_are_named_by_their_file(
    file: str, names: list[str], repository: Repository
) -> None:
    labels = labels_of(repository)
    repository.change(file, ("remove:\n", "remove:\n  headers: [site-packages/a/include]\n"))
    repository.render()

    found = reasons(plan(repository, labels))

    assert list(found) == names
    assert all(f"{file} changed" in of_image for of_image in found.values())


def test_origins_of_the_dockerfile_are_not_part_of_the_key(repository: Repository) -> None:
    labels = labels_of(repository)
    repository.put("matrix.yaml", MATRIX.replace("title: XGBoost", "title: XGBoost 3"))
    repository.change("base/macros.j2", ("RUN true", "RUN {{ 'true' }}"))

    assert reasons(plan(repository, labels)) == {}


@pytest.mark.parametrize("text", [None, "", "[]", '{"numpy": "2.1"}', '{"numpy": ["2.1", 7]}'])
def test_image_without_readable_packages_is_reported_with_its_file(
    text: str | None, repository: Repository
) -> None:
    assert text is None or decode_packages(text) is None
    labels = labels_of(repository)
    for name in (LOCK_LABEL, SOURCES_LABEL):
        labels[XGBOOST].pop(name)
        if text is not None:
            labels[XGBOOST][name] = text
    lock("httptools==2.0", "numpy==2.2", "xgboost-cpu==3.4.1")(repository)

    assert reasons(plan(repository, labels)) == {
        XGBOOST: (f"frameworks/xgboost/{XGBOOST}/requirements.txt changed",)
    }


def test_the_key_is_the_hash_of_what_the_files_hold(repository: Repository) -> None:
    def digest(path: object) -> str:
        return hashlib.sha256((repository.root / str(path)).read_bytes()).hexdigest()[:16]

    minimal, xgboost = repository.variant(MINIMAL), repository.variant(XGBOOST)
    contents = contents_of(repository)
    names = ("base/server/app.py", "base/tools/bin/finish.py", "base/dpkg-excludes")
    copied = {name: digest(name) for name in (*names, str(TOOLS_DOCKERFILE))}
    files = (minimal.dockerfile, minimal.lock, minimal.slim_file, minimal.system_dockerfile)
    parent = {str(path): digest(path) for path in files}
    child = {str(p): digest(p) for p in (xgboost.dockerfile, xgboost.lock, xgboost.slim_file)}

    assert contents[MINIMAL].inputs == parent | copied | BASES
    assert contents[MINIMAL].key == image_key(parent | copied | BASES)
    assert contents[XGBOOST].inputs == {**child, "parent": contents[MINIMAL].key}


def test_a_key_is_of_the_files_as_they_were_checked(repository: Repository) -> None:
    project = repository.project
    project.check_buildable()
    before = contents_of(repository)
    lock("httptools==2.0", "numpy==2.2", "xgboost-cpu==3.4.1")(repository)

    assert project.contents(project.variants, {MINIMAL: BASES}) == before
    assert contents_of(repository)[XGBOOST].key != before[XGBOOST].key


def test_the_labels_of_an_image_stay_small() -> None:
    project = Project(REPOSITORY)
    known = "sha256:" + "0" * 64
    bases = {v.name: dict.fromkeys(v.base_images, known) for v in project.variants}
    for content in image_contents(REPOSITORY, project.variants, bases, project.locks).values():
        assert sum(map(len, content.labels.values())) < 12_000


def test_a_base_image_that_moved_is_a_reason_for_all_above_it(repository: Repository) -> None:
    steps = plan(repository, labels_of(repository), bases={**BASES, DEBIAN: "sha256:newer"})

    assert reasons(steps) == {MINIMAL: (f"base image {DEBIAN} moved",), **CHILDREN_CHANGE}


def test_what_identifies_a_base_is_the_chain_of_its_layers() -> None:
    """As OCI's specification of image configurations defines it."""
    first, second = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"

    assert layers_id([first]) == first
    chained = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert layers_id([first, second]) == f"sha256:{chained}"
    assert layers_id([second, first]) != layers_id([first, second])
    assert layers_id([]) == ""


ON_PARENT = {MINIMAL: ("a", "b"), XGBOOST: ("a", "b", "x"), PYTORCH: ("a", "b", "p")}


def test_children_on_the_layers_of_their_parent_are_up_to_date(repository: Repository) -> None:
    steps = plan(repository, labels_of(repository), layers=ON_PARENT)

    assert reasons(steps) == {}
    assert {name: step.layers for name, step in steps.items()} == ON_PARENT


@pytest.mark.parametrize("layers", [("a", "c", "x"), ("a",), ("b", "a", "b"), ()])
def test_child_of_a_parent_that_was_rebuilt_since_is_rebuilt(
    layers: tuple[str, ...], repository: Repository
) -> None:
    """By hand, by another checkout, with `--force`: its key does not show that."""
    steps = plan(repository, labels_of(repository), layers={**ON_PARENT, XGBOOST: layers})

    assert reasons(steps) == {XGBOOST: (f"its parent {MINIMAL} was rebuilt",)}


def test_child_is_rebuilt_with_its_parent(repository: Repository) -> None:
    """A parent that is forced, or was removed by hand, may have other layers then."""
    labels = labels_of(repository)
    del labels[MINIMAL]

    steps = plan(repository, labels, layers=ON_PARENT)

    assert reasons(steps) == {MINIMAL: ("no such image yet",), **CHILDREN_CHANGE}


def test_all_reasons_of_a_child_are_reported(repository: Repository) -> None:
    labels = labels_of(repository)
    lock("httptools==2.0", "numpy==2.2", "xgboost-cpu==3.4.1")(repository)

    steps = plan(repository, labels, layers={**ON_PARENT, MINIMAL: ("c",)})

    rebuilt = f"its parent {MINIMAL} was rebuilt"
    assert reasons(steps) == {XGBOOST: ("lock: numpy 2.1 → 2.2", rebuilt), PYTORCH: (rebuilt,)}


FIXES = "2 security fixes pending (libssl3t64, tini)"


def test_image_that_lacks_fixes_is_rebuilt_without_the_cache(repository: Repository) -> None:
    """The packages in BuildKit's cache are those that it lacks fixes of."""
    steps = plan(repository, labels_of(repository), layers=ON_PARENT, pending={XGBOOST: FIXES})

    assert reasons(steps) == {XGBOOST: (FIXES,)}
    assert [name for name, step in steps.items() if step.no_cache] == [XGBOOST]


def test_fixes_of_a_parent_rebuild_its_children(repository: Repository) -> None:
    """With the cache: what they add is not what lacks fixes."""
    steps = plan(repository, labels_of(repository), layers=ON_PARENT, pending={MINIMAL: FIXES})

    assert reasons(steps) == {MINIMAL: (FIXES,), **CHILDREN_CHANGE}
    assert [name for name, step in steps.items() if step.no_cache] == [MINIMAL]


def test_image_that_cannot_be_built_keeps_its_fixes_pending(repository: Repository) -> None:
    missing = {XGBOOST: "no index"}
    steps = plan(repository, labels_of(repository), pending={XGBOOST: FIXES}, unavailable=missing)

    assert (steps[XGBOOST].action, steps[XGBOOST].reasons) == (Action.UNAVAILABLE, ("no index",))
    assert not steps[XGBOOST].no_cache


def test_force_rebuilds_images_that_are_up_to_date(repository: Repository) -> None:
    labels = labels_of(repository)
    del labels[PYTORCH]

    assert reasons(plan(repository, labels, force=True)) == {
        MINIMAL: ("forced",),
        XGBOOST: ("forced",),
        PYTORCH: ("no such image yet",),
    }


def test_unavailable_image_is_reported_with_its_reason_unless_up_to_date(
    repository: Repository,
) -> None:
    why = {XGBOOST: "the index is down", PYTORCH: "the index is down"}
    labels = labels_of(repository)
    del labels[PYTORCH]

    steps = plan(repository, labels, unavailable=why)

    assert (steps[XGBOOST].action, steps[XGBOOST].reasons) == (Action.UP_TO_DATE, ())
    assert steps[PYTORCH].action is Action.UNAVAILABLE
    assert steps[PYTORCH].reasons == ("the index is down",)


def test_image_based_on_an_unavailable_one_is_unavailable(repository: Repository) -> None:
    labels = {XGBOOST: labels_of(repository)[XGBOOST]}

    steps = plan(repository, labels, unavailable={MINIMAL: "no wheel"})

    assert [step.action for step in steps.values()] == [
        Action.UNAVAILABLE,
        Action.UP_TO_DATE,
        Action.UNAVAILABLE,
    ]
    assert steps[PYTORCH].reasons == (f"its parent {MINIMAL} is unavailable",)


@pytest.mark.parametrize("text", ["", "x", "[]", "7", "null", '{"a": 1}', '{"a": null}', '{"a'])
def test_label_without_inputs_is_a_reason(text: str, repository: Repository) -> None:
    assert decode_inputs(text) is None
    labels = labels_of(repository)
    labels[XGBOOST] = {KEY_LABEL: "old", INPUTS_LABEL: text}

    assert reasons(plan(repository, labels)) == {
        XGBOOST: ("the image does not say what it was built from",)
    }


def test_an_image_without_our_labels_is_built(repository: Repository) -> None:
    labels = labels_of(repository)
    labels[XGBOOST] = {}

    assert list(reasons(plan(repository, labels))) == [XGBOOST]


def test_a_key_that_was_made_another_way_is_a_reason(repository: Repository) -> None:
    labels = labels_of(repository)
    labels[XGBOOST][KEY_LABEL] = "0" * 64

    assert reasons(plan(repository, labels)) == {XGBOOST: ("the key was made another way",)}


def test_the_base_images_are_those_that_the_dockerfile_names(repository: Repository) -> None:
    assert repository.variant(MINIMAL).base_images == (DEBIAN, PYTHON)
    assert image_tag(MINIMAL) == f"{MINIMAL}:latest"
