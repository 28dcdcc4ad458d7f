"""Who it runs as."""

import json
import re

from imagematrix.checks.check import layer
from imagematrix.checks.running import APP_ROOT, RunningImage
from imagematrix.matrix.schema import MINIMAL


@layer(MINIMAL)
def user_is_dockeruser(image: RunningImage) -> None:
    """It runs as uid and gid 1000, with a home of its own. The image names them by number, so that
    Kubernetes can verify that it is not root."""
    user = image.config["User"]
    assert user == "1000:1000", f"the image's user is {user or 'root'}, not 1000:1000"
    command = "id -u && id -g && id -un && echo ~ && stat -c %U ~ && test -w ~ && echo writable"
    reported = image.host.run(command).stdout.split()
    who, home = reported[:3], reported[3:]
    assert who == ["1000", "1000", "dockeruser"], f"the user is {who}"
    assert home == ["/home/dockeruser", "dockeruser", "writable"], f"its home is {home}"


def user_is_not_root(image: RunningImage) -> str:
    """The image's user is not root. Kubernetes can verify that only of a user by number."""
    user = image.config.get("User") or "root"
    assert image.own_uid != "0", f"the image's user is {user}"
    return f"uid {image.own_uid}"


@layer(MINIMAL)
def any_user_of_the_group_0_has_a_home(image: RunningImage) -> None:
    """Under an id that the image does not know, as OpenShift gives out: a name, and a home to write
    to and to find packages in. What is made there belongs to the group 0, too."""
    code = """
import getpass, json, os, site, stat
# Asked and not tried: what is written would be found as written while serving.
home = os.path.expanduser("~")
may_write = os.access(home, os.W_OK | os.X_OK)
group = os.stat(home).st_gid if os.stat(home).st_mode & stat.S_ISGID else None
print(json.dumps([os.getuid(), getpass.getuser(), may_write, site.getuserbase(), group]))
"""
    command = ["python3", "-c", code]
    status, output = image.container.exec_run(command, user="1000680000:0")
    assert isinstance(output, bytes)
    assert status == 0, f"python3 ended with {status}: {output[-800:]!r}"
    expected = [1000680000, "dockeruser", True, "/home/dockeruser/.local", 0]
    found = json.loads(output)
    assert found == expected, f"uid, name, home, user base, group: {found} and not {expected}"


@layer(MINIMAL)
def nothing_runs_as_root(image: RunningImage) -> None:
    """Every process of the container has the uid of the image's user, which is 1000 in ours."""
    # From the kernel: `docker top` runs the ps of the engine's host, which may have none.
    reported = image.host.run("grep -H -E '^(Name|Uid):' /proc/[0-9]*/status").stdout
    rows = re.findall(r"^/proc/(\d+)/status:Name:\t(.*)\n.*:Uid:\t(.*)$", reported, re.MULTILINE)
    running = {int(pid): (name, set(uids.split())) for pid, name, uids in rows}
    assert 1 in running, f"only {running} run: the scan saw nothing"
    others = [f"{pid} {name}" for pid, (name, uids) in running.items() if uids != {image.uid}]
    assert not others, f"not as uid {image.uid}: {others}"


@layer(MINIMAL)
def app_root_belongs_to_root(image: RunningImage) -> None:
    """The folder of the application is root's alone to change: the server cannot."""
    reported = image.host.run(f"stat -c '%u:%g %a' {APP_ROOT}").stdout.strip()
    assert reported == "0:0 755", f"{APP_ROOT} belongs to {reported}"
