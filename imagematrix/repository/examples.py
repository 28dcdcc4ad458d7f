"""The examples: which image makes each, and by which module of `examples/`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imagematrix.errors import Diagnostic
from imagematrix.matrix.schema import Accelerator
from imagematrix.matrix.variant import Variant

EXAMPLES = PurePosixPath("examples")
# What the scripts share.
SHARED = frozenset({"__init__.py", "data.py", "make.py", "oracles.py"})


@dataclass(frozen=True)
class Example:
    """What an image serves when it is checked.

    `folder` is what people copy, `script` what makes its model, request and response, and `maker`
    the image that runs it: the first of the matrix for the CPU that serves the example.
    """

    folder: PurePosixPath
    script: PurePosixPath
    maker: str

    @property
    def module(self) -> str:
        """The script, as Python imports it."""
        return ".".join(self.script.with_suffix("").parts)


def examples_of(root: Path, variants: Sequence[Variant]) -> tuple[Example, ...]:
    """The examples of all images of the matrix, each once."""
    found = []
    for folder, framework in dict.fromkeys((v.example, v.framework) for v in variants):
        serving = [variant for variant in variants if variant.example == folder]
        maker = min(serving, key=lambda variant: variant.accelerator is not Accelerator.CPU)
        found.append(Example(folder, _script(root, framework, folder.name), maker.name))
    return tuple(found)


def _script(root: Path, framework: str, name: str) -> PurePosixPath:
    """`train_0_9.py` for `example-0.9`, where there is one; else `train.py`."""
    home = EXAMPLES / identifier(framework)
    own = home / f"train{identifier(name.removeprefix('example'))}.py"
    return own if (root / own).is_file() else home / "train.py"


def identifier(name: str) -> str:
    """A name as Python can import it."""
    return name.replace("-", "_").replace(".", "_")


def missing_examples(root: Path, variants: Sequence[Variant]) -> Iterator[Diagnostic]:
    """The files of the examples that are not there; without them no image can be checked."""
    for example in examples_of(root, variants):
        names = ("score.py", "request.json", "response.json")
        for path in (example.script, *(example.folder / name for name in names)):
            if not (root / path).is_file():
                hint = "docs/add-an-image.md says what an example is"
                yield Diagnostic(path, 0, 0, "", "is missing", hint)
