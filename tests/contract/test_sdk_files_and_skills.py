"""The official client drives the simulated Files and Skills APIs, and its own types read every answer."""

from __future__ import annotations

import io
import zipfile
from datetime import timedelta

import anthropic
import pytest

from tests.contract.conftest import Connect

pytestmark = pytest.mark.anyio

PDF = b"%PDF-1.7 a page"
MATTER = b"---\nname: letters\ndescription: Writes letters.\n---\nWrite them."
FOLDER = [("letters/SKILL.md", MATTER, "text/markdown"), ("letters/a.txt", b"a", "text/plain")]
OLD_FILES, OLD_SKILLS = ["files-api-2025-04-14"], ["skills-2025-10-02"]


async def test_a_file_lives_from_upload_to_deletion(connect: Connect) -> None:
    server, sdk = await connect()
    file = await sdk.files.upload(file=("a.pdf", PDF, "application/pdf"), expires_in_seconds=3_600)
    assert (file.filename, file.mime_type, file.size_bytes, file.downloadable) == (
        "a.pdf",
        "application/pdf",
        15,
        False,
    )
    assert file.expires_at is not None
    assert file.expires_at - file.created_at == timedelta(hours=1)
    assert (await sdk.files.retrieve_metadata(file.id)).id == file.id
    with pytest.raises(anthropic.BadRequestError) as refused:
        await sdk.files.download(file.id)
    assert refused.value.error_code == "file_not_downloadable"
    assert (await sdk.files.delete(file.id)).type == "file_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await sdk.files.retrieve_metadata(file.id)
    assert server.simulator.files.uploads == 1


async def test_files_are_paged_newest_first(connect: Connect) -> None:
    _, sdk = await connect()
    made = [await sdk.files.upload(file=(f"{n}.txt", b"x", "text/plain")) for n in range(5)]
    assert [file.id async for file in sdk.files.list(limit=2)] == [file.id for file in reversed(made)]
    chosen = await sdk.files.list(ids=[made[1].id, "file_unknown"])
    assert [file.id for file in chosen.data] == [made[1].id]


async def test_the_old_beta_has_its_old_shape(connect: Connect) -> None:
    _, sdk = await connect()
    await sdk.beta.files.upload(file=("a.txt", b"x", "text/plain"), betas=OLD_FILES)
    raw = await sdk.get("/v1/files", cast_to=dict[str, object], options={"headers": {"anthropic-beta": OLD_FILES[0]}})
    assert raw.keys() == {"data", "has_more", "first_id", "last_id"}


async def test_what_code_execution_wrote_can_be_downloaded(connect: Connect) -> None:
    server, sdk = await connect()
    file = server.simulator.files.written(server.simulator.config.workspace_id, "out.csv", b"a,b\n")
    assert await (await sdk.files.download(file.id)).read() == b"a,b\n"


@pytest.mark.parametrize(
    ("kind", "block", "allowed"),
    [
        ("application/pdf", "document", True),
        ("application/pdf", "image", False),
        ("image/png", "image", True),
        ("image/png", "document", False),
        ("application/zip", "container_upload", True),
    ],
)
async def test_a_file_is_used_in_blocks_of_its_kind(connect: Connect, kind: str, block: str, allowed: bool) -> None:
    _, sdk = await connect()
    file = await sdk.files.upload(file=("a", b"x", kind))
    told = {"file_id": file.id} if block == "container_upload" else {"source": {"type": "file", "file_id": file.id}}
    asked = sdk.messages.create(
        model="claude-haiku-5-5",
        max_tokens=200,
        messages=[{"role": "user", "content": [{"type": block, **told}]}],  # type: ignore[list-item]
    )
    if allowed:
        assert (await asked).stop_reason == "end_turn"
    else:
        with pytest.raises(anthropic.BadRequestError, match="cannot be used"):
            await asked


@pytest.mark.parametrize("name", ["a:b.pdf", "x" * 256])
async def test_a_bad_name_is_refused(connect: Connect, name: str) -> None:
    _, sdk = await connect()
    with pytest.raises(anthropic.BadRequestError):
        await sdk.files.upload(file=(name, b"x", "text/plain"))


async def test_a_full_store_is_told_by_its_code(connect: Connect) -> None:
    _, sdk = await connect(files_quota_bytes=10)
    with pytest.raises(anthropic.BadRequestError) as refused:
        await sdk.files.upload(file=("a.pdf", PDF, "application/pdf"))
    assert refused.value.error_code == "storage_quota_exceeded"


async def test_a_skill_lives_from_creation_to_deletion(connect: Connect) -> None:
    _, sdk = await connect()
    skill = await sdk.skills.create(files=FOLDER, display_name="Letters")
    assert (skill.display_name, skill.source.type) == ("Letters", "custom")
    version = await sdk.skills.versions.create(skill.id, files=FOLDER)
    assert (version.name, version.description) == ("letters", "Writes letters.")
    assert (await sdk.skills.retrieve(skill.id)).latest_version_id == version.id
    found = [one.id async for one in sdk.skills.versions.list(skill.id)]
    assert found == [version.id, skill.latest_version_id]
    deleted = await sdk.skills.versions.delete(version.id, skill_id=skill.id)
    assert deleted.type == "skill_version_deleted"
    assert (await sdk.skills.delete(skill.id)).type == "skill_deleted"
    listed = [one.id async for one in sdk.skills.list()]
    assert set(listed) == {"pptx", "xlsx", "docx", "pdf"}
    assert [one.id async for one in sdk.skills.list(source="custom")] == []


async def test_a_skill_may_come_as_a_zip(connect: Connect) -> None:
    _, sdk = await connect()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("letters/SKILL.md", MATTER)
    skill = await sdk.skills.create(files=[("letters.zip", packed.getvalue(), "application/zip")])
    assert skill.display_name == "letters"


@pytest.mark.parametrize(
    "matter", [b"none", b"---\nname: Claude-x\ndescription: d\n---", b"---\nname: a\n---", b"---\nname: A b\n---"]
)
async def test_bad_front_matter_is_refused(connect: Connect, matter: bytes) -> None:
    _, sdk = await connect()
    with pytest.raises(anthropic.BadRequestError):
        await sdk.skills.create(files=[("a/SKILL.md", matter, "text/markdown")])


async def test_skills_of_the_old_beta_have_their_old_names(connect: Connect) -> None:
    _, sdk = await connect()
    await sdk.skills.create(files=FOLDER)
    headers = {"anthropic-beta": OLD_SKILLS[0]}
    told = await sdk.get("/v1/skills?source=custom", cast_to=dict[str, object], options={"headers": headers})
    [skill] = told["data"]  # type: ignore[misc]
    assert {"display_title", "latest_version"} <= skill.keys()
