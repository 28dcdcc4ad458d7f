"""What an image was tested for, as the predicate of a statement.

https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
"""

from typing import Any

from imagematrix.repository.passed import Outcome, Results

_CHECKS = "tests/images"


def check_results(results: Results, source: str, commit: str, url: str = "") -> dict[str, Any]:
    """How the checks of an image ended: PASSED only if every one passed, WARNED if one was skipped.

    `source` is the URL of the repository that has the checks, `commit` the full hash, `url` that of
    the run. The reasons for skipped checks are annotations of the configuration, since the format
    has no place of its own for them.
    """
    names = {
        outcome: sorted(name for name, one in results.items() if one.outcome is outcome)
        for outcome in Outcome
    }
    result = "PASSED" if results else "FAILED"
    if names[Outcome.FAILED]:
        result = "FAILED"
    elif names[Outcome.SKIPPED]:
        result = "WARNED"
    checks: dict[str, Any] = {
        "uri": f"git+{source}@{commit}#{_CHECKS}",
        "digest": {"gitCommit": commit},
        "name": "checks",
    }
    if skipped := names[Outcome.SKIPPED]:
        checks["annotations"] = {"skipped": {name: results[name].reason for name in skipped}}
    return {
        "result": result,
        "configuration": [checks],
        **({"url": url} if url else {}),
        "passedTests": names[Outcome.PASSED],
        "warnedTests": names[Outcome.SKIPPED],
        "failedTests": names[Outcome.FAILED],
    }
