"""Who it runs as."""

import json
import re

from imagematrix.matrix.schema import MINIMAL
from tests.images.checks.check import layer
from tests.images.running import RunningImage


@layer(MINIMAL)
def user_is_dockeruser(image: RunningImage) -> None:
    """It runs as uid and gid 1000, with a home of its own."""
    user = image.config["User"]
    assert user not in ("", "0", "root"), f"the image's user is {user or 'root'}"
    command = "id -u && id -g && id -un && echo ~ && stat -c %U ~ && test -w ~ && echo writable"
    told = image.host.run(command).stdout.split()
    who, home = told[:3], told[3:]
    assert who == ["1000", "1000", "dockeruser"], f"the user is {who}"
    assert home == ["/home/dockeruser", "dockeruser", "writable"], f"its home is {home}"


@layer(MINIMAL)
def any_user_of_the_group_0_has_a_home(image: RunningImage) -> None:
    """Under an id that the image does not know, as OpenShift gives out: a name, and a home to write
    to and to find packages in."""
    code = """
import getpass, json, os, site
# Asked and not tried: what is written would be found as written while serving.
may_write = os.access(os.path.expanduser("~"), os.W_OK | os.X_OK)
print(json.dumps([os.getuid(), getpass.getuser(), may_write, site.getuserbase()]))
"""
    command = ["python3", "-c", code]
    status, output = image.container.exec_run(command, user="1000680000:0")
    assert isinstance(output, bytes)
    assert status == 0, f"python3 ended with {status}: {output[-800:]!r}"
    expected = [1000680000, "dockeruser", True, "/home/dockeruser/.local"]
    found = json.loads(output)
    assert found == expected, f"uid, name, home, user base: {found} and not {expected}"


@layer(MINIMAL)
def nothing_runs_as_root(image: RunningImage) -> None:
    """Every process of the container has the uid 1000."""
    # As the kernel tells it: `docker top` runs the ps of the engine's host, which may have none.
    told = image.host.run("grep -H -E '^(Name|Uid):' /proc/[0-9]*/status").stdout
    rows = re.findall(r"^/proc/(\d+)/status:Name:\t(.*)\n.*:Uid:\t(.*)$", told, re.MULTILINE)
    running = {int(pid): (name, set(uids.split())) for pid, name, uids in rows}
    assert 1 in running, f"only {running} run: the scan saw nothing"
    others = [f"{pid} {name}" for pid, (name, uids) in running.items() if uids != {"1000"}]
    assert not others, f"not as uid 1000: {others}"
