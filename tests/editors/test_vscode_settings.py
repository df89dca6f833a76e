"""The VS Code extension and the documentation offer exactly the settings that the server reads."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import protocol
from qcoder.lsp_server.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = json.loads((ROOT / "editors" / "vscode" / "package.json").read_text("utf-8"))
OWN_KEYS = {"qcoder.serverPath", "qcoder.trace.server"}
JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array"}


def camel(name: str) -> str:
    """`max_tokens` as editors write it: `maxTokens`."""
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


def fields() -> list[tuple[str, str, dataclasses.Field[Any], Any, Any]]:
    """(group, name, field, type, default) of every option of the server."""
    rows = []
    for group in dataclasses.fields(Settings):
        options = getattr(Settings(), group.name)
        hints = typing.get_type_hints(type(options))
        rows += [
            (group.name, f.name, f, hints[f.name], getattr(options, f.name))
            for f in dataclasses.fields(options)
        ]
    return rows


def test_the_extension_declares_every_setting_and_no_other() -> None:
    declared = set(PACKAGE["contributes"]["configuration"]["properties"])
    known = {f"qcoder.{camel(group)}.{camel(name)}" for group, name, *_ in fields()}
    assert declared == known | OWN_KEYS


@pytest.mark.parametrize("row", fields(), ids=lambda row: f"{row[0]}.{row[1]}")
def test_declared_setting_matches_the_servers(row: tuple[Any, ...]) -> None:
    group, name, field, hint, default = row
    key = f"qcoder.{camel(group)}.{camel(name)}"
    declared = PACKAGE["contributes"]["configuration"]["properties"][key]
    assert declared["type"] == JSON_TYPES[type(default)]
    assert declared["default"] == (list(default) if isinstance(default, tuple) else default)
    assert declared.get("minimum") == field.metadata.get("low")
    assert declared.get("maximum") == field.metadata.get("high")
    words = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else None
    assert declared.get("enum") == (list(words) if words else None)
    assert declared["markdownDescription"]


def test_settings_of_an_untrusted_workspace_count_where_they_can_do_no_harm() -> None:
    """VS Code's workspace settings go over the user's: one of these would undo, say, `privacy.exclude`."""
    restricted = PACKAGE["capabilities"]["untrustedWorkspaces"]["restrictedConfigurations"]
    harmful = {
        f"qcoder.{group}.{camel(name)}"
        for group, name, field, *_ in fields()
        if field.metadata.get("tighten") != "any"
    }
    assert set(restricted) == harmful | OWN_KEYS


def test_no_workspace_says_where_code_is_sent() -> None:
    declared = PACKAGE["contributes"]["configuration"]["properties"]
    remote = {key: row["scope"] for key, row in declared.items() if ".remote." in key}
    assert set(remote.values()) == {"machine"}


def test_the_settings_page_lists_every_setting() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert not [
        f"{group}.{name}" for group, name, *_ in fields() if f"`{group}.{name}`" not in page
    ]


def test_no_command_of_the_extension_has_the_name_of_one_of_the_server() -> None:
    """The language client registers the server's commands, and VS Code takes a name only once."""
    ours = {command["command"] for command in PACKAGE["contributes"]["commands"]}
    servers = {name for key, name in vars(protocol).items() if key.startswith("COMMAND_")}
    assert servers
    assert not ours & servers
