"""What the image of a conda environment must be, beside what every image must be."""

from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name

from imagematrix.checks.check import Check, listing
from imagematrix.checks.content import distributions_equal_the_lock, python_version
from imagematrix.checks.identity import configuration_keeps_the_contract
from imagematrix.checks.running import RunningImage
from imagematrix.checks.sbom import sbom_equals_what_is_installed
from imagematrix.checks.unowned import every_file_belongs_to_a_package
from imagematrix.environments.conda import CondaLock, read_conda_lock
from imagematrix.environments.conda_image import CONDA_LOCK
from imagematrix.matrix.variant import LOCK_NAME

_INSTALLED = """
import glob, json, os, sys

def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()

records = [json.loads(read(path)) for path in glob.glob(sys.prefix + "/conda-meta/*-*-*.json")]
files = [sys.prefix + "/" + path for record in records for path in record["files"]]
print(json.dumps({
    "prefix": sys.prefix,
    "packages": ["{name} {version} {build}".format(**record) for record in records],
    "of_conda": [path for path in files if path.endswith(".dist-info/METADATA")],
    "variables": dict(os.environ),
}))
"""
