"""As much HTTP/2 and gRPC as one unary call after another on a connection takes (RFC 9113, without TLS).

Headers are sent as literals, and those of answers are not read: an answer with a message is a good one, for a server
that refuses sends trailers alone.
"""
import socket, struct

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW = 1 << 30
# Received bytes after which the server is allowed as many more.
REFILL = 1 << 24
INITIAL_WINDOW = 4


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value):
    value = value.encode()
    assert len(value) < 127, "longer texts have another encoding"
    return bytes([len(value)]) + value


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    """A field of bytes of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(value)) + value


class Refused(OSError):
    """A call was answered without a message."""


class Connection:
    """`path` of all calls, as /package.Service/Method."""

    def __init__(self, host, port, path):
        self.socket = socket.create_connection((host, port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # :method POST, :scheme http, :path, :authority, content-type, te (RFC 7541, appendix A and 6.2.2).
        self.headers = (b"\x83\x86\x04" + text(path) + b"\x01" + text(f"{host}:{port}")
                        + b"\x0f\x10" + text("application/grpc") + b"\x00" + text("te") + text("trailers"))
        self.stream, self.received, self.unread, self.message = -1, 0, b"", b""
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                            + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, WINDOW))
                            + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW)))

    def fileno(self):
        return self.socket.fileno()

    def call(self, message):
        """Sends a call; at most 16 KiB, and one at a time, so that no window is ever exceeded."""
        self.stream += 2
        self.message = b""
        body = b"\0" + struct.pack(">I", len(message)) + message
        self.socket.sendall(frame(HEADERS, END_HEADERS, self.stream, self.headers)
                            + frame(DATA, END_STREAM, self.stream, body))

    def receive(self):
        """Reads what has come; returns the answer once it is whole, else None."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the server has closed the connection")
        self.unread += piece
        answer, at = None, 0
        while len(self.unread) - at >= 9:
            length = int.from_bytes(self.unread[at:at + 3], "big")
            if len(self.unread) - at < 9 + length:
                break
            kind, flags = self.unread[at + 3], self.unread[at + 4]
            payload = self.unread[at + 9:at + 9 + length]
            at += 9 + length
            if self.take(kind, flags, payload):
                if not self.message:
                    raise Refused("a call was refused")
                answer = self.message[5:]
        self.unread = self.unread[at:]
        return answer

    def take(self, kind, flags, payload):
        """One frame; whether the answer is whole with it."""
        if kind == DATA:
            self.message += payload
            self.received += len(payload)
            if self.received > REFILL:
                self.socket.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self.received)))
                self.received = 0
        elif kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            raise ConnectionError("the server wants no more calls")
        return kind in (DATA, HEADERS) and bool(flags & END_STREAM)
