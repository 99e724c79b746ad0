"""Portions in which results are stored: no row left out, none twice, and none of them too large."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from runner.engine.batch import lines
from runner.engine.batch.lines import BYTES_A_COMMIT, ROWS_A_COMMIT, parts
from runner.engine.batch.sorting import Sorted
from runner.store.submissions import Riding

LENGTHS = st.sampled_from([0, 1_500, BYTES_A_COMMIT // 3, BYTES_A_COMMIT * 2])


@st.composite
def ridings(draw: st.DrawFn) -> tuple[list[Riding], Sorted]:
    """Chunks of which some rows ride, and where their lines lie."""
    chunks: list[Riding] = []
    for seq, n in enumerate(draw(st.lists(st.sampled_from([1, 3, 400, 1_200]), min_size=1, max_size=6))):
        first = chunks[-1].first_idx + chunks[-1].n if chunks else 0
        step = draw(st.integers(1, 3))
        chunks.append(Riding(seq=seq, first_idx=first, n=n, idxs=tuple(range(first, first + n, step))))
    count = sum(len(chunk.idxs) for chunk in chunks)
    some = draw(st.lists(LENGTHS, min_size=1, max_size=7))
    lengths = array("q", (some * count)[:count])
    return chunks, Sorted(idxs=range(count), offsets=lengths, lengths=lengths)


@given(ridings())
def test_every_row_is_in_one_part_in_its_place_and_no_part_is_too_large(given: tuple[list[Riding], Sorted]) -> None:
    riding, found = given
    told = list(parts(riding, found))
    assert [idx for part in told for one in part.riding for idx in one.idxs] == [
        i for one in riding for i in one.idxs
    ]
    slot = 0
    for part in told:
        assert part.slot == slot
        rows = sum(len(one.idxs) for one in part.riding)
        assert 0 < rows <= ROWS_A_COMMIT
        assert all(one.idxs for one in part.riding)
        assert rows == 1 or sum(found.lengths[slot : slot + rows]) <= lines.BYTES_A_COMMIT
        slot += rows
    assert slot == len(found.lengths)
