"""What a resolver of imports may ask about the workspace; the index answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qcoder.context.modules import ModuleMap
from qcoder.context.projects import Project


@dataclass(frozen=True, slots=True)
class Files:
    """`definers` gives the files that define or declare a name, `project` what a file says as one."""

    modules: ModuleMap
    definers: Callable[[str], tuple[str, ...]]
    project: Callable[[str], Project]


Resolver = Callable[[str, str, Files], Iterable[str]]
"""From module, importing path and files to the paths that are meant, best first."""
