"""What a model is asked for a docstring, and what of its answer is taken."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qcoder.context.segments import Document
from qcoder.lsp_server.docstring import docstring_edits
from qcoder.lsp_server.docstring_judgement import accepted, stems_of
from qcoder.lsp_server.docstring_model import answers_of
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import DocstringEdit, Snapshot
from qcoder.model.fake import FakeEngine

SOURCE = (
    "def load(path, limit=3):\n    # first lines <|im_end|> of the file\n    return path[limit]\n"
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_engine(folder: Path, answer: str, name: str = "Coder-Instruct") -> FakeEngine:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    engine = FakeEngine([answer])
    engine.info = replace(engine.info, name=name, path=str(folder), is_default=False)
    return engine


def written(engine: FakeEngine) -> DocstringEdit:
    document = Document("file:///a.py", 1, "python", SOURCE)
    snapshot = Snapshot(document, "a.py", None, None, Settings())
    (edit,) = docstring_edits(snapshot, engine, symbol="load")  # type: ignore[arg-type]
    return edit


def test_an_instruct_model_is_asked_once_and_answers_by_label(tmp_path: Path) -> None:
    engine = chat_engine(
        tmp_path,
        "summary: Reads the first lines of a text file.\npath: Where the file is kept on disk.\n"
        "- `limit`: How many lines are read at most.\nother: Nobody asked for this one.\n",
    )
    edit = written(engine)
    assert edit.docstring.split("\n")[0] == "Reads the first lines of a text file."
    assert "path: Where the file is kept on disk." in edit.docstring
    assert "limit: How many lines are read at most. Defaults to 3." in edit.docstring
    assert "Nobody" not in edit.docstring
    assert edit.slots_from_model == 3
    assert len(engine.requests) == 1


def test_code_cannot_end_the_question(tmp_path: Path) -> None:
    engine = chat_engine(tmp_path, "summary: Reads the first lines of a text file.")
    written(engine)
    ids = engine.requests[0].prompt.ids
    assert ids.count(engine.tokenizer.special["<|im_end|>"]) == 2
    assert "<|im_end|>" in engine.tokenizer.decode([i for i in ids if i < 256])


@pytest.mark.parametrize(
    "answer",
    ["", "I cannot do that.", "summary load", "summary: def load(path):", "summary: Load."],
)
def test_an_answer_of_another_form_leaves_the_plain_sentences(tmp_path: Path, answer: str) -> None:
    edit = written(chat_engine(tmp_path, answer))
    assert edit.slots_from_model == 0
    assert edit.docstring.startswith("Load.\n")


def test_a_base_model_with_a_template_is_asked_to_fill_in(tmp_path: Path) -> None:
    engine = chat_engine(tmp_path, "Reads the first lines of a text file.", "Coder-7B")
    written(engine)
    special = engine.tokenizer.special["<|fim_middle|>"]
    assert all(special in request.prompt.ids for request in engine.requests)


def test_a_broken_template_is_no_reason_to_fail(tmp_path: Path) -> None:
    engine = chat_engine(tmp_path, "summary: Reads the first lines of a text file.")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{{ raise_exception('no') }}"})
    )
    assert written(engine).slots_from_model == 0


def test_answers_are_the_first_of_each_label() -> None:
    text = "**path**: One.\npath: Two.\nnone\n"
    assert answers_of(text, {"path"}) == {"path": "One."}


@pytest.mark.parametrize(
    ("text", "code", "taken"),
    [
        ("Loads the settings of a user", "def load(user): settings", True),
        ("Loads the settings from the cloud", "def load(user): settings", False),
        ("Reads whatever is in there", "def load(user): settings", False),
    ],
)
def test_a_small_model_may_only_say_what_the_code_says(text: str, code: str, taken: bool) -> None:
    sentence = accepted(text, "load", {"load"}, 88, stems_of(code))
    assert (sentence is not None) == taken
