"""The weights that their authors publish, as facts: where, how large, under which licence."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sage_core.errors import ConfigError

_HF = "https://huggingface.co"
_NON_COMMERCIAL = "CC BY-NC 4.0"
_MVDUST3R = f"{_HF}/Zhenggang/MV-DUSt3R/resolve/main/checkpoints"
_MVDUST3R_PAGE = "https://github.com/facebookresearch/mvdust3r"
_VGGT_PAGE = "https://github.com/facebookresearch/vggt"
_PI3_PAGE = "https://github.com/yyfz/Pi3"
_MAPANYTHING_PAGE = "https://github.com/facebookresearch/map-anything"


@dataclass(frozen=True)
class PublishedModel:
    """Weights that a name stands for.

    Attributes:
        name: what ``sage models pull`` and ``adapt.base`` call it.
        architecture: as in the registry of models.
        parameters_m: millions of parameters, where known.
        licence: of the weights.
        commercial: whether the licence allows commercial use.
        page: where the authors describe weights and licence.
        url: of the weights file.
        beside: further files that the model needs, by name, next to the weights.
        size_bytes: of the weights file, where known.
        sha256: of the weights file, where known; otherwise the first download is trusted and remembered.
        gated: whether the publisher asks for a login, which SAGE does not do.
    """

    name: str
    architecture: str
    parameters_m: float | None
    licence: str
    commercial: bool
    page: str
    url: str
    beside: tuple[str, ...] = ()
    size_bytes: int | None = None
    sha256: str | None = None
    gated: bool = False

    @property
    def file(self) -> str:
        """Name of the weights file."""
        return self.url.rpartition("/")[2]

    def notice(self) -> str:
        """What has to be accepted before the weights are used."""
        use = (
            "commercial use is allowed under its terms" if self.commercial else "no commercial use"
        )
        return (
            f"The weights of {self.name} are under {self.licence}: {use}. Weights adapted from them, and "
            f"what SAGE saves of them, stay under it. Terms: {self.page}"
        )


PUBLISHED = (
    PublishedModel(
        "mvdust3r", "mvdust3r", 548, _NON_COMMERCIAL, False, _MVDUST3R_PAGE,
        f"{_MVDUST3R}/MVD.pth", size_bytes=6_577_062_741,
    ),
    PublishedModel(
        "mvdust3r_plus", "mvdust3r", 661, _NON_COMMERCIAL, False, _MVDUST3R_PAGE,
        f"{_MVDUST3R}/MVDp_s2.pth",
    ),
    PublishedModel(
        "mvdust3r_plus_stage1", "mvdust3r", 661, _NON_COMMERCIAL, False, _MVDUST3R_PAGE,
        f"{_MVDUST3R}/MVDp_s1.pth",
    ),
    PublishedModel(
        "vggt-1b", "vggt", 1257, _NON_COMMERCIAL, False, _VGGT_PAGE,
        f"{_HF}/facebook/VGGT-1B/resolve/main/model.safetensors",
    ),
    PublishedModel(
        "vggt-1b-commercial", "vggt", 1257, "VGGT License v1", True, _VGGT_PAGE,
        f"{_HF}/facebook/VGGT-1B-Commercial/resolve/main/vggt_1B_commercial.pt", gated=True,
    ),
    PublishedModel(
        "pi3", "pi3", 959, _NON_COMMERCIAL, False, _PI3_PAGE,
        f"{_HF}/yyfz233/Pi3/resolve/main/model.safetensors",
    ),
    PublishedModel(
        "pi3x", "pi3", None, _NON_COMMERCIAL, False, _PI3_PAGE,
        f"{_HF}/yyfz233/Pi3X/resolve/main/model.safetensors",
    ),
    PublishedModel(
        "map-anything", "mapanything", 1229, _NON_COMMERCIAL, False, _MAPANYTHING_PAGE,
        f"{_HF}/facebook/map-anything/resolve/main/model.safetensors",
        beside=("config.json",), size_bytes=4_914_062_480,
    ),
    PublishedModel(
        "map-anything-apache", "mapanything", 1229, "Apache-2.0", True, _MAPANYTHING_PAGE,
        f"{_HF}/facebook/map-anything-apache/resolve/main/model.safetensors",
        beside=("config.json",),
    ),
)  # fmt: skip


def shipped(name: str) -> Path | None:
    """The weights of that name that come with SAGE, if there are any."""
    path = Path(str(resources.files("sage_core") / "models" / "weights" / f"{name}.safetensors"))
    return path if path.is_file() else None


def published(name: str) -> PublishedModel:
    """The entry of that name.

    Raises:
        ConfigError: no such name, or one that ships with SAGE.
    """
    for entry in PUBLISHED:
        if entry.name == name:
            return entry
    if shipped(name):
        raise ConfigError(
            f"{name} ships with SAGE, so there is nothing to fetch: use it as adapt.base={name}"
        )
    names = ", ".join(entry.name for entry in PUBLISHED)
    raise ConfigError(f"no published model {name!r} is known here: {names} are")
