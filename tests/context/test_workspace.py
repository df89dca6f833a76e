"""Which files count: parity with git, layered ignore rules without it, and what is refused."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qcoder.context import workspace
from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.source import Source, read_source
from qcoder.context.workspace import (
    find_root,
    is_listed,
    list_files,
    listed_among,
)


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        full = root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)


def git(root: Path, *arguments: str) -> bytes:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(
        command, cwd=root, env=environment, check=True, capture_output=True
    ).stdout


def git_list(root: Path) -> list[str]:
    output = git(root, "ls-files", "-z", "-co", "--exclude-standard")
    return sorted({os.fsdecode(name) for name in output.split(b"\0") if name})


TREE = {
    ".gitignore": "*.log\n/build/\n!keep.log\ndocs/*.tmp\n**/gen/\nnode_modules\n",
    "a.py": "a = 1\n",
    "x.log": "",
    "keep.log": "",
    "build/out.py": "",
    "src/build/in.py": "",
    "src/.gitignore": "!x.log\nlocal_*\n/only_here.py\n",
    "src/x.log": "",
    "src/local_1.py": "",
    "src/only_here.py": "",
    "src/deep/only_here.py": "",
    "src/gen/a.py": "",
    "src/gen/.gitignore": "!a.py\n",
    "docs/a.tmp": "",
    "docs/deep/a.tmp": "",
    "node_modules/m/i.js": "",
    "with space.py": "",
    "ünïcode.py": "",
}


def test_listing_equals_git(tmp_path: Path) -> None:
    write(tmp_path, TREE)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-f", "a.py", "src/gen/a.py")  # tracked though ignored
    assert list(list_files(tmp_path).paths) == git_list(tmp_path)
    assert "src/gen/a.py" in list_files(tmp_path).paths


def test_walk_without_git_equals_git(tmp_path: Path) -> None:
    plain, repository = tmp_path / "plain", tmp_path / "repository"
    write(plain, TREE)
    write(repository, TREE)
    git(repository, "init", "-q")
    assert list(list_files(plain).paths) == git_list(repository)


def test_random_rules_without_git_equal_git(tmp_path: Path) -> None:
    rng = random.Random(5)
    names = ["a", "b", "ab", "c.py", "d.log", "e"]
    for trial in range(6):
        files = {}
        for _ in range(25):
            parts = [rng.choice(names) for _ in range(rng.randint(1, 3))]
            files["/".join(parts) + ".txt"] = ""
        patterns = [
            "a",
            "/b",
            "*.log*",
            "ab/",
            "!a/c.py*",
            "**/e/*",
            "a/**/b*",
            "!*.txt",
            "c.*/",
            "?b*",
        ]
        for folder in ("", "a/", "ab/"):
            files[folder + ".gitignore"] = "\n".join(rng.sample(patterns, 3)) + "\n"
        plain, repository = tmp_path / f"plain{trial}", tmp_path / f"git{trial}"
        write(plain, files)
        write(repository, files)
        git(repository, "init", "-q")
        assert list(list_files(plain).paths) == git_list(repository), files


def test_is_listed_agrees_with_the_listing(tmp_path: Path) -> None:
    write(tmp_path, {**TREE, ".qcoderignore": "docs/\n", "docs/b.py": ""})
    for setup in (lambda: None, lambda: git(tmp_path, "init", "-q")):
        setup()
        listed = set(list_files(tmp_path).paths)
        for path in [*TREE, "docs/b.py", "missing.py"]:
            assert is_listed(tmp_path, path) == (path in listed), path


def test_tracked_files_count_though_rules_ignore_them(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "*.gen.py\n", "a.gen.py": "", "b.gen.py": ""})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-f", "a.gen.py")
    assert list_files(tmp_path).paths == (".gitignore", "a.gen.py")
    assert listed_among(tmp_path, ["a.gen.py", "b.gen.py"]) == {"a.gen.py"}


def test_files_of_a_repository_inside_are_listed_by_its_own_rules(tmp_path: Path) -> None:
    tree = {"sub/a.py": "", "sub/b.tmp": "", "sub/.gitignore": "*.tmp\n", "out/c.py": ""}
    write(tmp_path, {**tree, ".gitignore": "out/\n"})
    for folder in ("", "sub", "out"):
        git(tmp_path / folder, "init", "-q")
    listed = set(list_files(tmp_path).paths)
    assert "sub/a.py" in listed
    assert "out/c.py" not in listed
    assert listed_among(tmp_path, list(tree)) == listed - {".gitignore"}


def test_outer_qcoderignore_reaches_into_repositories_inside(tmp_path: Path) -> None:
    tree = {
        ".qcoderignore": "third_party/lib/\n*.dat.py\n",
        "a.py": "",
        "third_party/lib/b.py": "",
        "sub/c.py": "",
        "sub/d.dat.py": "",
        "sub/in/e.dat.py": "",
        "sub/in/f.py": "",
        "excluded/g.py": "",
        "sub/.qcoderignore": "in/\n",
    }
    write(tmp_path, tree)
    for folder in ("", "third_party/lib", "sub", "sub/in", "excluded"):
        git(tmp_path / folder, "init", "-q")
    (tmp_path / ".git" / "info" / "exclude").write_text("excluded/\n")
    listing = list_files(tmp_path)
    assert listing.paths == (".qcoderignore", "a.py", "sub/.qcoderignore", "sub/c.py")
    assert listed_among(tmp_path, list(tree)) == set(listing.paths)
    assert listed_among(tmp_path, list(tree), by_git=listing.by_git) == set(listing.paths)
    assert listing.by_git == {"", "sub"}


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
)
def test_ignore_files_of_windows_are_read_from_the_first_line_on(
    tmp_path: Path, encode: Callable[[str], bytes]
) -> None:
    write(tmp_path, {"first.py": "", "second.py": "", "a.py": ""})
    (tmp_path / ".qcoderignore").write_bytes(encode("first.py\nsecond.py\n"))
    assert list_files(tmp_path).paths == (".qcoderignore", "a.py")


def test_form_feed_does_not_end_an_ignore_pattern(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "x\fa.py\n", "a.py": ""})
    assert list_files(tmp_path).paths == (".gitignore", "a.py")


def test_known_repository_is_asked_once_about_what_it_does_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a.py": "", "log/x.py": ""})
    git(tmp_path, "init", "-q")
    (tmp_path / ".git" / "info" / "exclude").write_text("log/\n")
    by_git = list_files(tmp_path).by_git
    questions = []
    ask = workspace.git_output
    monkeypatch.setattr(
        workspace, "git_output", lambda *words: (questions.append(words), ask(*words))[1]
    )
    assert listed_among(tmp_path, ["log/x.py"], by_git=by_git) == set()
    assert len(questions) == 1


def test_folder_that_says_it_is_derived_is_left_out_without_git(tmp_path: Path) -> None:
    write(tmp_path, {"env/pyvenv.cfg": "", "env/lib/x.py": "", "a.py": ""})
    assert list_files(tmp_path).paths == ("a.py",)
    assert listed_among(tmp_path, ["env/lib/x.py", "a.py"]) == {"a.py"}


def test_many_paths_are_one_question_to_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"f{i}.py" for i in range(63)]
    write(tmp_path, dict.fromkeys(names, ""))
    git(tmp_path, "init", "-q")
    questions = []
    ask = workspace.git_output

    def count(root: Path, *arguments: str) -> bytes:
        questions.append(arguments)
        return ask(root, *arguments)

    monkeypatch.setattr(workspace, "git_output", count)
    assert listed_among(tmp_path, names) == set(names)
    assert len(questions) == 1


@pytest.mark.parametrize("in_git", [True, False])
def test_qcoderignore_applies_at_any_level(tmp_path: Path, in_git: bool) -> None:
    write(
        tmp_path,
        {
            ".qcoderignore": "data/\n",
            "a.py": "",
            "data/b.py": "",
            "src/.qcoderignore": "*_pb2.py\n",
            "src/c_pb2.py": "",
            "c_pb2.py": "",
        },
    )
    if in_git:
        git(tmp_path, "init", "-q")
    listing = list_files(tmp_path)
    assert [p for p in listing.paths if p.endswith(".py")] == ["a.py", "c_pb2.py"]
    assert listing.skipped["ignored"] == 2


@pytest.mark.parametrize("line", ["[z-a].log", "!", "trailing\\"])
def test_ignore_line_that_cannot_be_used_costs_itself(tmp_path: Path, line: str) -> None:
    rules = f"*.tmp\n{line}\ndata/\n"
    write(tmp_path, {".gitignore": rules, "a.py": "", "b.tmp": "", "data/c.py": ""})
    assert list_files(tmp_path).paths == (".gitignore", "a.py")


def test_folder_that_git_ignores_is_walked_when_opened(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "vendor/\n", "vendor/a.py": ""})
    git(tmp_path, "init", "-q")
    assert list_files(tmp_path / "vendor").paths == ("a.py",)


def test_hostile_git_environment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a.py": ""})
    git(tmp_path, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    marker = tmp_path.parent / "ran"
    git(tmp_path, "config", "core.fsmonitor", f"touch {marker}; false")
    assert list_files(tmp_path).paths == ("a.py",)
    assert not marker.exists()


def test_derived_folders_are_not_walked(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a.py": "",
            "env/pyvenv.cfg": "",
            "env/b.py": "",
            "node_modules/c.js": "",
            "t/CACHEDIR.TAG": "",
            "t/d.rs": "",
        },
    )
    assert list_files(tmp_path).paths == ("a.py",)


def test_exclude_patterns_are_counted(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "private/b.py": ""})
    listing = list_files(tmp_path, ["private/"])
    assert listing.paths == ("a.py",)
    assert dict(listing.skipped) == {"excluded by settings": 1}
    reason = read_source(tmp_path, "private/b.py", exclude_spec(["private/"]))
    assert reason == "excluded by settings"


SECRET_NAMES = [
    ".env",
    ".env.local",
    "a/.envrc",
    "a/server.pem",
    "tls.KEY",
    "id_rsa",
    "id_ed25519.pub",
    "credentials.json",
    "x.p12",
    "x.pfx",
    ".npmrc",
    ".pypirc",
    ".netrc",
    "v.kdbx",
    "config/secrets.yml",
    ".ssh/config",
    ".aws/config",
    ".git/config",
]


@pytest.mark.parametrize("path", SECRET_NAMES)
def test_secret_names_are_refused(tmp_path: Path, path: str) -> None:
    write(tmp_path, {path: "harmless\n", "ok.py": ""})
    assert refused(path) is not None
    assert path not in list_files(tmp_path).paths
    assert isinstance(read_source(tmp_path, path), str)
    assert not is_listed(tmp_path, path)


def test_ordinary_names_are_not_refused() -> None:
    for path in (
        "environment.py",
        "keyboard.py",
        "monkey.py",
        "a/token.py",
        "src/env.ts",
        "pem.go",
    ):
        assert refused(path, b"import os\nkey = os.environ['X']\n") is None, path


# Put together at run time: the sources of this project pass their own gate.
SECRET_CONTENTS = [
    "-----BEGIN RSA " + "PRIVATE KEY-----\n",
    "-----BEGIN " + "PRIVATE KEY-----\n",
    "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n",
    'id = "AKIA' + "ABCDEFGHIJKLMNOP" + '"',
    "t = 'gh" + "p_" + "a1B2" * 9 + "'",
    "github_" + "pat_" + "a1" * 30,
    "xox" + "b-1234567890-abc",
    "AIza" + "a" * 35,
    "sk_" + "live_" + "a1" * 12,
    "glpat" + "-" + "a1" * 10,
]


@pytest.mark.parametrize("secret", SECRET_CONTENTS)
def test_secret_contents_are_refused_anywhere_in_the_file(tmp_path: Path, secret: str) -> None:
    text = "x = 1\n" * 3000 + secret + "\ny = 2\n"
    write(tmp_path, {"a.py": text})
    assert refused("a.py", text.encode()) == "secret in content"
    assert read_source(tmp_path, "a.py") == "secret in content"


def test_known_content_is_not_looked_through_again_but_its_place_and_name_are(
    tmp_path: Path,
) -> None:
    secret = f"key = '{SECRET_CONTENTS[-1]}'\n"
    write(tmp_path, {"a.py": "x = 1\n", "private/b.py": "x = 1\n", ".env": "x = 1\n"})
    known = read_source(tmp_path, "a.py")
    assert isinstance(known, Source)
    assert read_source(tmp_path, "a.py", None, known.hash) == known
    spec = exclude_spec(["private/"])
    assert read_source(tmp_path, "private/b.py", spec, known.hash) == "excluded by settings"
    assert read_source(tmp_path, ".env", None, known.hash) == "secret by name"
    (tmp_path / "a.py").write_text(secret)
    assert read_source(tmp_path, "a.py", None, known.hash) == "secret in content"


def test_symlinks_out_of_the_root_and_to_secrets_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, {"a.py": "a = 1\n", ".env": "X=1\n", "sub/b.py": "b = 1\n"})
    write(tmp_path, {"outside/c.py": "c = 1\n"})
    (root / "out.py").symlink_to(tmp_path / "outside" / "c.py")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "env.py").symlink_to(root / ".env")
    (root / "inside.py").symlink_to(root / "a.py")
    (root / "dangling.py").symlink_to(root / "nothing.py")
    (root / "loop.py").symlink_to(root / "loop.py")
    assert read_source(root, "out.py") == "symlink out of the workspace"
    assert read_source(root, "folder/c.py") == "symlink out of the workspace"
    assert read_source(root, "env.py") == "secret by name"
    assert read_source(root, "dangling.py") == "missing"
    assert isinstance(read_source(root, "loop.py"), str)
    assert isinstance(read_source(root, "inside.py"), Source)
    assert "folder/c.py" not in list_files(root).paths


def test_odd_files_are_left_out_with_their_reason(tmp_path: Path) -> None:
    write(tmp_path, {"empty.py": "", "feed.py": "a = 1\n\x0c\nb = 2\n"})
    with open(tmp_path / "huge.js", "wb") as file:
        file.truncate(50_000_000)  # sparse: size alone must decide
    (tmp_path / "binary.py").write_bytes(b"\x7fELF\x00\x01" * 100)
    (tmp_path / "min.js").write_text("var a=1;" * 5000)
    (tmp_path / "bad.py").write_bytes(b"name = '\xff\xfe'\n")
    (tmp_path / "crlf.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    expected = {
        "huge.js": "too large",
        "binary.py": "binary",
        "min.js": "minified",
        "folder.py": "not a file",
        "pipe.py": "not a file",
        "gone.py": "missing",
        "nul\0.py": "unreadable",
    }
    assert {path: read_source(tmp_path, path) for path in expected} == expected
    for path in ("empty.py", "feed.py", "bad.py", "crlf.py"):
        assert isinstance(read_source(tmp_path, path), Source), path
    bad = read_source(tmp_path, "bad.py")
    assert isinstance(bad, Source)
    assert "\ufffd" in bad.text


def test_unreadable_file_costs_one_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"a.py": "a = 1\n"})

    def refuse(*_: object) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert read_source(tmp_path, "a.py") == "unreadable"
    assert [record.name for record in caplog.records] == ["qcoder.context.source"]


def test_root_is_the_nearest_project_folder(tmp_path: Path) -> None:
    write(tmp_path, {"p/go.mod": "", "p/a/b/c.go": "", "lone/x.py": "", "p/a/package.json": ""})
    assert find_root(tmp_path / "p/a/b/c.go") == tmp_path / "p/a"
    assert find_root(tmp_path / "p/main.go") == tmp_path / "p"
    (tmp_path / "lone" / ".git").mkdir()
    assert find_root(tmp_path / "lone/x.py") == tmp_path / "lone"
