"""What may be mined at all: sources, uploaders, licences."""

from __future__ import annotations

from enum import StrEnum

from sage_core.config._base import Section, setting


class Unknown(StrEnum):
    """What to do with a video of which the site does not tell a licence."""

    ACCEPT = "accept"
    REJECT = "reject"


class PolicyConfig(Section):
    """What may be mined at all; an empty list sets no rule.

    Not part of the config hash: what the policy allows now as before is not fetched again, and what it no
    longer allows is judged anew from what is known of it.
    """

    only_hosts: list[str] = setting(
        [],
        "Hosts that sources may lie on, with their subdomains, e.g. [vimeo.com]; empty for any. A site's own "
        "media servers need not be named.",
        affects_result=False,
    )
    deny_hosts: list[str] = setting(
        [],
        "Hosts that nothing is fetched from, with their subdomains; also checked after every redirect.",
        affects_result=False,
    )
    only_urls: list[str] = setting(
        [],
        "Patterns of which a source's URL must match one, e.g. ['*/nature/*']; * stands for anything.",
        affects_result=False,
    )
    deny_urls: list[str] = setting(
        [], "Patterns of URLs that are not fetched, as in only_urls.", affects_result=False
    )
    only_uploaders: list[str] = setting(
        [],
        "Ids or names of channels and uploaders, as the site tells them, in any case; empty for any. "
        "Names can be changed by who bears them: prefer ids.",
        affects_result=False,
    )
    deny_uploaders: list[str] = setting(
        [],
        "Ids or names of channels and uploaders whose videos are not fetched.",
        affects_result=False,
    )
    only_licences: list[str] = setting(
        [],
        "Licences that are wanted, as patterns of their short names (cc0, cc-by, cc-by-sa, cc-by-nd, "
        "cc-by-nc, cc-by-nc-sa, cc-by-nc-nd, public-domain; [cc*] for all of Creative Commons) or of the "
        "site's own words.",
        affects_result=False,
    )
    deny_licences: list[str] = setting(
        [], "Licences that are not wanted, e.g. ['*-nc*', '*-nd'].", affects_result=False
    )
    unknown_licence: Unknown = setting(
        Unknown.ACCEPT,
        "What to do where the site tells no licence, or one that is not known by a short name, and "
        "only_licences does not match it: with only_licences, reject is what one usually wants.",
        affects_result=False,
    )
    files: bool = setting(
        True,
        "Whether sources may name files and folders of this machine; turn it off where lists come "
        "from others.",
        affects_result=False,
    )
    apply_to_files: bool = setting(
        False,
        "Hold local files to the rules on uploaders and licences, too: by the .info.json that yt-dlp writes "
        "beside a video.",
        affects_result=False,
    )
