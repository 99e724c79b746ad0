"""Write the pages that are made from the code; with `--check` only say whether the committed ones are current.

python docs/generate.py [--check]
"""
# ruff: noqa: INP001  -- a script, not a package

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from runner import errors
from runner.domain.betas import beta_facts
from runner.domain.explanations import EXPLANATIONS, FATES, Fate
from runner.domain.states import FINISHED_RUN, TABLES, Moves, PauseReason, RowStatus, diagram

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Made by docs/generate.py from {source}; `make docs` writes it again. -->"

ROWS = {
    RowStatus.SUCCEEDED: "a whole answer",
    RowStatus.TRUNCATED: "an answer cut off by `max_tokens`, the context window or `limits.max_turns`",
    RowStatus.REFUSED: "the model declined to answer",
    RowStatus.INVALID_OUTPUT: "an answer that does not fit the schema the job asks for",
    RowStatus.ERRORED: "no answer: the request is wrong, or every attempt failed",
    RowStatus.EXPIRED: "its batch ended before the row was worked on, and it was not sent again",
    RowStatus.CANCELED: "the run was canceled before the row was answered",
}
PAUSES = {
    PauseReason.REQUESTED: "somebody asked for it, with `runner pause` or a signal",
    PauseReason.BUDGET: "the next call might go over the budget",
    PauseReason.CREDENTIALS: "the key is missing, wrong, or not allowed to do this",
    PauseReason.ADDRESS: "what answers at the base URL is not the API, or sends elsewhere",
    PauseReason.BILLING: "the organisation's credit is used up or on hold",
    PauseReason.SPEND_CAP: "a spend limit set at the provider is reached",
    PauseReason.MODEL: "the model is not available to this workspace",
    PauseReason.STALLED: "not one success for `limits.stall_s`",
    PauseReason.MAX_FAILURES: "more rows failed than the job allows",
    PauseReason.BAD_ROW: "a streamed input turned out to hold a bad row",
    PauseReason.SUBMITTED: "batches are with the API, and nobody was to wait for them",
    PauseReason.UNKNOWN_BATCH: "what became of a submission is not known yet, or a person has to say it",
    PauseReason.SAMPLED: "only some rows were to be answered, for an estimate",
    PauseReason.REFUSED: "the service refuses what every row has in common",
}
TABLE_WORDS = {
    "run": "One execution of a job over one input.",
    "chunk": "A few hundred consecutive rows: staged, claimed and fenced together.",
    "batch": "One submission to the Message Batches API. Nothing leads back to `sending`: it is posted once.",
}
AGAIN = {
    0: "no",
    1: "once",
    2: "no",
    3: "your choice: `runner retry` sends only the failed rows",
    4: "after the limit is raised",
    5: "after the key is mended",
    6: "after the job or the input is mended",
    7: "later",
    8: "after `runner db upgrade`, or with the newer program",
    10: "later",
    11: "later",
    12: "no",
    75: "yes",
    130: "yes",
}


def states_page() -> str:
    finished = ", ".join(f"`{state}`" for state in sorted(FINISHED_RUN))
    after_table = {
        "run": [
            (
                f"Finished means {finished}; `runner retry` opens a new round of one that has failed rows. "
                "A paused run says why:"
            ),
            _table(("reason", "meaning"), ((f"`{reason}`", PAUSES[reason]) for reason in PauseReason)),
        ]
    }
    parts = [
        "# States",
        NOTE.format(source="runner/domain/states.py"),
        "What can become of runs, chunks, batches and rows. The program has no other move than these.",
    ]
    for name, moves in TABLES.items():
        parts += [f"## {name.capitalize()}", TABLE_WORDS[name]]
        parts += [f"```mermaid\n{diagram(moves)}\n```", _table(("from", "event", "to"), _moves(moves))]
        parts += after_table.get(name, [])
    parts += [
        "## Row",
        "A row ends once, with one of these. Only `succeeded` counts as success; a succeeded row never changes.",
        _table(("status", "meaning"), ((f"`{status}`", ROWS[status]) for status in RowStatus)),
        (
            "A row without a result is waiting, in flight, in a batch, or in a submission of unknown end: its chunk "
            "and its sends tell which, nothing else is stored."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _moves(moves: Moves) -> Iterator[tuple[str, ...]]:
    for state, row in moves.items():
        if not row:
            yield f"`{state}`", "-", "the end"
        for event, to in row.items():
            yield f"`{state}`", event, f"`{to}`"


def exit_codes_page() -> str:
    words = dict(_words())
    rows = [("0", "-", "every row succeeded, or there was nothing to do", AGAIN[0])]
    for kind in sorted(_tree(errors.RunnerError), key=lambda kind: kind.exit_code):
        code, meaning = words[kind.__name__]
        rows.append((code.replace("/", " / "), f"`{kind.name}`", meaning, AGAIN[kind.exit_code]))
    parts = [
        "# Exit codes",
        NOTE.format(source="runner/errors.py"),
        (
            "A command that cannot go on prints `error[word]: ...` and ends with the code of that word. "
            "Codes are stable: schedulers and scripts may rely on them."
        ),
        _table(("code", "word", "meaning", "run it again?"), rows),
        (
            "A run found already finished ends with its own code again. Where several hold, the first of "
            "11, 5, 4, 12, 10, 3 decides. A run that only waits (75), as for its batches, or that was interrupted "
            "keeps that code: to be called again comes first."
        ),
        "## The tree of errors",
        f"```\n{_tree_text()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _tree(kind: type[errors.RunnerError]) -> Iterator[type[errors.RunnerError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


def _tree_text() -> str:
    lines = (errors.__doc__ or "").splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if re.match(r"    \S|    .*\+--", line))


def _words() -> Iterator[tuple[str, tuple[str, str]]]:
    """Name, code and meaning of each error, as the tree in the module's docstring has them."""
    for line in _tree_text().splitlines():
        name, code, meaning = re.findall(r"(\w+) +([\d/]+) *(.*)", line)[0]
        yield name, (code, meaning or "an unexpected error: a bug, please report it with the log")


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


SURFACE = "reference/api.toml"
DIFFERENT_SHAPES = (
    "Files and Skills are asked in today's shapes; where somebody sets the betas `files-api-2025-04-14` or "
    "`skills-2025-10-02`, their old shapes are read too. Both API versions are spoken: `api_version`."
)


def api_page() -> str:
    entries = tomllib.loads((DOCS / SURFACE).read_text(encoding="utf-8"))["entry"]
    parts = [
        "# The Claude API",
        NOTE.format(source=f"docs/{SURFACE}"),
        (
            "Every endpoint and request field of the public API, and how `runner` uses it. A field that is not here "
            "is sent as written: what the API does not know it refuses, and `runner failures` says so."
        ),
        DIFFERENT_SHAPES,
    ]
    for section in dict.fromkeys(entry["section"] for entry in entries):
        rows = [
            (f"`{entry['name']}`", "yes" if entry["supported"] else "no", entry["how"])
            for entry in entries
            if entry["section"] == section
        ]
        parts += [f"## {section}", _table(("", "used", "how"), rows)]
    return "\n\n".join(parts) + "\n"


def betas_page() -> str:
    facts = beta_facts()
    needed = [
        (rule.feature, "<br>".join(f"`{beta}`" for beta in rule.betas), _in_batches(rule.in_batches))
        for rule in facts.rules
        if rule.required and rule.endpoint == "messages"
    ]
    past = [
        (f"`{name}`", facts.feature(name) or "", words)
        for names, words in ((facts.graduated, "works without it"), (facts.obsolete, "opens nothing any more"))
        for name in names
    ]
    parts = [
        "# Betas",
        NOTE.format(source="runner/domain/betas.json"),
        (
            "What a job or a row asks for is looked at, and the names that it needs are added to the header "
            "`anthropic-beta`. Nothing that you set (`betas:`, `--beta`, custom headers) is removed. `preview` and "
            "`check` show what is added and why. Rows that need different names ride in different batches."
        ),
        _table(("feature", "added", "in batches"), needed),
        "## Names that are needed no more",
        _table(("name", "feature", ""), past),
    ]
    return "\n\n".join(parts) + "\n"


def _in_batches(told: bool | None) -> str:
    return {True: "yes", False: "no", None: "not documented"}[told]


def errors_page() -> str:
    rows = [
        (f"`{one.code}`", "" if one.status is None else str(one.status), one.means, FATES_IN_SHORT[one.fate], one.fix)
        for one in EXPLANATIONS.values()
    ]
    parts = [
        "# Errors of the service",
        NOTE.format(source="runner/domain/explanations.py"),
        "`runner explain CODE` says the same. What becomes of the rows:",
        _table(("", ""), [(words, FATES[fate]) for fate, words in FATES_IN_SHORT.items()]),
        _table(("code", "HTTP", "means", "rows", "what to do"), rows),
    ]
    return "\n\n".join(parts) + "\n"


FATES_IN_SHORT = {
    Fate.ROW: "fails",
    Fate.AGAIN: "tried again",
    Fate.WAIT: "wait",
    Fate.PAUSE: "run pauses",
    Fate.COMMAND: "command ends",
}

PAGES = {
    "states.md": states_page,
    "reference/exit-codes.md": exit_codes_page,
    "reference/api.md": api_page,
    "reference/betas.md": betas_page,
    "reference/errors.md": errors_page,
}


def main(arguments: list[str]) -> int:
    stale = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    for name in stale:
        sys.stderr.write(f"docs/{name} is not what the code says now: run `make docs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
