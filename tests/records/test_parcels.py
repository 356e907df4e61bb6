"""Records and gap counts packed for another process, and what comes out of the parcels there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorix_api.errors import RunFolderError
from tensorix_records import RequestRecord, Run
from tensorix_records.parcels import Gathering, pack, records_in, shifted, unpack_gaps, unpack_records


def _record(number: int) -> RequestRecord:
    return RequestRecord(
        run_id="r",
        record_id=f"w1-{number:07d}",
        request_id=f"req-{number * 7919:032x}",
        endpoint="/chat/completions",
        method="POST",
        start_unix_ns=1_700_000_000_000_000_000 + number,
        outcome="success",
        chunk_gaps_ns=[number, 2 * number],
    )


def test_parcels_hold_what_was_gathered(tmp_path: Path) -> None:
    """What is taken in parcels of a bounded size, and written by another process, is read as it was gathered."""
    gathering = Gathering(2_000)
    records = [_record(number) for number in range(300)]
    for record in records:
        gathering.add(record)
    gathering.add_gaps("m", [1_000_000_000, 1_020_000_000, 2_050_000_000])
    parcels = list(gathering.take())
    assert len(parcels) > 5
    assert all(len(one) + len(other) <= 2_000 for one, other, _ in parcels)
    assert sum(count for _, _, count in parcels) == 300
    run = Run.create(tmp_path / "run", {"run_id": "r"})
    writer = run.writer("w1")
    for data, gaps, _ in parcels:
        writer.append(records=unpack_records(data) if data else None, gaps=unpack_gaps(gaps) if gaps else None)
    writer.close()
    assert list(records_in(run.records())) == records
    assert run.gap_counts()["count"].to_pylist() == [1, 1]
    assert not list(gathering.take())


def test_times_of_another_clock() -> None:
    """Shifted, all Unix times of a batch are later by as much; of gap counts by whole seconds; the rest stays."""
    gathering = Gathering(100_000)
    gathering.add(_record(3))
    gathering.add_gaps(None, [1_000_000_000, 1_020_000_000])
    (data, _, _), (_, gaps, _) = gathering.take()
    before, after = unpack_records(data), shifted(unpack_records(data), -2_600_000_000)
    assert after["start_unix_ns"][0].as_py() == before["start_unix_ns"][0].as_py() - 2_600_000_000
    assert after.drop_columns("start_unix_ns").equals(before.drop_columns("start_unix_ns"))
    assert shifted(unpack_gaps(gaps), 2_600_000_000)["second_unix"].to_pylist() == [4]
    assert shifted(unpack_gaps(gaps), 400_000_000).equals(unpack_gaps(gaps))


@pytest.mark.parametrize("spoil", [lambda data: data[:20], lambda data: b"", lambda data: data[:8] + data[40:]])
def test_a_damaged_parcel(spoil: object) -> None:
    """A parcel that is cut or was changed is refused in words."""
    gathering = Gathering(100_000)
    gathering.add(_record(1))
    ((data, _, _),) = gathering.take()
    with pytest.raises(RunFolderError, match="parcel of records is damaged"):
        unpack_records(spoil(data))  # type: ignore[operator]


def test_a_parcel_that_claims_too_much() -> None:
    """What says that it holds gigabytes is refused before any room is made for it."""
    gathering = Gathering(100_000)
    gathering.add(_record(1))
    ((data, _, _),) = gathering.take()
    with pytest.raises(RunFolderError, match="damaged"):
        unpack_records((1 << 40).to_bytes(8, "little") + data[8:])
    assert unpack_records(pack(unpack_records(data))).num_rows == 1
