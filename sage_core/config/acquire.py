"""Settings of the stage acquire."""

from __future__ import annotations

from typing import Self

from pydantic import field_validator, model_validator

from sage_core.config._base import Section, setting, subsection
from sage_core.config.policy import PolicyConfig


class AcquireConfig(Section):
    """The stage acquire: what may be fetched from where, how politely, and what is checked afterwards."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)

    allow_hosts: list[str] = setting(
        [],
        "Private or loopback hosts that may be fetched from all the same: names, addresses, networks "
        "(10.0.0.0/8), each with or without :port. They are taken as one's own: no pauses between requests.",
        affects_result=False,
    )
    policy: PolicyConfig = subsection(PolicyConfig, affects_result=False)
    max_height_px: int = setting(
        1080,
        "Cap on the short side, in pixels, where a site offers several sizes.",
        ge=144,
        le=8192,
    )
    max_file_mb: int = setting(
        4096, "Largest file that is fetched or copied, in MiB.", ge=1, le=1_000_000
    )
    max_duration_s: float = setting(
        4 * 3600, "Longest video that is fetched, in seconds; known before the download.", gt=0
    )
    max_entries: int = setting(
        1000, "Most entries taken from one playlist or channel.", ge=1, le=1_000_000
    )
    duration_tolerance: float = setting(
        0.05,
        "Share by which the frames' span may differ from the duration that header or site promise; "
        "one second is always forgiven.",
        ge=0,
        le=1,
    )
    min_decoded_share: float = setting(
        0.9, "Least share of the key frames that must decode.", gt=0, le=1
    )
    min_images: int = setting(
        3, "Fewest readable images that make a folder a photo set.", ge=2, le=10_000
    )
    link_local_files: bool = setting(
        False,
        "Hard-link local videos into the workspace where the file system can, instead of copying them.",
        affects_result=False,
    )

    retries: int = setting(
        3,
        "Further attempts after a passing fault of network or server.",
        ge=0,
        le=20,
        affects_result=False,
    )
    retry_wait_s: float = setting(
        4.0,
        "Pause before the first further attempt, in seconds; doubles each time, with jitter.",
        ge=0,
        le=3600,
        affects_result=False,
    )
    block_after: int = setting(
        3,
        "Refusals (HTTP 429) in a row after which a host gets no more requests in this run; "
        "a bot wall ends it at once.",
        ge=1,
        le=1000,
        affects_result=False,
    )
    socket_timeout_s: float = setting(
        20.0, "Longest silence of a connection, in seconds.", gt=0, le=600, affects_result=False
    )
    stall_s: float = setting(
        60.0,
        "Window, in seconds, in which a download must bring at least stall_kib.",
        gt=0,
        le=3600,
        affects_result=False,
    )
    stall_kib: float = setting(
        64.0, "Least a download must bring in stall_s, in KiB.", ge=0, affects_result=False
    )
    download_timeout_s: float = setting(
        3600.0, "Longest time for one download, in seconds.", gt=0, affects_result=False
    )
    downloads: int = setting(
        8,
        "Downloads at a time on this machine, over all workspaces and runs; run.workers bounds those of one.",
        ge=1,
        le=256,
        affects_result=False,
    )
    rate_limit_kib_s: float | None = setting(
        None, "Cap on the speed of one download, in KiB/s.", gt=0, affects_result=False
    )
    sleep_s: float = setting(
        5.0, "Shortest pause before a download, in seconds.", ge=0, le=3600, affects_result=False
    )
    max_sleep_s: float = setting(
        10.0,
        "Longest pause before a download, in seconds (drawn between sleep_s and this).",
        ge=0,
        le=3600,
        affects_result=False,
    )
    sleep_requests_s: float = setting(
        0.75,
        "Pause between requests while a site is being read, in seconds.",
        ge=0,
        le=600,
        affects_result=False,
    )
    cookies_file: str | None = setting(
        None, "Netscape cookie file to send, for sites that want a login.", affects_result=False
    )
    netrc_file: str | None = setting(
        None,
        "File in netrc's form with logins for hosts that ask for a user and a password (HTTP basic "
        "authentication); URLs with a login in them are refused, since they are written down.",
        affects_result=False,
    )
    proxy: str | None = setting(
        None,
        "Proxy URL (http, https or socks5), without a login; without it the environment's (HTTPS_PROXY, …) "
        "are used, which may have one. "
        "The proxy then resolves names, so that it must guard its own network.",
        affects_result=False,
    )
    extractor_args: dict[str, dict[str, list[str]]] = setting(
        {},
        "Arguments for yt-dlp's extractors, e.g. {youtube: {player_client: [web]}}.",
        affects_result=False,
    )

    @field_validator("proxy")
    @classmethod
    def _no_login(cls, proxy: str | None) -> str | None:
        if proxy and "@" in proxy:
            raise ValueError("settings are written down: set HTTPS_PROXY for a proxy with a login")
        return proxy

    @model_validator(mode="after")
    def _sleeps_in_order(self) -> Self:
        if self.max_sleep_s < self.sleep_s:
            raise ValueError(
                f"max_sleep_s ({self.max_sleep_s:g}) is below sleep_s ({self.sleep_s:g}): set both"
            )
        return self
