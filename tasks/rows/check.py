"""Check rows against the row rules, block by block, in several processes if there is enough to do."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import chain
from multiprocessing import forkserver
from typing import Any

import orjson

from schemas.errors import SftFlowError
from schemas.rows.recognition import recognise
from schemas.rows.repairs import repair_row
from schemas.rows.row import RowFormat
from schemas.rule_ids import RowRule, RuleExample, Severity
from schemas.rules.check_rows import CheckedBlock, CheckedRow, check_rows
from tasks.engine.jsonl import json_line
from tasks.engine.process_limits import count_processors
from tasks.rows import near_duplicates
from tasks.rows.features import FeatureRequest, RowFeatures, row_features
from tasks.rows.quarantine import quarantined, reason, safe_detail
from tasks.sources.parsing import Block, parse_block, reading_conversions

LOGGER = logging.getLogger(__name__)
MOST_EXAMPLES = 5
MAX_PROCESSES = 8
WORTH_BYTES = 10 << 20
"""Starting processes takes a second or more, in which one checks more than a block."""
USUAL_ROW_BYTES = 400
PRELOADED = ("pandera.polars", __name__, near_duplicates.__name__)
PEEK_BYTES = 1 << 16


@dataclass(frozen=True)
class CheckRequest:
    """What is asked of every block of rows."""

    severities: Mapping[RowRule, Severity]
    special_tokens: tuple[str, ...] = ()
    """Of the model, besides the known markers of model families."""
    first_format: RowFormat | None = None
    features: FeatureRequest | None = None
    """None: rows are not compared later."""
    has_conversations: bool = False
    """Return the kept rows in canonical form, as lines of `kept.jsonl`."""
    is_repaired: bool = False
    """Repair rows first where nothing is lost, and return the kept ones in the form of their source."""


@dataclass
class BlockOutcome:
    """What was found in one block; small, since it travels between processes."""

    n_rows: int = 0
    n_objects: int = 0
    n_kept_rows: int = 0
    names: set[str] = field(default_factory=set)
    """Column names that were seen, where a mapping needs them."""
    formats: Counter[str] = field(default_factory=Counter)
    conversions: Counter[str] = field(default_factory=Counter)
    unused_fields: Counter[str] = field(default_factory=Counter)
    """Rows with each column, or field of a message, that nothing reads."""
    n_broken: Counter[RowRule] = field(default_factory=Counter)
    examples: dict[RowRule, list[RuleExample]] = field(default_factory=dict)
    quarantine: str = ""
    """Lines of `quarantine.jsonl`."""
    first_quarantined: list[RuleExample] = field(default_factory=list)
    kept: bytes = b""
    """Kept rows in canonical form."""
    repaired: bytes = b""
    """Kept rows in the form of their source, repaired."""
    features: RowFeatures | None = None


def check_block(block: Block, request: CheckRequest) -> BlockOutcome:
    """Check the rows of one block."""
    # Rows that are repaired are changed in place.
    parsed = parse_block(block, is_typed=not request.is_repaired)
    rows = parsed.rows
    outcome = BlockOutcome(len(rows), parsed.n_objects, names=parsed.names)
    outcome.conversions.update(reading_conversions(block, parsed))
    if request.is_repaired:
        for row in rows:
            row.row, repairs = repair_row(row.row)
            outcome.conversions.update({f"repaired_{name}": n for name, n in repairs.items()})
    checked = check_rows(rows, request.severities, request.first_format, request.special_tokens)
    _count(checked, outcome)
    if request.features is not None:
        outcome.features = row_features(checked, request.features)
    if request.has_conversations:
        outcome.kept = _lines(row.conversation.to_json() for row in checked if row.conversation)
    if request.is_repaired:
        outcome.repaired = _lines(row.source.row for row in checked if row.conversation)
    return outcome


def _lines(values: Iterable[Any]) -> bytes:
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


def _count(checked: CheckedBlock, outcome: BlockOutcome) -> None:
    """Count the formats of a block's rows and the rules they break."""
    others = checked.recognised.others.values()
    conversations = [found for found, _, _ in others if found]
    formats = Counter(found.format for found in conversations)
    n_plain = len(checked.rows) - len(others)
    if n_plain:
        formats[RowFormat.MESSAGES] += n_plain
    outcome.formats = Counter({str(name): count for name, count in formats.items()})
    for found in conversations:
        if found.conversions:
            outcome.conversions.update(map(str, found.conversions))
        if found.unused_fields:
            outcome.unused_fields.update(found.unused_fields)
    outcome.n_kept_rows = len(conversations) + n_plain
    lines = []
    for number in sorted(checked.violations):
        source, violations = checked.rows[number], checked.violations[number]
        for violation in violations:
            outcome.n_broken[violation.rule] += 1
            examples = outcome.examples.setdefault(violation.rule, [])
            if len(examples) < MOST_EXAMPLES:
                detail = safe_detail(violation)
                examples.append(RuleExample(file=source.file, line=source.line, detail=detail))
        if number in checked.blocked:
            outcome.n_kept_rows -= checked.recognised[number][0] is not None
            row = CheckedRow(source, None, None, violations)
            lines.append(json_line(quarantined(row)))
            if len(outcome.first_quarantined) < MOST_EXAMPLES:
                example = RuleExample(file=source.file, line=source.line, detail=reason(row))
                outcome.first_quarantined.append(example)
    outcome.quarantine = "".join(lines)


def n_processes() -> int:
    """Return how many processes check rows: one a processor it may use, at most eight."""
    return min(MAX_PROCESSES, count_processors())


def check_blocks(
    blocks: Iterable[Block], request: CheckRequest, processes: int | None = None
) -> Iterator[BlockOutcome]:
    """Check blocks in order; later formats are compared with that of the first row.

    Args:
        blocks: What a reader gives.
        request: What to look for.
        processes: How many work at once; None: `n_processes`.

    Yields:
        The outcome of each block, in order.
    """
    processes = n_processes() if processes is None else processes
    waiting = iter(blocks)
    first, n_bytes = [], 0
    while n_bytes < WORTH_BYTES and (block := next(waiting, None)):
        first.append(block)
        n_bytes += len(block.lines) + USUAL_ROW_BYTES * len(block.rows or ())
    if n_bytes < WORTH_BYTES:
        processes = 1
    if processes > 1 and not _can_share():
        LOGGER.warning("checking in one process: this system has no semaphores (/dev/shm)")
        processes = 1
    if processes > 1:
        _start_server()
    rest: Iterator[Block] = chain(first, waiting)
    if request.first_format is None:
        for block in rest:
            found = _first_format(block)
            if found:
                rest, request = chain((block,), rest), replace(request, first_format=found)
                break
            # Kept until a format is known, a file of unknown ones would fill the memory.
            yield check_block(block, request)
    if processes < 2:
        yield from (check_block(block, request) for block in rest)
    else:
        yield from _in_processes(rest, request, processes)


def _first_format(block: Block) -> RowFormat | None:
    """Find the first row with a conversation, at first among the first lines."""
    cut = block.lines.rfind(b"\n", 0, PEEK_BYTES) + 1
    if cut and not block.rows and len(block.lines) > PEEK_BYTES:
        found = _first_format(replace(block, lines=block.lines[:cut]))
        if found:
            return found
    for row in parse_block(block).rows:
        conversation = recognise(row)[0]
        if conversation:
            return conversation.format
    return None


def _can_share() -> bool:
    """Return whether processes can share semaphores, which some containers and serverless systems lack."""
    try:
        multiprocessing.get_context("forkserver").Lock()
    except (ImportError, OSError):
        return False
    return True


def _start_server() -> None:
    """Start the process that the others are forked from, and let it import what they need.

    A child forked from here would inherit the locks of polars' threads; the server has none.
    """
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()


def _in_processes(
    blocks: Iterator[Block], request: CheckRequest, processes: int
) -> Iterator[BlockOutcome]:
    """Keep every process busy with one block more waiting, so that memory stays bounded."""
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(processes, context, _start_worker, (request,))
    pending: deque[Future[BlockOutcome]] = deque()
    try:
        for block in blocks:
            pending.append(pool.submit(_check_in_worker, block))
            if len(pending) > processes + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise SftFlowError(
            "a process that checks rows was killed, perhaps because memory ran out",
            fix="free memory, then run again",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_REQUEST: list[CheckRequest] = []


def _start_worker(request: CheckRequest) -> None:
    # One thread each: the processes already fill the processors.
    os.environ["POLARS_MAX_THREADS"] = "1"
    _REQUEST.append(request)
    # Rows are trees without cycles; looking for cycles takes a third of the time.
    gc.disable()


def _check_in_worker(block: Block) -> BlockOutcome:
    outcome = check_block(block, _REQUEST[0])
    if outcome.n_broken:
        gc.collect()  # pandera's errors keep frames in cycles
    return outcome
