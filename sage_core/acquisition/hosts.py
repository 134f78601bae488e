"""Which hosts may be talked to, and which have had enough of us.

A URL comes from anybody. Without a guard it could make this machine fetch from its own loopback
services, a router, or a cloud's metadata address and keep the answer as a "video". So every address is
checked after name look-up, at each connection (see :mod:`sage_core.acquisition.guard`).
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sage_core.acquisition.room import Room
from sage_core.errors import SourceError
from sage_core.types import Reason

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SCHEMES = ("http", "https")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def host_of(url: str) -> str:
    """The lower-case host name of a URL, without user, port and trailing dot; "" where there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def is_public(address: Address) -> bool:
    """Whether an address is one of the public Internet, also where IPv6 only wraps an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(wrapped)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


@dataclass(frozen=True)
class _Rule:
    network: Network
    port: int | None

    def covers(self, address: Address, port: int | None) -> bool:
        return address in self.network and self.port in (None, port)


class HostGuard:
    """Decides on addresses and URLs: public ones pass, others only where ``allow_hosts`` names them.

    ``proxies`` are URLs of proxies in use; connections to them pass, and names that cannot be resolved
    here are left to them.
    """

    def __init__(self, allow_hosts: Sequence[str] = (), proxies: Iterable[str] = ()) -> None:
        self.proxies = [url for url in proxies if url]
        self._own = [rule for text in allow_hosts for rule in _rules(text)]
        self._proxy_rules = [rule for url in self.proxies for rule in _proxy_rules(url)]

    def allows(self, address: str, port: int | None = None) -> bool:
        """Whether a connection to a numeric address may be opened."""
        found = _numeric(address)
        if found is None:
            return False
        return is_public(found) or any(
            rule.covers(found, port) for rule in [*self._own, *self._proxy_rules]
        )

    def is_own(self, url: str) -> bool:
        """Whether ``allow_hosts`` names the URL's host by its address or name."""
        try:
            addresses = _resolve(*_host_and_port(url))
        except (OSError, UnicodeError, SourceError):
            return False
        port = _host_and_port(url)[1]
        return all(any(r.covers(a, port) for r in self._own) for a in addresses)

    def check(self, url: str) -> None:
        """Let a URL pass, or say why not.

        Raises:
            SourceError: a scheme other than http(s), no host, a host that does not exist, or one that
                resolves to an address that is not public and not allowed.
        """
        host, port = _host_and_port(url)
        try:
            addresses = _resolve(host, port)
        except (OSError, UnicodeError) as error:
            if self.proxies:
                return
            raise _unresolved(host, error) from error
        for address in addresses:
            if not self.allows(str(address), port):
                named = host if host == str(address) else f"{host} ({address})"
                raise SourceError(
                    f"{named} is not a public host, so it is not fetched from: to allow it, put "
                    f"{host!r} into acquire.allow_hosts",
                    reason=Reason.FORBIDDEN_HOST,
                )


class HostGate:
    """Which hosts refuse us in this run; shared by all its downloads, safe for threads.

    A bot wall closes a host at once, HTTP 429 after ``block_after`` in a row; closed, a host gets no
    further request until the run ends, since asking on only makes the wall higher. ``room`` is what the
    downloads may fill; None for no limit.
    """

    def __init__(self, block_after: int = 3, room: Room | None = None) -> None:
        self.room = room
        self._block_after = block_after
        self._refusals: dict[str, int] = {}
        self._closed: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def closed(self) -> dict[str, str]:
        """The hosts that are closed, each with the message that closed it."""
        with self._lock:
            return dict(self._closed)

    def check(self, url: str) -> None:
        """Raises SourceError (blocked, retryable) if the URL's host is closed."""
        host = _site(url)
        with self._lock:
            why = self._closed.get(host)
        if why is not None:
            raise SourceError(
                f"not fetched: downloads from {host} were stopped for this run, since it refused "
                f"us ({why}). Wait some hours, then run again with --retry failed; cookies, a slower "
                "acquire.sleep_s or another address may help",
                reason=Reason.BLOCKED,
                retryable=True,
            )

    def refused(self, url: str, why: str, *, wall: bool) -> None:
        """Count a refusal; ``wall`` when the site said that it takes us for a bot."""
        host = _site(url)
        with self._lock:
            self._refusals[host] = self._refusals.get(host, 0) + 1
            if wall or self._refusals[host] >= self._block_after:
                self._closed.setdefault(host, why)

    def served(self, url: str) -> None:
        """The host answered: refusals are counted from zero again."""
        with self._lock:
            self._refusals.pop(_site(url), None)


def _site(url: str) -> str:
    host = host_of(url)
    for prefix in ("www.", "m."):
        host = host.removeprefix(prefix)
    return host


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = host_of(url), parts.port
    except ValueError as error:
        raise SourceError(f"{url!r} is not a URL that can be read: {error}") from error
    if parts.scheme.lower() not in _SCHEMES:
        raise SourceError(
            f"{url!r}: only http and https are fetched, not {parts.scheme or 'this'!r}"
        )
    if not host:
        raise SourceError(f"{url!r} names no host")
    return host, port or (443 if parts.scheme.lower() == "https" else 80)


def _numeric(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return None


def _resolve(host: str, port: int | None) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    numeric = (_numeric(str(entry[4][0])) for entry in found)
    return sorted({a for a in numeric if a is not None}, key=lambda a: (a.version, int(a)))


def _unresolved(host: str, error: OSError | UnicodeError) -> SourceError:
    unknown = not isinstance(error, OSError) or error.errno == socket.EAI_NONAME
    why = error.strerror if isinstance(error, OSError) else error
    return SourceError(
        f"the host {host} cannot be found ({why}): check the name"
        + ("" if unknown else " and the network, then run again"),
        reason=Reason.NOT_FOUND if unknown else Reason.TRANSIENT,
        retryable=not unknown,
    )


def _rules(text: str) -> list[_Rule]:
    """One entry of ``allow_hosts`` as networks; a name stands for the addresses that it has now."""
    host, port = _split_port(text.strip())
    try:
        return [_Rule(ipaddress.ip_network(host, strict=False), port)]
    except ValueError:
        pass
    try:
        return [_Rule(ipaddress.ip_network(a), port) for a in _resolve(host, port)]
    except (OSError, UnicodeError):
        return []


def _proxy_rules(url: str) -> list[_Rule]:
    parts = urlsplit(url if "//" in url else f"//{url}")
    default = {"https": 443, "socks5": 1080, "socks5h": 1080, "socks4": 1080}
    port = parts.port or default.get(parts.scheme, 80)
    return _rules(
        f"[{parts.hostname}]:{port}"
        if ":" in (parts.hostname or "")
        else f"{parts.hostname}:{port}"
    )


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest[1:]) if rest[1:].isdigit() else None
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and ":" not in host:
        return host, int(port)
    return text, None
