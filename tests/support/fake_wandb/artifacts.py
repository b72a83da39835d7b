"""Artifacts as the backend keeps them: versions of a collection, each a manifest and files, told apart by their digest."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_wandb.graphql import GraphQLError, Node
from tests.support.fake_wandb.runs import RunKey, now

Arguments = dict[str, Any]


@dataclass
class StoredArtifact:
    """One version of a collection."""

    run: RunKey
    """Who logged it."""
    collection: str
    type: str
    digest: str
    version: int
    client_id: str | None = None
    description: str | None = None
    metadata: str | None = None
    state: str = "PENDING"
    aliases: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    """By their path in the artifact."""
    manifest: bytes = b""
    created: str = field(default_factory=now)

    @property
    def id(self) -> str:
        return base64.b64encode(f"Artifact:{'/'.join(self.run[:2])}/{self.collection}:v{self.version}".encode()).decode()

    @property
    def name(self) -> str:
        return f"{self.collection}:v{self.version}"


class Artifacts:
    """All artifacts, and the mutations and queries on them. `storage_url` is where their files are put."""

    def __init__(self, storage_url: str, project: Callable[[str, str], Node]) -> None:
        self.storage_url = storage_url
        self.stored: list[StoredArtifact] = []
        self._project = project

    def mutations(self) -> dict[str, Callable[[Arguments], Node]]:
        return {
            "createArtifact": self._create,
            "createArtifactManifest": self._manifest,
            "updateArtifactManifest": self._manifest,
            "createArtifactFiles": self._files,
            "commitArtifact": self._commit,
        }

    def of_run(self, run: RunKey) -> list[Node]:
        """The committed artifacts that a run logged."""
        return [self.node(artifact) for artifact in self.stored if artifact.run == run and artifact.state == "COMMITTED"]

    def named(self, entity: str, project: str, name: str) -> Node | None:
        """`collection:version` or `collection:alias`; null where there is none."""
        collection, _, version = name.partition(":")
        for artifact in reversed(self.stored):
            known = [f"v{artifact.version}", *artifact.aliases]
            if artifact.run[:2] == (entity, project) and artifact.collection == collection and (version or "latest") in known:
                return self.node(artifact)
        return None

    def with_id(self, identifier: str) -> Node:
        return self.node(self._by_id(identifier)[1])

    def put(self, index: str, path: str, content: bytes) -> None:
        """An uploaded file, or the manifest."""
        artifact = self.stored[int(index)]
        if path == "manifest":
            artifact.manifest = content
        else:
            artifact.files[path.removeprefix("files/")] = content

    def node(self, artifact: StoredArtifact) -> Node:
        entity, project, _ = artifact.run
        collection = {
            "__typename": "ArtifactSequence",
            "id": f"sequence-{artifact.collection}",
            "name": artifact.collection,
            "project": lambda _: self._project(entity, project),
            "latestArtifact": lambda _: {"id": self._versions(artifact)[-1].id},
            "type": {"name": artifact.type},
            "defaultArtifactType": {"name": artifact.type},
        }
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "state": artifact.state,
            "digest": artifact.digest,
            "versionIndex": artifact.version,
            "artifactType": {"id": f"type-{artifact.type}", "name": artifact.type},
            "artifactSequence": collection,
            "description": artifact.description,
            "metadata": artifact.metadata,
            "size": sum(map(len, artifact.files.values())),
            "fileCount": len(artifact.files),
            "createdAt": artifact.created,
            "updatedAt": artifact.created,
            "commitHash": "",
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "historyStep": None,
            "tags": [],
            "aliases": [
                {"__typename": "ArtifactAlias", "id": f"alias-{alias}", "alias": alias, "artifactCollection": collection}
                for alias in artifact.aliases
            ],
            "artifactMemberships": {"edges": []},
            "currentManifest": {"file": {"directUrl": f"{self.storage_url}/{self.stored.index(artifact)}/manifest"}},
        }

    def _versions(self, artifact: StoredArtifact) -> list[StoredArtifact]:
        return [other for other in self.stored if (other.run[:2], other.collection) == (artifact.run[:2], artifact.collection)]

    def _create(self, given: Arguments) -> Node:
        run = (given["entityName"], given["projectName"], given["runName"])
        collection = given["artifactCollectionName"]
        versions = [other for other in self.stored if (other.run[:2], other.collection) == (run[:2], collection)]
        artifact = next((other for other in versions if other.digest == given["digest"]), None)
        if artifact is None:
            artifact = StoredArtifact(
                run,
                collection,
                given["artifactTypeName"],
                given["digest"],
                version=len(versions),
                client_id=given.get("clientID"),
                description=given.get("description"),
                metadata=given.get("metadata"),
            )
            self.stored.append(artifact)
        for alias in [item["alias"] for item in given.get("aliases") or []]:
            for other in versions:
                other.aliases = [known for known in other.aliases if known != alias]
            artifact.aliases.append(alias)
        return {"artifact": self.node(artifact)}

    def _by_id(self, identifier: str) -> tuple[int, StoredArtifact]:
        for index, artifact in enumerate(self.stored):
            if artifact.id == identifier:
                return index, artifact
        raise GraphQLError(f"no artifact {identifier}")

    def _manifest(self, given: Arguments) -> Node:
        # The manifest's id is the artifact's own: each has one.
        identifier = given.get("artifactID") or given["artifactManifestID"]
        index, _ = self._by_id(identifier)
        file = {"id": f"manifest-{index}", "uploadUrl": f"{self.storage_url}/{index}/manifest", "uploadHeaders": []}
        return {"artifactManifest": {"id": identifier, "file": file}}

    def _files(self, given: Arguments) -> Node:
        edges = []
        for spec in given["artifactFiles"]:
            index, artifact = self._by_id(spec["artifactID"])
            url = f"{self.storage_url}/{index}/files/{spec['name']}"
            node = {
                "storagePath": spec["name"],
                "uploadUrl": url,
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": artifact.id},
                "name": spec["name"],
                "displayName": spec["name"],
            }
            edges.append({"node": node})
        return {"files": {"edges": edges}}

    def _commit(self, given: Arguments) -> Node:
        _, artifact = self._by_id(given["artifactID"])
        artifact.state = "COMMITTED"
        return {"artifact": self.node(artifact)}


def paths(artifact: StoredArtifact) -> list[str]:
    """The paths that its manifest lists."""
    return sorted(json.loads(artifact.manifest)["contents"]) if artifact.manifest else []
