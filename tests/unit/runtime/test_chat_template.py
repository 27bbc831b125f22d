"""Templates that checkpoints bring: what they may use, and what becomes of one that does harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio

from openmodel_runtime.errors import CheckpointError, InvalidRequest
from openmodel_runtime.text.chat_template import ChatTemplate
from openmodel_runtime.text.conversation import Conversation

Render = Callable[..., Awaitable[str]]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is <2 & 3>?\n"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": [3, "é"]}}}],
    },
    {"role": "tool", "name": "add", "content": "5"},
]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
# What published templates use: tools, calls, namespaces, filters, tests, loop controls, blocks for training, macros.
TEMPLATE = """{%- macro call(it) %}{{ it.name }}({{ it.arguments | tojson }}){% endmacro -%}
{{- bos_token }}
{%- set ns = namespace(seen=0) %}
{%- if tools is not none and tools %}
    {{- '<tools>' }}{% for tool in tools %}{{ tool.function | tojson(indent=2) }}{% endfor %}{{ '</tools>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'skip' %}{% continue %}{% endif %}
    {%- set ns.seen = ns.seen + 1 %}
    {%- if message.role == 'assistant' %}
        {% generation %}{{ message.content or '' }}{% endgeneration %}
        {%- for each in message.tool_calls or [] %}{{ '<call>' + call(each.function) + '</call>' }}{% endfor %}
    {%- else %}
        {{- '<' + message.role + '>' + message.content | trim + '</' + message['role'] + '>' }}
    {%- endif %}
{%- endfor %}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}{% endif %}
{%- if add_generation_prompt %}{{ '<assistant>' ~ ns.seen }}{% endif %}"""


@pytest_asyncio.fixture
async def render() -> AsyncIterator[Render]:
    """Renders with a source; ends what it started."""
    made: dict[str, ChatTemplate] = {}

    async def rendered(source: str, messages: Any = MESSAGES, tools: Any = None, **template_kwargs: Any) -> str:
        template = made.setdefault(source, ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}))
        return await template.render(Conversation(messages=messages, tools=tools, template_kwargs=template_kwargs))

    yield rendered
    for template in made.values():
        await template.close()


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["plain", "tools"])
async def test_a_template_says_what_it_says_in_transformers(render: Render, tools: Any) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs, _ = render_jinja_template(
        [MESSAGES],
        tools=tools,
        chat_template=TEMPLATE,
        add_generation_prompt=True,
        enable_thinking=False,
        bos_token="<s>",
        eos_token="</s>",
    )
    assert await render(TEMPLATE, tools=tools, enable_thinking=False) == theirs[0]


async def test_the_day_is_known(render: Render) -> None:
    before = datetime.now().astimezone()
    told = await render("{{ strftime_now('%Y-%m-%d') }}")
    assert before.strftime("%Y-%m-%d") <= told <= datetime.now().astimezone().strftime("%Y-%m-%d")


async def test_a_refusal_is_the_templates_own(render: Render) -> None:
    with pytest.raises(InvalidRequest, match="refuses these messages: roles must alternate"):
        await render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for a in range(10 ** 6) %}{% endfor %}", "Range too big"),
        ("{{ messages[99].content }}", "no element 99"),
        ("{{ 'x' * 5000000 }}", "5000000 characters"),
    ],
)
async def test_what_a_template_may_not_do_is_said(render: Render, source: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await render(source)
    assert message in str(caught.value)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "computes for more than"),
        ("{{ (messages | length + 5) ** (10 ** 9) }}", "computes for more than"),
        ("{{ 'x' * (10 ** 11) }}", "MiB"),
        ("{{ 'x'.ljust(10 ** 11) }}", "MiB"),
    ],
)
async def test_a_template_without_end_or_measure_costs_its_caller_an_error(
    render: Render, source: str, message: str
) -> None:
    harmful = "{% if messages[0].role == 'system' %}" + source + "{% else %}fine{% endif %}"
    with pytest.raises(InvalidRequest) as caught:
        await render(harmful)
    assert message in str(caught.value)
    assert await render(harmful, messages=[{"role": "user", "content": "x"}]) == "fine"


async def test_a_caller_who_goes_leaves_no_answer_to_the_next(render: Render) -> None:
    source = "{{ messages[0].content }}"
    await render(source)
    calls = [asyncio.ensure_future(render(source, [{"role": "user", "content": str(n)}])) for n in range(8)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers[1::2] == ["1", "3", "5", "7"]


async def test_no_variable_of_ours_reaches_a_template(render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate("x", {})
    monkeypatch.setenv("A_SECRET", "secret")
    assert await template.render(Conversation(messages=[])) == "x"
    assert template.pid is not None
    assert b"A_SECRET" not in await asyncio.to_thread(_environment_of, template.pid)
    await template.close()


def _environment_of(pid: int) -> bytes:
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()


def test_a_source_that_is_no_template_is_a_fault_of_the_checkpoint() -> None:
    for source in ("{% if %}", "{{ " + "(" * 100_000, "x" * (5 << 20)):
        with pytest.raises(CheckpointError, match="chat template can not be read"):
            ChatTemplate(source, {})
