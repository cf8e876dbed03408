"""Behavior principles from a CSV file, such as those of Roleplay-doh.

Why: the published principles may not be shipped; who has them can bring them. One column holds the
principle; another, if there is one, its group. Without groups every principle is a group of its
own, so that the encoder's best of five groups are the best five principles, as in the paper.
Utterances are left to the seats, which make and mark them.
"""

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mentalarena.case import Principle, PrincipleGroup
from mentalarena.errors import CaseError
from mentalarena.import_report import Remark, Report
from mentalarena.roster import Library
from mentalarena.text_files import read_any

TEXT_COLUMNS = ("principle", "principles", "text", "rule", "behavior", "description")
GROUP_COLUMNS = ("group", "category", "cluster", "topic", "stage", "type")
_LONGEST = 4000


def import_principles(path: Path) -> tuple[Library, Report]:
    """The principles of a CSV file, and what became of its rows.

    Raises:
        CaseError: it cannot be read, has no column of principles, or holds none.
    """
    decoded = read_any(path)
    rows = list(_rows(path, decoded.text))
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    text_column = next((head.index(name) for name in TEXT_COLUMNS if name in head), None)
    if text_column is None:
        raise CaseError(
            f"{path} has no column of principles among {', '.join(head)[:200] or 'its columns'}: "
            f"call one of them {TEXT_COLUMNS[0]}"
        )
    group_column = next((head.index(name) for name in GROUP_COLUMNS if name in head), None)
    remarks: list[Remark] = []
    for position, name in enumerate(head):
        if position not in (text_column, group_column):
            remarks.append(Remark("ignored", 0, name[:60], "is a column without a use here"))
    seen: dict[str, int] = {}
    groups: dict[str, list[str]] = {}
    for number, row in enumerate(rows[1:], start=1):
        if len(head) == 1:
            # Nobody quotes the commas of a file with one column.
            row = [",".join(row)]
        text = " ".join(row[text_column].split()) if len(row) > text_column else ""
        problem = _problem(text)
        key = text.casefold()
        if not problem and key in seen:
            problem = f"repeats record {seen[key]}"
        if problem:
            remarks.append(Remark("dropped", number, head[text_column], problem))
            continue
        seen[key] = number
        if len(row) > len(head):
            remarks.append(Remark("ignored", number, "", "has more cells than there are columns"))
        name = f"principle {number}"
        if group_column is not None:
            cell = row[group_column].strip() if len(row) > group_column else ""
            name = " ".join(cell.split())[:200] or "without a group"
        groups.setdefault(name, []).append(text)
    if not groups:
        raise CaseError(f"{path} holds no principle that can be used: {remarks[-1].message}"
                        if remarks else f"{path} holds no principle")  # fmt: skip
    report = Report(str(path), decoded.encoding, len(rows) - 1, len(seen), tuple(remarks))
    return Library(_groups(groups)), report


def _problem(text: str) -> str:
    if not text:
        return "is empty"
    if len(text) > _LONGEST:
        return f"has {len(text):,} characters, more than {_LONGEST:,}"
    return ""


def _rows(path: Path, text: str) -> Iterator[Sequence[str]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    # The limit is the process's; a cell that is too long is to be named, not to end the import.
    before = csv.field_size_limit(sys.maxsize)
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if any(cell.strip() for cell in row):
                yield row
    except csv.Error as error:
        raise CaseError(f"{path} is not CSV: {error}") from error
    finally:
        csv.field_size_limit(before)


def _groups(groups: dict[str, list[str]]) -> tuple[PrincipleGroup, ...]:
    found = []
    for number, (name, texts) in enumerate(groups.items(), start=1):
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
        identity = f"imported-{number}" + (f"-{slug}" if slug else "")
        found.append(
            PrincipleGroup(
                id=identity,
                name=name,
                principles=tuple(
                    Principle(id=f"{identity}.{position}", group=identity, text=text)
                    for position, text in enumerate(texts, start=1)
                ),
            )
        )
    return tuple(found)
