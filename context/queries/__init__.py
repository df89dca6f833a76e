"""Tree-sitter queries, one file a grammar.

Captures: `@definition.KIND` a definition with its `@name` (and `@body`, `@owner` where the fields of
the grammar do not say it), `@scope` with `@scope.name` something that owns definitions without being
one, `@outer` decorators or an export around a definition, `@reference` a called name, `@import` one
import statement.
"""
