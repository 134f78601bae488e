"""A workspace in which everything is done: verdicts by the catalog's own commits, files by hard links."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import stand_ins
from data_catalog import Workspace
from sage_core.acquisition.sources import SourceItem, expand
from sage_core.assembly import shard_name
from sage_core.config import SageConfig
from sage_core.types import Artifact, Judgement, Stage, Verdict
from tasks._inputs import Inputs, assemble_inputs, curate_inputs, reconstruct_inputs
from tasks._unit import Attempt, ChildOutcome, Outcome, Subject, record
from tasks.curate import ARTIFACTS

_COMMIT = 10_000
_MOST_LINKS = 30_000
_SHA = "0" * 64
"""Plans compare sizes; nobody reads these files."""


def fill(ws: Workspace, config: SageConfig, addresses: Sequence[str]) -> None:
    """Give the films at these addresses the verdicts that the stages would, many in a commit."""
    logging.getLogger("sage.verdicts").disabled = True
    files = Links(ws.root)
    for group in _groups(addresses, _COMMIT):
        sources = expand(group, lambda _url: None)
        for stage, commit in _COMMITS.items():
            with ws.catalog.still():
                attempts = list(commit(ws, config, sources, files))
                record(ws, attempts, stage=stage, config=config, run="filled")
    logging.getLogger("sage.verdicts").disabled = False


class Links:
    """Many files with few contents: hard links, a new file where one has too many."""

    def __init__(self, root: Path) -> None:
        self._root, self._origins = root, dict[bytes, tuple[Path, int]]()

    def put(self, path: str, content: bytes) -> Artifact:
        """A file of the workspace with this content."""
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        origin, links = self._origins.get(content, (file, _MOST_LINKS))
        if links >= _MOST_LINKS:
            file.write_bytes(content)
            origin, links = file, 0
        else:
            os.link(origin, file)
        self._origins[content] = (origin, links + 1)
        return Artifact(path, _SHA, len(content))


_Done = Iterator[tuple[Subject, Attempt]]


def _acquired(
    ws: Workspace, config: SageConfig, sources: Sequence[SourceItem], files: Links
) -> _Done:
    for source in sources:
        folder = f"videos/{source.item}"
        film = files.put(f"{folder}/source.mp4", bytes(stand_ins.FILM_BYTES))
        artifacts = {
            "video": Artifact(film.path, source.item[1:].ljust(64, "0"), film.bytes),
            "info": files.put(f"{folder}/info.json", b"{}"),
        }
        details = {
            **stand_ins.site_of(source.location),
            "kind": "url",
            "sections": [],
            "probe": stand_ins.PROBE.to_json(),
            "asked": source.to_json(),
        }
        outcome = Outcome(Judgement.accept(stand_ins.file_figures()), artifacts, details)
        yield Subject(source.item, source.source, None, source.input_hash), _attempt(outcome)


def _curated(
    ws: Workspace, config: SageConfig, sources: Sequence[SourceItem], files: Links
) -> _Done:
    content = stand_ins.curated_files()
    for source in sources:
        inputs = curate_inputs(ws, source.item)
        judgement, clips = stand_ins.curation_of(source.item)
        artifacts = {
            ARTIFACTS[name]: files.put(f"clips/{source.item}/{name}", data)
            for name, data in content.items()
        }
        children = [ChildOutcome(c.item, j, {}, {"clip": c.to_json()}) for c, j in clips]
        yield _subject(inputs), _attempt(Outcome(judgement, artifacts, {"shots": []}, children))


def _reconstructed(
    ws: Workspace, config: SageConfig, sources: Sequence[SourceItem], files: Links
) -> _Done:
    for clip in _clips(sources):
        inputs = reconstruct_inputs(ws, clip)
        judgement, folder = stand_ins.model_judgement(clip), f"sfm/{clip}"
        artifacts: dict[str, Artifact] = {}
        if judgement.verdict is Verdict.ACCEPTED:
            names = [*(f"sparse/0/{name}" for name in stand_ins.MODEL_FILES), "gate.json"]
            size = sum(files.put(f"{folder}/{name}", b"model").bytes for name in names)
            artifacts = {"model": Artifact(folder, clip[1:17].ljust(64, "0"), size)}
        details = {"recipe": "sift", "attempts": [], "clip": inputs.details["clip"]}
        yield _subject(inputs), _attempt(Outcome(judgement, artifacts, details))


def _assembled(
    ws: Workspace, config: SageConfig, sources: Sequence[SourceItem], files: Links
) -> _Done:
    clips = [
        clip
        for clip in _clips(sources)
        if stand_ins.model_judgement(clip).verdict is Verdict.ACCEPTED
    ]
    for group in _groups(sorted(clips), config.assemble.clips_per_shard):
        inputs = [assemble_inputs(ws, clip) for clip in group]
        name = shard_name({i.item: i.hash for i in inputs}, config.stage_hash(Stage.ASSEMBLE))
        shard = {
            kind: files.put(f"shards/{kind}-{name}.parquet", b"rows")
            for kind in ("frames", "clips")
        }
        for one in inputs:
            yield _subject(one), _attempt(Outcome(stand_ins.shard_judgement(), shard))


def _clips(sources: Sequence[SourceItem]) -> Iterator[str]:
    for source in sources:
        yield from (clip.item for clip, _ in stand_ins.curation_of(source.item)[1])


def _subject(inputs: Inputs) -> Subject:
    return Subject(inputs.item, inputs.source, inputs.parent, inputs.hash)


def _attempt(outcome: Outcome) -> Attempt:
    return Attempt(outcome, seconds=1.0, cpu_seconds=1.0, peak_mb=100.0)


def _groups(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


_COMMITS = {
    Stage.ACQUIRE: _acquired,
    Stage.CURATE: _curated,
    Stage.RECONSTRUCT: _reconstructed,
    Stage.ASSEMBLE: _assembled,
}
