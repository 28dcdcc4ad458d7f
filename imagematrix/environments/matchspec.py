"""What a match spec of conda asks for, as far as its text says.

Grammar: https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html
The solver reads the text by itself; this is for the errors that can be found before it runs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

_OPERATOR = r"==|!=|<=|>=|~=|=|<|>"
_CLAUSE = rf"(?:{_OPERATOR})?[0-9A-Za-z_.*+!-]+"
_SPEC = re.compile(
    r"(?:(?P<channel>[^\s\[\]]+?)::)?"
    r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*|\*)"
    rf"(?P<version>(?: |(?=[=<>!~]))\(?{_CLAUSE}\)?(?:[,|]\(?{_CLAUSE}\)?)*)?"
    r"(?:(?:=| )(?P<build>[A-Za-z0-9_.*+^$|()?-]+))?"
    r"(?P<keys>\[[^\]]*\])?"
)
_KEY = re.compile(r"""\s*([a-z_0-9]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^,\s'"]*))\s*(?:,|$)""")
_PACKAGE_FILE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)\.(conda|tar\.bz2)")


@dataclass(frozen=True)
class MatchSpec:
    """A match spec: name in lower case, and version, build and channel, empty where it has none.

    `version` always has its operators: "=1.2" (1.2 and what begins with 1.2.), "==1.2", ">=1,<2",
    "=1.2|=1.3". `url` is the address of a package, if the spec names that.
    """

    name: str
    version: str = ""
    build: str = ""
    channel: str = ""
    url: str = ""

    def __str__(self) -> str:
        """The same text for specs that ask for the same."""
        channel = f"{self.channel}::" if self.channel else ""
        asked = [self.name, self.version or ("*" if self.build else ""), self.build, self.url]
        return channel + " ".join(filter(None, asked))

    @property
    def specifiers(self) -> tuple[SpecifierSet, ...] | None:
        """The version as PEP 440 has it: one of these must hold; none for any version. None where
        that cannot say it (letters of OpenSSL's versions, regular expressions)."""
        return _specifiers(self.version)

    @property
    def pin(self) -> str:
        """The version that it is pinned to, "1.2" for "=1.2" as well; empty if to none."""
        pinned = re.fullmatch(r"==?([0-9A-Za-z_.+!-]+)", self.version)
        return pinned[1] if pinned else ""


def parse_match_spec(text: str) -> MatchSpec:
    """Reads one match spec, as leniently as conda: spaces around operators, an export's builds.

    Raises ValueError with a sentence for what is none.
    """
    spec = text.split(" #")[0].strip()
    if re.match(r"[a-z+]+://\S+$", spec) and "::" not in spec:
        return _of_url(spec)
    tidy = re.sub(r"\s+", " ", spec)
    tidy = re.sub(rf" ?({_OPERATOR}) ?(?=[0-9*(])", r"\1", tidy)
    tidy = re.sub(r" ?([,|]) ?", r"\1", tidy)
    found = _SPEC.fullmatch(tidy)
    if found is None:
        raise ValueError(f"{spec!r} is no package and version{_meant(tidy)}")
    name = found["name"].lower()
    version, build, channel = found["version"] or "", found["build"] or "", found["channel"] or ""
    if keys := found["keys"]:
        values = _keys(keys[1:-1], spec)
        version = version or values.get("version", "")
        build = build or values.get("build", "")
        channel = channel or values.get("channel", "")
    return MatchSpec(name, _with_operators(version.replace(" ", ""), build), build, channel)


def asks_for(spec: MatchSpec, versions: Sequence[str]) -> bool:
    """Whether one of these versions is what it asks for; True where its text does not say."""
    return not spec.specifiers or any(
        one.contains(version, prereleases=True) for one in spec.specifiers for version in versions
    )


def differ(spec: MatchSpec, specifier: SpecifierSet) -> bool:
    """Whether no version that the pin of a match spec allows fits a specifier of PyPI."""
    try:
        version = Version(spec.pin)
    except InvalidVersion:
        return False
    if spec.version.startswith("=="):
        return not specifier.contains(version, prereleases=True)
    # `=1.2` allows what begins with 1.2.: only a pin to something else is sure to differ.
    pins = [one.version for one in specifier if one.operator == "==" and "*" not in one.version]
    (allowed,) = spec.specifiers or (SpecifierSet(),)
    return any(not allowed.contains(pin, prereleases=True) for pin in pins)


def _of_url(url: str) -> MatchSpec:
    name = url.rsplit("/", 1)[1].split("#")[0]
    found = _PACKAGE_FILE.fullmatch(name)
    if found is None:
        raise ValueError(f"{url} is no address of a package of conda (.conda, .tar.bz2)")
    return MatchSpec(found["name"].lower(), f"=={found['version']}", found["build"], url=url)


def _keys(text: str, spec: str) -> dict[str, str]:
    values: dict[str, str] = {}
    rest = text
    while rest.strip():
        found = _KEY.match(rest)
        if found is None:
            raise ValueError(f"{spec!r}: {text!r} is no list of keys and values")
        values[found[1]] = next((value for value in found.groups()[1:] if value is not None), "")
        rest = rest[found.end() :]
    return values


def _with_operators(version: str, build: str) -> str:
    """The version with an operator in each clause."""
    if version in ("", "*", "=*", "==*"):
        return ""
    parts = re.split(r"([,|])", version)
    return "".join(part if part in ",|" else _clause(part.strip("()"), build) for part in parts)


def _clause(clause: str, build: str) -> str:
    """`numpy 1.2` and `numpy=1.2=build` ask for exactly that version, `numpy=1.2` for 1.2.*."""
    found = re.match(_OPERATOR, clause)
    operator = found[0] if found else ""
    if operator not in ("", "=", "=="):
        return clause
    value = clause[len(operator) :]
    if value == "*":
        return value
    if value.endswith("*"):
        return f"={value.rstrip('*').rstrip('.')}"
    return f"={value}" if operator == "=" and not build else f"=={value}"


def _specifiers(version: str) -> tuple[SpecifierSet, ...] | None:
    if not version:
        return ()
    found = []
    for alternative in version.split("|"):
        clauses = []
        for clause in alternative.split(","):
            fuzzy = re.match(r"=([^=].*)", clause)
            if clause != "*":
                clauses.append(f"=={fuzzy[1].rstrip('.')}.*" if fuzzy else clause)
        try:
            found.append(SpecifierSet(",".join(clauses)))
        except InvalidSpecifier:
            return None
    return tuple(found)


def _meant(text: str) -> str:
    """What a text that is no match spec may be meant to be, as the end of a sentence."""
    for slip, repair in ((r"=([<>])", r"\1="), (r"===+", "==")):
        meant = re.sub(slip, repair, text)
        if meant != text and _SPEC.fullmatch(meant):
            return f"; write {meant}"
    return ""
