"""Profile and languages of a set, and the profile it is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from schemas.errors import DataSourceError
from schemas.rule_ids import RuleExample, SetRule
from schemas.rules.profile import DataProfile, build_profile, parse_profile
from schemas.small_files import read_small_bytes
from tasks.dataset.comparisons import MOST_EXAMPLES, SetColumns
from tasks.rows.feature_table import FeatureTable

CHAMPION = "champion"
NO_REFERENCE = "none"


def read_reference(name: str) -> DataProfile | None:
    """Read the profile that a set is compared with.

    Args:
        name: Of `quality.reference`.

    Returns:
        The profile; None for `none`, and for `champion`, which only the flow looks up.

    Raises:
        DataSourceError: The file cannot be read or is no profile.
    """
    if name in (CHAMPION, NO_REFERENCE):
        return None
    path = Path(name).expanduser()
    try:
        return parse_profile(read_small_bytes(path), where=str(path))
    except OSError as error:
        raise DataSourceError(
            f"the profile {name} cannot be read: {error.strerror or error}",
            where="quality.reference",
            expected=f"{CHAMPION}, {NO_REFERENCE}, or a profile.json that a run wrote",
            got=name,
            fix="correct the path",
        ) from error


def add_languages(found: SetColumns, table: FeatureTable, languages: Collection[str]) -> None:
    """Mark the sampled rows whose answer is in none of the configured languages (ISO 639-1)."""
    if not languages or not table.sample:
        return
    import numpy

    detected = sample_languages(table)
    told = [(key, code) for (key, _), code in zip(table.sample, detected, strict=True) if code]
    is_other = [code not in languages for _, code in told]
    found.columns["is_other_language"] = numpy.array(is_other, dtype=bool)
    others = {key: code for key, code in told if code not in languages}
    if not others:
        return
    whole = table.column("whole")
    rows = numpy.flatnonzero(numpy.isin(whole, numpy.array(list(others), dtype=whole.dtype)))
    examples = []
    for row in rows[:MOST_EXAMPLES].tolist():
        file, line = table.place(row)
        detail = f"its answer seems to be in {others[int(whole[row])]}"
        examples.append(RuleExample(file=file, line=line, detail=detail))
    found.examples[SetRule.LANGUAGE_FRACTION] = tuple(examples)


def sample_languages(table: FeatureTable) -> list[str | None]:
    """Detect the ISO 639-1 codes of the sampled answers; None where it is uncertain."""
    from schemas.texts.language import detect_languages

    return detect_languages([text for _, text in table.sample])


def make_profile(
    table: FeatureTable, formats: Mapping[str, int], kept_sha256: str = ""
) -> DataProfile:
    """Summarise the kept rows; languages are included where rows were sampled."""
    names = ("prompt_characters", "answer_characters", "n_messages")
    languages: Counter[str] = Counter()
    if table.sample:
        languages.update(code for code in sample_languages(table) if code)
    return build_profile(
        {name: table.column(name) for name in names}, table.roles, formats, languages, kept_sha256
    )
