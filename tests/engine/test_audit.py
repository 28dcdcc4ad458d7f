"""An image that was made before fixes came out, aged by hand: audit, plan, publication, rebuild."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import docker
import pytest

from imagematrix.audit import images
from imagematrix.audit.findings import Audited, Kind, Status, pending, pending_refusals
from imagematrix.build import pending as build_pending
from imagematrix.build.pending import pending_in_engine
from imagematrix.build.prepare import Request, prepare
from imagematrix.build.run import present_images, run_build
from imagematrix.host.config import read_host_config
from imagematrix.host.debian import debian_mirrors
from imagematrix.host.engine import Engine, layers_of
from imagematrix.host.supply import why_unreachable
from imagematrix.matrix.selection import Selection
from imagematrix.plan.bake import image_tag
from imagematrix.plan.plan import Action
from imagematrix.repository.project import Project
from tests.example_images import example, smallest_child
from tests.unit.archive import Site, serving
from tests.unit.helpers import MINIMAL, Repository

TAG = "aged"
PARENT, CHILD = example().name, smallest_child().name
# Versions of the first release of trixie, all of which have had fixes since.
DEBIAN = {"libssl3t64": "3.5.1-1", "libuuid1": "2.41-5", "libsqlite3-0": "3.46.1-7"}
PYTHON = ("httptools", "0.8.0")
_AGE = """
import json, re, shutil, sys
from pathlib import Path
debian, (name, version) = json.loads(sys.argv[1])
status = Path("/var/lib/dpkg/status")
text = status.read_text()
for package, old in debian.items():
    stanza = rf"(Package: {package}\\n(?:.+\\n)*?Version: )\\S+"
    text, count = re.subn(stanza, rf"\\g<1>{old}", text)
    assert count == 1, package
status.write_text(text)
(now,) = Path("/usr/local/lib").glob(f"python3*/site-packages/{name}-*.dist-info")
metadata = (now / "METADATA").read_text()
shutil.copytree(now, now.with_name(f"{name}-{version}.dist-info"))
shutil.rmtree(now)
changed = re.sub("(?m)^Version: .*", f"Version: {version}", metadata)
now.with_name(f"{name}-{version}.dist-info").joinpath("METADATA").write_text(changed)
"""


@pytest.fixture(scope="module")
def aged(engine: Engine) -> Iterator[None]:
    """The child with older packages, and its parent as it is, under a tag of their own."""
    ca_bundle = read_host_config(os.environ, Path.home()).ca_bundle
    reason = why_unreachable(f"{debian_mirrors().main}/", ca_bundle)
    if reason:
        pytest.skip(f"Debian's mirror {reason}")
    with contextlib.closing(engine.client()) as client:
        tags = [image_tag(name, TAG) for name in (PARENT, CHILD)]
        try:
            assert client.api.tag(image_tag(PARENT), PARENT, TAG)
            described = client.api.inspect_image(image_tag(CHILD))
            container = client.containers.create(
                image_tag(CHILD),
                ["python", "-c", _AGE, json.dumps([DEBIAN, PYTHON])],
                entrypoint=[],
                user="0",
                network_mode="none",
            )
            try:
                container.start()
                assert container.wait()["StatusCode"] == 0, container.logs().decode()
                container.commit(CHILD, TAG, conf=described["Config"])
            finally:
                container.remove()
            yield
        finally:
            for tag in reversed(tags):
                with contextlib.suppress(docker.errors.ImageNotFound):
                    client.api.remove_image(tag)


@pytest.fixture
def index() -> Iterator[Site]:
    """An index that knows an advisory of the older Python package, and answers nothing else."""
    name, version = PYTHON
    advisory = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-0001"], "fixed_in": ["0.8.1"]}
    uploaded = (datetime.now(UTC) - timedelta(hours=72)).isoformat()
    with serving() as site:
        page = {"info": {"version": version}, "vulnerabilities": [advisory]}
        site.put(f"/pypi/{name}/{version}/json", page)
        releases = {"0.8.1": [{"upload_time_iso_8601": uploaded}]}
        site.put(f"/pypi/{name}/json", {**page, "releases": releases})
        made = images.sources_of
        with patch.object(
            build_pending,
            "sources_of",
            lambda *given: replace(made(*given), index_url=f"{site.url}/simple"),
        ):
            yield site


def audited(engine: Engine, project: Project) -> dict[str, Audited]:
    present = present_images(engine, [PARENT, CHILD], TAG)
    host = read_host_config(os.environ, Path.home())
    chosen = [variant for variant in project.variants if variant.name in (PARENT, CHILD)]
    return pending_in_engine(project, engine, chosen, present, host)


@pytest.mark.usefixtures("aged", "index")
def test_aged_image_is_found_refused_and_rebuilt(
    engine: Engine, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tree)
    request = Request(Selection((PARENT, CHILD)), tag=TAG)

    found = audited(engine, project)
    assert f"Reading {CHILD} " in capsys.readouterr().err
    assert audited(engine, project).keys() == found.keys()
    assert "Reading " not in capsys.readouterr().err.replace("Reading the changelogs", "")
    by_name = {finding.name: finding for finding in pending(found[CHILD].own)}
    assert by_name.keys() == {*DEBIAN, PYTHON[0]}
    for name, finding in by_name.items():
        assert finding.ids, name
        assert all(id_.startswith("CVE-") for id_ in finding.ids)
        assert finding.hours is not None
        assert finding.hours > 48
        assert finding.rebuilt
    assert round(by_name[PYTHON[0]].hours or 0) == 72
    assert not any(
        finding.kind is Kind.DEB and finding.status is Status.NOT_AUDITED
        for finding in found[PARENT].all
    )

    (refusal,) = (line for line in pending_refusals(found) if line.startswith(f"{CHILD}: "))
    assert "CVE-2026-0001 (72 h)" in refusal
    assert all(name in refusal for name in DEBIAN)

    # Only what needs it, and only where it is asked for.
    assert {step.action for step in prepare(project, request).steps} == {Action.UP_TO_DATE}
    prepared = prepare(project, replace(request, pending=True))
    parent, child = prepared.steps
    assert (parent.variant.name, parent.action) == (PARENT, Action.UP_TO_DATE)
    names = ", ".join(finding.name for finding in pending(found[CHILD].own))
    assert child.reasons == (f"4 security fixes pending ({names})",)

    results = run_build(
        tree,
        engine,
        prepared.builder,
        prepared.steps,
        prepared.environment,
        prepared.variables,
        prepared.present,
    )
    assert [str(result.outcome) for result in results] == ["up to date", "built"]
    assert pending(audited(engine, project)[CHILD].all) == ()


# --- in an engine of its own ----------------------------------------------------------------------

# Debian's mirror, which has something else each time.
TEMPLATES = {
    "base/tools.Dockerfile.j2": "FROM scratch\nCOPY bin/ /\n",
    "base/system.Dockerfile.j2": (
        "FROM {{ suite.debian_image }} AS slimmed\n"
        "RUN cat /proc/sys/kernel/random/uuid > /packages\n"
        "FROM scratch\n"
        "COPY --from=slimmed /packages /packages\n"
    ),
    "base/Dockerfile.j2": "FROM system-{{ variant.suite }}\nUSER 1000:1000\n",
    "frameworks/Dockerfile.j2": "FROM {{ variant.parent }}\nCOPY requirements.txt .\n",
}


def test_fixes_do_not_come_from_the_cache(small_engine: Engine, tmp_path: Path) -> None:
    small = Repository.write(tmp_path)
    for path, text in TEMPLATES.items():
        small.put(path, text)
    small.render()
    request = Request(Selection((MINIMAL,)), force=True)
    built = []
    with patch.dict(os.environ, small_engine.environ()):
        prepared = prepare(small.project, request)
    for no_cache in (False, False, True):
        run_build(
            small.root,
            small_engine,
            prepared.builder,
            [replace(step, no_cache=no_cache) for step in prepared.steps],
            prepared.environment,
            prepared.variables,
            prepared.present,
        )
        built.append(layers_of(small_engine.inspect([image_tag(MINIMAL)])[image_tag(MINIMAL)]))
    assert built[0] == built[1]
    assert built[1] != built[2]
