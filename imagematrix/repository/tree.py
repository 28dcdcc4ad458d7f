"""Whether the files of the repository are exactly those that its matrix gives."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name
from packaging.version import Version

from imagematrix.errors import Diagnostic, InputError
from imagematrix.files import Reader, read_bytes, read_text
from imagematrix.matrix.document import KeyPath
from imagematrix.matrix.lockfile import Lock, parse_lock
from imagematrix.matrix.rules import Matrix
from imagematrix.matrix.schema import Accelerator, parsed_requirement
from imagematrix.matrix.slim import RULES_NAME
from imagematrix.matrix.variant import Variant
from imagematrix.repository.examples import EXAMPLES, SHARED, identifier
from imagematrix.repository.schemas import SLIM_SCHEMA

# What the folder of an image holds, with what the first lines of each file say.
_RENDERED = {
    "Dockerfile": b"by `nox -s render`",
    "slim.txt": b"by `nox -s render`",
    "requirements.txt": b"by `nox -s lock`",
}
_BASE_FILES = frozenset(
    {
        "macros.j2",
        "conda.Dockerfile.j2",
        "environment.Dockerfile.j2",
        "system.Dockerfile.j2",
        "tools.Dockerfile.j2",
        "deployment.Dockerfile.j2",
        "custom",
        "dpkg-excludes",
        "server",
        "tools",
        RULES_NAME,
        SLIM_SCHEMA,
    }
)


def read_locks(
    root: Path, matrix: Matrix, variants: Sequence[Variant], read: Reader = read_bytes
) -> dict[str, Lock]:
    """The lock of each image, under its name.

    Raises InputError for a lock that is missing or wrong, or that contradicts a pin or the lock of
    the parent.
    """
    locks: dict[str, Lock] = {}
    errors: list[Diagnostic] = []
    for variant in variants:
        try:
            text = read_text(f"{root}/{variant.lock}", variant.lock, read)
            locks[variant.name] = parse_lock(text, variant.lock)
        except InputError as error:
            if variant.is_environment or (root / variant.lock).is_file():
                errors += error.diagnostics
                continue
            message = f"{variant.name} has no lock"
            hint = f"run `nox -s lock -- {variant.name}`"
            at = release_path(matrix, variant)
            errors.append(matrix.document.diagnostic(at, message, hint))
    for variant in variants:
        if variant.name in locks:
            # The lock of an environment is resolved before each build.
            if not variant.is_environment:
                errors += _pin_contradictions(matrix, variant, locks[variant.name])
                errors += _missing_cuda(matrix, variant)
            # A conda environment has no packages of the parent.
            if variant.parent in locks and variant.conda is None:
                errors += _parent_contradictions(
                    variant, locks[variant.name], locks[variant.parent]
                )
    if errors:
        raise InputError(errors)
    return locks


def release_path(matrix: Matrix, variant: Variant) -> KeyPath:
    """Where the release of an image stands in the matrix."""
    return matrix.by_folder[variant.folder.name].path


@lru_cache(maxsize=4096)
def _admits(pin: str, version: Version) -> bool:
    return parsed_requirement(pin).specifier.contains(version, prereleases=True)


def _pin_contradictions(matrix: Matrix, variant: Variant, lock: Lock) -> Iterator[Diagnostic]:
    for pin in matrix.by_folder[variant.folder.name].pins:
        requirement = parsed_requirement(pin.text)
        locked = lock.get(canonicalize_name(requirement.name))
        if locked is not None and _admits(pin.text, locked.version):
            continue
        held = f"{locked.version} (line {locked.line})" if locked else "nothing of that name"
        message = f"promises {pin.text}, but {variant.lock} holds {held}"
        yield matrix.document.diagnostic(pin.path, message, f"run `nox -s lock -- {variant.name}`")


def _missing_cuda(matrix: Matrix, variant: Variant) -> Iterator[Diagnostic]:
    needed: tuple[str, ...] = ()
    if variant.accelerator is not Accelerator.CPU and variant.cuda is None:
        needed = ("nvidia-cuda-runtime",)
    elif variant.accelerator is Accelerator.TENSORRT and variant.cuda and not variant.cuda.tensorrt:
        needed = ("tensorrt-cu…-libs",)
    for package in needed:
        message = f"is for {variant.accelerator}, but {variant.lock} holds no {package}"
        at = release_path(matrix, variant)
        yield matrix.document.diagnostic(
            at, message, f"pin it, and run `nox -s lock -- {variant.name}`"
        )


def _parent_contradictions(variant: Variant, lock: Lock, parent: Lock) -> Iterator[Diagnostic]:
    for name, inherited in parent.items():
        locked = lock.get(name)
        if locked is not None and locked.version == inherited.version:
            continue
        held = f"holds {locked.version}" if locked else "lacks it"
        message = f"{variant.parent} brings {name} {inherited.version}, but this lock {held}"
        hint = f"run `nox -s lock -- {variant.name}`"
        yield Diagnostic(variant.lock, locked.line if locked else 0, 1, "", message, hint)


def check_rendered(
    root: Path, expected: Mapping[PurePosixPath, str], read: Reader = read_bytes
) -> Iterator[Diagnostic]:
    """What is missing or stale of the rendered files."""
    for path, text in expected.items():
        try:
            present = read(f"{root}/{path}")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            yield Diagnostic(path, 0, 0, "", "is missing", "run `nox -s render`")
            continue
        if present != (wanted := text.encode()):
            line = _first_difference(present, wanted)
            message = "differs from what the matrix gives"
            yield Diagnostic(path, line, 1, "", message, "run `nox -s render`")


def _first_difference(present: bytes, expected: bytes) -> int:
    lines = zip(present.split(b"\n"), expected.split(b"\n"), strict=False)
    same = 0
    for old, new in lines:
        if old != new:
            break
        same += 1
    return same + 1


def orphans(root: Path, variants: Iterable[Variant]) -> tuple[PurePosixPath, ...]:
    """What lies in base/, frameworks/ and examples/ but belongs to no image of the matrix.

    Folders that are orphaned as a whole are named alone. Files that start with a dot, and caches of
    Python, are left alone.
    """
    folders = {PurePosixPath("base"): set(_BASE_FILES), EXAMPLES: set(SHARED)}
    frameworks = {"Dockerfile.j2", SLIM_SCHEMA}
    for variant in variants:
        entries = folders.setdefault(variant.home, set())
        entries |= {variant.folder.name, variant.example.name, RULES_NAME}
        folders[variant.folder] = set(_RENDERED)
        folders[EXAMPLES].add(identifier(variant.framework))
        if variant.parent is None:
            folders[variant.system_dockerfile.parent] = {variant.system_dockerfile.name}
            entries |= {variant.system_dockerfile.parent.name, variant.template.name}
        if variant.home.parent.name == "frameworks":
            frameworks.add(variant.framework)
    folders[PurePosixPath("frameworks")] = frameworks
    found = []
    for folder, entries in folders.items():
        if not (root / folder).is_dir():
            continue
        for path in sorted((root / folder).iterdir()):
            ignored = path.name.startswith(".") or path.name == "__pycache__"
            if path.name not in entries and not ignored:
                found.append(folder / path.name)
    return tuple(found)


def remove_orphan(root: Path, path: PurePosixPath) -> str:
    """Removes an orphan that holds rendered files only; returns why not, or nothing."""
    problem = _why_not_removable(root, path)
    if not problem:
        target = root / path
        for child in target.iterdir():
            child.unlink()
        target.rmdir()
    return problem


def _why_not_removable(root: Path, path: PurePosixPath) -> str:
    target = root / path
    if not target.is_dir() or target.is_symlink():
        return f"{path} is not of this project's making; remove it or declare its image"
    foreign = sorted(child.name for child in target.iterdir() if not _is_ours(child))
    if foreign:
        return f"{path} also holds {', '.join(foreign)}; remove it by hand or declare its image"
    return ""


def _is_ours(path: Path) -> bool:
    """Whether `nox -s render` or `nox -s lock` wrote a file: its first lines say so."""
    mark = _RENDERED.get(path.name)
    if mark is None or not path.is_file():
        return False
    with path.open("rb") as file:
        return mark in file.read(400)


def orphan_diagnostics(root: Path, variants: Iterable[Variant]) -> Iterator[Diagnostic]:
    """The orphans as errors."""
    for path in orphans(root, variants):
        by_hand = _why_not_removable(root, path)
        how = "by hand" if by_hand else "with `nox -s render`"
        hint = f"remove it {how}, or declare its image"
        yield Diagnostic(path, 0, 0, "", "belongs to no image of the matrix", hint)
