"""The published versions of a layer.

Layers take no tags; what makes a version known again is in its description, of up to 256 characters.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from layers.aws import one_line

_DESCRIPTION: Final = re.compile(
    r"makoto sha256=(?P<sha256>[0-9a-f]{64}) contract=(?P<contract>[0-9a-f]{12}) commit=(?P<commit>\S+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a version was made of, and for.

    Attributes:
        sha256: of its content, see `layers.archive`.
        contract: fingerprint of what the template expected of it, see `layers.contract`.
        commit: of the sources; ends in `+changes` if some were not committed, `unknown` without git.
    """

    sha256: str
    contract: str
    commit: str

    @property
    def description(self) -> str:
        """As `read_description` reads it."""
        return f"makoto sha256={self.sha256} contract={self.contract} commit={self.commit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One published version.

    Attributes:
        created: as AWS writes times, `2026-11-21T20:15:00.000+0000`.
        made: None for one that something else published.
    """

    number: int
    arn: str
    created: str
    runtimes: Sequence[str]
    architectures: Sequence[str]
    made: Made | None

    def is_for(self, runtime: str, architecture: str) -> bool:
        """Return whether functions of these can use it."""
        return runtime in self.runtimes and architecture in self.architectures


def read_description(text: str) -> Made | None:
    """Return what a description says, or None if it is not of ours."""
    found = _DESCRIPTION.fullmatch(text)
    return None if found is None else Made(**found.groupdict())


def number_of(arn: str) -> int:
    """Return the version that an ARN ends with."""
    return int(arn.rpartition(":")[2])


def published(functions: Any, layer: str) -> list[Version]:
    """Return all versions that were not deleted, newest first; none of a layer that was never published.

    Args:
        functions: client of Lambda.
        layer: its name.

    Raises:
        LayerError: AWS refuses, or cannot be reached.
    """
    with one_line():
        try:
            pages = functions.get_paginator("list_layer_versions").paginate(LayerName=layer)
            found = [_version(said) for page in pages for said in page["LayerVersions"]]
        except functions.exceptions.ResourceNotFoundException:
            return []
    return sorted(found, key=lambda version: -version.number)


def publish(
    functions: Any, layer: str, zipped: bytes, *, made: Made, runtime: str, architecture: str
) -> Version:
    """Publish a zip as the next version, and return that.

    Raises:
        LayerError: AWS refuses, or cannot be reached.
    """
    with one_line():
        said = functions.publish_layer_version(
            LayerName=layer,
            Description=made.description,
            Content={"ZipFile": zipped},
            CompatibleRuntimes=[runtime],
            CompatibleArchitectures=[architecture],
        )
    return _version(said)


def delete(functions: Any, layer: str, number: int) -> None:
    """Delete a version. Functions that use it go on; nothing can be given it any more.

    Raises:
        LayerError: AWS refuses, or cannot be reached.
    """
    with one_line():
        functions.delete_layer_version(LayerName=layer, VersionNumber=number)


def superfluous(
    versions: Sequence[Version], *, keep: int, used: Collection[str | None]
) -> list[Version]:
    """Return what can be deleted, oldest first.

    Args:
        versions: newest first.
        keep: how many of the newest stay.
        used: ARNs that stay, too.
    """
    return [version for version in reversed(versions[keep:]) if version.arn not in used]


def _version(said: Mapping[str, Any]) -> Version:
    return Version(
        number=said["Version"],
        arn=said["LayerVersionArn"],
        created=said["CreatedDate"],
        runtimes=tuple(said.get("CompatibleRuntimes", ())),
        architectures=tuple(said.get("CompatibleArchitectures", ())),
        made=read_description(said.get("Description", "")),
    )
