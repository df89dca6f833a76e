"""Tables of rule `resource-leak`: what opens something, what ends it, what only borrows it."""

from __future__ import annotations

import re
from collections.abc import Mapping

FILE_CLOSERS = frozenset({"close", "detach", "__enter__", "__exit__", "release"})
PROCESS_CLOSERS = frozenset({"wait", "communicate", "poll", "terminate", "kill", "__enter__"})
POOL_CLOSERS = frozenset({"shutdown", "close", "terminate", "join", "__enter__"})
SOCKET_CLOSERS = FILE_CLOSERS | {"makefile", "quit"}
SESSION_CLOSERS = FILE_CLOSERS | {"aclose"}

OPENERS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "open", "io.open", "codecs.open", "os.fdopen", "gzip.open", "bz2.open", "lzma.open",
            "tarfile.open", "zipfile.ZipFile", "tempfile.TemporaryFile", "shelve.open",
            "tempfile.NamedTemporaryFile", "sqlite3.connect", "urllib.request.urlopen",
        ),
        FILE_CLOSERS,
    ),
    **dict.fromkeys(
        (
            "socket.socket", "socket.create_connection", "socket.create_server", "ftplib.FTP",
            "smtplib.SMTP", "smtplib.SMTP_SSL",
        ),
        SOCKET_CLOSERS,
    ),
    **dict.fromkeys(
        (
            "concurrent.futures.ThreadPoolExecutor", "concurrent.futures.ProcessPoolExecutor",
            "multiprocessing.Pool",
        ),
        POOL_CLOSERS,
    ),
    **dict.fromkeys(
        ("aiohttp.ClientSession", "httpx.Client", "httpx.AsyncClient"), SESSION_CLOSERS
    ),
    "subprocess.Popen": PROCESS_CLOSERS,
    "tempfile.TemporaryDirectory": frozenset({"cleanup", "__enter__", "__exit__"}),
}  # fmt: skip
"""What opens something, and the methods that end it."""

WRAPPERS = frozenset({"zipfile.ZipFile", "tarfile.open"})
"""What also takes an open file, and leaves closing it to its owner."""

PLAIN_FILES = frozenset({"open", "io.open", "codecs.open", "gzip.open", "bz2.open", "lzma.open"})
FILE_METHODS = frozenset({"read", "readlines", "readline", "write", "writelines", "decode"})

BORROWERS = frozenset(
    {
        "json.load", "json.dump", "pickle.load", "pickle.dump", "marshal.load", "marshal.dump",
        "tomllib.load", "toml.load", "toml.dump", "yaml.load", "yaml.safe_load", "yaml.dump",
        "yaml.safe_dump", "plistlib.load", "plistlib.dump", "shutil.copyfileobj", "ast.parse",
        "numpy.load", "numpy.save", "print", "list", "tuple", "set", "sorted", "len", "next",
        "pathlib.Path", "anyio.Path", "os.path.join", "os.listdir", "os.walk", "sum", "max", "min", "any", "all", "isinstance", "str", "repr", "bool", "type", "id",
    }
)  # fmt: skip
"""Calls that use an argument and do not keep it."""

BORROWING = re.compile(
    r"_?(load|dump|parse|read|write|copy|print|scan|check|validate|compute|hash|extract|decode"
    r"|encode|lock|unlock|flock|flush|detect|count|addfile|memoryview|mmap|reader|writer|DictReader"
    r"|DictWriter|feed|digest|checksum|upload|download|fromfile|tofile|savefig|savetxt|to_csv|fsync"
    r"|fcntl|fstat|select|loads|dumps|iter|tqdm|enumerate|zip|map|filter|isatty)(_\w+|s)?$"
)
"""Names of functions that use a file and do not keep it, unless their result is handed on."""

PATH_MODES = frozenset("rwaxbt+")
