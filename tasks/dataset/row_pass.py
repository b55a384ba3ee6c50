"""Check every row of a source and gather what the set rules need, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.run import DataSource, QualityConfig
from schemas.errors import DataSourceError
from schemas.rule_ids import RuleSetting, SetRule, Severity
from tasks.engine.files import open_atomic
from tasks.engine.progress import progress_bar
from tasks.rows.check import BlockOutcome, CheckRequest, check_blocks
from tasks.rows.feature_table import FeatureTable
from tasks.rows.features import FeatureRequest
from tasks.rows.tally import RowTally
from tasks.sources.mixture import Origin, errors_of, read_named_blocks
from tasks.sources.parsing import Block
from tasks.sources.source import SourceWatch, read_rows

if TYPE_CHECKING:
    from tasks.rows.benchmark_overlap import NgramIndex
    from tasks.rows.near_duplicates import NearDuplicateIndex


@dataclass
class SetPass:
    """One pass over rows: what is asked, and where the features go."""

    request: CheckRequest
    table: FeatureTable | None = None
    duplicates: NearDuplicateIndex | None = None
    """Where near duplicates are looked for."""
    processes: int | None = None

    def outcomes(self, blocks: Iterable[Block], tally: RowTally | None) -> Iterator[BlockOutcome]:
        """Check blocks in order, count them, and add their features to the table."""
        bar = progress_bar(total=None, label="check", unit="row")
        with bar:
            for outcome in check_blocks(blocks, self.request, self.processes):
                if tally:
                    tally.add(outcome)
                if outcome.features is not None and self.table is not None:
                    self.table.add(outcome.features)
                    if self.duplicates is not None:
                        self.duplicates.add(outcome.features.signatures)
                    outcome.features = None
                bar.update(outcome.n_rows)
                yield outcome

    def run(self, blocks: Iterable[Block]) -> None:
        """Check blocks for their features alone."""
        for _ in self.outcomes(blocks, None):
            pass

    def finish(self) -> None:
        """Write the clusters of near duplicates into the table."""
        if self.duplicates is not None and self.table is not None:
            found = self.duplicates.clusters()
            self.table.append("cluster", found.alike)
            self.table.append("copied", found.copies)

    def close(self) -> None:
        """Remove the working files, whether or not the pass was completed."""
        if self.duplicates is not None:
            self.duplicates.close()


def watch_source(source: Origin, check: SetPass, tally: RowTally) -> Iterator[BlockOutcome]:
    """Check the rows of each source, and that there are some with the configured columns."""
    if isinstance(source, DataSource):
        yield from _watch("", source, check, tally)
        return
    for name in sorted(source):
        with errors_of(name):
            yield from _watch(name, source[name], check, tally)


def _watch(
    name: str, source: DataSource, check: SetPass, tally: RowTally
) -> Iterator[BlockOutcome]:
    watch = SourceWatch(source)
    for outcome in check.outcomes(read_named_blocks(name, source), tally):
        watch.see(outcome.n_rows, outcome.n_objects, outcome.names)
        yield outcome
    watch.finish()


def write_rows(
    outcomes: Iterable[BlockOutcome],
    *,
    kept: Path | None = None,
    quarantine: Path | None = None,
    repaired: Path | None = None,
) -> None:
    """Run a pass to its end and write its rows; files that are None are not written.

    Args:
        outcomes: What `SetPass.outcomes` or `watch_source` yields.
        kept: Gets the kept rows as conversations.
        quarantine: Gets the rows that were set aside, with the reason.
        repaired: Gets the kept rows in the form of their source, repaired where nothing is lost.
    """
    with ExitStack() as stack:
        kept_stream, quarantine_stream, repaired_stream = (
            stack.enter_context(open_atomic(path)) for path in (kept, quarantine, repaired)
        )
        for outcome in outcomes:
            if kept_stream:
                kept_stream.write(outcome.kept)
            if quarantine_stream:
                quarantine_stream.write(outcome.quarantine.encode("utf-8"))
            if repaired_stream:
                repaired_stream.write(outcome.repaired)


def plan_features(
    quality: QualityConfig, settings: Mapping[SetRule, RuleSetting]
) -> FeatureRequest:
    """List the features that the enabled rules need; benchmark files are read here."""

    def is_on(rule: SetRule) -> bool:
        return settings[rule].severity != Severity.OFF

    benchmark = None
    if quality.benchmarks and is_on(SetRule.BENCHMARK_OVERLAP):
        benchmark = read_benchmarks(quality.benchmarks)
    is_compared = is_on(SetRule.NEAR_DUPLICATE_FRACTION)
    return FeatureRequest(
        similarity=quality.near_duplicate_similarity if is_compared else None,
        has_sample=bool(quality.languages) and is_on(SetRule.LANGUAGE_FRACTION),
        benchmark=benchmark,
    )


def read_benchmarks(sources: Iterable[str]) -> NgramIndex:
    """Collect the word sequences of benchmark files, named as in `data.source.source`."""
    from tasks.rows.benchmark_overlap import NgramIndex, benchmark_texts

    def texts() -> Iterator[str]:
        for name in sources:
            try:
                for row in read_rows(DataSource(source=name)):
                    yield from benchmark_texts(row.row)
            except DataSourceError as error:
                error.where = error.where or "quality.benchmarks"
                raise

    return NgramIndex.from_texts(texts())


def start_pass(request: CheckRequest, features: FeatureRequest, folder: Path) -> SetPass:
    """Prepare a pass that compares rows, in an empty folder for what does not fit into memory."""
    duplicates = None
    if features.similarity is not None:
        from tasks.rows.near_duplicates import NearDuplicateIndex

        near = folder / "near"
        near.mkdir(parents=True)
        duplicates = NearDuplicateIndex(near, features.similarity)
    return SetPass(
        replace(request, features=features), FeatureTable(folder / "features"), duplicates
    )
