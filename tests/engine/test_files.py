"""Files that rows bring along: once at the service for each content, found by the next process, healed when they
have gone; live and in batches."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from runner.api.files import FileInfo, Files, Uploaded
from runner.api.forms import FormFile
from runner.domain.attachment import Attachment
from runner.domain.outcome import Origin
from runner.domain.states import PauseReason
from runner.engine.file_desk import MOST_AT_ONCE, CallsWithFiles, FileDesk
from runner.simulator.faults import Fault
from runner.store.files import KeptFile
from runner.store.store import Store
from tests.engine.batch_house import Office, batch_job, office
from tests.engine.house import House

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks")]

DAY_S = 86_400


def pdfs(folder: Path, count: int, size: int = 70_000) -> None:
    """Files that differ, each too large to go inside a request."""
    (folder / "scans").mkdir(exist_ok=True)
    for number in range(count):
        head = b"%%PDF-1.7 page %d " % number
        (folder / "scans" / f"{number}.pdf").write_bytes(head + b"x" * (size - len(head)))


def asking(folder: Path, name: str = "{{ pdf }}", kind: str = "document", **source: Any) -> dict[str, Any]:
    """A job whose rows name a file each."""
    file = {"$file": f"{folder}/scans/{name}", **source}
    content = [{"type": kind, "source": file}, {"type": "text", "text": "row {{ n }}"}]
    return {"request": {"max_tokens": 100, "messages": [{"role": "user", "content": content}]}}


def rows(count: int, files: int, suffix: str = ".pdf") -> list[bytes]:
    return [json.dumps({"n": n, "pdf": f"{n % files}{suffix}"}).encode() for n in range(count)]


def desk_of(api: Office) -> FileDesk:
    """As a process of its own has it."""
    return FileDesk(Files(api.client), api.house.store, api.house.clock, "key-1")


async def work(api: Office, run: Any, desk: FileDesk | None = None) -> Any:
    desk = desk or desk_of(api)
    batches = api.batching(files=desk)
    return await api.house.work(run, CallsWithFiles(api, desk), batches=batches)


def sent_ids(api: Office) -> Iterator[str]:
    for body in api.live:
        for block in json.loads(body)["messages"][0]["content"]:
            if "source" in block:
                yield block["source"]["file_id"]


@pytest.mark.parametrize("mode", ["live", "batch"])
async def test_500_files_of_2000_rows_are_uploaded_500_times(house: House, mode: str) -> None:
    pdfs(house.folder, 500, size=66_000)
    job = batch_job() if mode == "batch" else {}
    run = house.new_run(rows(2_000, 500), **asking(house.folder), **job)
    async with office(house) as api:
        end = await work(api, run)
        assert end.pause is None
        assert api.simulator.files.uploads == 500
        assert house.statuses(run) == {"succeeded": 2_000}


async def test_another_run_in_another_process_uploads_nothing(house: House) -> None:
    pdfs(house.folder, 5)
    async with office(house) as api:
        for _ in range(2):
            run = house.new_run(rows(10, 5), **asking(house.folder))
            await work(api, run)
        assert api.simulator.files.uploads == 5
        assert len(set(sent_ids(api))) == 5


async def test_the_same_content_under_two_names_is_one_file(house: House) -> None:
    pdfs(house.folder, 1)
    (house.folder / "scans" / "1.pdf").write_bytes((house.folder / "scans" / "0.pdf").read_bytes())
    async with office(house) as api:
        await work(api, house.new_run(rows(4, 2), **asking(house.folder)))
        assert api.simulator.files.uploads == 1


async def test_a_file_that_changed_is_uploaded_anew(house: House) -> None:
    pdfs(house.folder, 1)
    async with office(house) as api:
        await work(api, house.new_run(rows(1, 1), **asking(house.folder)))
        (house.folder / "scans" / "0.pdf").write_bytes(b"%PDF-1.7 another" + b"y" * 70_000)
        await work(api, house.new_run(rows(1, 1), **asking(house.folder)))
        assert api.simulator.files.uploads == 2


@pytest.mark.parametrize(("files", "count"), [(60, 120), pytest.param(500, 2_000, marks=pytest.mark.exhaustive)])
async def test_after_a_death_in_the_middle_at_most_those_in_flight_go_again(
    house: House, files: int, count: int
) -> None:
    pdfs(house.folder, files)
    run = house.new_run(rows(count, files), **asking(house.folder))
    async with office(house) as api:
        death = anyio.CancelScope()

        async def dies(request: httpx.Request) -> None:
            if (
                request.url.path == "/v1/files"
                and request.method == "POST"
                and api.simulator.files.uploads == files // 2
            ):
                death.cancel()

        api.wire.before = dies
        with death:
            await work(api, run)
        assert death.cancelled_caught
        api.wire.before = nothing
        end = await work(api, run)
        assert end.pause is None
        assert house.statuses(run) == {"succeeded": count}
        assert files <= api.simulator.files.uploads <= files + MOST_AT_ONCE


async def test_with_a_slow_store_no_more_files_are_at_the_service_without_their_ids_kept(house: House) -> None:
    class SlowStore(Store):
        """One write after the other, each a moment long, as disks have it."""

        def keep_file(self, kept: KeptFile) -> None:
            with one_at_a_time:
                time.sleep(0.002)
                super().keep_file(kept)
                service.kept += 1

    one_at_a_time, service = threading.Lock(), QuickService()
    desk = FileDesk(service, SlowStore(house.store.database), house.clock, "key-1")
    pdfs(house.folder, 60, size=100)
    async with anyio.create_task_group() as needing:
        for path in sorted((house.folder / "scans").iterdir()):
            one = Attachment(path=str(path), size=100, changed_ns=0, media_type="application/pdf")
            needing.start_soon(desk.file_id, one)
    assert service.kept == service.uploads == 60
    assert service.most_unkept <= MOST_AT_ONCE


@dataclass
class QuickService:
    """Answers at once, and counts what it has whose id is not stored."""

    uploads: int = 0
    kept: int = 0
    most_unkept: int = 0

    async def upload(self, file: FormFile, *, expires_s: int | None = None) -> Uploaded:
        self.uploads += 1
        self.most_unkept = max(self.most_unkept, self.uploads - self.kept)
        info = FileInfo(
            id=f"file_{self.uploads}",
            filename=file.filename,
            mime_type=file.content_type,
            size_bytes=file.size,
            created_at="2026-11-22T00:00:00Z",
            downloadable=False,
            expires_at=None,
        )
        return Uploaded(file=info, origin=Origin(workspace="ws"))

    async def whose(self) -> Origin:
        return Origin(workspace="ws")

    async def delete(self, file_id: str) -> None:
        raise NotImplementedError


async def nothing(_request: httpx.Request) -> None:
    """Nobody dies any more."""


@pytest.mark.parametrize("mode", ["live", "batch"])
@pytest.mark.parametrize("same_process", [True, False])
async def test_a_file_that_has_gone_heals_itself(house: House, mode: str, same_process: bool) -> None:
    pdfs(house.folder, 2)
    job = batch_job() if mode == "batch" else {}
    async with office(house) as api:
        desk = desk_of(api)
        await work(api, house.new_run(rows(2, 2), **asking(house.folder)), desk)
        api.simulator.files.files.clear()
        run = house.new_run(rows(2, 2), **asking(house.folder), **job)
        end = await work(api, run, desk if same_process else None)
        assert end.pause is None
        assert house.statuses(run) == {"succeeded": 2}
        assert api.simulator.files.uploads == 4


async def test_a_file_that_expires_too_soon_is_uploaded_before_it_does(house: House) -> None:
    pdfs(house.folder, 1)
    async with office(house) as api:
        await work(api, house.new_run(rows(1, 1), **asking(house.folder, expires="2d")))
        await house.clock.advance(1.2 * DAY_S)
        await work(api, house.new_run(rows(1, 1), **asking(house.folder, expires="2d")))
        assert api.simulator.files.uploads == 1
        run = house.new_run(rows(1, 1), **asking(house.folder, expires="2d"), **batch_job())
        await work(api, run)
        assert api.simulator.files.uploads == 2
        assert house.statuses(run) == {"succeeded": 1}


@pytest.mark.parametrize(("files", "count"), [(40, 120), pytest.param(500, 2_000, marks=pytest.mark.exhaustive)])
async def test_files_that_expire_in_mid_run_heal_themselves(house: House, files: int, count: int) -> None:
    pdfs(house.folder, files)
    run = house.new_run(rows(count, files), **asking(house.folder, expires="1h"))
    async with office(house) as api:

        async def expire(_request: httpx.Request) -> None:
            if len(api.live) == count // 2:
                api.wire.before = nothing
                for file in list(api.simulator.files.files.values()):
                    api.simulator.files.files[file.id] = replace(file, expires_us=0)

        api.wire.before = expire
        end = await work(api, run)
        assert end.pause is None
        assert house.statuses(run) == {"succeeded": count}
        assert api.wire.before is nothing, "nothing has expired"
        assert files < api.simulator.files.uploads <= 2 * files


async def test_small_files_go_inside_and_images_too(house: House) -> None:
    pdfs(house.folder, 1, size=1_000)
    (house.folder / "scans" / "0.png").write_bytes(b"\x89PNG" + b"x" * 100)
    async with office(house) as api:
        await work(api, house.new_run(rows(1, 1), **asking(house.folder)))
        await work(api, house.new_run(rows(1, 1, ".png"), **asking(house.folder, kind="image")))
        assert api.simulator.files.uploads == 0
        sources = [json.loads(body)["messages"][0]["content"][0]["source"] for body in api.live]
        assert [source["media_type"] for source in sources] == ["application/pdf", "image/png"]


async def test_upload_always_and_never_are_heeded(house: House) -> None:
    pdfs(house.folder, 1, size=1_000)
    async with office(house) as api:
        await work(api, house.new_run(rows(1, 1), **asking(house.folder, upload="always")))
        assert api.simulator.files.uploads == 1
        pdfs(house.folder, 1, size=100_000)
        await work(api, house.new_run(rows(1, 1), **asking(house.folder, upload="never")))
        assert api.simulator.files.uploads == 1


async def test_a_container_gets_its_file(house: House) -> None:
    pdfs(house.folder, 1, size=500)
    job = asking(house.folder, kind="container_upload")
    job["request"]["tools"] = [{"type": "code_execution_20260521", "name": "code_execution"}]
    async with office(house) as api:
        run = house.new_run(rows(1, 1), **job)
        await work(api, run)
        [block, _] = json.loads(api.live[0])["messages"][0]["content"]
        assert block["type"] == "container_upload"
        assert block["file_id"] in api.simulator.files.files
        assert house.statuses(run) == {"succeeded": 1}


async def test_an_upload_that_fails_for_a_while_is_tried_again(house: House) -> None:
    pdfs(house.folder, 3)
    fault = Fault(kind="overloaded", path="/v1/files", method="POST", first=4)
    async with office(house, faults=(fault,)) as api:
        run = house.new_run(rows(3, 3), **asking(house.folder))
        await work(api, run)
        assert house.statuses(run) == {"succeeded": 3}
        assert api.simulator.files.uploads == 3


@pytest.mark.parametrize("mode", ["live", "batch"])
async def test_a_full_store_of_files_pauses_the_run(house: House, mode: str) -> None:
    pdfs(house.folder, 2)
    job = batch_job() if mode == "batch" else {}
    async with office(house, files_quota_bytes=1_000) as api:
        run = house.new_run(rows(2, 2), **asking(house.folder), **job)
        end = await work(api, run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.BILLING
        assert "storage_quota_exceeded" in end.pause.message
        assert house.rows(run) == []


async def test_a_file_that_the_service_refuses_fails_its_rows_alone(house: House) -> None:
    pdfs(house.folder, 2)
    fault = Fault(kind="error", status=400, error_type="invalid_request_error", path="/v1/files", method="POST",
                  body_contains="page 1 ")  # fmt: skip
    async with office(house, faults=(fault,)) as api:
        run = house.new_run(rows(4, 2), **asking(house.folder))
        await work(api, run)
        assert house.statuses(run) == {"succeeded": 2, "errored": 2}
