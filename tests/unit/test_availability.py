"""Whether the packages of an image can be had: wheels of the host, and what an index answers."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagematrix.host.supply import Supply, resolve_supplies, resolve_supply, why_unreachable
from imagematrix.matrix.variant import Index, Variant
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository, host_config, lock_of

TORCH = "torch-2.0.0+cpu-cp312-cp312-linux_x86_64.whl"
CONTENT = b"a wheel"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
LOCK = lock_of("httptools==2.0", "torch==2.0.0+cpu", digest=DIGEST)


@pytest.fixture
def pytorch(repository: Repository) -> Variant:
    return repository.variant(PYTORCH)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


class _Index(http.server.BaseHTTPRequestHandler):
    """An index that has `torch` and nothing else, and speaks nonsense when asked for that."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        if self.path == "/nonsense/":
            self.wfile.write(b"What?\r\n\r\n")
            return
        self.send_response(200 if self.path == "/torch/" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def index() -> Iterator[tuple[str, list[str]]]:
    """The address of an index on loopback, and the paths that it was asked for."""
    _Index.asked = []
    with http.server.HTTPServer(("127.0.0.1", 0), _Index) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", _Index.asked
        server.shutdown()
        thread.join()


@pytest.fixture
def closed() -> str:
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def at(variant: Variant, url: str) -> Variant:
    """The same image with another index."""
    return replace(variant, index=Index("extra", url, ("torch",)))


def supply(variant: Variant, files: list[Path], answer: str = "answers 404 Not Found") -> Supply:
    return resolve_supply(variant, LOCK, files, {}, lambda _: answer)


def test_wheel_that_the_lock_admits_makes_the_index_needless(
    pytorch: Variant, wheels: Path
) -> None:
    (wheels / TORCH).write_bytes(CONTENT)

    assert supply(pytorch, [wheels / TORCH]) == Supply((wheels / TORCH,), None, "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param(TORCH, b"another wheel", id="hash"),
        pytest.param(TORCH.replace("2.0.0", "2.0.1"), CONTENT, id="version"),
        pytest.param(TORCH.replace("+cpu", ""), CONTENT, id="build"),
        pytest.param(TORCH.replace("torch", "torchvision"), CONTENT, id="name"),
        pytest.param("torch.whl", CONTENT, id="no wheel"),
        pytest.param("torch-x-py3-none-any.whl", CONTENT, id="no version"),
    ],
)
def test_wheel_is_used_only_when_name_version_and_hash_fit(
    name: str, content: bytes, pytorch: Variant, wheels: Path
) -> None:
    (wheels / name).write_bytes(content)

    assert supply(pytorch, [wheels / name]).wheels == ()


def test_wheel_is_read_once_for_all_images(pytorch: Variant, wheels: Path) -> None:
    digests: dict[Path, str] = {}
    (wheels / TORCH).write_bytes(CONTENT)
    resolve_supply(pytorch, LOCK, [wheels / TORCH], digests, lambda _: "")
    (wheels / TORCH).write_bytes(b"changed since")

    assert digests == {wheels / TORCH: DIGEST}
    assert resolve_supply(pytorch, LOCK, [wheels / TORCH], digests, lambda _: "").wheels


def test_wheel_for_another_python_is_not_read(pytorch: Variant, wheels: Path) -> None:
    digests: dict[Path, str] = {}
    other = wheels / TORCH.replace("cp312-cp312", "cp311-cp311")
    other.write_bytes(CONTENT)

    assert resolve_supply(pytorch, LOCK, [other], digests, lambda _: "").wheels == ()
    assert digests == {}


def test_wheels_are_found_in_the_folders_of_the_host(
    repository: Repository, wheels: Path, closed: str
) -> None:
    (wheels / TORCH).write_bytes(CONTENT)
    (wheels / TORCH.replace("cp312-cp312", "cp311-cp311")).mkdir()
    (wheels / "notes.txt").write_text("x")
    variants = [at(variant, closed) for variant in repository.project.variants]
    locks = {MINIMAL: lock_of("httptools==2.0"), XGBOOST: lock_of("numpy==2"), PYTORCH: LOCK}

    supplies = resolve_supplies(locks, variants, host_config(wheel_folders=(wheels,)))

    assert supplies == {
        MINIMAL: Supply(),
        XGBOOST: Supply(),
        PYTORCH: Supply((wheels / TORCH,)),
    }


def test_image_without_an_index_of_its_own_is_available(repository: Repository) -> None:
    assert supply(repository.variant(XGBOOST), []) == Supply()


def test_index_that_answers_is_used(pytorch: Variant) -> None:
    assert supply(pytorch, [], answer="") == Supply((), pytorch.index, "")


def test_index_that_cannot_be_used_makes_the_image_unavailable(pytorch: Variant) -> None:
    assert supply(pytorch, []) == Supply(
        (),
        pytorch.index,
        "torch 2.0.0+cpu is only on https://wheels.example/cpu, which answers 404 Not Found",
    )


def test_index_is_requested_once_and_only_for_its_packages(
    repository: Repository, index: tuple[str, list[str]]
) -> None:
    url, asked = index
    pytorch = at(repository.variant(PYTORCH), url)
    variants = [pytorch, replace(pytorch, name="another")]

    supplies = resolve_supplies({PYTORCH: LOCK, "another": LOCK}, variants, host_config())

    assert asked == ["/torch/"]
    assert supplies == dict.fromkeys((PYTORCH, "another"), Supply((), pytorch.index, ""))


def test_reason_why_an_index_cannot_be_used_ends_a_sentence(
    index: tuple[str, list[str]], closed: str, tmp_path: Path
) -> None:
    url, _ = index
    no_bundle = tmp_path / "ca.crt"
    no_bundle.write_text("no certificates")

    assert why_unreachable(f"{url}/torch/", None) == ""
    assert why_unreachable(f"{url}/numpy/", None) == "answers 404 Not Found"
    assert why_unreachable(f"{closed}/torch/", None) == (
        "cannot be reached from here (127.0.0.1: [Errno 111] Connection refused)"
    )
    for broken in (
        why_unreachable(f"{url}/nonsense/", None),
        why_unreachable(f"{url}/torch/", no_bundle),
    ):
        assert broken.startswith("cannot be reached from here (127.0.0.1: ")


def test_index_that_does_not_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/torch/"
        assert why_unreachable(url, None, timeout=0.1) == (
            "cannot be reached from here (127.0.0.1: timed out)"
        )
