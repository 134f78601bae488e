"""A contact sheet of MiniWorld: ``python -m sage_core.world.contact --out docs/miniworld.jpg``."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from sage_core.world.domains import DOMAINS, Domain, domain_sample

_HEIGHT, _WIDTH, _COLUMNS, _MARGIN = 150, 200, 6, 30
_INK, _PAPER = (60, 60, 60), 250
Image = npt.NDArray[np.uint8]


def contact_sheet() -> Image:
    """A row or two for each domain: scenes of all its families, and what it is for; uint8 [H, W, 3]."""
    return np.concatenate([_strip(domain) for domain in DOMAINS.values()])


def _strip(domain: Domain) -> Image:
    rows = -(-len(domain.families) // _COLUMNS)
    seeds = domain.seeds(rows * _COLUMNS)
    views = [domain_sample(domain, seed, 1, (_HEIGHT, _WIDTH)).images[0] for seed in seeds]
    lines = [
        np.concatenate(views[i : i + _COLUMNS], axis=1) for i in range(0, len(views), _COLUMNS)
    ]
    head = np.full((_MARGIN, _WIDTH * _COLUMNS, 3), _PAPER, np.uint8)
    text = f"{domain.name}: {domain.about} ({', '.join(domain.families)})"
    cv2.putText(head, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return np.asarray(np.concatenate([head, *lines]))


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description="Draw scenes of every domain of MiniWorld.")
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    cv2.imwrite(str(out), contact_sheet()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    main()
