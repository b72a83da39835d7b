"""The part of W&B's GraphQL schema that the client needs to write runs and to read them back."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support.fake_wandb.artifacts import Artifacts
from tests.support.fake_wandb.graphql import GraphQLError, Node, execute, parse
from tests.support.fake_wandb.runs import ENDED, RunKey, StoredRun, dig, matches, now, ordered

Arguments = dict[str, Any]


def connection(nodes: list[Node], arguments: Arguments) -> Node:
    """A page of nodes; cursors are offsets."""
    start = int(arguments.get("after") or 0)
    page = nodes[start : start + int(arguments.get("first") or 50)]
    end = start + len(page)
    return {
        "edges": [{"node": node, "cursor": str(start + index + 1)} for index, node in enumerate(page)],
        "pageInfo": {"__typename": "PageInfo", "hasNextPage": end < len(nodes), "endCursor": str(end)},
        "totalCount": len(nodes),
    }


class Schema:
    """Runs in memory, and the queries and mutations on them."""

    def __init__(self, entity: str, storage_url: str) -> None:
        self.entity = entity
        self.storage_url = storage_url
        self.runs: dict[RunKey, StoredRun] = {}
        self.unknown: Counter[str] = Counter()
        """Fields that the client asked for and that are not here."""
        self.lock = threading.RLock()
        self.views: list[Node] = []
        """Workspaces and reports as they were saved."""
        self.artifacts = Artifacts(f"{storage_url}-artifacts", self._project)

    def answer(self, document: str, variables: Arguments) -> Node:
        operation = parse(document)
        with self.lock:
            root = self._queries() if operation.kind == "query" else self._mutations()
            return execute(operation, root, variables, self.unknown)

    def _queries(self) -> Node:
        def project(arguments: Arguments) -> Node:
            return self._project(arguments.get("entityName") or arguments.get("entity") or self.entity, arguments["name"])

        return {
            "viewer": lambda _: self._user(),
            "entity": lambda arguments: self._entity(arguments.get("name") or self.entity),
            "models": lambda arguments: connection(self._projects(arguments.get("entityName") or self.entity), arguments),
            "artifact": lambda arguments: self.artifacts.with_id(arguments["id"]),
            "model": project,
            "project": project,
            "serverInfo": lambda _: {
                "features": [],
                "cliVersionInfo": {"max_cli_version": "99.0.0"},
                "latestLocalVersionInfo": None,
                "exposesExplicitlyDisabledRunSummaryAutoUpload": None,
            },
        }

    def _mutations(self) -> Node:
        def with_input(mutation: Callable[[Arguments], Node]) -> Callable[[Arguments], Node]:
            return lambda arguments: mutation(arguments["input"])

        return {
            "upsertBucket": with_input(self._upsert_run),
            "createRunFiles": with_input(self._create_files),
            "markRunFilesUploaded": with_input(lambda _: {"success": True}),
            "upsertView": with_input(self._upsert_view),
            **{name: with_input(mutation) for name, mutation in self.artifacts.mutations().items()},
        }

    def _upsert_view(self, given: Arguments) -> Node:
        names = ("type", "name", "displayName", "description", "spec", "entityName", "projectName")
        known = next((view for view in self.views if given.get("id") and view["id"] == given["id"]), None)
        view = known or {"id": f"view-{len(self.views) + 1}"}
        view.update({"updatedAt": now(), **{name: given.get(name) for name in names}})
        if known is None:
            self.views.append(view)
        return {"view": {**view, "project": self._project(given["entityName"], given["projectName"])}, "inserted": known is None}

    def _user(self) -> Node:
        entity = self._entity(self.entity)
        return {
            "__typename": "User",
            "id": "user",
            "name": "Fake User",
            "username": self.entity,
            "email": "fake@example.invalid",
            "entity": self.entity,
            "admin": False,
            "flags": "{}",
            "deletedAt": None,
            "defaultEntity": entity,
            "teams": lambda arguments: connection([entity], arguments),
            "apiKeys": lambda arguments: connection([], arguments),
        }

    def _entity(self, name: str) -> Node:
        return {
            "__typename": "Entity",
            "id": f"entity-{name}",
            "name": name,
            "isTeam": False,
            "organization": {"name": "fake-org", "coreWeaveOrganizationId": None, "orgEntity": {"name": name}},
        }

    def _projects(self, entity: str) -> list[Node]:
        return [self._project(entity, name) for name in sorted({run.project for run in self.runs.values() if run.entity == entity})]

    def _project(self, entity: str, name: str) -> Node:
        def selected(arguments: Arguments) -> list[StoredRun]:
            filters = json.loads(arguments.get("filters") or "{}")
            mine = [run for run in self.runs.values() if (run.entity, run.project) == (entity, name) and matches(run, filters)]
            return ordered(mine, arguments.get("order") or "+created_at")

        def runs(arguments: Arguments) -> Node:
            return connection([self._run(run) for run in selected(arguments)], arguments)

        def run(arguments: Arguments) -> Node | None:
            found = self.runs.get((entity, name, arguments["name"]))
            return self._run(found) if found else None

        def views(arguments: Arguments) -> Node:
            wanted = {"entityName": entity, "projectName": name, "type": arguments["viewType"], "name": arguments["viewName"]}
            return connection([view for view in self.views if wanted.items() <= view.items()], arguments)

        return {
            "__typename": "Project",
            "id": f"project-{name}",
            "internalId": base64.b64encode(b"ProjectInternalId:1").decode(),
            "name": name,
            "entityName": entity,
            "entity": self._entity(entity),
            "createdAt": now(),
            "isBenchmark": False,
            "readOnly": False,
            "user": self._user(),
            "runCount": lambda arguments: len(selected(arguments)),
            "runs": runs,
            "buckets": runs,
            "run": run,
            "bucket": run,
            "artifact": lambda arguments: self.artifacts.named(entity, name, arguments["name"]),
            "allViews": views,
        }

    def _run(self, run: StoredRun) -> Node:
        return {
            "__typename": "Run",
            "id": base64.b64encode(":".join(["Run", "v1", run.id, run.project, run.entity]).encode()).decode(),
            "name": run.id,
            "displayName": run.display_name,
            "state": run.state,
            "group": run.group,
            "groupName": run.group,
            "jobType": run.job_type,
            "sweepName": None,
            "sweep": None,
            "tags": run.tags,
            "notes": run.notes,
            "description": run.notes,
            "commit": None,
            "host": run.host,
            "readOnly": False,
            "createdAt": run.created,
            "heartbeatAt": run.heartbeat,
            "projectId": "1",
            "stopped": False,
            "user": lambda _: self._user(),
            "project": lambda _: self._project(run.entity, run.project),
            "config": json.dumps(run.stored_config),
            "wandbConfig": lambda _: json.dumps(run.stored_config.get("_wandb", {}).get("value", {})),
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": run.events[max(run.events)] if run.events else "{}",
            "historyLineCount": len(run.history),
            "eventsLineCount": len(run.events),
            "logLineCount": len(run.logs),
            "historyTail": _tail(run.history),
            "eventsTail": _tail(run.events),
            "historyKeys": _history_keys(run),
            "history": lambda arguments: _history(run, arguments),
            "sampledHistory": lambda arguments: [_sampled(run, json.loads(spec)) for spec in arguments["specs"]],
            "parquetHistory": lambda _: {"parquetUrls": [], "liveData": run.rows},
            "files": lambda arguments: {**self._files(run, arguments), "uploadHeaders": []},
            "fileCount": len(run.files),
            "outputArtifacts": lambda arguments: connection(self.artifacts.of_run(run.key), arguments),
        }

    def _files(self, run: StoredRun, arguments: Arguments) -> Node:
        wanted = arguments.get("names") or arguments.get("fileNames") or list(run.files)
        nodes = [
            {
                "id": name,
                "name": name,
                "url": self._file_url(run, name),
                "directUrl": self._file_url(run, name),
                "sizeBytes": str(len(content)),
                "mimetype": "",
                "updatedAt": run.heartbeat,
                "md5": base64.b64encode(hashlib.md5(content).digest()).decode(),
            }
            for name, content in run.files.items()
            if name in wanted
        ]
        return connection(nodes, arguments)

    def _file_url(self, run: StoredRun, name: str) -> str:
        return "/".join([self.storage_url, *run.key, urllib.parse.quote(name)])

    def _upsert_run(self, given: Arguments) -> Node:
        key = (given.get("entityName") or self.entity, given.get("modelName") or "uncategorized", str(given.get("name")))
        run = next((run for run in self.runs.values() if given.get("id") and self._run(run)["id"] == given["id"]), None)
        run = run or self.runs.get(key)
        inserted = run is None
        if run is None:
            run = self.runs[key] = StoredRun(*key, number=len(self.runs) + 1)
        elif run.state in ENDED:
            run.enter("running")
        names = {
            "displayName": "display_name",
            "groupName": "group",
            "jobType": "job_type",
            "notes": "notes",
            "host": "host",
            "tags": "tags",
        }
        for name, own in names.items():
            if given.get(name) is not None:
                setattr(run, own, given[name])
        if given.get("config") is not None:
            run.stored_config = json.loads(given["config"])
        if given.get("summaryMetrics") is not None:
            run.summary = json.loads(given["summaryMetrics"])
        if given.get("state") is not None:
            run.enter(given["state"])
        return {"__typename": "UpsertBucketPayload", "bucket": self._run(run), "inserted": inserted}

    def _create_files(self, given: Arguments) -> Node:
        key = (given.get("entityName") or self.entity, given["projectName"], given["runName"])
        if key not in self.runs:
            raise GraphQLError(f"no run {key}")
        run = self.runs[key]
        files = [{"name": name, "uploadUrl": self._file_url(run, name)} for name in given["files"]]
        return {"runID": self._run(run)["id"], "uploadHeaders": [], "files": files}


def _tail(lines: dict[int, str]) -> str:
    return json.dumps([lines[max(lines)]] if lines else [])


def _history(run: StoredRun, arguments: Arguments) -> list[str]:
    first, end = int(arguments.get("minStep") or 0), arguments.get("maxStep")
    rows = [row for row in run.rows if first <= row["_step"] and (end is None or row["_step"] < int(end))]
    return [json.dumps(row) for row in rows[:: max(1, len(rows) // int(arguments.get("samples") or 500))]]


def _sampled(run: StoredRun, spec: Arguments) -> list[dict[str, Any]]:
    """Rows that hold all keys of the spec; unlike for the history, its last step is included."""
    keys, last = spec.get("keys") or [], spec.get("maxStep")
    rows = [
        {key: dig(row, key) for key in keys}
        for row in run.rows
        if all(dig(row, key) is not None for key in keys)
        and spec.get("minStep", 0) <= row["_step"]
        and (last is None or row["_step"] <= last)
    ]
    return rows[:: max(1, -(-len(rows) // int(spec.get("samples") or 500)))]


def _history_keys(run: StoredRun) -> Node:
    counts = Counter(key for row in run.rows for key in row)
    keys = {key: {"typeCounts": [{"type": "number", "count": count}], "monotonic": True} for key, count in counts.items()}
    return {"sets": [], "keys": keys, "lastStep": max((row["_step"] for row in run.rows), default=-1)}
