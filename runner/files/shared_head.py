"""What all requests of a job begin with, whatever the row: the part that a prompt cache could keep.

Tools, system and messages are walked in the order in which the API keeps them, up to the first block that depends on
the row. Parameters of the job are the same for all rows, and so are templates that use nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from runner.domain.job import Job, PromptCache
from runner.domain.marking import Head, has_mark, may_carry
from runner.domain.prefix import BYTES_PER_TOKEN
from runner.files.bad_row import BadRow
from runner.files.request_tree import ROW, compiled_tree
from runner.files.row_files import FILE
from runner.files.sandbox import TemplateEnvironment
from runner.files.template import MARKS, RowTemplate, is_template

_encode = msgspec.json.Encoder().encode


def shared_head(job: Job, environment: TemplateEnvironment) -> Head | None:
    """The longest one at whose end a mark may stand; None where nothing is shared, where the job has placed marks of
    its own, or where it wants none."""
    system = job.request.get("system") if job.system is None else job.system
    messages = job.request.get("messages") if job.prompt is None else [{"role": "user", "content": job.prompt}]
    if job.prompt_cache is PromptCache.NEVER or has_mark(job.request):
        return None
    names = {"params": dict(job.params), "job": {"name": job.name, "model": job.model, "tags": dict(job.tags)}}
    found, size = None, 0
    for section, turn, at, block in _blocks(job.request.get("tools"), system, messages):
        try:
            built = block if section == "tools" else _built(environment, block, names)
        except BadRow:
            break  # of every row it will be said what is wrong
        size += len(_encode(built))
        if may_carry({"type": "text", "text": built} if isinstance(built, str) else built):
            found = Head(section=section, turn=turn, at=at, bytes=size, tokens=size // BYTES_PER_TOKEN)
    return found


def lead_tokens(job: Job) -> int:
    """What all requests begin with inside the text of the prompt, which is one block and cannot be marked in its
    middle; estimated, 0 where the prompt begins with the row's words or is the same for all."""
    if job.prompt is None or has_mark(job.request) or job.prompt_cache is PromptCache.NEVER:
        return 0
    found = [at for mark in MARKS if (at := job.prompt.find(mark)) >= 0]
    return len(job.prompt[: min(found)].encode()) // BYTES_PER_TOKEN if found else 0


def _blocks(tools: Any, system: Any, messages: Any) -> Iterator[tuple[str, int, int, Any]]:
    """Every block as it stands in the job: its section, its turn, its place in there. A text is one block."""
    for at, tool in enumerate(_listed(tools)):
        yield "tools", 0, at, tool
    for at, block in enumerate(_listed(system)):
        yield "system", 0, at, block
    for turn, message in enumerate(_listed(messages)):
        if not isinstance(message, Mapping) or is_template(str(message.get("role"))):
            yield "messages", turn, 0, {ROW: ""}  # whatever it is, the row decides
            return
        for at, block in enumerate(_listed(message.get("content"))):
            yield "messages", turn, at, block


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def _built(environment: TemplateEnvironment, block: Any, names: Mapping[str, Any]) -> Any:
    """A block that is the same for all rows. Raises BadRow for one that is not, or that cannot be made."""
    if _varies(environment, block):
        raise BadRow("depends on the row")
    return compiled_tree(environment, block, "a block").build({}, dict(names))


def _varies(environment: TemplateEnvironment, value: Any) -> bool:
    """Whether a part of the job depends on the row, or may."""
    if isinstance(value, str):
        return is_template(value) and not RowTemplate(environment, value, "").same_for_all
    if isinstance(value, Mapping):
        return ROW in value or FILE in value or any(_varies(environment, part) for part in value.values())
    return isinstance(value, list | tuple) and any(_varies(environment, part) for part in value)
