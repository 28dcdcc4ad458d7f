"""BuildKit's plain progress is read; the lines are those of real builds, shortened."""

import pytest

from imagematrix.build.progress import BuildLog, FailedStep

SKLEARN, PYTORCH = "scikit-learn1_9-py312-inference", "pytorch2_13-py311-inference"
TARGETS = (SKLEARN, PYTORCH)
COMMAND = (
    "RUN --mount=type=bind,from=installer,source=/tmp/uv,target=/mnt/uv"
    '     set -eu;     if [ -f /run/secrets/ca-bundle ]; then echo "a"; fi'
)

FAILED = f"""\
#0 building with "default" instance using docker driver

#1 [internal] load local bake definitions
#1 reading from stdin 18.83kB done
#1 DONE 0.0s

#2 [scikit-learn1_9-py312-inference internal] load build definition from Dockerfile
#2 transferring dockerfile: 2.45kB done
#2 DONE 0.1s

#5 [pytorch2_13-py311-inference context wheels] load from client
#5 transferring wheels: 190.12MB 1.2s done
#5 DONE 1.5s

#17 [scikit-learn1_9-py312-inference installer 1/2] RUN printf 'uv==0.13.8' > /tmp/uv.txt
#17 CACHED

#78 [pytorch2_13-py311-inference stage-2 1/2] {COMMAND}
#78 1.105 Using Python 3.11.7 environment at: /usr/local
#78 1.310 #9 DONE 7.0s
#78 37.14  + torch==2.13.0+cpu
#78 ...

#79 [scikit-learn1_9-py312-inference stage-2 1/2] {COMMAND}
#79 63.19  + urllib3==2.8.0
#79 ...

#78 [pytorch2_13-py311-inference stage-2 1/2] {COMMAND}
#78 75.89 *** Error compiling 'py312_intrinsics.py'...
#78 75.89 SyntaxError: expected '('
#78 75.89 
#78 ERROR: process "/bin/sh -c set -eu;     echo \\"a\\"; fi" did not complete successfully: exit code: 1

#79 [scikit-learn1_9-py312-inference stage-2 1/2] {COMMAND}
#79 CANCELED
------
 > [pytorch2_13-py311-inference stage-2 1/2] {COMMAND}:
75.89 *** Error compiling 'py312_intrinsics.py'...
------
ERROR: failed to solve: process "/bin/sh -c set -eu" did not complete successfully: exit code: 1
"""  # noqa: E501


def read(text: str, targets: tuple[str, ...]) -> BuildLog:
    log = BuildLog(targets)
    for line in text.splitlines():
        log.feed(line)
    return log


def test_a_failure_names_image_step_error_and_the_last_output() -> None:
    assert read(FAILED, TARGETS).failures() == (
        FailedStep(
            PYTORCH,
            COMMAND,
            "the command ended with exit code: 1",
            (
                "Using Python 3.11.7 environment at: /usr/local",
                "#9 DONE 7.0s",
                " + torch==2.13.0+cpu",
                "*** Error compiling 'py312_intrinsics.py'...",
                "SyntaxError: expected '('",
                "",
            ),
        ),
    )


def test_the_time_of_an_image_is_that_of_its_steps() -> None:
    log = read(FAILED + "#79 DONE 62.5s\n#80 DONE 9.0s\n", TARGETS)

    assert log.seconds == {SKLEARN: pytest.approx(62.6), PYTORCH: pytest.approx(1.5)}


def test_only_the_last_of_a_long_output_is_kept() -> None:
    output = "".join(f"#7 {number}.0 line {number}\n" for number in range(50))
    text = f"#7 [scikit-learn1_9-py312-inference 2/2] RUN x\n{output}#7 ERROR: broken\n"

    (failure,) = read(text, TARGETS).failures()

    assert failure.output == tuple(f"line {number}" for number in range(38, 50))
    assert failure.error == "broken"


def test_a_step_that_is_not_of_a_command_can_fail_too() -> None:
    error = 'failed to calculate checksum of ref abc::def: "/nonexist": not found'
    text = f"#23 [pytorch2_13-py311-inference 3/4] COPY nonexist /\n#23 ERROR: {error}\n"

    assert read(text, TARGETS).failures() == (FailedStep(PYTORCH, "COPY nonexist /", error, ()),)


def test_every_image_that_failed_is_reported() -> None:
    text = "".join(
        f"#{n} [{target} 1/1] RUN {n}\n#{n} ERROR: exit code: {n}\n"
        for n, target in enumerate(TARGETS, start=7)
    )

    assert [(f.target, f.error) for f in read(text, TARGETS).failures()] == [
        (SKLEARN, "exit code: 7"),
        (PYTORCH, "exit code: 8"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "#",
        "#7",
        "ERROR: failed to solve",
        "#99 ERROR: of an unknown step",
        "#99 DONE 1.0s",
        "#7 [unknown 1/2] RUN x",
        "#7 DONE",
        "WARNING: No output specified",
        "\x1b[31m#7 ERROR\x1b[0m",
    ],
)
def test_other_lines_say_nothing(line: str) -> None:
    log = read(f"{line}\n#7 ERROR: x\n", TARGETS)

    assert log.failures() == ()
    assert log.seconds == {}


def test_what_bake_says_of_a_builder_that_is_gone_is_kept() -> None:
    log = BuildLog(["a", "b"])
    for line in ("#2 [internal] waiting for connection", "#2 ERROR: context deadline exceeded"):
        log.feed(line)
    log.feed("ERROR: context deadline exceeded")

    assert log.failures() == ()
    assert log.last_error == "context deadline exceeded"
