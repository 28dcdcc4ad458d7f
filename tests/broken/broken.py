"""Images that are broken on purpose, each with the checks that must reject it."""

from dataclasses import dataclass
from pathlib import Path

from imagematrix.matrix.schema import Accelerator
from tests.example_images import example, on_another_python

ROOT = Path(__file__).resolve().parents[2]
PARENT = example().name
OTHER_PYTHON = on_another_python().name
WITH_CUDA = example(accelerator=Accelerator.CUDA).name
SITE = "/usr/local/lib/python3.12/site-packages"


@dataclass(frozen=True)
class Broken:
    """`steps` follow `FROM parent`, and make an image that is checked as `variant`. Of each check
    that must fail, `rejections` has a part of the message; all others must pass."""

    name: str
    steps: str
    rejections: dict[str, str]
    parent: str = PARENT
    variant: str = PARENT


def _distribution(name: str, version: str) -> str:
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    return (
        f"USER 0\nRUN cd {SITE} && mkdir {folder} && printf '{metadata}' > {folder}/METADATA"
        f" && printf '{folder}/METADATA,,\\n{folder}/RECORD,,\\n' > {folder}/RECORD\n"
        "USER 1000:1000"
    )


BROKEN = (
    Broken(
        "root-user",
        "USER root",
        {
            "user_is_dockeruser": "the image's user is root",
            "nothing_runs_as_root": "not as uid 1000",
        },
    ),
    Broken(
        "user-by-name",
        "USER dockeruser",
        {"user_is_dockeruser": "the image's user is dockeruser, not 1000:1000"},
    ),
    Broken(
        "drifted-pin",
        f"USER 0\nRUN cd {SITE} && sed -i 's/^Version: .*/Version: 2.0.0/'"
        " httptools-*.dist-info/METADATA\nUSER 1000:1000",
        {
            "distributions_equal_the_lock": "of another version: httptools 2.0.0 (locked: ",
            "promised_pins_are_kept": "but 2.0.0 is installed",
        },
    ),
    Broken(
        "extra-package",
        _distribution("left-pad", "1.3.0"),
        {"distributions_equal_the_lock": "extra: left-pad 1.3.0"},
    ),
    Broken(
        "extra-package-of-the-old-kind",
        f"USER 0\nRUN printf 'Name: old\\nVersion: 1\\n' > {SITE}/old.egg-info\nUSER 1000:1000",
        {
            "distributions_equal_the_lock": "extra: old 1",
            "files_of_the_records_are_there": "without a RECORD, by which pip replaces them: old",
            "every_file_belongs_to_a_package": f"in no package: {SITE}/old.egg-info",
        },
    ),
    Broken(
        "missing-package",
        f"USER 0\nRUN rm -r {SITE}/httptools-*.dist-info\nUSER 1000:1000",
        {
            "distributions_equal_the_lock": "missing: httptools ",
            "promised_pins_are_kept": "promised httptools==",
            "every_file_belongs_to_a_package": f"in no package: {SITE}/httptools/",
        },
    ),
    Broken(
        "missing-requirement",
        f"USER 0\nRUN cd {SITE} && sed -i '/^Version: /a Requires-Dist: left-pad\\nRequires-Dist:"
        ' another-pad; python_version < "3"\\nRequires-Dist: absent; extra == "test"\''
        " httptools-*.dist-info/METADATA\nUSER 1000:1000",
        {"requirements_are_consistent": "requirements: httptools requires left-pad, which is not"},
    ),
    Broken(
        "module-without-a-package",
        f"USER 0\nRUN cp -r {SITE}/pip/_vendor/idna {SITE}/idna\nUSER 1000:1000",
        {"every_file_belongs_to_a_package": f"in no package: {SITE}/idna/LICENSE.md"},
    ),
    Broken(
        "hidden-file-of-a-package",
        f"USER 0\nRUN touch {SITE}/httptools/parser/hidden.so\nUSER 1000:1000",
        {"every_file_belongs_to_a_package": f"in no package: {SITE}/httptools/parser/hidden.so"},
    ),
    Broken(
        "package-that-python-does-not-find",
        _distribution("left-pad", "1.3.0").replace(SITE, "/srv"),
        {"sbom_equals_what_is_installed": "is not exact: not installed: pypi left-pad 1.3.0"},
    ),
    Broken(
        "package-in-two-places",
        "RUN folder=$(python3 -m site --user-site) && mkdir -p $folder && cd $folder"
        f" && cp -r {SITE}/httptools-*.dist-info . && for info in *; do"
        " echo $info/METADATA,, > $info/RECORD; done",
        {
            "sbom_equals_what_is_installed": "listed twice: pypi httptools ",
            "distributions_equal_the_lock": "installed in two places: httptools",
            "every_file_belongs_to_a_package": "in no package: /home/dockeruser/.local/lib/",
        },
    ),
    Broken(
        "requirement-of-another-version",
        f"USER 0\nRUN cd {SITE} && sed -i '/^Version: /a Requires-Dist: Pip<1'"
        " httptools-*.dist-info/METADATA\nUSER 1000:1000",
        {"requirements_are_consistent": "httptools requires Pip<1, but 2"},
    ),
    Broken(
        "cuda-library-in-cpu-image",
        "USER 0\nRUN touch /usr/lib/libcudart.so.12\nUSER 1000:1000",
        {
            "cuda_only_where_declared": "CUDA libraries in a CPU image: /usr/lib/libcudart.so.12",
            "every_file_belongs_to_a_package": "in no package: /usr/lib/libcudart.so.12",
        },
    ),
    Broken(
        "cuda-distribution-in-cpu-image",
        _distribution("nvidia-cudnn-cu12", "9.1.0"),
        {
            "distributions_equal_the_lock": "extra: nvidia-cudnn-cu12 9.1.0",
            "cuda_only_where_declared": "CUDA distributions in a CPU image: nvidia-cudnn-cu12",
        },
    ),
    Broken(
        "setuid-file",
        "USER 0\nRUN chmod u+s /usr/bin/mount\nUSER 1000:1000",
        {"no_setuid_file": "setuid or setgid: /usr/bin/mount"},
    ),
    Broken(
        "setgid-file",
        "USER 0\nRUN chmod g+s /usr/bin/chage\nUSER 1000:1000",
        {"no_setuid_file": "setuid or setgid: /usr/bin/chage"},
    ),
    Broken(
        "missing-label",
        'LABEL inference.framework=""',
        {"labels_tell_the_variant": "labels: {'inference.framework': ''}"},
    ),
    Broken(
        "another-patch-of-python-than-it-says",
        'LABEL inference.python-version="3.12.0rc1"',
        {
            "python_version_label_is_that_of_cpython": "inference.python-version is 3.12.0rc1,"
            " python3 says 'Python 3.12."
        },
    ),
    Broken(
        "password-in-a-label",
        "LABEL org.opencontainers.image.source=https://user:word@git.example/images",
        {"revision_is_a_commit": "org.opencontainers.image.source is 'https://user:word@"},
    ),
    Broken(
        "foreign-key",
        'LABEL inference.matrix-key="0000"',
        {"key_is_that_of_the_tree": "inference.matrix-key is 0000"},
    ),
    Broken(
        "wrong-python",
        "\n".join(
            f'LABEL {label}="{value}"'
            for label, value in {
                "org.opencontainers.image.title": PARENT,
                "org.opencontainers.image.description": "Inference image: Python and the scoring"
                " server, nothing else, Python 3.12, CPU",
                "org.opencontainers.image.version": "3.12",
                "inference.python": "3.12",
            }.items()
        ),
        {
            "python_version": "python is 'Python 3.13.",
            "extension_modules_resolve": "only 0 modules in /usr/local/lib/python3.12",
            "bytecode_is_there": "modules lack bytecode: /usr/local/lib/python3.13/",
            "key_is_that_of_the_tree": f"lack base/{PARENT}/Dockerfile, base/",
        },
        parent=OTHER_PYTHON,
    ),
    Broken(
        "pip-elsewhere",
        "USER 0\nRUN mv /usr/local/bin/pip /usr/bin/pip\nUSER 1000:1000",
        {
            "python_version": "'/usr/local/bin/python3', '/usr/bin/pip'], expected",
            "files_of_the_records_are_there": "recorded, but missing: /usr/local/bin/pip",
            "every_file_belongs_to_a_package": "in no package: /usr/bin/pip",
        },
    ),
    Broken(
        "needless-bytecode",
        "USER 0\nRUN python3 -m compileall -q --invalidation-mode checked-hash"
        f" {SITE}/pip/__init__.py\nUSER 1000:1000",
        {"bytecode_is_there": f"with bytecode in spite of the matrix: {SITE}/pip/__init__.py"},
    ),
    Broken(
        "no-bytecode",
        "USER 0\nRUN find /usr/local/lib -name __pycache__ -exec rm -r {} +\nUSER 1000:1000",
        {
            "bytecode_is_there": "modules lack bytecode: /usr/local/lib/python3.12/",
            "bytecode_follows_its_source": "compiled modules: the scan saw nothing",
        },
    ),
    Broken(
        "bytecode-by-time",
        "USER 0\nRUN python3 -m compileall -q -f --invalidation-mode timestamp"
        " /usr/local/lib/python3.12/json\nUSER 1000:1000",
        {"bytecode_follows_its_source": "by time, or not compared: /usr/local/lib/"},
    ),
    Broken(
        "bytecode-that-hides-a-changed-source",
        "USER 0\nRUN python3 -m compileall -q -f --invalidation-mode unchecked-hash"
        " /usr/local/lib/python3.12/json\nUSER 1000:1000",
        {"bytecode_follows_its_source": "by time, or not compared: /usr/local/lib/"},
    ),
    Broken(
        "home-of-one-user",
        "USER 0\nRUN chmod 0755 /home/dockeruser\nUSER 1000:1000",
        {"any_user_of_the_group_0_has_a_home": "[1000680000, 'dockeruser', False, '/home/"},
    ),
    Broken(
        "home-that-keeps-no-group",
        "USER 0\nRUN chmod g-s /home/dockeruser\nUSER 1000:1000",
        {"any_user_of_the_group_0_has_a_home": "/.local', None] and not "},
    ),
    Broken(
        "app-root-of-the-user",
        "USER 0\nRUN chown 1000:1000 /var/azureml-app\nUSER 1000:1000",
        {"app_root_belongs_to_root": "/var/azureml-app belongs to 1000:1000 755"},
    ),
    Broken(
        "nameless-user",
        "ENV USER=",
        {"any_user_of_the_group_0_has_a_home": "python3 ended with 1: "},
    ),
    Broken(
        "short-start",
        "HEALTHCHECK --start-period=60s "
        'CMD ["/usr/local/bin/python3", "-I", "-m", "inference_server.health"]',
        {"configuration_keeps_the_contract": "the health check gives the start 60 s"},
    ),
    Broken(
        "failing-health-check",
        'HEALTHCHECK --interval=10s --start-period=10m CMD ["false"]',
        {
            "configuration_keeps_the_contract": "health check is ['CMD', 'false']",
            "health_check_succeeds": "false ended with 1: ",
        },
    ),
    Broken(
        "no-old-time-zones",
        "USER 0\nRUN rm /usr/share/zoneinfo/US/Pacific\nUSER 1000:1000",
        {
            "time_zones_have_their_old_names": "unknown time zones: US/Pacific",
            "debian_packages_are_whole": "/usr/share/zoneinfo/US/Pacific (missing)",
        },
    ),
    Broken(
        "missing-file",
        f"USER 0\nRUN rm {SITE}/httptools/py.typed\nUSER 1000:1000",
        {"files_of_the_records_are_there": f"recorded, but missing: {SITE}/httptools/py.typed"},
    ),
    Broken(
        "not-slimmed",
        f"USER 0\nRUN mkdir {SITE}/httptools/tests && touch {SITE}/httptools/tests/test_core.c"
        f" {SITE}/httptools/parser/parser.pyi\nUSER 1000:1000",
        {
            "what_is_removed_is_gone": "removed by a rule, but there:"
            " site-packages/httptools/parser/parser.pyi, ",
            "every_file_belongs_to_a_package": f"in no package: {SITE}/httptools/tests/test_core.c",
        },
    ),
    Broken(
        "half-removed-debian-package",
        "USER 0\nRUN rm /usr/bin/nsenter && echo >> /usr/bin/chrt\nUSER 1000:1000",
        {
            "debian_packages_are_whole": "not as installed: /usr/bin/chrt (??5??????),"
            " /usr/bin/nsenter (missing)"
        },
    ),
    Broken(
        "left-out-file",
        "USER 0\nRUN mkdir -p /usr/share/bash-completion && touch /usr/share/bash-completion/git\n"
        "USER 1000:1000",
        {
            "what_dpkg_leaves_out_is_gone": "left out, but there: /usr/share/bash-completion/git",
            "every_file_belongs_to_a_package": "in no package: /usr/share/bash-completion/git",
        },
    ),
    Broken(
        "another-port",
        "EXPOSE 8080",
        {"port_is_5001": "exposed: ['5001/tcp', '8080/tcp']"},
    ),
    Broken(
        "changed-environment",
        "ENV LANG=C\nWORKDIR /tmp",
        {"configuration_keeps_the_contract": "workdir is '/tmp'"},
    ),
    Broken(
        "compiler",
        "USER 0\nRUN touch /usr/bin/x86_64-linux-gnu-gcc-14\nUSER 1000:1000",
        {
            "no_compiler": "compilers: /usr/bin/x86_64-linux-gnu-gcc-14",
            "every_file_belongs_to_a_package": "in no package: /usr/bin/x86_64-linux-gnu-gcc-14",
        },
    ),
    Broken(
        "tool-of-developers",
        "USER 0\nRUN touch /usr/bin/git /usr/include/stdio.h\nUSER 1000:1000",
        {
            "no_tool_of_developers": "tools and headers: /usr/bin/git, /usr/include/stdio.h",
            "every_file_belongs_to_a_package": "in no package: /usr/bin/git",
        },
    ),
    Broken(
        "package-cache",
        "USER 0\nRUN touch /var/lib/apt/lists/deb.debian.org_Packages\nUSER 1000:1000\n"
        "RUN mkdir -p ~/.cache/pip && touch ~/.cache/pip/kept",
        {
            "no_package_cache": "caches: /home/dockeruser/.cache/pip/kept,"
            " /var/lib/apt/lists/deb.debian.org_Packages",
            "every_file_belongs_to_a_package": "in no package: /home/dockeruser/.cache/pip/kept",
        },
    ),
    Broken(
        "too-large",
        "USER 0\nRUN head -c 20000000 /dev/urandom > /opt/unexpected\nUSER 1000:1000",
        {
            "size_is_within_budget": "what changed since: no package\nits largest directories:\n",
            "every_file_belongs_to_a_package": "in no package: /opt/unexpected",
        },
    ),
    Broken(
        "world-writable-path",
        "USER 0\nRUN chmod o+w /opt\nUSER 1000:1000",
        {"no_world_writable_path": "writable by everybody: /opt"},
    ),
    Broken(
        "build-secret",
        "USER 0\nRUN touch /etc/pip.conf\nUSER 1000:1000\nENV PIP_INDEX_URL=https://index.example/",
        {
            "no_build_secret": "left by the build: /etc/pip.conf",
            "every_file_belongs_to_a_package": "in no package: /etc/pip.conf",
        },
    ),
    Broken(
        "missing-library",
        "USER 0\nRUN rm /usr/lib/x86_64-linux-gnu/libsqlite3.so.0*\nUSER 1000:1000",
        {
            "extension_modules_resolve": "not found: libsqlite3.so.0 => not found",
            "debian_packages_are_whole": "/libsqlite3.so.0.8.6 (missing)",
        },
    ),
    Broken(
        "writing-while-serving",
        'CMD ["sh", "-c", "touch ~/written && exec python3 -m inference_server"]',
        {
            "configuration_keeps_the_contract": "command is ",
            "serving_writes_nothing": "written while serving: /home",
        },
    ),
    Broken(
        "wrong-answer",
        "USER 0\n"
        "RUN printf 'def init(): pass\\ndef run(data): return {}\\n' > /opt/score.py\n"
        "USER 1000:1000\n"
        'CMD ["sh", "-c", "AZUREML_ENTRY_SCRIPT=/opt/score.py exec python3 -m inference_server"]',
        {
            "configuration_keeps_the_contract": "command is ",
            "example_is_scored": "not as computed another way: response is {}",
            "serving_writes_nothing": "not as computed another way: response is {}",
            "every_file_belongs_to_a_package": "in no package: /opt/score.py",
        },
    ),
    Broken(
        "cpu-distribution-in-cuda-image",
        _distribution("tensorflow-cpu", "2.21.0"),
        {
            "distributions_equal_the_lock": "extra: tensorflow-cpu 2.21.0",
            "no_cpu_build": "CPU builds in an image with CUDA: tensorflow-cpu 2.21.0",
        },
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
    Broken(
        "another-cuda-than-it-says",
        'LABEL inference.cuda="12.9"',
        {
            "labels_tell_the_variant": "labels: {'inference.cuda': '12.9'}",
            "cuda_versions_agree": "by the lock; {'the label': '12.9'}",
        },
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
    Broken(
        "cuda-runtime-that-the-loader-does-not-find",
        "USER 0\nRUN rm /etc/ld.so.conf.d/cuda.conf && ldconfig && rm -r /var/cache/ldconfig/*\n"
        "USER 1000:1000",
        {"cuda_versions_agree": "{'cudaRuntimeGetVersion': None}"},
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
    Broken(
        "library-that-cuda-lacks",
        f"USER 0\nRUN sed 's/librt.so/librx.so/' {SITE}/nvidia/*/lib/libcudart.so.*"
        f" > {SITE}/nvidia/broken.so\nUSER 1000:1000",
        {
            "cuda_libraries_resolve": "not found: librx.so.1 (for ",
            "size_is_within_budget": "grew by more than 2 %",
            "every_file_belongs_to_a_package": f"in no package: {SITE}/nvidia/broken.so",
        },
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
    Broken(
        "no-gpu-asked-for",
        "ENV NVIDIA_VISIBLE_DEVICES=void",
        {"driver_is_asked_for": "{'NVIDIA_VISIBLE_DEVICES': 'void'}"},
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
)
