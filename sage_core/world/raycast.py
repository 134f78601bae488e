"""Exact ray casting of many small pictures at once, on CPU and GPU.

Every primitive is projected into every picture; tiles that its rectangle touches list it as a candidate.
Tiles are sorted by how long their lists are, so that round k of the intersection works on a prefix of
the rays, without gather or branch. The nearest hit is kept as one integer: the float's bits are ordered
like the float, and its lowest bits hold the candidate's number. Depth itself is computed again, exactly,
for the winner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from sage_core.world.scenes import Scene, Shape
from sage_core.world.textures import texture_bank

Tensor = torch.Tensor
_SLOT_BITS = 8
_SLOTS = 1 << (_SLOT_BITS - 1)
"""Candidates of each kind (flat, round) that a tile may list."""
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_NEAR = 0.02
_MISS = 1e38
"""Times the smallest gap between ray and solid it is still beyond ``_FAR``."""
_FAR = 1e6
_FAR_BITS = int(np.float32(_FAR).view(np.int32))
_EDGES = torch.tensor(
    [(a, b) for a in range(8) for b in range(8) if a < b and (a ^ b) in (1, 2, 4)]
)
_CORNERS = torch.tensor([[2.0 * (i >> k & 1) - 1 for k in range(3)] for i in range(8)])


@dataclass(frozen=True)
class PackedScenes:
    """Several scenes as flat tensors; primitive rows of scene s are ``first[s] .. first[s + 1]``.

    ``solids`` float [P + S, 9]: centre (3), half (3), cos and sin of yaw, material row; the last S rows
    are the rooms themselves, seen from inside. ``shape`` int [P + S]. ``materials`` float [M, 16]:
    texture's place in the atlas (2), repetitions a metre (2), offset (2), dark (3), light - dark (3),
    patina's place (2), repetitions a metre, weight.
    ``lights`` float [S, 12]: two lamps (4 each), ambient, tint (3). ``room`` float [S, 3]: its size.
    """

    first: list[int]
    solids: Tensor
    shape: Tensor
    materials: Tensor
    lights: Tensor
    room: Tensor
    atlas: Tensor


def pack_scenes(scenes: Sequence[Scene], device: torch.device) -> PackedScenes:
    """Scenes of one look, ready to be rendered together.

    Raises:
        ValueError: scenes with different texture banks.
    """
    looks = {scene.family.look.bank for scene in scenes}
    if len(looks) != 1:
        raise ValueError(f"scenes to be rendered together must share one look, not {sorted(looks)}")
    bank = texture_bank(looks.pop())
    solids, rooms, materials = [], [], []
    rows, first = 0, [0]
    for scene in scenes:
        turn = np.stack([np.cos(scene.yaw), np.sin(scene.yaw), scene.material + rows], axis=1)
        solids.append(np.concatenate([scene.centre, scene.half, turn], axis=1))
        half = np.asarray(scene.size) / 2
        rooms.append(np.concatenate([half, half, [1.0, 0.0, rows]]))
        materials.append(_material_rows(scene, bank.origin))
        rows += len(scene.materials)
        first.append(first[-1] + len(scene.shape))
    shapes = [scene.shape for scene in scenes] + [np.zeros(len(scenes), np.int64)]
    return PackedScenes(
        first=first,
        solids=_floats(np.concatenate([*solids, np.stack(rooms)]), device),
        shape=torch.from_numpy(np.concatenate(shapes)).to(device),
        materials=_floats(np.concatenate(materials), device),
        lights=_floats(np.stack([_light_row(scene) for scene in scenes]), device),
        room=_floats(np.stack([np.asarray(scene.size) for scene in scenes]), device),
        atlas=bank.to(device),
    )


def _floats(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(device)


def _material_rows(scene: Scene, origin: np.ndarray) -> np.ndarray:
    return np.array(
        [
            (
                *origin[m.texture],
                1 / m.period_m[0],
                1 / m.period_m[1],
                *m.offset,
                *m.dark,
                *(light - dark for light, dark in zip(m.light, m.dark, strict=True)),
                *origin[m.patina_texture],
                1 / m.patina_period_m,
                m.patina,
            )
            for m in scene.materials
        ]
    )


def _light_row(scene: Scene) -> np.ndarray:
    return np.concatenate([scene.lamps.reshape(-1), [scene.ambient], scene.tint])


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras of the pictures, as rays: direction = right * u + down * v + ahead.

    ``origin, right, down, ahead`` float [F, 3] in the world; u, v are pixels; the direction's depth in
    the camera is 1, so that a ray's parameter is the depth z. ``focal`` [F] pixels; ``scene`` int [F].
    """

    origin: Tensor
    right: Tensor
    down: Tensor
    ahead: Tensor
    focal: Tensor
    cam_from_world: Tensor
    intrinsics: Tensor
    scene: Tensor

    @classmethod
    def of(cls, cam_from_world: Tensor, intrinsics: Tensor, scene: Tensor) -> Cameras:
        """From float64 [F, 3, 4] and [F, 3, 3] (no skew), and the scene that each looks into."""
        rotation, translation = cam_from_world[:, :, :3], cam_from_world[:, :, 3:]
        fx, fy = intrinsics[:, 0, 0, None], intrinsics[:, 1, 1, None]
        cx, cy = intrinsics[:, 0, 2, None], intrinsics[:, 1, 2, None]
        right, down = rotation[:, 0] / fx, rotation[:, 1] / fy
        ahead = rotation[:, 2] - right * cx - down * cy
        origin = -(rotation.transpose(1, 2) @ translation)[..., 0]
        focal = torch.sqrt(fx * fy)[:, 0]
        return cls(
            origin.float(),
            right.float(),
            down.float(),
            ahead.float(),
            focal.float(),
            cam_from_world.float(),
            intrinsics.float(),
            scene,
        )

    def subset(self, frames: slice) -> Cameras:
        """Some of the pictures."""
        return Cameras(*(getattr(self, field.name)[frames] for field in fields(self)))


@dataclass(frozen=True)
class Blocks:
    """Groups of rays that share a picture and a list of candidates, longest flat list first.

    ``frame`` [B]; ``u, v`` float [B, m] pixels; ``flat, round`` int [B, K] solids with
    ``flat_count, round_count`` [B] of them in use.
    """

    frame: Tensor
    u: Tensor
    v: Tensor
    flat: Tensor
    flat_count: Tensor
    round: Tensor
    round_count: Tensor

    def rays(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """Origins [3, B, 1] and directions [3, B, m] in the world."""
        right, down, ahead = (
            vector[self.frame].t().contiguous()[..., None]
            for vector in (cameras.right, cameras.down, cameras.ahead)
        )
        direction = torch.addcmul(torch.addcmul(ahead, right, self.u), down, self.v)
        direction += 1e-12  # changes zeros alone, so that every slab has two finite ends
        return cameras.origin[self.frame].t().contiguous()[..., None], direction

    def subset(self, rows: Tensor, u: Tensor, v: Tensor) -> Blocks:
        """New groups with the candidates of these rows and other rays [len(rows), m]."""
        return Blocks(
            self.frame[rows], u, v, self.flat[rows], self.flat_count[rows],
            self.round[rows], self.round_count[rows],
        )  # fmt: skip


@dataclass(frozen=True)
class Hits:
    """What the rays met: ``solid`` int [B, m] (rows of ``solids``), the ``scene`` int [B] of each block,
    and the rays themselves: ``origin`` [3, B, 1], ``direction`` [3, B, m].
    """

    solid: Tensor
    scene: Tensor
    origin: Tensor
    direction: Tensor

    def portion(self, begin: int, end: int) -> Hits:
        """Those of consecutive groups."""
        return Hits(
            self.solid[begin:end],
            self.scene[begin:end],
            self.origin[:, begin:end],
            self.direction[:, begin:end],
        )


def bin_tiles(
    scenes: PackedScenes, cameras: Cameras, height: int, width: int, tile: int
) -> tuple[Blocks, Tensor]:
    """All pixels of all pictures in square tiles, with the solids that each tile may see.

    Sorted by falling number of flat candidates; the second result is the place of each among the tiles
    in order (picture, row, column). Those at the right and bottom may hang over.
    """
    device = cameras.origin.device
    tx, ty = -(-width // tile), -(-height // tile)
    frame, solid = _pairs(scenes, cameras)
    box = _rectangles(scenes.solids[solid], cameras, frame)
    low = (box[:, :2] / tile).floor().clamp(min=0).long()
    high = (box[:, 2:] / tile).floor().long() + 1
    high = torch.minimum(high, torch.tensor([tx, ty], device=device))
    spans = (high - low).clamp(min=0)
    count = spans[:, 0] * spans[:, 1]
    owner = torch.repeat_interleave(torch.arange(len(count), device=device), count)
    nth = torch.arange(len(owner), device=device) - (count.cumsum(0) - count)[owner]
    column = low[owner, 0] + nth % spans[owner, 0]
    row = low[owner, 1] + nth // spans[owner, 0]
    cell = (frame[owner] * ty + row) * tx + column
    total = len(cameras.scene) * ty * tx
    is_round = scenes.shape[solid[owner]] != Shape.BOX
    flat, flat_count = _lists(cell[~is_round], solid[owner][~is_round], total)
    rounds, round_count = _lists(cell[is_round], solid[owner][is_round], total)
    order = torch.argsort(flat_count, descending=True, stable=True)
    ramp = torch.arange(tile, device=device) + 0.5
    u = (order % tx * tile)[:, None] + ramp.repeat(tile)
    v = (order // tx % ty * tile)[:, None] + ramp.repeat_interleave(tile)
    lists = flat[order], flat_count[order], rounds[order], round_count[order]
    return Blocks(order // (tx * ty), u, v, *lists), order


def _pairs(scenes: PackedScenes, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Each picture with each solid of its scene."""
    first = torch.tensor(scenes.first, device=cameras.scene.device)
    count = (first[1:] - first[:-1])[cameras.scene]
    frame = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    nth = torch.arange(len(frame), device=count.device) - (count.cumsum(0) - count)[frame]
    return frame, first[cameras.scene[frame]] + nth


def _rectangles(solids: Tensor, cameras: Cameras, frame: Tensor) -> Tensor:
    """Pixel rectangle (left, top, right, bottom) of each solid's bounding box; empty if behind."""
    corners = _CORNERS.to(solids.device) * solids[:, None, 3:6]
    cos, sin = solids[:, 6, None], solids[:, 7, None]
    x, z = corners[..., 0], corners[..., 2]
    world = torch.stack([cos * x + sin * z, corners[..., 1], cos * z - sin * x], dim=-1)
    pose = cameras.cam_from_world[frame]
    camera = (world + solids[:, None, :3]) @ pose[:, :, :3].transpose(1, 2) + pose[:, None, :, 3]
    a, b = camera[:, _EDGES[:, 0]], camera[:, _EDGES[:, 1]]
    share = ((_NEAR - a[..., 2:]) / (b[..., 2:] - a[..., 2:])).nan_to_num(0, 0, 0)
    crosses = (a[..., 2] < _NEAR) != (b[..., 2] < _NEAR)
    points = torch.cat([camera, a + share.clamp(0, 1) * (b - a)], dim=1)
    seen = torch.cat([camera[..., 2] >= _NEAR, crosses], dim=1)[..., None]
    focal = torch.stack([cameras.intrinsics[:, 0, 0], cameras.intrinsics[:, 1, 1]], -1)[frame]
    centre = cameras.intrinsics[:, :2, 2][frame]
    pixel = (
        points[..., :2] / points[..., 2:].clamp(min=_NEAR / 2) * focal[:, None] + centre[:, None]
    )
    least = pixel.masked_fill(~seen, torch.inf).amin(1).clamp(-1, 1e6)
    most = pixel.masked_fill(~seen, -torch.inf).amax(1).clamp(-1, 1e6)
    return torch.cat([least - 0.01, most + 0.01], dim=1)


def _lists(cell: Tensor, solid: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Candidates of each cell as a padded table [total, K], and how many."""
    count = torch.bincount(cell, minlength=total)
    order = torch.argsort(cell, stable=True)
    nth = torch.arange(len(cell), device=cell.device) - (count.cumsum(0) - count)[cell[order]]
    longest = int(count.max()) if len(cell) else 0
    if longest >= _SLOTS:
        raise ValueError(
            f"{longest} solids of a kind in one tile of a picture, of at most {_SLOTS - 1}"
        )
    table = torch.zeros(total, max(longest, 1), dtype=torch.long, device=cell.device)
    table[cell[order], nth] = solid[order]
    return table, count


def nearest(scenes: PackedScenes, blocks: Blocks, cameras: Cameras) -> Hits:
    """What each ray of the blocks meets first: a thing or the room."""
    origin, direction = blocks.rays(cameras)
    best = torch.full_like(blocks.u, _FAR).view(torch.int32)
    slots = torch.arange(blocks.flat.shape[1], device=best.device)
    longer = (blocks.flat_count > slots[:, None]).sum(dim=1).tolist()
    for slot, rows in enumerate(longer):
        if not rows:
            break
        row = scenes.solids[blocks.flat[:rows, slot]]
        depth = _into_boxes(row, origin[:, :rows], direction[:, :rows])
        torch.minimum(best[:rows], _packed(depth, slot), out=best[:rows])
    _meet_round(scenes, blocks, origin, direction, best)
    scene = cameras.scene[blocks.frame]
    return Hits(
        _solid_of(blocks, best, len(scenes.shape) - len(scenes.room) + scene),
        scene,
        origin,
        direction,
    )


def _packed(depth: Tensor, slot: int) -> Tensor:
    return depth.view(torch.int32).bitwise_and_(~_SLOT_MASK).bitwise_or_(slot)


def _solid_of(blocks: Blocks, best: Tensor, room: Tensor) -> Tensor:
    """Candidate number -> row of ``solids``; the room where nothing was met."""
    slot = (best & _SLOT_MASK).long()
    flat = blocks.flat.shape[1]
    column = slot - (slot >= _SLOTS) * (_SLOTS - flat)
    missed = best >= (_FAR_BITS & ~_SLOT_MASK)
    table = torch.cat([blocks.flat, blocks.round, room[:, None]], dim=1)
    return table.gather(1, column.masked_fill_(missed, table.shape[1] - 1))


def _local(row: Tensor, origin: Tensor, direction: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Ray in the solid's frame: three origins [B, 1] and three directions [B, m]."""
    cos, sin = row[:, 6:7], row[:, 7:8]
    x, y, z = (origin[k] - row[:, k : k + 1] for k in range(3))
    dx, dy, dz = direction
    return (
        [cos * x - sin * z, y, sin * x + cos * z],
        [torch.addcmul(cos * dx, sin, dz, value=-1), dy, torch.addcmul(sin * dx, cos, dz)],
    )


def _slab(origin: Tensor, direction: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    inverse = direction.reciprocal()
    middle = inverse * -origin
    reach = inverse.abs_().mul_(half)
    return middle - reach, middle.add_(reach)


def _entry(near: Tensor, far: Tensor) -> Tensor:
    """``near`` where the ray enters ahead of the camera, else beyond everything."""
    return near + (near - far).clamp_(min=0).add_((_NEAR - near).clamp_(min=0)).mul_(_MISS)


def _into_boxes(row: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    start, heading = _local(row, origin, direction)
    near, far = _slab(start[0], heading[0], row[:, 3:4])
    for axis in (1, 2):
        low, high = _slab(start[axis], heading[axis], row[:, 3 + axis : 4 + axis])
        torch.maximum(near, low, out=near)
        torch.minimum(far, high, out=far)
    return _entry(near, far)


def weighted_dot(weight: list[Tensor], a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Sum over the three axes of weight * a * b."""
    return weight[0] * a[0] * b[0] + weight[1] * a[1] * b[1] + weight[2] * a[2] * b[2]


def _into_round(row: Tensor, upright: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Ellipsoids and cylinders: inside a quadric and between top and bottom."""
    start, heading = _local(row, origin, direction)
    near, far = _slab(start[1], heading[1], row[:, 4:5])
    inverse = [row[:, 3 + k : 4 + k] ** -2 for k in range(3)]
    inverse[1] = inverse[1] * (1 - upright[:, None])
    a = weighted_dot(inverse, heading, heading)
    half_b = weighted_dot(inverse, start, heading)
    c = weighted_dot(inverse, start, start) - 1
    under = half_b * half_b - a * c
    root = under.clamp(min=0).sqrt()
    near = torch.maximum(near, (-half_b - root) / a)
    far = torch.minimum(far, (root - half_b) / a)
    return _entry(near, far) + (-under).clamp_(min=0).mul_(_MISS)


def _meet_round(
    scenes: PackedScenes, blocks: Blocks, origin: Tensor, direction: Tensor, best: Tensor
) -> None:
    for slot in range(int(blocks.round_count.max()) if len(blocks.round_count) else 0):
        rows = (blocks.round_count > slot).nonzero()[:, 0]
        solid = blocks.round[rows, slot]
        upright = (scenes.shape[solid] == Shape.CYLINDER).float()
        depth = _into_round(scenes.solids[solid], upright, origin[:, rows], direction[:, rows])
        best[rows] = torch.minimum(best[rows], _packed(depth, slot + _SLOTS))
