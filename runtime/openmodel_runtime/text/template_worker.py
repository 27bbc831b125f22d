"""The process that renders chat templates: reads a template, then conversations, a line of JSON each; answers each.

It holds itself to its limits: a timer of the system's ends it when a template computes too long, whoever waits for it
or not, and what it may allocate is bounded.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

CPU_SECONDS = 2
"""Time that a conversation may take to render; usual ones take a millisecond."""
MAX_CHARACTERS = 4 << 20
"""Of a template, and of a rendered prompt."""
_MEMORY_BYTES = 512 << 20


def check_syntax(source: str) -> str | None:
    """What keeps a source from being a template; None when it is one. Runs nothing of it."""
    if len(source) > MAX_CHARACTERS:
        return f"it has more than {MAX_CHARACTERS} characters"
    try:
        _environment().parse(source)
    except (jinja2.TemplateError, RecursionError) as error:
        return str(error)
    return None


def _environment() -> jinja2.Environment:
    """Jinja as checkpoints expect it: what transformers gives to a template."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationBlock]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.filters["tojson"] = _to_json
    return environment


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks what a model wrote, for those who train; here it is its body."""

    tags = {"generation"}  # noqa: RUF012  # as the base class has it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, which no prompt wants.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=1)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def _render(source: str, special: dict[str, str], values: dict[str, Any]) -> dict[str, str]:
    try:
        text = _compiled(source).render(**{**special, **values})
    except MemoryError:
        return {"error": f"it needs more than {_MEMORY_BYTES >> 20} MiB"}
    except Exception as error:  # somebody else's program may raise anything
        return {"error": str(error) or type(error).__name__}
    if len(text) > MAX_CHARACTERS:
        return {"error": f"it makes a prompt of {len(text)} characters, {MAX_CHARACTERS} are allowed"}
    return {"text": text}


def main() -> None:
    """Answers until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    first = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        # The default action of this timer's signal ends the process, also inside one long operation.
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        answer = _render(first["source"], first["special"], json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
