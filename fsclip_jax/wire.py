"""Words between the processes of a job: all go through process 0, and no loss of one goes unheard.

A line of JSON a word, over TCP. What is heard is kept as text and nothing of it is run.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from fsclip_jax.errors import UserError, some, tell
from fsclip_jax.stopping import leave

FAILED = "failed"
PATIENCE = 300.0
"""Seconds in which the processes must have met: schedulers do not start them all at once."""

_BYE = "bye"
_GREETING = "fsclip"
_SHOWN_AFTER = 5.0  # seconds of waiting
_GRACE = 2.0  # seconds in which the work may end by itself once another process failed
_CLEARING_UP = 10.0  # seconds until the process ends, however busy it is
_LONGEST = 2**28  # letters of a line


class Wire:
    """The links of one process, and the words that it has heard."""

    def __init__(self, index: int, links: Mapping[int, socket.socket]) -> None:
        self.index = index
        self._links = dict(links)
        self._words: dict[str, str] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._ends = threading.Event()
        self._stderr = os.dup(2)  # JAX meets in silence
        for other, link in self._links.items():
            threading.Thread(target=self._read, args=(other, link), daemon=True).start()

    @property
    def failure(self) -> str | None:
        """What has gone wrong in another process, or in this one; None where all is well."""
        return self._words.get(FAILED)

    def tell(self, name: str, word: str = "") -> None:
        """Say something to all others, for good."""
        self._keep(name, word)
        self._send(name, word)

    def hear(self, name: str, seconds: float) -> str | None:
        """Return the word once somebody has told ``name``; None after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: name in self._words or self.failure, seconds)
            return self._words.get(name)

    def ending(self) -> None:
        """This process has begun to end, and says why itself."""
        self._ends.set()

    def bye(self) -> None:
        """This process is done: that its link ends is no loss."""
        self._send(f"{_BYE}/{self.index}", "")

    def _send(self, name: str, word: str, but: int | None = None) -> None:
        line = (json.dumps([name, word]) + "\n").encode()
        with self._sending:
            for other, link in self._links.items():
                if other != but:
                    with suppress(OSError):  # whoever reads the link finds that it has ended
                        link.sendall(line)

    def _keep(self, name: str, word: str) -> None:
        with self._changed:
            first = FAILED not in self._words
            if name != FAILED or first:
                self._words[name] = word
            self._changed.notify_all()
        if name == FAILED and first:
            threading.Thread(target=self._insist, args=(word,), daemon=True).start()

    def _read(self, other: int, link: socket.socket) -> None:
        with suppress(OSError, ValueError), link.makefile("r", encoding="utf-8") as lines:
            while line := lines.readline(_LONGEST):
                name, word = map(str, json.loads(line))
                self._keep(name, word)
                self._send(name, word, but=other)  # process 0 has all links, the others one
        if f"{_BYE}/{other}" not in self._words:
            self.tell(FAILED, f"process {other} was killed, or the connection to it was lost")

    def _insist(self, reason: str) -> None:
        """End the process if it does not end: one that computes with a lost one waits for ever."""
        if not self._ends.wait(_GRACE):
            os.write(self._stderr, f"fsclip: error: {because(reason)}\n".encode(errors="replace"))
            leave(2)
        time.sleep(_CLEARING_UP)
        leave(2)


def because(reason: str) -> str:
    """Say that this process stops as another one did."""
    return f"stopped, for another process did: {reason}"


def listen(port: int) -> socket.socket:
    """Open the port of process 0; 0 means any.

    Raises:
        UserError: it is taken, or may not be opened.
    """
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise UserError(
            f"--coordinator: process 0 cannot listen on port {port} ({error.strerror or error}): "
            "give another port, the same to every process"
        ) from error


def gather(server: socket.socket, count: int, patience: float = PATIENCE) -> Wire:
    """Wait as process 0 until the others have come.

    Raises:
        UserError: some have not, or one was started for another number of processes.
    """
    links: dict[int, socket.socket] = {}
    waiting = _Waiting(patience)
    with server:
        server.settimeout(0.2)
        while len(links) < count - 1:
            missing = [str(i) for i in range(1, count) if i not in links]
            if waiting.over(f"process {some(missing)} of {count}"):
                raise UserError(
                    f"of {count} processes these have not come within {patience:.0f} s: "
                    f"{some(missing)}; start one with each --process from 0 to {count - 1}"
                )
            with suppress(TimeoutError):
                _welcome(server.accept()[0], links, count)
    return Wire(0, links)


def _welcome(link: socket.socket, links: dict[int, socket.socket], count: int) -> None:
    """Take a process in, tell it why not, or drop what is none."""
    try:
        link.settimeout(5)
        words = _line(link).split()
        if len(words) != 3 or words[0] != _GREETING or not all(w.isdigit() for w in words[1:]):
            link.close()
            return
        told, index = map(int, words[1:])
        wrong = ""
        if told != count:
            wrong = (
                f"--processes is {told} for process {index} and {count} for process 0: "
                "give the same to every process"
            )
        elif not 0 < index < count or index in links:
            wrong = f"--process {index} was started twice; each has a number of its own"
        link.sendall(f"{wrong or 'welcome'}\n".encode())
        if wrong and told != count:
            raise UserError(wrong)
        if wrong:
            link.close()
            return
    except OSError:
        link.close()
        return
    links[index] = _kept_alive(link)


def reach(
    places: list[tuple[str, int]], index: int, count: int, patience: float = PATIENCE
) -> Wire:
    """Connect a process other than 0 with process 0, at one of its addresses.

    Raises:
        UserError: it cannot be reached, or this process does not fit in.
    """
    waiting, at = _Waiting(patience), f"{places[0][0]}:{places[0][1]}"
    why: OSError | None = None
    while not waiting.over(f"process 0 at {at}"):
        for place in places:
            try:
                link = socket.create_connection(place, timeout=5)
                link.sendall(f"{_GREETING} {count} {index}\n".encode())
                link.settimeout(patience)
                answer = _line(link)
                if not answer:
                    raise ConnectionError("it hung up")
            except socket.gaierror as error:
                if len(places) == 1 and error.errno == socket.EAI_NONAME:
                    raise UserError(
                        f"--coordinator {at}: nobody knows the host {place[0]}"
                    ) from error
                why = error
            except OSError as error:
                why = error
            else:
                if answer.startswith("--process"):
                    raise UserError(answer)
                if answer != "welcome":
                    raise UserError(
                        f"--coordinator {at}: something else listens there, not a process 0 of "
                        "fsclip; give a port that is free"
                    )
                return Wire(index, {0: _kept_alive(link)})
        time.sleep(0.2)
    raise UserError(
        f"process 0 cannot be reached at {at} ({why}): start it too, and give every process the "
        "same --coordinator HOST:PORT, an address of the host of process 0"
    )


def _line(link: socket.socket, most: int = 300) -> str:
    """The first line of a link, and nothing of what follows it."""
    data = b""
    while not data.endswith(b"\n") and len(data) < most and (one := link.recv(1)):
        data += one
    return data.decode("utf-8", "replace").strip()


class _Waiting:
    """How long one has waited; after a while the user is told for whom."""

    def __init__(self, patience: float) -> None:
        self._began, self._patience, self._told = time.monotonic(), patience, False

    def over(self, whom: str) -> bool:
        waited = time.monotonic() - self._began
        if waited > _SHOWN_AFTER and not self._told:
            self._told = True
            tell([f"waiting for {whom}"])
        return waited > self._patience


def _kept_alive(link: socket.socket) -> socket.socket:
    """Let a link whose other end has lost its power or its network end within half a minute."""
    link.settimeout(None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):  # not everywhere
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return link


def own_addresses() -> list[str]:
    """Under which names and numbers other hosts may find this one, the likeliest first."""
    tries: list[Callable[[], str]] = [_outward, socket.getfqdn, socket.gethostname]
    found = []
    for each in tries:
        with suppress(OSError):
            found.append(each())
    return list(dict.fromkeys([*found, "localhost"]))


def _outward() -> str:
    """The number from which this host would speak to others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
