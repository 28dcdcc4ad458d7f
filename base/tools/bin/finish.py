#!/usr/bin/env python3
"""finish.py SLIM [FOLDER...]: remove what serving does not need, strip libraries, write bytecode.

SLIM holds one rule a line: `remove PATTERN`, `strip PATTERN` or `source PATTERN`. Patterns are
relative to the interpreter's library, /usr/local/lib/python3.x, and `*` also matches `/`. What a
`source` rule names is left without bytecode; `#` starts a comment. Each FOLDER gets bytecode, too.

Runs on the image's own Python, 3.7 or newer. The same files give the same bytes: nothing depends on
the clock, on the order of a directory, or on the hash seed.
"""

import fnmatch
import glob
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterator, List, Pattern, Sequence

LIBRARY = sysconfig.get_paths()["stdlib"]
# The tools bring their own C library, so they may be of another Debian release than the image.
TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib")
# A changed source has to run: its hash is compared on import.
COMPILE = [sys.executable, "-S", "-B", "-m", "compileall", "-qq"]
COMPILE += ["--invalidation-mode", "checked-hash"]
# Columns only underline a part of a line in a traceback.
STABLE = {"PYTHONNODEBUGRANGES": "1", "PYTHONHASHSEED": "0"}
MODULES_PER_PROCESS = 250


def main(slim: str, *folders: str) -> None:
    """Finish an image as SLIM says; each of `folders` gets bytecode, too."""
    rules = read_rules(slim)
    for path in matching(rules["remove"], LIBRARY):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    # What auditwheel put into *.libs was rewritten by patchelf; strip makes it unloadable.
    libraries = [
        path for path in matching(rules["strip"], LIBRARY) if is_file(path) and ".libs/" not in path
    ]
    if libraries:
        (loader,) = glob.glob(os.path.join(TOOLS, "ld-linux*"))
        strip = [loader, "--library-path", TOOLS, os.path.join(TOOLS, "strip")]
        subprocess.run([*strip, "--strip-unneeded", *libraries], check=True)
    compile_modules(rules["source"], [LIBRARY, *folders])


def read_rules(slim: str) -> Dict[str, Pattern[str]]:
    """The patterns of each verb, as one expression."""
    patterns: Dict[str, List[str]] = {"remove": [], "strip": [], "source": []}
    with open(slim, encoding="utf-8") as file:
        for line in file:
            words = line.partition("#")[0].split()
            if words:
                verb, pattern = words
                patterns[verb].append(fnmatch.translate(pattern))
    return {verb: re.compile("|".join(of_verb) or "(?!)") for verb, of_verb in patterns.items()}


def matching(rule: Pattern[str], folder: str) -> Iterator[str]:
    """The paths that a rule names, in order; what is below one of them is not looked at."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if rule.match(os.path.relpath(entry.path, LIBRARY)):
                yield entry.path
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)


def is_file(path: str) -> bool:
    """Whether it is a file itself and no link to one."""
    return os.path.isfile(path) and not os.path.islink(path)


def compile_modules(source: Pattern[str], folders: Sequence[str]) -> None:
    """Write the bytecode that is missing. Modules for other Pythons do not compile, and stay as
    they are."""
    module = re.compile(r"(?s:.*\.py)\Z")
    modules = [path for folder in folders for path in matching(module, folder) if is_file(path)]
    wanted = [
        path
        for path in modules
        if not source.match(os.path.relpath(path, LIBRARY)) and not os.path.exists(bytecode(path))
    ]
    # What one process compiles depends on what it compiled before: the parts are always the same.
    parts = [
        wanted[at : at + MODULES_PER_PROCESS] for at in range(0, len(wanted), MODULES_PER_PROCESS)
    ]
    environ = dict(os.environ, **STABLE)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda part: subprocess.call(COMPILE + part, env=environ), parts))


def bytecode(path: str) -> str:
    """Where the bytecode of a module lies."""
    folder, name = os.path.split(path)
    module = f"{name[:-3]}.{sys.implementation.cache_tag}.pyc"
    return os.path.join(folder, "__pycache__", module)


if __name__ == "__main__":
    main(*sys.argv[1:])
