"""What is promised of a run, read from where everybody could: output file, tables, the bill of the simulator.

The same for rows asked live and for rows that rode in batches; what is said of batches alone holds of any run.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import msgspec
from sqlalchemy import text

from runner.domain.pricing import shipped_prices
from runner.domain.run import Run
from runner.domain.spending import total
from runner.domain.states import RIDING_BATCH, BatchState
from runner.domain.submission import parse_custom_id
from runner.engine.turns import continued, joined
from runner.files.render import Renderer
from runner.simulator import SimulatorConfig, expected_message
from runner.store import ledger
from runner.store.store import Store
from runner.store.submissions import Submission
from tests.faults.harness import Case, Row


@dataclass(frozen=True, kw_only=True)
class ExpectedCall:
    body: bytes
    message: dict[str, Any]

    @property
    def encoded(self) -> bytes:
        return msgspec.json.encode(self.message)


def expected_calls(renderer: Renderer, config: SimulatorConfig, told: Row, *, batch: bool) -> list[ExpectedCall]:
    """The calls that a row takes when nothing goes wrong, a turn each; none when it cannot succeed.

    With `batch` the first of them rides in one; paused turns go on live.
    """
    if told.status == "errored":
        return []
    row = renderer.parse(told.line)
    calls: list[ExpectedCall] = []
    while not calls or calls[-1].message["stop_reason"] == "pause_turn":
        rides = batch and not calls
        request = renderer.request(row, batch=rides)
        body = continued(request, [call.encoded for call in calls]).body
        calls.append(ExpectedCall(body=body, message=expected_message(config, body, batch=rides)))
    return calls


class Entry(Protocol):
    """A line of the command's own books."""

    key: str
    idx: int | None
    kind: str
    cost_pico: int | None
    bound_pico: int | None
    request_id: str | None
    batch: str | None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a test may want to look at beside the promises. `accepted` are live calls that were executed, `batches`
    those that were made for the run, duplicates included."""

    accepted: int
    undisturbed: int
    unknown: int
    batches: int
    lines: list[dict[str, Any]] = field(repr=False)


def check_promises(case: Case, *, lost_calls: int | None = None, more_calls: int = 0, duplicates: int = 0) -> Checked:
    """Everything that holds when the last command has ended, however those before it did.

    `lost_calls` is how many live calls may have been lost on the way (each kill can lose as many as there are
    slots); `more_calls` are those that faults of the service made the command repeat; `duplicates` are batches that
    the protocol could not prevent.
    """
    lost_calls = case.kills * case.slots if lost_calls is None else lost_calls
    case.compare_final_rows()
    with case.store() as store:
        (run,) = store.recent_runs(10)
        renderer = Renderer(run.job)
        renderer.keep_heads(shipped_prices(), len(case.rows))  # live calls are marked as the run marks them
        config, batch = case.simulator.config, case.batch is not None
        calls = [expected_calls(renderer, config, told, batch=batch) for told in case.rows]
        lines = check_output(case, calls)
        _check_answers(store, run, calls)
        _check_tables(case, store, run)
        unknown = _check_books(case, store, run, calls)
        batches = _check_batches(case, store, run, duplicates)
    undisturbed = sum(len(turns) - bool(turns and batch) for turns in calls) + more_calls
    accepted = case.simulator.accepted
    assert undisturbed <= accepted <= undisturbed + lost_calls, (undisturbed, accepted, lost_calls)
    assert unknown <= 2 * (lost_calls + more_calls), (unknown, lost_calls)
    return Checked(accepted=accepted, undisturbed=undisturbed, unknown=unknown, batches=batches, lines=lines)


def check_output(case: Case, calls: Sequence[Sequence[ExpectedCall]]) -> list[dict[str, Any]]:
    """Every row once, in order, with its own bytes, its status, and the answer that the server gives for its body."""
    lines = [json.loads(line) for line in case.output.read_bytes().splitlines()]
    assert [line["index"] for line in lines] == list(range(len(case.rows)))
    for line, told, turns in zip(lines, case.rows, calls, strict=True):
        assert line["row"] == json.loads(told.line)
        assert line["status"] == told.status, line
        if turns:
            assert line["text"] == "".join(_text(turn.message) for turn in turns)
    return lines


def _text(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def _check_answers(store: Store, run: Run, calls: Sequence[Sequence[ExpectedCall]]) -> None:
    """What is stored is what the server said, byte for byte; a streamed answer is put together to the same value,
    and what the prompt cache had of a call stands in its usage alone."""
    for exported in store.exported(run):
        turns = calls[exported.result.idx]
        if not turns:
            assert exported.message is None
            continue
        expected = joined([turn.encoded for turn in turns[:-1]], turns[-1].encoded)
        if b'"stream":true' in turns[-1].body or b'"cache_control"' in turns[-1].body:
            assert json.loads(exported.message or b"")["content"] == json.loads(expected)["content"]
        else:
            assert exported.message == expected


def _check_tables(case: Case, store: Store, run: Run) -> None:
    failed = sum(told.status != "succeeded" for told in case.rows)
    assert run.state == ("done_with_failures" if failed else "done")
    tally = store.tally(run.id)
    assert (tally.staged, tally.done, tally.failed) == (len(case.rows), len(case.rows) - failed, failed)
    assert store.unfinished_chunks(run.id) == 0
    assert _scalar(store, "SELECT count(*) FROM sends") == 0
    assert _scalar(store, "SELECT count(*) FROM chunks WHERE riding <> 0 OR state <> 'done'") == 0


def _scalar(store: Store, question: str) -> Any:
    return store.database.read(lambda c: c.execute(text(question)).scalar())


# -- the books ----------------------------------------------------------------------------------------------------


def _check_books(case: Case, store: Store, run: Run, calls: Sequence[Sequence[ExpectedCall]]) -> int:
    """Every charge on the bill is in the books, exactly or as an unknown call of its row; how many of those."""
    row_of = {hashlib.sha256(call.body).hexdigest(): idx for idx, turns in enumerate(calls) for call in turns}
    charges: dict[int | None, list[dict[str, Any]]] = defaultdict(list)
    for charge in case.simulator.bill():
        charges[row_of[charge["body_sha256"]]].append(charge)
    entries: dict[int | None, list[Entry]] = defaultdict(list)
    for entry in store.database.read(lambda c: list(ledger.lines_of(c, run.id))):
        entries[entry.idx].append(entry)
    unknown = bounds = 0
    known = matched = guessed = Fraction()
    for idx in {*charges, *entries}:
        left = {_name_of_charge(charge): Fraction(charge["pico"]) for charge in charges[idx]}
        withdrawn = {entry.corrects for entry in entries[idx]}
        for entry in entries[idx]:
            if entry.cost_pico is not None and entry.corrects is None:
                name = _name_of_entry(entry)
                assert name in left, f"row {idx}: {entry} is on no bill"
                matched += left[name]
                assert left.pop(name) == entry.cost_pico
                known += entry.cost_pico
        guesses = [entry for entry in entries[idx] if entry.cost_pico is None and entry.id not in withdrawn]
        assert {entry.kind for entry in guesses} <= {"unknown"}
        assert None not in {entry.bound_pico for entry in guesses}
        _match_unknown(idx, sorted(left.values()), sorted(entry.bound_pico or 0 for entry in guesses))
        guessed += sum(left.values(), Fraction())
        unknown += len(guesses)
        bounds += sum(entry.bound_pico or 0 for entry in guesses)
    assert known == matched
    assert known + guessed == sum((Fraction(charge["pico"]) for charge in case.simulator.bill()), Fraction())
    assert guessed <= bounds
    _check_budget(store, run, known, bounds)
    _check_spending(store, run)
    return unknown


def _name_of_charge(charge: Mapping[str, Any]) -> str:
    """A live call by its request, a line of a batch by its own name and that of the batch."""
    if charge["batch_id"] is None:
        return str(charge["request_id"])
    return f"{charge['custom_id']}@{charge['batch_id']}"


def _name_of_entry(entry: Entry) -> str | None:
    return entry.request_id if entry.batch is None else f"{entry.key.partition('@')[0]}@{entry.batch}"


def _match_unknown(idx: int | None, costs: list[Fraction], bounds: list[int]) -> None:
    """Each charge without an entry of its own needs an unknown one of the same row that is at least as large."""
    assert len(costs) <= len(bounds), f"row {idx}: charges that are in no book: {costs}, unknown: {bounds}"
    largest = bounds[len(bounds) - len(costs) :]
    assert all(cost <= bound for cost, bound in zip(costs, largest, strict=True)), (idx, costs, bounds)


def _check_budget(store: Store, run: Run, known: Fraction, bounds: int) -> None:
    query = text("SELECT spent_pico, committed_pico FROM budgets WHERE scope = :scope")
    budget = store.database.read(lambda c: c.execute(query, {"scope": f"run:{run.id}"}).one())
    assert [budget.spent_pico, budget.committed_pico] == [int(known), bounds]
    money = store.money(run.id)
    assert [money.spent_pico, money.unknown_bound_pico] == [int(known), bounds]


def _check_spending(store: Store, run: Run) -> None:
    """The sums by day, which reports are made of, are those of the ledger."""
    lines = store.database.read(lambda c: list(ledger.lines_of(c, run.id)))
    days = total(store.spending_since(0)).sums
    assert len({line.key for line in lines}) == len(lines)
    corrected = {line.corrects for line in lines}
    calls = [line for line in lines if line.corrects is None and line.id not in corrected]
    assert days.calls == len(calls)
    assert days.cost_pico == sum(line.cost_pico or 0 for line in lines)
    assert days.bound_pico == sum(line.bound_pico or 0 for line in calls if line.cost_pico is None)
    assert days.list_pico == sum(line.list_pico or 0 for line in lines)


# -- batches ------------------------------------------------------------------------------------------------------


def check_posts(case: Case, store: Store) -> None:
    """At any moment: the service has seen each submission at most once, and none that was not written down."""
    (run,) = store.recent_runs(10)
    named = [parse_custom_id(create["first_custom_id"]) for create in case.simulator.creates()]
    posts = Counter(name[0] for name in named if name is not None)
    assert len(named) == posts.total(), "a create whose rows have names that are not ours"
    assert set(posts.values()) <= {1}, f"posted more than once: {posts}"
    assert set(posts) <= {one.id for one in store.submissions_of(run.id)}


def _check_batches(case: Case, store: Store, run: Run, duplicates: int) -> int:
    """Each batch that was made is known, read and paid once; nothing is left of them. How many there were."""
    check_posts(case, store)
    made = {create["batch_id"] for create in case.simulator.creates()} - {None}
    submissions = store.submissions_of(run.id)
    owned = {one.provider_id for one in submissions} - {None}
    extra = {one.provider_id for one in store.duplicates_of(run.id)}
    assert (owned | extra, len(extra)) == (made, duplicates), (made, submissions)
    assert [one for one in submissions if one.state in RIDING_BATCH or one.question] == []
    assert _scalar(store, "SELECT count(*) FROM candidates") == 0
    _check_answered_once(case, extra)
    _check_attempts(store, run, submissions)
    leftovers = [path.name for path in case.spool if ".duplicate-" not in path.name]
    assert leftovers == []
    return len(made)


def _check_answered_once(case: Case, extra: set[str]) -> None:
    """No row succeeded in two batches."""
    lines = Counter(
        (parse_custom_id(charge["custom_id"]) or ("", -1))[1]
        for charge in case.simulator.bill()
        if charge["batch_id"] is not None and charge["batch_id"] not in extra
    )
    assert set(lines.values()) <= {1}, f"rows that succeeded in several batches: {lines}"


def _check_attempts(store: Store, run: Run, submissions: Sequence[Submission]) -> None:
    """A row has had as many attempts as it rode in batches that were read, however often they were begun to be."""
    read = [one for one in submissions if one.state is BatchState.INGESTED]
    rides = Counter((idx, one.round) for one in read for chunk in store.riding(one.id) for idx in chunk.idxs)
    results = [row.result for row in store.exported(run)] if rides else []
    assert [rides[result.idx, result.round] for result in results] == [result.attempts for result in results]
