"""Reads BuildKit's plain progress: which step of which target failed, and how long steps took.

Format: `docker buildx bake --progress=plain`, lines `#12 [target stage 2/3] RUN …`,
`#12 DONE 3.0s`, `#12 ERROR: …`, `#12 1.234 output`.
"""

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

_STEP = re.compile(r"#(\d+) \[(\S+)[^\]]*\] (.*)")
_DONE = re.compile(r"#(\d+) DONE ([\d.]+)s")
_ERROR = re.compile(r"#(\d+) ERROR: (.*)")
# BuildKit's error repeats the whole command, in quotes, before the exit code.
_QUOTED_COMMAND = re.compile(r'process ".*" did not complete successfully: ')
_OUTPUT = re.compile(r"#(\d+) [\d.]+ (.*)")


@dataclass(frozen=True)
class FailedStep:
    """A step that failed: its target, the step, the error and the end of its output."""

    target: str
    step: str
    error: str
    output: tuple[str, ...]


@dataclass
class BuildLog:
    """The progress so far; `feed` takes its lines one by one.

    `targets` are the names of the bake targets. `last_error` is bake's own last error.
    """

    targets: Collection[str]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    last_error: str = ""
    _steps: dict[str, tuple[str, str]] = field(default_factory=dict)
    _errors: dict[str, str] = field(default_factory=dict)
    _output: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def feed(self, line: str) -> None:
        """Reads one line."""
        if match := _STEP.match(line):
            number, target, text = match.groups()
            if target in self.targets:
                self._steps[number] = (target, text)
        elif match := _DONE.match(line):
            number, seconds = match.groups()
            if number in self._steps:
                self.seconds[self._steps[number][0]] += float(seconds)
        elif match := _ERROR.match(line):
            number, error = match.groups()
            if number in self._steps:
                self._errors[number] = _QUOTED_COMMAND.sub("the command ended with ", error)
        elif line.startswith("ERROR: "):
            # An error of bake itself: for example, its builder cannot be reached.
            self.last_error = line.removeprefix("ERROR: ")
        elif match := _OUTPUT.match(line):
            self._output[match[1]].append(match[2])

    def failures(self) -> tuple[FailedStep, ...]:
        """The steps that failed themselves, without those that were cancelled for it."""
        return tuple(
            FailedStep(*self._steps[number], error, tuple(self._output[number][-12:]))
            for number, error in self._errors.items()
        )
