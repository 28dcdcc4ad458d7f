"""The slim rules of each image as the flat list that its build reads."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from imagematrix.matrix.slim import BASE_RULES, RULES_NAME
from imagematrix.matrix.variant import Variant


def render_slim(root: Path, variants: Iterable[Variant]) -> dict[PurePosixPath, str]:
    """The text of each image's slim.txt, under its path relative to `root`: one rule a line."""
    return {variant.slim_file: _text(root, variant) for variant in variants}


def rule_files(root: Path, variant: Variant) -> tuple[PurePosixPath, ...]:
    """The files that the rules of an image come from."""
    own = variant.home / RULES_NAME
    return (BASE_RULES, own) if own != BASE_RULES and (root / own).is_file() else (BASE_RULES,)


def _text(root: Path, variant: Variant) -> str:
    files = " and ".join(map(str, rule_files(root, variant)))
    rules = [f"{rule.verb} {rule.pattern}  # {rule.reason}\n" for rule in variant.slim]
    return (
        f"# Rendered from {files} by `nox -s {variant.rendered_by}`. Do not edit.\n{''.join(rules)}"
    )
