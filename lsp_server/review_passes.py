"""The passes of Python: what rule files call by name, because no pattern can say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from qcoder.lsp_server import (
    review_async_with,
    review_calls,
    review_coroutines,
    review_debt,
    review_flow,
    review_guards,
    review_leaks,
    review_locks,
    review_repeats,
    review_slips,
    review_threads,
)
from qcoder.lsp_server.python_tree import PythonFile
from qcoder.lsp_server.review_rule import Hit

Pass = Callable[[PythonFile], Iterator[Hit]]

PASSES: Mapping[str, Pass] = {
    "resource_leak": review_leaks.check_resource_leak,
    "unawaited": review_coroutines.check_unawaited,
    "blocking": review_coroutines.check_blocking,
    "plain_with": review_async_with.check_plain_with,
    "task_discarded": review_coroutines.check_task_discarded,
    "lock": review_locks.check_lock,
    "lock_over_await": review_locks.check_lock_over_await,
    "guarded": review_guards.check_guarded,
    "not_joined": review_threads.check_not_joined,
    "call": review_calls.check_call,
    "swapped": review_calls.check_swapped,
    "unreachable": review_flow.check_unreachable,
    "shadowed_handler": review_flow.check_shadowed_handler,
    "none": review_flow.check_none,
    "compared_with_itself": review_repeats.check_compared_with_itself,
    "same_operands": review_repeats.check_same_operands,
    "repeated_condition": review_repeats.check_repeated_condition,
    "assigned_to_itself": review_repeats.check_assigned_to_itself,
    "except_or": review_slips.check_except_or,
    "identity": review_slips.check_identity,
    "long_function": review_debt.check_long_function,
    "deep_nesting": review_debt.check_deep_nesting,
    "duplicated": review_debt.check_duplicated,
    "unused_private": review_debt.check_unused_private,
    "mutable_default": review_slips.check_mutable_default,
    "return_in_finally": review_slips.check_return_in_finally,
    "changed_while_iterated": review_slips.check_changed_while_iterated,
}
"""Name in a rule file -> function."""
