"""What makes the examples: the oracles, the comparison, which image makes which, the command."""

import io
import json
import math
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from examples import make, oracles
from examples.onnxruntime import train as onnx
from examples.oracles import Network, Split
from imagematrix import cli
from imagematrix.commands import examples as command
from imagematrix.repository.examples import Example, examples_of
from imagematrix.repository.project import Project
from tests.unit.helpers import MINIMAL, PYTORCH, REPOSITORY, XGBOOST, Repository, variants_of

BASE = REPOSITORY / "base/example"

# --- oracles --------------------------------------------------------------------------------------

TREE = Split(0, 1.0, Split(1, -2.0, "a", "b", missing_below=False), "c")


@pytest.mark.parametrize(
    ("row", "leaf"),
    [
        ([0.5, -3.0], "a"),
        ([0.5, -1.0], "b"),
        ([0.5, None], "b"),
        ([2.0, None], "c"),
        ([None, -3.0], "a"),
    ],
)
def test_a_row_falls_into_a_leaf(row: list[Any], leaf: str) -> None:
    assert oracles.leaf(TREE, row) == leaf


@pytest.mark.parametrize("value", [1.0, 1.000001, 0.999999])
def test_a_value_next_to_a_threshold_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{value} is too close to the split at 1.0")):
        oracles.leaf(TREE, [value, 0.0])


def test_trees_are_added_or_averaged() -> None:
    trees = [Split(0, 0.0, 0.1, 1e16), Split(0, 0.0, 0.2, -1e16), 0.3]
    assert oracles.additive(trees, [-1.0]) == pytest.approx(0.6, rel=1e-15)
    assert oracles.additive(trees, [1.0]) == 0.3
    assert oracles.shares([[1.0, 0.0], [0.5, 0.5]], [0.0]) == [0.75, 0.25]


def test_a_linear_model_is_computed_exactly() -> None:
    assert oracles.linear([1.0, 1e20, -1e20], 0.5, [1, 1, 1]) == 1.5


def test_odds_are_a_probability() -> None:
    assert oracles.logistic(0) == 0.5
    assert oracles.logistic(math.log(3)) == pytest.approx(0.75)


IMAGE = [[float(4 * y + x) for x in range(4)] for y in range(4)]
# The value below the middle, less that above it: 8 everywhere in this image.
DOWN = [[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
CORNER = [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("pooling", "features"),
    [
        # Of the corners 0, 1, 4 and 5, less 2, the positive parts are 0, 0, 2 and 3.
        ("max", [9.0, 3.0]),
        ("mean", [9.0, 1.25]),
    ],
)
def test_a_convolution_is_computed_by_hand(pooling: str, features: list[float]) -> None:
    dense = [[0.1, 0.2], [0.3, -0.4]]
    network = Network([DOWN, CORNER], [1.0, -2.0], dense, [0.5, -0.5], pooling)
    logits = [
        0.5 + 0.1 * features[0] + 0.2 * features[1],
        -0.5 + 0.3 * features[0] - 0.4 * features[1],
    ]
    first = 1 / (1 + math.exp(logits[1] - logits[0]))
    assert oracles.convolution(network, IMAGE) == pytest.approx([first, 1 - first])


def test_the_greatest_probability_is_the_class() -> None:
    rows = [[0.1, 0.9], [0.6, 0.4]]
    expected = {"predictions": ["b", "a"], "classes": ["a", "b"], "probabilities": rows}
    assert oracles.classified(["a", "b"], rows) == expected


# --- comparison -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "old", "found"),
    [
        ({"a": [1, 2.0]}, {"a": [1, 2.0]}, []),
        ({"a": [1, 2.0]}, {"a": [1, 2.5]}, ["a[1] is 2.0, committed 2.5"]),
        ({"a": {"b": [0.1, 0.2]}}, {"a": {"b": [1.0, 2.0]}},
         ["a.b[0] is 0.1, committed 1.0", "a.b[1] is 0.2, committed 2.0"]),
        ({"a": 1}, {"b": 1}, ["is {'a': 1}, committed {'b': 1}"]),
        ([1, 2], [1], ["has 2 items, 1 are committed"]),
        (b"abc", b"abd", ["differs from byte 2 on; 3 bytes, 3 are committed"]),
        (b"abc", b"ab", ["differs from byte the end on; 3 bytes, 2 are committed"]),
        (0.1 + 0.2, 0.3, ["is 0.30000000000000004, committed 0.3"]),
        ("x", None, ["is 'x', committed None"]),
        (Split(0, 1.0, 2.0, 3.0), Split(0, 1.0, 2.0, 4.0), ["above is 3.0, committed 4.0"]),
    ],
)  # fmt: skip
def test_differences_are_named_with_their_place(new: Any, old: Any, found: list[str]) -> None:
    assert list(make.differences(new, old)) == found


def test_numbers_that_were_computed_in_32_bits_may_differ_a_little() -> None:
    assert not list(make.differences([1.000009], [1.0], make.TOLERANCE))
    assert list(make.differences([1.00002], [1.0], make.TOLERANCE))


def test_a_response_loses_its_last_digits_only() -> None:
    response = {"a": [(1 / 3, 2)], "b": "text", "c": 1e300 / 3}
    assert make.rounded(response) == {
        "a": [[0.333333333333, 2]],
        "b": "text",
        "c": 3.33333333333e299,
    }


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A copy of the example that needs no framework."""
    return shutil.copytree(BASE, tmp_path / "committed")


def run_make(committed: Path, made: Path) -> tuple[int, list[str], str]:
    """Exit status, standard output and standard error of making the example."""
    made.mkdir()
    given = ["examples.minimal.train", str(committed), str(made)]
    command = [sys.executable, "-m", "examples.make", *given]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout.splitlines(), result.stderr


def test_the_committed_example_is_made(committed: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert run_make(committed, made) == (0, [], "")
    assert not list(made.iterdir())


def test_what_differs_is_named_and_left(committed: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (committed / "request.json").unlink()
    model = json.loads((committed / "model.json").read_text())
    (committed / "model.json").write_text(json.dumps(model | {"intercept": 1.5}))
    (committed / "response.json").write_text("{")

    status, lines, _ = run_make(committed, made)

    assert status == make.DIFFERS
    assert lines[0].startswith("model.json: intercept is ")
    assert lines[0].endswith(", committed 1.5")
    assert lines[1] == "request.json: is not committed"
    assert lines[2].startswith("response.json: is committed, but cannot be read: JSONDecodeError")
    for name in ("model.json", "request.json", "response.json"):
        assert (made / name).read_bytes() == (BASE / name).read_bytes()


def test_another_form_of_the_same_values_differs(committed: Path, tmp_path: Path) -> None:
    response = committed / "response.json"
    response.write_text(json.dumps(json.loads(response.read_text())))
    lines = ["response.json: has the same values in another form"]
    assert run_make(committed, tmp_path / "made") == (make.DIFFERS, lines, "")


def test_a_script_that_answers_otherwise_is_an_error(committed: Path, tmp_path: Path) -> None:
    script = committed / "score.py"
    script.write_text(script.read_text().replace("math.fsum", "1.001 * math.fsum"))
    status, _, errors = run_make(committed, tmp_path / "made")
    assert status == 1
    assert "ValueError: score.py answers otherwise than the oracle: predictions[0] is " in errors


@pytest.mark.parametrize(
    ("new", "old", "found"),
    [
        ("1.5 at noon", "1.5 at midnight", ""),
        ("1.5 at noon", "2.5 at noon", "weight is 1.5, committed 2.5"),
    ],
)
def test_a_model_that_never_has_the_same_bytes_is_compared_by_its_weights(
    new: str, old: str, found: str, tmp_path: Path
) -> None:
    train = SimpleNamespace(
        MODEL="model",
        SAME_BYTES=False,
        weights=lambda path: {"weight": float(path.read_text().split()[0])},
    )
    for folder, text in [("made", new), ("committed", old)]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model").write_text(text)
    found_here = make.compare(tmp_path / "committed/model", tmp_path / "made/model", train)
    assert found_here == found
    if new != old:
        train.SAME_BYTES = True
        assert make.compare(tmp_path / "committed/model", tmp_path / "made/model", train)


@pytest.mark.parametrize("example", ["example", "example-0.4"])
def test_the_onnx_file_is_what_is_committed(example: str, tmp_path: Path) -> None:
    """Written and read without ONNX Runtime, so it can be compared without its image."""
    onnx.train(tmp_path / "model.onnx")
    committed = REPOSITORY / "frameworks/onnxruntime" / example
    assert (tmp_path / "model.onnx").read_bytes() == (committed / "model.onnx").read_bytes()
    response = onnx.respond(onnx.weights(tmp_path / "model.onnx"), onnx.ROWS)
    assert make.lines(make.rounded(response)) == (committed / "response.json").read_text()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 40])
def test_numbers_of_any_length_are_written_and_read(value: int) -> None:
    message = onnx.field(3, value) + onnx.field(20, "text") + onnx.field(1, b"\x80" * 200)
    assert list(onnx.fields(message)) == [(3, value), (20, b"text"), (1, b"\x80" * 200)]


# --- which image makes which ----------------------------------------------------------------------

MATRIX = """\
debian: {trixie: ["3.11", "3.12"]}
tracks: {current: {pythons: ["3.11", "3.12"], accelerators: [cpu], supported_until: 2098-12-31}}
frameworks:
  minimal:
    title: Python
    releases:
      - pins: [pip==26.3]
  scikit-learn:
    title: scikit-learn
    releases:
      - {version: "1.9", pins: [scikit-learn==1.9.1]}
      - {version: "1.8", pythons: ["3.12"], example: "1.8", pins: [scikit-learn==1.8.0]}
"""


def test_an_example_is_made_in_the_first_image_that_serves_it(tmp_path: Path) -> None:
    home = PurePosixPath("frameworks/scikit-learn")
    scripts = PurePosixPath("examples/scikit_learn")
    own = tmp_path / scripts / "train_1_8.py"
    variants = variants_of(MATRIX, tmp_path)

    def found() -> dict[str, tuple[str, str]]:
        examples = examples_of(tmp_path, variants)
        return {str(e.folder): (str(e.script), e.maker) for e in examples}

    expected = {
        "base/example": ("examples/minimal/train.py", "minimal-py311-inference"),
        str(home / "example"): (str(scripts / "train.py"), "scikit-learn1.9-py311-inference"),
        str(home / "example-1.8"): (str(scripts / "train.py"), "scikit-learn1.8-py312-inference"),
    }
    assert found() == expected
    own.parent.mkdir(parents=True)
    own.touch()
    expected[str(home / "example-1.8")] = (
        str(scripts / "train_1_8.py"),
        "scikit-learn1.8-py312-inference",
    )
    assert found() == expected
    assert examples_of(tmp_path, variants)[-1].module == "examples.scikit_learn.train_1_8"


def test_who_copies_an_example_gets_nothing_of_its_making() -> None:
    for example in examples_of(REPOSITORY, Project(REPOSITORY).variants):
        scripts = [REPOSITORY / example.script, (REPOSITORY / example.script).with_name("train.py")]
        models = [re.search(r'^MODEL = "(.+)"$', path.read_text(), re.M) for path in scripts]
        model = next(match[1] for match in models if match)
        held = {path.name for path in (REPOSITORY / example.folder).iterdir()} - {"__pycache__"}
        assert held == {"score.py", "request.json", "response.json", model}, example.folder


# --- the command ----------------------------------------------------------------------------------


class FakeContainer:
    """Runs its command on this host, in a folder instead of the container's /tmp."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self.command = folder, [sys.executable, *command[1:]]
        self.removed = False

    def put_archive(self, path: str, data: bytes) -> bool:
        assert path == "/tmp"
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert all(member.uid == 0 for member in tar)
            writable = [member.name for member in tar if member.mode & 0o022]
            assert writable == ["made"]
            tar.extractall(self.folder, filter="data")
        return True

    def start(self) -> None:
        self.result = subprocess.run(
            self.command, cwd=self.folder, capture_output=True, check=False
        )

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self.result.returncode}

    def logs(self, *, stdout: bool, stderr: bool, tail: int = 0) -> bytes:
        del tail
        assert stdout != stderr
        output: bytes = self.result.stdout if stdout else self.result.stderr
        return output

    def get_archive(self, path: str) -> tuple[Iterator[bytes], dict[str, Any]]:
        assert path == "/tmp/made"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(self.folder / "made", "made")
        return iter([buffer.getvalue()]), {}

    def remove(self, *, force: bool, v: bool) -> None:
        assert force
        assert v
        self.removed = True


class FakeEngine:
    """An engine that has the image of the minimal example, and its client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.containers = self
        self.made: list[FakeContainer] = []

    def ids(self, images: list[str]) -> dict[str, str | None]:
        return {image: "sha256:1" if image.startswith("minimal") else None for image in images}

    def client(self) -> "FakeEngine":
        return self

    def close(self) -> None: ...

    def create(self, image: str, command: list[str], **options: Any) -> FakeContainer:
        assert image == f"{MINIMAL}:latest"
        assert options["network_mode"] == "none"
        folder = self.folder / str(len(self.made))
        folder.mkdir(parents=True)
        self.made.append(FakeContainer(folder, command))
        return self.made[-1]


@pytest.fixture
def engine(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeEngine]:
    """An engine, and the repository with the real minimal example."""
    shutil.copytree(REPOSITORY / "examples", repository.root / "examples", dirs_exist_ok=True)
    shutil.copytree(BASE, repository.root / "base/example", dirs_exist_ok=True)
    engine = FakeEngine(tmp_path / "containers")
    monkeypatch.setattr(command, "ensure_engine", lambda: engine)
    monkeypatch.chdir(repository.root)
    yield engine
    assert all(container.removed for container in engine.made)


def test_an_example_that_is_as_committed_is_a_success(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["examples", MINIMAL]) == 0
    output = capsys.readouterr()
    assert re.fullmatch(r"base/example: as committed \([\d.]+ s\)\n", output.out)
    assert output.err == f"Making base/example in {MINIMAL} …\n"
    assert len(engine.made) == 1


def test_a_difference_is_a_failure_until_it_is_written(
    engine: FakeEngine, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    response = repository.root / "base/example/response.json"
    right = response.read_bytes()
    response.write_text('{"predictions": [1.0]}')

    assert cli.main(["examples", MINIMAL]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "base/example: response.json: predictions has 5 items, 1 are committed",
        f"base/example: `nox -s examples -- --write {MINIMAL}` writes it",
    ]
    assert response.read_text() == '{"predictions": [1.0]}'

    assert cli.main(["examples", MINIMAL, "--write"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "wrote base/example/response.json"
    assert response.read_bytes() == right
    assert len(engine.made) == 2


def test_a_model_that_is_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for path in ("made/model/variables/new", "folder/model/old", "folder/score.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    assert command.write(tmp_path / "made", tmp_path / "folder") == ["model"]
    held = [path.relative_to(tmp_path) for path in (tmp_path / "folder").rglob("*")]
    assert {str(path) for path in held if (tmp_path / path).is_file()} == {
        "folder/model/variables/new",
        "folder/score.py",
    }


@pytest.mark.usefixtures("engine")
def test_an_image_that_is_not_built_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["examples", MINIMAL, XGBOOST]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("base/example: as committed")
    assert lines[1] == (
        f"frameworks/xgboost/example: {XGBOOST} is not built here; run `nox -s build -- {XGBOOST}`"
    )


@pytest.mark.usefixtures("engine")
def test_an_example_that_cannot_be_made_is_a_failure(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.put("examples/minimal/train.py", "raise RuntimeError('no data')\n")
    assert cli.main(["examples", MINIMAL]) == 1
    errors = capsys.readouterr().err
    assert "RuntimeError: no data" in errors
    assert errors.endswith(f"examples/minimal/train.py ended with 1 in {MINIMAL}\n")


def test_images_that_make_no_example_are_a_success_that_says_so(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = Example(PurePosixPath("base/example"), PurePosixPath("x/train.py"), MINIMAL)
    monkeypatch.setattr(command, "examples_of", lambda *_: (example,))
    assert cli.main(["examples", PYTORCH]) == 0
    assert capsys.readouterr().err == f"No chosen image makes an example; these do: {MINIMAL}\n"
    assert not engine.made
