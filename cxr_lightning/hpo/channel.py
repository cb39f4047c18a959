"""Messages between the processes of a sweep: JSON over a pair of sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

__all__ = ["Channel", "Message"]

Message = dict[str, Any]
_LARGEST = 1 << 20


class Channel:
    """One end of a pair of sockets that keep the borders of messages.

    Parameters
    ----------
    end
        A Unix socket of the type SOCK_SEQPACKET.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        # A configuration is some kilobytes; the system's default may be as little as 200 kB.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        """Return the two ends of a new channel."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Channel(one), Channel(other)

    @staticmethod
    def inherited(number: int) -> Channel:
        """Return the end that the parent process left open for this one."""
        return Channel(socket.socket(fileno=number))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, ends: Sequence[Channel] = ()) -> bool:
        """Send a message, and further channels' ends with it; False: nobody is there any more."""
        text = json.dumps(message).encode()
        try:
            socket.send_fds(self._socket, [text], [end.fileno() for end in ends])
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self) -> Message | None:
        """Wait for a message and return it; None: the other end is closed."""
        message, ends = self.receive_with_end()
        if ends is not None:
            ends.close()
        return message

    def receive_with_end(self) -> tuple[Message | None, Channel | None]:
        """Wait for a message, and the channel's end that came with it."""
        try:
            text, numbers, _, _ = socket.recv_fds(self._socket, _LARGEST, 1)
        except ConnectionResetError:
            # Once, where the other end was closed with messages unread: what it sent is still here.
            text, numbers, _, _ = socket.recv_fds(self._socket, _LARGEST, 1)
        end = Channel.inherited(numbers[0]) if numbers else None
        return (json.loads(text) if text else None), end

    def close(self) -> None:
        self._socket.close()
