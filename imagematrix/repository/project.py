"""The repository as the commands see it: its matrix, its images, its locks."""

import datetime
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from imagematrix.errors import Diagnostic, InputError
from imagematrix.files import Reader, read_bytes, read_text, write_atomically
from imagematrix.matrix.ends import (
    debian_differences,
    read_ends,
    support_errors,
    support_warnings,
)
from imagematrix.matrix.lockfile import Lock, parse_lock
from imagematrix.matrix.rules import Matrix, load_matrix
from imagematrix.matrix.slim import Slim, read_slim
from imagematrix.matrix.variant import Variant, expand
from imagematrix.plan.bake import committed_bake_file
from imagematrix.plan.content import Content, image_contents
from imagematrix.repository.dockerfiles import render_dockerfiles
from imagematrix.repository.examples import missing_examples
from imagematrix.repository.former import FORMER, where_it_went
from imagematrix.repository.pages import (
    CATALOGUE,
    DOCS,
    README,
    catalogue,
    image_table,
    render_readme,
    with_images_there_are,
)
from imagematrix.repository.schemas import render_schemas
from imagematrix.repository.sizes import (
    SIZES,
    UPDATE,
    Budgets,
    Measured,
    budgets_text,
    read_budgets,
    updated,
)
from imagematrix.repository.slim import render_slim
from imagematrix.repository.tree import check_rendered, orphan_diagnostics, read_locks

BAKE_FILE = PurePosixPath("docker-bake.json")


@dataclass(frozen=True)
class Project:
    """The repository at `root`.

    `environments` are images that its matrix does not declare: those of users' specifications.
    """

    root: Path
    environments: tuple[Variant, ...] = ()

    @cached_property
    def _read(self) -> Reader:
        """Reads each file once: what is checked is what makes the key."""
        return cache(read_bytes)

    @cached_property
    def matrix(self) -> Matrix:
        """Its matrix; raises InputError when that is wrong."""
        return load_matrix(self.root / "matrix.yaml")

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Every image, parents before their children; raises InputError when the matrix or the
        rules by which images are slimmed are wrong."""
        declared = expand(self.matrix, self._readable_lock, self.slim)
        return (*declared, *self.environments)

    @cached_property
    def slim(self) -> Slim:
        """The rules by which images are slimmed; raises InputError when they are wrong."""
        return read_slim(self.root, self.matrix)

    def _readable_lock(self, path: PurePosixPath) -> Lock | None:
        """A lock, or None: what is wrong with it is reported where `locks` are asked for."""
        try:
            return parse_lock(read_text(f"{self.root}/{path}", path, self._read), path)
        except InputError:
            return None

    @cached_property
    def locks(self) -> dict[str, Lock]:
        """The lock of each image; raises InputError for those that are missing or wrong."""
        return read_locks(self.root, self.matrix, self.variants, self._read)

    @cached_property
    def budgets(self) -> Budgets:
        """The recorded sizes of the images; raises InputError for a record that is wrong."""
        return read_budgets(self.root)

    @property
    def sizes(self) -> dict[str, float]:
        """The measured size of each image that has been measured, uncompressed, in MB."""
        return self.budgets.megabytes

    def rendered(self) -> dict[PurePosixPath, str]:
        """Every file that is derived from the matrix, with its text."""
        return {**self._inputs(), **self._pages(), **render_schemas()}

    def _inputs(self) -> dict[PurePosixPath, str]:
        """What builds read of it."""
        return {
            **render_dockerfiles(self.root, self.variants),
            **render_slim(self.root, self.variants),
        }

    def _pages(self) -> dict[PurePosixPath, str]:
        readme = self.root / README
        text = read_text(readme, README) if readme.is_file() else ""
        pages = {README: render_readme(text, image_table(self.variants, self.sizes))}
        for file in sorted((self.root / DOCS).glob("*.md")):
            path = DOCS / file.name
            pages[path] = read_text(file, path)
        pages = {path: with_images_there_are(text, self.variants) for path, text in pages.items()}
        return {
            **pages,
            CATALOGUE: catalogue(self.variants, self.budgets.measured),
            FORMER: where_it_went(self.variants),
            BAKE_FILE: json.dumps(committed_bake_file(self.variants), indent=2) + "\n",
        }

    def check(self, today: datetime.date, distro_info: Path) -> tuple[Diagnostic, ...]:
        """Raises InputError with all that differs between the files and the matrix, and the dates
        of support that cannot be kept. Returns warnings.

        `distro_info` is the table of Debian releases of this host, where it has one. A difference
        from it is a warning: it may be older than the repository's table.
        """
        _raise_all(
            lambda: check_rendered(self.root, self._inputs()),
            lambda: check_rendered(self.root, self._pages()),
            lambda: check_rendered(self.root, render_schemas()),
            lambda: orphan_diagnostics(self.root, self.variants),
            lambda: missing_examples(self.root, self.variants),
            self._unknown_sizes,
            self._lock_faults,
            lambda: support_errors(self.matrix, read_ends(self.root), today),
        )
        warnings = list(support_warnings(self.matrix, today))
        if distro_info.is_file():
            text = read_text(distro_info, distro_info)
            warnings += debian_differences(read_ends(self.root), text)
        return tuple(sorted(warnings))

    def check_buildable(self) -> None:
        """Raises InputError with all that keeps images from being built as the matrix has them."""
        _raise_all(
            lambda: check_rendered(self.root, self._inputs(), self._read),
            self._lock_faults,
        )

    def contents(
        self, variants: Sequence[Variant], base_ids: Mapping[str, Mapping[str, str]]
    ) -> dict[str, Content]:
        """What images on base images of these IDs are made of, by name: the files as checked."""
        return image_contents(self.root, variants, base_ids, self.locks, self._read)

    def _unknown_sizes(self) -> Iterator[Diagnostic]:
        recorded = self.budgets.measured.keys() | self.budgets.unmeasured.keys()
        if unknown := sorted(recorded - {variant.name for variant in self.variants}):
            message = f"names images that are not in the matrix: {', '.join(unknown)}"
            yield Diagnostic(SIZES, 0, 0, "", message, f"run `{UPDATE}`")

    def _lock_faults(self) -> tuple[Diagnostic, ...]:
        _ = self.locks
        return ()

    def record(self, measured: Mapping[str, Measured], absent: Iterable[str]) -> bool:
        """Writes measured sizes beside those known already; returns whether any changed."""
        names = (variant.name for variant in self.variants)
        text = budgets_text(updated(self.budgets, measured, absent, names))
        return write_atomically(self.root / SIZES, text)


def _raise_all(*parts: Callable[[], Iterable[Diagnostic]]) -> None:
    errors: list[Diagnostic] = []
    for part in parts:
        try:
            errors += part()
        except InputError as error:
            errors += error.diagnostics
    if errors:
        raise InputError(errors)
