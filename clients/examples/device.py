#!/usr/bin/env python3
"""A device in plain Python: every line of its input becomes a frame, acknowledged when it is durable.

    seq 1000 | TROUGH_TOKEN=tdev_… clients/examples/device.py ws://127.0.0.1:8080 --state device.json

Written from part 1 of docs/protocol.md alone, to show that this is enough (`trough.v1`, no package needed). With
--state it goes on where it stopped, also after a crash: what is not acknowledged is in that file.
"""
import argparse, base64, collections, hashlib, itertools, json, os, random
import re, select, socket, ssl, struct, sys, time, urllib.parse

HELLO, FRAMES, SKIP, REWIND, COMMAND_RESULT, WELCOME, ACK, SERVER_REWIND, COMMAND = 1, 2, 3, 4, 5, 129, 130, 131, 132
TAKES_COMMANDS, DONE, REJECTED = 1, 0, 1
HELD_FRAMES_MAX, MESSAGE_FRAMES_MAX, SILENCE_S = 10_000, 64, 35


class Closed(Exception):
    """The session is over: `wait` seconds until the next one, None for the back-off; `stop` for no further one."""

    def __init__(self, text, wait=None, stop=False):
        super().__init__(text)
        self.wait, self.stop = wait, stop


class Device:
    """What survives a session: the epoch, the last ack, and the frames that are not acknowledged."""

    def __init__(self, path):
        self.path, self.epoch, self.acked, self.held, self.sent = path, 0, 0, collections.deque(), 0
        self.done = collections.deque(maxlen=100)  # commands, so that one that comes again is not done again
        if path and os.path.exists(path):
            kept = json.load(open(path))
            self.epoch, self.acked = kept["epoch"], kept["acked"]
            self.held.extend(base64.b64decode(frame) for frame in kept["held"])

    @property
    def next(self):
        return self.acked + 1 + len(self.held)

    def save(self):
        if self.path:
            kept = {"epoch": self.epoch, "acked": self.acked, "held": [base64.b64encode(f).decode() for f in self.held]}
            with open(self.path + ".new", "w") as file:
                json.dump(kept, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.path + ".new", self.path)

    def add(self, payload, channel=b"log"):
        body = struct.pack("<QBB", time.time_ns() // 1000, len(channel), 2) + channel + payload
        self.held.append(struct.pack("<I", len(body)) + body)

    def ack(self, seq):
        while self.acked < seq and self.held:
            self.held.popleft()
            self.acked += 1
        self.acked = max(self.acked, seq)
        self.sent = max(self.sent, seq)

    def welcome(self, message):
        epoch, resume, _time, self.window, self.frame_max, self.message_max = struct.unpack_from("<QQQIII", message, 1)
        if epoch != self.epoch:
            self.epoch, self.acked = epoch, 0  # what is held is numbered from 1 by that
        self.ack(resume - 1)
        self.sent = self.acked
        if resume <= self.acked:  # the server's storage is an older copy, and those frames are gone here
            return struct.pack("<BQQB", SKIP, resume, self.acked, 3)

    def command(self, message):
        """Does a command, which here is to print it, and gives the answer."""
        name, (expires, code, _size) = message[1:17], struct.unpack_from("<QBH", message, 17)
        if name not in self.done:
            if expires < time.time_ns() // 1000:
                return struct.pack("<B16sBBH", COMMAND_RESULT, name, REJECTED, 0, 0)
            print(f"command {name.hex()}: {message[28 + max(code - 128, 0):]!r}", file=sys.stderr)
            self.done.append(name)
        return struct.pack("<B16sBBH", COMMAND_RESULT, name, DONE, 0, 0)

    def messages(self):
        """Frames messages for what was not sent, as far as the window allows."""
        in_flight = sum(len(frame) for frame in itertools.islice(self.held, self.sent - self.acked))
        while self.sent < self.next - 1:
            start, parts, size = self.sent - self.acked, [], 9
            for frame in itertools.islice(self.held, start, start + MESSAGE_FRAMES_MAX):
                if (parts or in_flight) and in_flight + size + len(frame) > min(self.window, in_flight + self.message_max):
                    break
                parts.append(frame)
                size += len(frame)
            if not parts:
                return
            yield struct.pack("<BQ", FRAMES, self.sent + 1) + b"".join(parts)
            self.sent += len(parts)
            in_flight += size - 9


class WebSocket:
    """RFC 6455, the part that a client needs."""

    def __init__(self, url, token):
        host, port, tls = url.hostname, url.port or (443 if url.scheme == "wss" else 80), url.scheme == "wss"
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=host)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: trough.v1\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        self.read, self.parts = b"", []
        while b"\r\n\r\n" not in self.read:
            self.receive()
        head, self.read = self.read.split(b"\r\n\r\n", 1)
        status = int(head.split(b" ", 2)[1])
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        if status != 101 or accept not in head:
            retry = re.search(rb"(?im)^retry-after: *(\d+)", head)
            text = f"HTTP {status} {self.read.decode(errors='replace')}"
            raise Closed(text, float(retry[1]) if retry else None, stop=400 <= status < 500)

    def receive(self):
        more = self.socket.recv(65536)
        if not more:
            raise Closed("the connection ended")
        self.read += more

    def send(self, payload, opcode=2):
        size, mask = len(payload), os.urandom(4)
        if size < 126:
            length = bytes([128 | size])
        else:
            length = struct.pack(">BH", 254, size) if size < 65536 else struct.pack(">BQ", 255, size)
        masked = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        self.socket.sendall(bytes([128 | opcode]) + length + mask + masked.to_bytes(size, "big"))

    def messages(self):
        """Whole binary messages of what was received; answers pings; raises Closed for a close."""
        while len(self.read) >= 2:
            size, at = self.read[1] & 127, 2
            if size > 125:
                size_bytes = 2 if size == 126 else 8
                size, at = int.from_bytes(self.read[2 : 2 + size_bytes], "big"), 2 + size_bytes
            if len(self.read) < at + size:
                return
            first, payload, self.read = self.read[0], self.read[at : at + size], self.read[at + size :]
            opcode = first & 15
            if opcode == 8:
                raise closed(int.from_bytes(payload[:2], "big") or 1005, payload[2:].decode(errors="replace"))
            elif opcode == 9:
                self.send(payload, 10)
            elif opcode in (0, 2):
                self.parts.append(payload)
                if first & 128:
                    yield b"".join(self.parts)
                    self.parts = []


class StaleEpoch(Closed):
    """Ask for a new epoch."""


def closed(code, reason):
    """What the ranges of close codes advise."""
    named = re.search(r" retry_after_ms=(\d+)", reason)
    text = f"closed: {code} {reason}"
    if code == 1012 or 4100 <= code <= 4199:
        return Closed(text, min(int(named[1]) if named else 10_000, 3_600_000) / 1000)
    if 4200 <= code <= 4299:
        return StaleEpoch(text, 0)
    return Closed(text, stop=4300 <= code <= 4499)


def session(device, web, lines):
    """One session; returns when the input has ended and everything is acknowledged."""
    hello = device.epoch, device.acked + 1, device.next, device.acked, TAKES_COMMANDS
    web.send(struct.pack("<BQQQQI", HELLO, *hello))
    welcomed, heard = False, time.monotonic()
    while True:
        for message in web.messages():
            if message[0] == WELCOME:
                if skip := device.welcome(message):
                    web.send(skip)
                welcomed = True
            elif message[0] == ACK:
                device.ack(struct.unpack_from("<Q", message, 1)[0])
            elif message[0] == SERVER_REWIND:
                seq = struct.unpack_from("<Q", message, 1)[0]
                web.send(struct.pack("<BQ", REWIND, seq))
                device.sent = seq - 1
            elif message[0] == COMMAND:
                web.send(device.command(message))
            device.save()
        if welcomed:
            for message in device.messages():
                web.send(message)
            if lines.ended and not device.held:
                return web.send(struct.pack(">H", 1000), 8)
        readable = [web.socket] + ([lines] if not lines.ended and len(device.held) < HELD_FRAMES_MAX else [])
        waits = not (isinstance(web.socket, ssl.SSLSocket) and web.socket.pending())
        ready = select.select(readable, [], [], 1)[0] if waits else [web.socket]
        if web.socket in ready:
            web.receive()
            heard = time.monotonic()
        if lines in ready:
            for line in lines.take():
                device.add(line)
            device.save()
        if time.monotonic() - heard > SILENCE_S:
            raise Closed(f"nothing came for {SILENCE_S} s")


class Lines:
    """Standard input, line by line, without waiting."""

    def __init__(self):
        self.rest, self.ended = b"", False

    def fileno(self):
        return 0

    def take(self):
        more = os.read(0, 65536)
        *lines, self.rest = (self.rest + more).split(b"\n")
        self.ended = not more
        return lines + ([self.rest] if self.ended and self.rest else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url", help="of the feeder: ws://HOST:PORT or wss://HOST")
    parser.add_argument("--state", help="file that holds what is not acknowledged", metavar="FILE")
    arguments = parser.parse_args()
    device, lines, failures = Device(arguments.state), Lines(), 0
    while True:
        try:
            session(device, WebSocket(urllib.parse.urlsplit(arguments.url), os.environ["TROUGH_TOKEN"]), lines)
            return print(f"everything is durable: epoch {device.epoch}, seq {device.acked}", file=sys.stderr)
        except (Closed, OSError) as error:
            print(error, file=sys.stderr)
            if getattr(error, "stop", False):
                sys.exit(1)
            if isinstance(error, StaleEpoch):
                device.epoch = device.acked = 0
            wait = getattr(error, "wait", None)
            failures = 0 if wait is not None else failures + 1
            time.sleep(random.uniform(0.1, min(0.1 * 2**failures, 30)) if wait is None else wait * random.uniform(1, 1.2))


if __name__ == "__main__":
    main()
