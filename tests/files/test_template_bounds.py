"""Templates are code of the person who runs the job; still, none gets out of the sandbox or eats the machine."""

from __future__ import annotations

import pytest

from runner.domain.job import Job
from runner.errors import JobInvalid
from runner.files.bad_row import BadRow
from runner.files.render import Renderer

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ row.__class__ }}",
    "{{ row.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ ('' | attr('__class__')).__mro__ }}",
    "{{ '{0.__class__}'.format(row) }}",
    "{{ '%s' | format(row) }}",
    "{{ [row] | map(attribute='__class__') | join }}",
    "{{ row.update({'a': 1}) }}",
    "{{ row.clear() }}",
    "{{ [].append(1) }}",
    "{% include 'x' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends 'x' %}",
]
BLOW_UPS = [
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [0] * 10**9 }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ 2 ** 999999999 }}",
    "{% set n = namespace(x=9) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "{% set n = namespace(x='a' * 999) %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='a' * 999) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x='a' * 999) %}{% for i in range(60) %}{% set n.x = n.x.replace('a', 'aa') %}{% endfor %}",
    "{% set n = namespace(x='a' * 999) %}{% for i in range(60) %}{% set n.x = n.x|replace('a', 'aa') %}{% endfor %}",
    "{% set n = namespace(x='a' * 999) %}{% for i in range(60) %}{% set n.x = [n.x, n.x]|join %}{% endfor %}",
    "{% set n = namespace(x='a' * 999) %}{% for i in range(60) %}{% set n.x = ''.join([n.x, n.x]) %}{% endfor %}",
    "{{ 'a'.ljust(999999999) }}",
    "{{ 'a'.zfill(999999999) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ 'a' | center(999999999) }}",
    "{{ 'a' | indent(999999999) }}",
    "{{ lipsum(999999999) }}",
    "{% for i in range(999999999) %}{% endfor %}",
    "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "{% for i in range(999999) %}{{ 'a' * 9999 }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
]  # fmt: skip


@pytest.mark.parametrize("template", ESCAPES)
def test_no_template_gets_out_of_the_sandbox(template: str) -> None:
    with pytest.raises((BadRow, JobInvalid)):
        Renderer(Job(name="t", model="m", prompt=template)).request({"a": 1})


@pytest.mark.timeout(20)
@pytest.mark.parametrize("template", BLOW_UPS)
def test_no_template_grows_without_bound(template: str) -> None:
    with pytest.raises((BadRow, JobInvalid)):
        Renderer(Job(name="t", model="m", prompt=template)).request({"a": 1})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ words | join(', ') }}", "a, b"),
        ("{{ n * 3 + 2 ** 4 }}", "37"),
        ("{{ '=' * 5 }}", "====="),
        ("{{ text | replace('x', 'y') }}{{ text.replace('x', 'z') }}", "yz"),
        ("{% for w in words %}{{ loop.index }}{{ w }}{% endfor %}", "1a2b"),
        ("{{ 'a' ~ n ~ none ~ words }}", 'a7["a", "b"]'),
        ("{{ words | tojson }}", '["a", "b"]'),
        ("{{ html | xml_escape }}", "&lt;b&gt; &amp;"),
        ("{{ text | sha256 | truncate(8, true, '') }}", "2d711642"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{{ text | upper }}{{ nothing | default('-') }}", "X-"),
    ],
)
def test_what_prompts_need_works(template: str, text: str) -> None:
    row = {"words": ["a", "b"], "n": 7, "text": "x", "html": "<b> &"}
    told = Renderer(Job(name="t", model="m", prompt=template)).body(row)
    assert told["messages"][0]["content"] == text
