"""Chat prompts: a checkpoint's own template, with text of users kept apart from its special tokens.

The template is a program in jinja2 that came with the checkpoint; it runs in jinja2's sandbox, which
keeps it from files and attributes, with the names that transformers gives to templates. Before,
names of special tokens inside messages are broken by a character that no message contains; after,
what the template itself wrote becomes special ids, the character goes, and all other text is encoded as
the plain characters it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qcoder.model.errors import CheckpointError
from qcoder.model.json_file import read_json
from qcoder.model.tokenizer import Tokenizer
from qcoder.model.tool_calls import ToolCall

Role = Literal["system", "user", "assistant", "tool"]

TEMPLATE_FILE, CONFIG_FILE = "chat_template.jinja", "tokenizer_config.json"
NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""Code points that Unicode promises never to assign."""

TEMPLATE_ERRORS = (
    TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip
"""What running somebody's program may raise."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `tool_calls` are those that an assistant made in it."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()

    def for_template(self) -> dict[str, Any]:
        """As templates expect it."""
        plain: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            plain["tool_calls"] = [
                {"type": "function", "function": {"name": c.name, "arguments": dict(c.arguments)}}
                for c in self.tool_calls
            ]
        return plain


@dataclass(frozen=True)
class ChatTemplate:
    """The template of a checkpoint, and where it came from."""

    source: str
    origin: str

    @staticmethod
    def load(folder: Path) -> ChatTemplate | None:
        """From `chat_template.jinja` or `tokenizer_config.json`; None if neither has one."""
        path = folder / TEMPLATE_FILE
        if path.exists():
            try:
                return ChatTemplate(path.read_text(encoding="utf-8"), str(path))
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{path}: cannot be read ({error})") from None
        path = folder / CONFIG_FILE
        found = read_json(path, "").get("chat_template") if path.exists() else None
        if isinstance(found, list):  # several with names
            named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
            found = named.get("default")
        return ChatTemplate(found, str(path)) if isinstance(found, str) else None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
    ) -> str:
        """The conversation as one text; raises `CheckpointError` for what the template refuses."""
        try:
            text = self._template.render(
                messages=messages, tools=tools or None, add_generation_prompt=add_generation_prompt
            )
        except TEMPLATE_ERRORS as error:
            raise CheckpointError(f"{self.origin}: the chat template failed: {error}") from None
        return str(text)

    @cached_property
    def _template(self) -> Any:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
        )
        environment.filters["tojson"] = to_json
        environment.globals["raise_exception"] = refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(self.source)


class GenerationTag(Extension):
    """`{% generation %}` marks what an assistant wrote, for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - the form that jinja2 prescribes

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body, as if the tag were not there."""
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def chat_ids(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Iterable[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = True,
) -> list[int]:
    """Token ids of a conversation whose next turn is the assistant's.

    Special ids come from the template alone: their names in messages or tools stay text.
    """
    plain = [message.for_template() for message in messages]
    guard = unused_character(json.dumps([plain, list(tools)], ensure_ascii=False))
    names = re.compile("|".join(map(re.escape, by_length(tokenizer.special))) or "(?!)")
    text = template.render(
        escaped(plain, names, guard), escaped(list(tools), names, guard), add_generation_prompt
    )
    ids: list[int] = []
    at = 0
    for found in names.finditer(text):
        ids += tokenizer.encode(text[at : found.start()].replace(guard, ""))
        ids.append(tokenizer.special[found.group()])
        at = found.end()
    return ids + tokenizer.encode(text[at:].replace(guard, ""))


def by_length(names: Iterable[str]) -> list[str]:
    """Longest first, so that no name hides a longer one that begins with it."""
    return sorted(names, key=lambda name: (-len(name), name))


def unused_character(text: str) -> str:
    """A noncharacter that `text` does not contain; raises ValueError if it has them all."""
    for character in NONCHARACTERS:
        if character not in text:
            return character
    raise ValueError("a message contains every Unicode noncharacter; it cannot be text")


def escaped(value: Any, names: re.Pattern[str], guard: str) -> Any:
    """The same strings, lists and mappings with `guard` inside every special name."""
    if isinstance(value, str):
        return names.sub(lambda found: found.group()[0] + guard + found.group()[1:], value)
    if isinstance(value, Mapping):
        return {escaped(k, names, guard): escaped(v, names, guard) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [escaped(item, names, guard) for item in value]
    return value


def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """jinja2's own filter escapes HTML, which no prompt is."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def refuse(message: str) -> NoReturn:
    """What templates call for conversations that they cannot write."""
    raise TemplateError(message)
