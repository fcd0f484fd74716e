"""TCP ports of this machine."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    """Say whether a server could listen on a port."""
    with socket.socket() as listener:
        # As servers do: connections of an ended server that still linger do not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True
