"""Check every row of a source and gather what the set rules need, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schemas.config.run import DataSource, QualityConfig
from schemas.errors import DataSourceError
from schemas.rule_ids import SetRule, Severity
from tasks.engine.progress import progress_bar
from tasks.rows.check import BlockOutcome, CheckRequest, check_blocks
from tasks.rows.feature_table import FeatureTable
from tasks.rows.features import FeatureRequest
from tasks.rows.tally import RowTally
from tasks.sources.mixture import Origin, errors_of, read_named_blocks
from tasks.sources.parsing import Block
from tasks.sources.source import SourceWatch, read_rows

Writer = Callable[[BlockOutcome], None]


@dataclass
class SetPass:
    """One pass over rows: what is asked, and where the features go."""

    request: CheckRequest
    table: FeatureTable | None = None
    duplicates: Any = None
    """`NearDuplicateIndex`, where near duplicates are looked for."""
    processes: int | None = None

    def outcomes(self, blocks: Iterable[Block], tally: RowTally | None) -> Iterator[BlockOutcome]:
        """Check blocks and put their features into the table.

        Args:
            blocks: What a reader gives.
            tally: Gets the counts.

        Yields:
            The outcome of each block, in order.
        """
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

    def finish(self) -> None:
        """Put the clusters of near duplicates into the table."""
        if self.duplicates is not None and self.table is not None:
            self.table.append("cluster", self.duplicates.clusters())

    def close(self) -> None:
        """Remove the working files, whether or not the pass came to its end."""
        if self.duplicates is not None:
            self.duplicates.close()


def watch_source(source: Origin, check: SetPass, tally: RowTally) -> Iterator[BlockOutcome]:
    """Check the rows of each source, and that there are some with the columns that were named.

    Args:
        source: Where the rows come from; one source, or several by name.
        check: What is asked.
        tally: Gets the counts.

    Yields:
        The outcome of each block, in order.
    """
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


def plan_features(quality: QualityConfig, settings: Any) -> FeatureRequest:
    """Say which features the rules that are on need.

    Args:
        quality: The set gate's configuration.
        settings: What `set_rule_settings` gave.

    Returns:
        The request; benchmark files are read here.
    """

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


def read_benchmarks(sources: Iterable[str]) -> Any:
    """Collect the word sequences of benchmark files.

    Args:
        sources: Files, as `data.source.source` takes them.

    Returns:
        An `NgramIndex`.

    Raises:
        DataSourceError: A file is missing or unreadable.
    """
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
    """Prepare a pass that compares rows.

    Args:
        request: What is asked of rows.
        features: What is asked beyond the rules.
        folder: Empty folder for what does not fit into memory.

    Returns:
        The pass, to be run over blocks.
    """
    duplicates = None
    if features.similarity is not None:
        from tasks.rows.near_duplicates import NearDuplicateIndex

        near = folder / "near"
        near.mkdir(parents=True)
        duplicates = NearDuplicateIndex(near, features.similarity)
    return SetPass(
        replace(request, features=features), FeatureTable(folder / "features"), duplicates
    )
