"""WebSockets that end when the gateway does: at once where nothing is answered, after the answer where one is."""

from __future__ import annotations

from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

ENDS = "largeforge.ends"
"""Key of the message that tells the application to end; it is not ASGI's."""


class WebSockets(WebSocketsSansIOProtocol):
    """The connection of one WebSocket."""

    def shutdown(self) -> None:
        """Leave it to the application, which knows whether it is answering."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()
            return
        message: Any = {"type": "websocket.receive", "bytes": b"", ENDS: True}
        self.queue.put_nowait(cast("Any", message))
