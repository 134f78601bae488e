"""Whether a video may be mined: the rules of ``acquire.policy`` on what is known of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sage_core.acquisition.hosts import host_of
from sage_core.acquisition.licences import UNKNOWN, short_licence
from sage_core.config.policy import PolicyConfig, Unknown
from sage_core.errors import SourceError
from sage_core.types import Figure, Judgement, Reason

POLICY_REASONS = (
    Reason.DENIED_SOURCE,
    Reason.DENIED_UPLOADER,
    Reason.DENIED_LICENCE,
    Reason.FORGOTTEN,
)
_UPLOADER_FIELDS = ("uploader_id", "channel_id", "uploader", "channel")
_MOST_SHOWN = 200


@dataclass(frozen=True)
class Refusal:
    """A rule that a video does not keep: the reason, in words, and what was found against the rule."""

    reason: Reason
    message: str
    figures: dict[str, Figure]

    def judgement(self) -> Judgement:
        """This refusal as the verdict *rejected*."""
        return Judgement.reject(self.reason, self.message, self.figures)


class RefusedError(SourceError):
    """A fetch that stopped because of a rule."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message, reason=refusal.reason)
        self.refusal = refusal


def refused_url(url: str, policy: PolicyConfig) -> Refusal | None:
    """The rule on hosts and URLs that a source's canonical URL does not keep, or None."""
    host = host_of(url)
    if policy.only_hosts and not _is_on(host, policy.only_hosts):
        return _refusal(Reason.DENIED_SOURCE, "host", host, "only_hosts", policy.only_hosts)
    if (denied := denied_host(url, policy)) is not None:
        return denied
    if policy.only_urls and not _matches(url, policy.only_urls):
        return _refusal(Reason.DENIED_SOURCE, "url", url, "only_urls", policy.only_urls)
    if _matches(url, policy.deny_urls):
        return _refusal(Reason.DENIED_SOURCE, "url", url, "deny_urls", policy.deny_urls)
    return None


def denied_host(url: str, policy: PolicyConfig) -> Refusal | None:
    """The refusal of a URL that is about to be requested, if ``deny_hosts`` names its host."""
    host = host_of(url)
    if not _is_on(host, policy.deny_hosts):
        return None
    return _refusal(Reason.DENIED_SOURCE, "host", host, "deny_hosts", policy.deny_hosts)


def refused_file(policy: PolicyConfig) -> Refusal | None:
    """The refusal of local files, where ``acquire.policy.files`` is off."""
    if policy.files:
        return None
    message = "it lies on this machine, and acquire.policy.files is off"
    return Refusal(Reason.DENIED_SOURCE, message, {"file": Figure(True, "false", "==")})


def refused_facts(
    facts: Mapping[str, Any], policy: PolicyConfig, forgotten: Collection[str] = ()
) -> Refusal | None:
    """The rule on uploader and licence that a site's facts do not keep, or None.

    ``forgotten``: hashes (:func:`uploader_hash`) of uploaders whose videos were all removed.
    """
    names = uploaders(facts)
    who = names[0] if names else UNKNOWN
    if forgotten and any(uploader_hash(name) in forgotten for name in names):
        message = "all videos of its uploader were removed by `sage forget`"
        return Refusal(Reason.FORGOTTEN, message, {"uploader": Figure("forgotten")})
    low = {name.casefold() for name in names}
    if policy.only_uploaders and not low & _folded(policy.only_uploaders):
        return _refusal(
            Reason.DENIED_UPLOADER, "uploader", who, "only_uploaders", policy.only_uploaders
        )
    if low & _folded(policy.deny_uploaders):
        return _refusal(
            Reason.DENIED_UPLOADER, "uploader", who, "deny_uploaders", policy.deny_uploaders
        )
    return _refused_licence(str(facts.get("license") or ""), policy)


def uploaders(facts: Mapping[str, Any]) -> list[str]:
    """Every id and name that a site tells of who uploaded a video, ids first."""
    found = (str(facts[name]) for name in _UPLOADER_FIELDS if facts.get(name))
    return list(dict.fromkeys(found))


def uploader_hash(name: str) -> str:
    """SHA-256 of an uploader's id or name, in any case: a list of them names nobody."""
    return hashlib.sha256(name.strip().casefold().encode()).hexdigest()


def policy_hash(policy: PolicyConfig, forgotten: Collection[str] = ()) -> str:
    """Sixteen hex digits over all rules: tells whether a refusal was made under these."""
    text = policy.model_dump_json() + "".join(sorted(forgotten))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refused_licence(words: str, policy: PolicyConfig) -> Refusal | None:
    name = short_licence(words)
    known = [text for text in (name, words.casefold()) if text]
    shown = name if name != UNKNOWN or not words else words[:_MOST_SHOWN]

    def matches(patterns: Sequence[str]) -> bool:
        return any(_matches(text, [p.casefold() for p in patterns]) for text in known)

    if matches(policy.deny_licences):
        rule = "deny_licences", policy.deny_licences
        return _refusal(Reason.DENIED_LICENCE, "licence", shown, *rule)
    if matches(policy.only_licences):
        return None
    if name == UNKNOWN:
        if policy.unknown_licence is Unknown.ACCEPT:
            return None
        rule = "unknown_licence", [Unknown.REJECT.value]
        return _refusal(Reason.DENIED_LICENCE, "licence", shown, *rule)
    if policy.only_licences:
        rule = "only_licences", policy.only_licences
        return _refusal(Reason.DENIED_LICENCE, "licence", shown, *rule)
    return None


def _refusal(reason: Reason, what: str, value: str, rule: str, wanted: Iterable[str]) -> Refusal:
    listed = ", ".join(wanted)[:_MOST_SHOWN]
    figure = Figure(value[:_MOST_SHOWN], listed, "in" if rule.startswith("only") else "not in")
    message = f"its {what} {value[:_MOST_SHOWN]!r} is against acquire.policy.{rule}: {listed}"
    return Refusal(reason, message, {what: figure})


def _is_on(host: str, names: Iterable[str]) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in map(_host, names))


def _host(name: str) -> str:
    return name.strip().rstrip(".").removeprefix("*.").removeprefix(".").lower()


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _folded(names: Iterable[str]) -> set[str]:
    return {name.strip().casefold() for name in names}
