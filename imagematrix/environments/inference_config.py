"""The keys of an inferenceconfig.json, and of the environment that may stand in it.

Source: https://learn.microsoft.com/azure/machine-learning/v1/reference-azure-machine-learning-cli
(inference configuration schema, environment configuration schema). Every key may be null there.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from imagematrix.matrix.schema import Section


class CondaFile(Section):
    """A conda specification: env.yml, and `condaDependencies` of an environment."""

    name: str | None = None
    channels: list[str] = Field([])
    dependencies: list[Any]
    prefix: Any = None
    variables: dict[str, Any] | None = None
    platforms: list[str] | None = None


class RegistrySection(Section):
    """A registry of base images, and who logs in there."""

    address: str | None = None
    username: str | None = None
    password: str | None = Field(None, repr=False)
    registry_identity: Any = Field(None, alias="registryIdentity")


def _as_section(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


# A string in the configuration, a mapping in an environment; either is taken in both places.
AnyRegistry = Annotated[RegistrySection | None, BeforeValidator(_as_section)]


class Platform(Section):
    """What the images run on."""

    os: str | None = None
    architecture: str | None = None


class DockerSection(Section):
    """How the image of an environment is made."""

    base_image: str | None = Field(None, alias="baseImage")
    base_dockerfile: str | None = Field(None, alias="baseDockerfile")
    base_image_registry: AnyRegistry = Field(None, alias="baseImageRegistry")
    platform: Platform | None = None
    enabled: Any = None
    arguments: Any = None
    shared_volumes: Any = Field(None, alias="sharedVolumes")
    shm_size: Any = Field(None, alias="shmSize")


class PythonSection(Section):
    """The Python of an environment, and its packages."""

    conda_dependencies: CondaFile | None = Field(None, alias="condaDependencies")
    conda_dependencies_file: str | None = Field(None, alias="condaDependenciesFile")
    user_managed: bool | None = Field(None, alias="userManagedDependencies")
    interpreter_path: Any = Field(None, alias="interpreterPath")
    base_conda_environment: str | None = Field(None, alias="baseCondaEnvironment")


class EnvironmentSection(Section):
    """An environment that stands in the configuration."""

    name: str | None = None
    version: Any = None
    variables: dict[str, Any] | None = Field(None, alias="environmentVariables")
    python: PythonSection | None = None
    docker: DockerSection | None = None
    spark: Any = None
    databricks: Any = None
    r: Any = None
    stack_version: Any = Field(None, alias="inferencingStackVersion")


class InferenceConfig(Section):
    """inferenceconfig.json."""

    entry_script: str = Field(alias="entryScript")
    runtime: str | None = None
    conda_file: str | None = Field(None, alias="condaFile")
    docker_steps: str | None = Field(None, alias="extraDockerfileSteps")
    # The documentation has both spellings.
    docker_file_steps: str | None = Field(None, alias="extraDockerFileSteps")
    source_directory: str | None = Field(None, alias="sourceDirectory")
    enable_gpu: bool | None = Field(None, alias="enableGpu")
    cuda_version: str | None = Field(None, alias="cudaVersion")
    base_image: str | None = Field(None, alias="baseImage")
    base_image_registry: AnyRegistry = Field(None, alias="baseImageRegistry")
    description: str | None = None
    environment: EnvironmentSection | None = None
