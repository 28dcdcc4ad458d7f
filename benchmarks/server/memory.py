"""Memory per shape of what clients send, in containers with a limit.

    PYTHONPATH=. python benchmarks/server/memory.py [--limits 128 256 512] [--only WORD]

Each shape of ``tests/derived/shapes.py`` against a container of its own, of the minimal image with
the server of this tree. Writes ``memory.json`` and ``memory.md``. The exit code says whether no
container and no process died, every answer was one that it may be, ``GET /`` answered within a
second throughout, and scoring worked afterwards. It takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from in_containers import PARENT
from servers import WORK

from benchmarks.runs import Run, write_page
from imagematrix.host.engine import find_engine
from imagematrix.plan.bake import image_tag
from tests.derived.shapes import SHAPES, Outcome, play


def row(outcome: Outcome) -> str:
    answers = sorted(outcome.answers.items())
    health = outcome.health
    cells = [
        outcome.shape,
        str(outcome.limit_mb),
        ", ".join(f"{count:,} x {status}" for status, count in answers) or "-",
        f"{outcome.peak_mib:.0f}",
        f"{outcome.service_most_mib:.0f}",
        f"{outcome.service_grew_mib:.0f}",
        f"{health.p50_ms:.0f} / {health.worst_ms:.0f}",
        "; ".join(outcome.wrong) or "yes",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory per shape of what clients send.")
    parser.add_argument("--limits", type=int, nargs="+", default=[128, 256, 512], metavar="MB")
    parser.add_argument("--only", default="", help="shapes whose name has this word")
    parser.add_argument("--output", type=Path, default=WORK.parent)
    options = parser.parse_args()
    engine = find_engine()
    if engine is None:
        raise SystemExit("no Docker engine answers")
    run = Run.now(f"Docker {engine.version}")
    client = engine.client()
    outcomes = []
    for shape in SHAPES:
        for limit_mb in options.limits:
            if options.only in shape.name:
                outcomes.append(play(client, image_tag(PARENT), shape, limit_mb))
                print(row(outcomes[-1]), flush=True)
    client.close()
    lines = [
        f"Containers of {PARENT} with a limit in MB. In MiB: what the container took at most, with"
        " the buffers of the kernel and what it read of files; how much larger the service was at"
        " most, and in the end. In milliseconds: the median and the worst time of `GET /`.",
        "",
        "| clients send | limit | answers | peak | service, most | after | health | right |",
        "|---|---|---|---|---|---|---|---|",
        *map(row, outcomes),
    ]
    shapes = [{**vars(each), "health": vars(each.health)} for each in outcomes]
    title, text = "Memory, by what clients send", "\n".join(lines)
    write_page(options.output, "memory", title, text, shapes, run, partial=bool(options.only))
    wrong = [row(each) for each in outcomes if each.wrong]
    print(f"\n{len(outcomes)} shapes in containers, {len(wrong)} went wrong", *wrong, sep="\n  ")
    return 1 if wrong or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
