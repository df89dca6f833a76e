"""Messages in and out: pygls' protocol, held to the rule that every request gets one answer.

pygls decodes each nested object of a message by itself, says nothing to requests that it cannot
decode or that come at the wrong time, and cannot cancel a command. Here the whole message is
checked first: what is no message, comes too early or too late, or has parameters that do not fit,
is answered with the protocol's error for it. Nothing that a client sends ends the server.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.protocol import LanguageServerProtocol, lsp_method

logger = logging.getLogger(__name__)

Message = dict[str, Any]
Codes = types.ErrorCodes


class QcoderProtocol(LanguageServerProtocol):
    """The protocol of one client."""

    def structure_message(self, data: Message) -> Message:
        """Leave objects as they are: pygls calls this for nested ones too."""
        return data

    def handle_message(self, message: Any) -> None:
        """Check, decode and handle one message; never raises."""
        try:
            self._take(message)
        except Exception as error:  # the boundary of the reading loop
            logger.error("a message failed: %s: %s", type(error).__name__, error)
            logger.debug("a message failed", exc_info=True)

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict) or message.get("jsonrpc") != self.VERSION:
            self.refuse(None, Codes.InvalidRequest, "not a JSON-RPC 2.0 message")
        elif "method" not in message:
            self._take_response(message)
        elif not isinstance(message["method"], str):
            self.refuse(message.get("id"), Codes.InvalidRequest, "the method must be a string")
        elif "id" in message:
            self._take_request(message)
        else:
            self._take_notification(message)

    def refuse(self, number: Any, code: Codes, why: str) -> None:
        """Answer with an error; an id that is none is answered as null."""
        logger.warning("message refused: %s", why)
        # As plain data: pygls leaves an id of null out.
        answer = number if is_id(number) else None
        error = {"code": code.value, "message": why}
        self._send_data({"jsonrpc": self.VERSION, "id": answer, "error": error})

    @property
    def is_shut_down(self) -> bool:
        """Whether the client has asked for the end."""
        return bool(self._shutdown)

    def _take_request(self, message: Message) -> None:
        number, method = message["id"], message["method"]
        starting = method == types.INITIALIZE
        if not is_id(number):
            self.refuse(None, Codes.InvalidRequest, "the id must be a number or a string")
        elif self._shutdown:
            self.refuse(number, Codes.InvalidRequest, f"{method} after shutdown")
        elif self._workspace is None and not starting:
            self.refuse(number, Codes.ServerNotInitialized, f"{method} before initialize")
        elif self._workspace is not None and starting:
            self.refuse(number, Codes.InvalidRequest, "initialize may be sent once")
        elif not self._knows(method):
            self.refuse(number, Codes.MethodNotFound, f"{method} is not a method of this server")
        elif (decoded := self._decoded(message)) is None:
            why = f"{method}: the parameters do not fit the protocol"
            self.refuse(number, Codes.InvalidParams, why)
        else:
            super().handle_message(decoded)

    def _take_notification(self, message: Message) -> None:
        method = message["method"]
        early = self._workspace is None or self._shutdown
        if (early and method != types.EXIT) or not self._knows(method):
            logger.debug("notification method=%s is ignored", method)
        elif (decoded := self._decoded(message)) is None:
            logger.warning("notification method=%s does not fit the protocol", method)
        else:
            super().handle_message(decoded)

    def _take_response(self, message: Message) -> None:
        """The client's answer to a request of ours; one to none of ours is a log line."""
        number = message.get("id")
        if "result" not in message and "error" not in message:
            self.refuse(number, Codes.InvalidRequest, "neither a method nor a result")
        elif not isinstance(number, str) or number not in self._result_types:
            # Only our own ids are in that table: an answer can never settle a client's request.
            logger.debug("an answer to no request is ignored")
        elif (decoded := self._decoded(message)) is not None:
            super().handle_message(decoded)
        elif future := self._request_futures.pop(number, None):
            future.set_exception(JsonRpcInvalidParams("the client's answer does not fit"))

    def _knows(self, method: str) -> bool:
        known = method in self.fm.builtin_features or method in self.fm.features
        return known or method == types.CANCEL_REQUEST

    def _decoded(self, message: Message) -> Any:
        """The message as its type; None when it does not fit."""
        if "method" in message and self.get_message_type(message["method"]) is None:
            message = {"params": None, **message}
        try:
            return super().structure_message(message)
        except JsonRpcException:
            return None

    @lsp_method(types.WORKSPACE_EXECUTE_COMMAND)
    async def lsp_workspace__execute_command(  # type: ignore[override]
        self, params: types.ExecuteCommandParams
    ) -> Any:
        """Run a command, as a coroutine, so that the client's cancellation reaches it."""
        params.arguments = params.arguments or []
        handler, arguments, named = next(super().lsp_workspace__execute_command(params))
        result = handler(*arguments, **named)
        return await result if inspect.isawaitable(result) else result


def is_id(number: Any) -> bool:
    """Whether a value may be the id of a request."""
    return isinstance(number, int | str) and not isinstance(number, bool)
