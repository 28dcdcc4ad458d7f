"""`plan`: show what would be built, and why."""

import argparse
import json

from imagematrix.build.prepare import prepare
from imagematrix.commands.github import set_output
from imagematrix.commands.options import add_bases, add_pending, add_selection, request_of
from imagematrix.console import counted, say, table
from imagematrix.plan.plan import Action
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    add_bases(parser)
    add_pending(parser)
    parser.add_argument("--force", action="store_true", help="as if no image were up to date")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument(
        "--against",
        metavar="FILE|HOST/NAMESPACE",
        help="compare with published images: a file that `plan --json` wrote, or a registry",
    )
    parser.add_argument(
        "--github-output",
        action="store_true",
        help="set three outputs of a step of GitHub Actions: `images`, those that would be built,"
        " and `roots` and `children`, those of them without a parent and with one",
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    request = request_of(options)
    if options.against:
        # Importing the client of registries takes as long as the rest of a plan.
        from imagematrix.build.published_plan import plan_against
        from imagematrix.publish.pending import pending_in_registry

        steps = plan_against(project, request, options.against, pending_in_registry)
    else:
        steps = prepare(project, request).steps
    if options.github_output:
        due = [step.variant for step in steps if step.action is Action.BUILD]
        set_output("images", [variant.name for variant in due])
        set_output("roots", [variant.name for variant in due if variant.parent is None])
        set_output("children", [variant.name for variant in due if variant.parent is not None])
    if options.json:
        rows = [
            {
                "image": step.variant.name,
                "action": step.action,
                "reasons": step.reasons,
                "key": step.key,
                "labels": step.content.labels,
                "layers": step.layers,
            }
            for step in steps
        ]
        print(json.dumps(rows, indent=2))
        return 0
    print(table([(step.variant.name, step.action, "; ".join(step.reasons)) for step in steps]))
    say(counted(step.action for step in steps))
    return 0
