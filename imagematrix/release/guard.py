"""Why `latest` may not move to an image: what consumers of that name do not expect of it.

They rely on the interpreter, on CUDA and on the promised packages. Other packages may go back, as
a resolution sometimes demands; the changelog shows that. A Debian package that went back has a
newer version on the mirror, which is a pending fix.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from imagematrix.errors import UserError
from imagematrix.release.statement import ReleaseStatement, promised

PYTHON, CUDA, TAG = "python", "cuda", "tag"


@dataclass(frozen=True)
class Jump:
    """Why `latest` may not move. `name` is that of the package, `python`, `cuda` or `tag`, `why`
    what happened to it, and `hint` what to do, without `--accept-jump`."""

    name: str
    why: str
    hint: str

    def __str__(self) -> str:
        accept = f'--accept-jump {self.name}="reason"'
        return f"{self.name} {self.why}; {self.hint}, or accept it with {accept}"


_NEW_NAME = "give the image a new name, by a release of its own in matrix.yaml"
_TAKE_BACK = "publish the newer one"


def jumps(latest: ReleaseStatement, new: ReleaseStatement) -> tuple[Jump, ...]:
    """Why `latest`, which is of the statement of the same image, may not move to a new one."""
    return tuple(_jumps(latest, new))


def _jumps(latest: ReleaseStatement, new: ReleaseStatement) -> Iterator[Jump]:
    if new.dated < latest.dated:
        yield Jump(TAG, f"{latest.tag} → {new.tag} goes back", "publish it under a new tag")
    yield from _compared(PYTHON, latest.python, new.python, minor=True)
    if latest.cuda != new.cuda:
        change = f"{latest.cuda or 'none'} → {new.cuda or 'none'}"
        yield Jump(CUDA, f"{change} is in the name of the image", _NEW_NAME)
    before, now = promised(latest), promised(new)
    for package in dict.fromkeys((*before, *now)):
        old, version = latest.packages.get(package, ""), new.packages.get(package, "")
        if not version:
            # One that neither has was promised in vain; a new promise breaks none.
            if old:
                yield Jump(package, f"{old} is gone", _NEW_NAME)
        elif package not in now:
            yield Jump(
                package, f"{old or version} is no longer promised", "pin it in matrix.yaml again"
            )
        elif old:
            yield from _compared(package, old, version)


def _compared(name: str, old: str, new: str, *, minor: bool = False) -> Iterator[Jump]:
    """Whether a version is of another line, or goes back; `minor` is for a minor version, too."""
    try:
        before, now = Version(Version(old).public), Version(Version(new).public)
    except InvalidVersion:
        if old != new:
            yield Jump(name, f"{old} → {new} cannot be compared", _NEW_NAME)
        return
    if _line(before, minor=minor) != _line(now, minor=minor):
        is_minor = minor or before.major == now.major
        kind = "minor" if is_minor else "major"
        yield Jump(name, f"{old} → {new} is another {kind} version", _NEW_NAME)
    elif now < before:
        yield Jump(name, f"{old} → {new} goes back", _TAKE_BACK)


def _line(version: Version, *, minor: bool) -> tuple[int, ...]:
    """What consumers rely on: the major version, but 0.9 and 0.10 are two lines.

    https://semver.org/#spec-item-4
    """
    if minor or version.major == 0:
        return version.epoch, version.major, version.minor
    return version.epoch, version.major


def accepted(texts: Sequence[str]) -> dict[str, str]:
    """The reasons in the values of `--accept-jump`, which are `NAME=reason`, by name.

    Raises UserError for another form, for an empty reason and for a second one.
    """
    reasons: dict[str, str] = {}
    for text in texts:
        name, mark, reason = (part.strip() for part in text.partition("="))
        if not (name and mark and reason):
            raise UserError(f'--accept-jump {text}: write --accept-jump NAME="reason"')
        if name in reasons:
            raise UserError(f"--accept-jump {name} is given twice: keep one of them")
        reasons[name] = reason
    return reasons


def held(found: Sequence[Jump], reasons: Mapping[str, str]) -> str:
    """Why `latest` stays, for ReleaseStatement.held: the jumps without a reason; empty if there is
    none."""
    return "; ".join(f"{jump.name} {jump.why}" for jump in found if jump.name not in reasons)


def allowed(found: Sequence[Jump], reasons: Mapping[str, str]) -> dict[str, str]:
    """The accepted jumps, for ReleaseStatement.allowed."""
    return {f"jump {jump.name}": reasons[jump.name] for jump in found if jump.name in reasons}
