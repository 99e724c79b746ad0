"""The template language: Jinja2 in its sandbox, with a bound on everything that could grow.

A template is code of the person who runs the job; a row is data and is never rendered again. The sandbox keeps a
template away from Python; the bounds keep a slip of the pen from eating the machine. None becomes nothing and
lists, maps and booleans become JSON, because that is what stands in the row.
"""

from __future__ import annotations

import hashlib
import json
import textwrap
import threading
from collections.abc import Callable, Iterable
from html import escape
from typing import Any, cast

from jinja2 import StrictUndefined, Template, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

# What a request may have; anything larger could not be sent.
MAX_RENDERED_CHARS = 32_000_000
# Turns of all range() loops of one rendering together, so that nested loops end too.
MAX_RANGE = 1_000_000
MAX_INTEGER_BITS = 4_096
# What a token stands for, about, in English text; other scripts have fewer.
BYTES_PER_TOKEN = 4
LONGEST_WORD = 40

# Methods whose result can be far larger than what they are given, and which no prompt needs.
GROWING_METHODS = frozenset({"ljust", "rjust", "center", "zfill", "expandtabs", "format", "format_map", "translate"})
# Filters that grow without bound, or that would make a row's prompt differ from one try to the next.
REMOVED_FILTERS = ("center", "indent", "wordwrap", "batch", "slice", "xmlattr", "random", "urlize", "pprint")
REMOVED_GLOBALS = ("lipsum", "cycler", "joiner")


class TooLarge(Exception):
    """A template makes more than can be sent."""

    def __init__(self) -> None:
        super().__init__(f"the template makes more than {MAX_RENDERED_CHARS // 1_000_000} MB of text")


class _BoundedCode(CodeGenerator):
    """`~` goes through the environment, as the other operators do."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - jinja2's name
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Where all templates of a job are compiled."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = _BoundedCode

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=as_text, cache_size=0
        )
        for name in REMOVED_FILTERS:
            del self.filters[name]
        for name in REMOVED_GLOBALS:
            del self.globals[name]
        self.filters |= {
            "format": _format,
            "replace": _replace,
            "join": _bounded_join(self.filters["join"]),
            "tojson": _to_json,
            "truncate_tokens": _truncate_tokens,
            "xml_escape": _xml_escape,
            "dedent": textwrap.dedent,
            "sha256": _sha256,
        }
        self.globals["range"] = self._range
        self._turns = threading.local()

    def begin(self) -> None:
        """A new rendering, with all of its allowance."""
        self._turns.left = MAX_RANGE

    def _range(self, *bounds: int) -> range:
        numbers = range(*bounds)
        try:
            self._turns.left -= len(numbers)
        except OverflowError:
            raise TooLarge from None
        if self._turns.left < 0:
            raise TooLarge
        return numbers

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            _bound_power(left, right)
        elif operator == "*":
            _bound_product(left, right)
        elif operator == "+":
            _bound(_size(left) + _size(right))
        elif isinstance(left, (str, bytes)):
            raise SecurityError("text % values is not available in templates: use ~ to join texts")
        return super().call_binop(context, operator, left, right)

    def concatenated(self, parts: Iterable[Any]) -> str:
        texts = [str(as_text(part)) for part in parts]
        _bound(sum(map(len, texts)))
        return "".join(texts)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in GROWING_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` pads to any width; without the wrapper it is an unsafe attribute like the others."""
        del value
        return None

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja2's names
        text = getattr(__obj, "__self__", None)
        if isinstance(text, str):
            _bound_method(text, __obj.__name__, args)
        return super().call(__context, __obj, *args, **kwargs)


def rendered(template: Template, names: dict[str, Any]) -> str:
    """The text of a template. Raises TooLarge before it has grown larger than a request can be."""
    cast("TemplateEnvironment", template.environment).begin()
    pieces: list[str] = []
    size = 0
    for piece in template.root_render_func(template.new_context(names)):
        size += len(piece)
        if size > MAX_RENDERED_CHARS:
            raise TooLarge
        pieces.append(piece)
    return "".join(pieces)


def as_text(value: Any) -> Any:
    """A value as it is printed: text as it is, None as nothing, structures as JSON."""
    if value is None:
        return ""
    if isinstance(value, (bool, list, dict)):
        return _to_json(value)
    return value


def _to_json(value: Any, indent: int | None = None) -> str:
    if isinstance(value, Undefined):
        str(value)  # raises, naming the column
    return json.dumps(value, ensure_ascii=False, indent=None if indent is None else min(indent, 8))


def _truncate_tokens(value: Any, tokens: int) -> str:
    """The beginning of a text, about so many tokens of it, cut between words where there is one near."""
    text = str(as_text(value))
    room = max(0, tokens) * BYTES_PER_TOKEN
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= room:
        return text
    cut = data[:room].decode("utf-8", "ignore")
    blank = cut.rfind(" ", max(0, len(cut) - LONGEST_WORD))
    return cut[:blank] if blank > 0 else cut


def _xml_escape(value: Any) -> str:
    return escape(str(as_text(value)))


def _sha256(text: str) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes, list, tuple)) else 0


def _bound(size: int) -> None:
    if size > MAX_RENDERED_CHARS:
        raise TooLarge


def _bound_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MAX_INTEGER_BITS:
        raise TooLarge


def _bound_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MAX_INTEGER_BITS:
            raise TooLarge
    elif isinstance(right, int):
        _bound(_size(left) * right)
    elif isinstance(left, int):
        _bound(_size(right) * left)


def _bound_method(text: str, method: str, args: tuple[Any, ...]) -> None:
    if method == "replace" and len(args) >= 2:
        _bound(_replaced_size(text, str(args[0]), str(args[1])))
    elif method == "join" and args and isinstance(args[0], (list, tuple)):
        _bound(len(args[0]) * len(text) + sum(_size(part) for part in args[0]))


def _replaced_size(text: str, old: str, new: str) -> int:
    return len(text) + text.count(old) * max(0, len(new) - len(old))


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    whole = str(as_text(text))
    _bound(_replaced_size(whole, str(old), str(new)))
    return whole.replace(str(old), str(new), count)


def _bounded_join(join: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(eval_ctx: Any, value: Any, d: str = "", attribute: str | int | None = None) -> Any:
        parts = list(value)
        _bound(len(parts) * len(d) + sum(_size(part) for part in parts))
        return join(eval_ctx, parts, d, attribute)

    bounded.jinja_pass_arg = join.jinja_pass_arg  # type: ignore[attr-defined]
    return bounded


def _format(*_: Any, **__: Any) -> str:
    raise SecurityError("the format filter is not available in templates: use ~ to join texts")
