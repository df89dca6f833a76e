"""What can be done about a finding in the editor: mend it, excuse it, have it explained."""

from __future__ import annotations

from collections.abc import Sequence

from lsprotocol import types
from pygls.workspace import PositionCodec

from qcoder.context.languages import LANGUAGES
from qcoder.context.parse import parse
from qcoder.context.segments import Document
from qcoder.lsp_server import convert, protocol
from qcoder.lsp_server.docstring_actions import wants
from qcoder.lsp_server.edited import applied
from qcoder.lsp_server.postprocess import errors
from qcoder.lsp_server.review import HINTS, REMARK_RULE, review_document
from qcoder.lsp_server.review_ignores import ignores_in
from qcoder.lsp_server.review_rules import all_rules
from qcoder.lsp_server.snapshot import Finding, Snapshot, TextEdit

KIND = types.CodeActionKind.QuickFix
OTHERS = {
    **dict.fromkeys(
        (name for name, _ in HINTS.values()),
        "The model finds something else much likelier here, together with the code that follows. "
        "That is no fault by itself: it is worth a second look.",
    ),
    REMARK_RULE: "The model named this fault and, asked afresh whether the claim is right, said yes. It "
    "may still be wrong: it saw this definition alone.",
    "unused-ignore": "The comment excuses a rule that finds nothing there. Once it is gone, the "
    "rule can speak up again.",
}
"""Why, for what is reported without a rule of `rules/`."""


def review_actions(
    snapshot: Snapshot,
    codec: PositionCodec,
    rows: Sequence[str],
    lines: tuple[int, int],
    only: Sequence[str] | None,
) -> list[types.CodeAction]:
    """Actions for the rules' findings on the 0-based lines from the first to the last, included."""
    if not wants(only, KIND) or not snapshot.settings.review.enabled:
        return []
    first, last = lines
    found = []
    for finding in review_document(snapshot, None):
        if finding.line <= last and finding.end_line >= first:
            found += actions_of(finding, snapshot, codec, rows)
    return found


def actions_of(
    finding: Finding, snapshot: Snapshot, codec: PositionCodec, rows: Sequence[str]
) -> list[types.CodeAction]:
    """The actions of one finding, the most useful first."""
    uri = snapshot.document.uri
    diagnostics = [convert.to_diagnostic(codec, rows, finding)]

    def edited(title: str, edit: TextEdit, preferred: bool) -> types.CodeAction:
        change = types.WorkspaceEdit(changes={uri: [convert.to_edit(codec, rows, edit)]})
        return types.CodeAction(title, KIND, diagnostics, is_preferred=preferred, edit=change)

    actions = []
    if finding.fix is not None:
        title = f"Fix: {' '.join(finding.fix.new_text.split(chr(10))[0].split())[:60]}"
        actions.append(edited(title, finding.fix, True))
    if finding.rule in all_rules():
        edit = excuse(finding, snapshot)
        if edit is not None:
            actions.append(edited(f"Ignore {finding.rule} on this line", edit, False))
    title = f"Explain {finding.rule}"
    command = types.Command(title, protocol.COMMAND_EXPLAIN_RULE, arguments=[finding.rule])
    actions.append(types.CodeAction(title, KIND, diagnostics, command=command))
    return actions


def excuse(finding: Finding, snapshot: Snapshot) -> TextEdit | None:
    """The comment that silences a finding: added to the one there, at the end of its line, or above.

    None where neither place can hold a comment: inside of strings and markup.
    """
    document, number = snapshot.document, finding.line
    lines = document.text.split("\n")
    line = lines[number]
    for ignore in ignores_in(line):
        if ignore.rules is not None:
            names = ", ".join(sorted({*ignore.rules, finding.rule} - {""}))
            new = f"{line[ignore.start : ignore.end].partition('[')[0]}[{names}]"
            return TextEdit(number, ignore.start, number, ignore.end, new)
    spec = LANGUAGES.get(document.language)
    comment = f"{spec.line_comment if spec is not None else '#'} qcoder: ignore[{finding.rule}]"
    indent, code = line[: len(line) - len(line.lstrip())], line.rstrip()
    behind = TextEdit(number, len(code), number, len(line), f"  {comment}")
    above = TextEdit(number, 0, number, 0, f"{indent}{comment}\n")
    if not code.endswith("\\") and is_comment(document, behind):
        return behind
    goes_on = number > 0 and lines[number - 1].rstrip().endswith("\\")
    return above if not goes_on and is_comment(document, above) else None


def is_comment(document: Document, edit: TextEdit) -> bool:
    """Whether what an edit of one line inserts is a comment there, and breaks nothing."""
    text = applied(document.text, [edit])
    tree, before = parse(text, document.language), errors(document.text, document.language)
    if tree is None:
        return False
    row = text.split("\n")[edit.start_line].encode("utf-8", "surrogatepass")
    # The inserted comment is the last of its line.
    place = (edit.start_line, len(row.rstrip()) - 1)
    node = tree.root_node.descendant_for_point_range(place, place)
    is_one = node is not None and "comment" in node.type
    return is_one and errors(text, document.language) <= before


def explanation(rule: str) -> str | None:
    """What a rule looks for and why; None for a name that is no rule's."""
    known = all_rules().get(rule)
    if known is not None:
        return f"{rule}: {known.summary}. {known.why}"
    return f"{rule}: {OTHERS[rule]}" if rule in OTHERS else None
