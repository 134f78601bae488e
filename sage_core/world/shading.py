"""From what a ray meets to its exact depth and its colour: texture, patina, lamps, darker corners."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from sage_core.world.patterns import SIZE
from sage_core.world.raycast import Cameras, Hits, PackedScenes, weighted_dot
from sage_core.world.scenes import Shape
from sage_core.world.textures import LEVELS

Tensor = torch.Tensor
_CORNER_DARKENING = 0.35
_CORNER_WIDTH_M = 0.3


@dataclass(frozen=True)
class Surface:
    """Where rays meet a solid; all fields are lists of three or tensors of N rays.

    ``depth``: the ray's parameter, z in the camera. ``point``, ``normal``: world. ``local``: the point
    in the solid's frame. ``side``: 0 or 1 on each of the three faces pairs (``axis`` one-hot) that the
    texture is projected along. ``face``: 0..5.
    """

    depth: Tensor
    point: list[Tensor]
    normal: list[Tensor]
    local: list[Tensor]
    axis: list[Tensor]
    face: Tensor
    material: Tensor
    is_room: Tensor


def surface_at(scenes: PackedScenes, hits: Hits) -> Surface:
    """The exact point that each ray meets on the solid that it was found to meet first."""
    solid = hits.solid.reshape(-1)
    rows = scenes.solids.t().contiguous().index_select(1, solid)
    is_room = (solid >= len(scenes.shape) - len(scenes.room)).float()
    origin = [o.expand_as(hits.solid).reshape(-1) for o in hits.origin]
    heading = [d.reshape(-1) for d in hits.direction]
    cos, sin = rows[6], rows[7]
    x, y, z = (o - c for o, c in zip(origin, rows[:3], strict=True))
    start = [torch.addcmul(cos * x, sin, z, value=-1), y, torch.addcmul(sin * x, cos, z)]
    dx, dy, dz = heading
    local_d = [torch.addcmul(cos * dx, sin, dz, value=-1), dy, torch.addcmul(sin * dx, cos, dz)]
    depth, axis = _meet_faces(start, local_d, list(rows[3:6]), 1 - 2 * is_room)
    sides = [-torch.sign(d) * a for d, a in zip(local_d, axis, strict=True)]
    normal = [*sides]
    _meet_curved(scenes, solid, rows, start, local_d, depth, axis, normal)
    local = [torch.addcmul(s, depth, d) for s, d in zip(start, local_d, strict=True)]
    nx, ny, nz = normal
    return Surface(
        depth=depth,
        point=[torch.addcmul(o, depth, d) for o, d in zip(origin, heading, strict=True)],
        normal=[torch.addcmul(cos * nx, sin, nz), ny, torch.addcmul(cos * nz, sin, nx, value=-1)],
        local=local,
        axis=axis,
        face=_face(axis, normal, is_room),
        material=rows[8],
        is_room=is_room,
    )


def _meet_faces(
    start: list[Tensor], heading: list[Tensor], half: list[Tensor], outside: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Depth of the entry (``outside`` 1) or the exit (-1) of boxes, and its axis as three 0/1 masks."""
    ends = []
    for s, d, h in zip(start, heading, half, strict=True):
        inverse = d.reciprocal()
        middle = inverse * -s
        ends.append(middle * outside - inverse.abs_() * h)
    far = torch.maximum(torch.maximum(ends[0], ends[1]), ends[2])
    x = (ends[0] == far).float()
    y = (ends[1] == far).float() * (1 - x)
    return far * outside, [x, y, 1 - x - y]


def _meet_curved(
    scenes: PackedScenes,
    solid: Tensor,
    rows: Tensor,
    start: list[Tensor],
    heading: list[Tensor],
    depth: Tensor,
    axis: list[Tensor],
    normal: list[Tensor],
) -> None:
    """Put right depth, axis and normal, in place, of the rays that meet ellipsoids and cylinders."""
    shape = scenes.shape.index_select(0, solid)
    curved = (shape != Shape.BOX).nonzero()[:, 0]
    if not len(curved):
        return
    upright = (shape[curved] == Shape.CYLINDER).double()
    s = [v[curved].double() for v in start]
    d = [v[curved].double() for v in heading]
    half = rows[3:6, curved].double()
    inverse = [half[0] ** -2, (1 - upright) * half[1] ** -2, half[2] ** -2]
    a = weighted_dot(inverse, d, d)
    b = weighted_dot(inverse, s, d)
    c = weighted_dot(inverse, s, s) - 1
    round_in = (-b - (b * b - a * c).clamp(min=0).sqrt()) / a
    slab_in = -(s[1] + torch.sign(d[1]) * half[1]) / d[1]
    capped = slab_in > round_in
    meet = torch.maximum(round_in, slab_in)
    gradient = [i * (p + meet * v) for i, p, v in zip(inverse, s, d, strict=True)]
    length = _dot(gradient, gradient).sqrt().clamp(min=1e-9)
    unit = [torch.where(capped, 0.0, g / length) for g in gradient]
    unit[1] = torch.where(capped, -torch.sign(d[1]), unit[1])
    x, y, z = (component.abs() for component in unit)
    on_x, on_y = (x >= torch.maximum(y, z)).float(), (y > torch.maximum(x, z)).float()
    projection = [on_x, on_y, 1 - on_x - on_y]
    depth[curved] = meet.float()
    for k in range(3):
        axis[k][curved] = projection[k]
        normal[k][curved] = unit[k].float()


def _face(axis: list[Tensor], normal: list[Tensor], is_room: Tensor) -> Tensor:
    """Number 0..5 of the face: -x, +x, -y, +y, -z, +z; a room's faces are met from inside."""
    along = normal[0] * axis[0] + normal[1] * axis[1] + normal[2] * axis[2]
    positive = (along * (1 - 2 * is_room) > 0).float()
    return 2 * axis[1] + 4 * axis[2] + positive


def shade(scenes: PackedScenes, cameras: Cameras, hits: Hits, frame: Tensor, at: Surface) -> Tensor:
    """Colours [3, N], 0..1."""
    row = (at.material + at.is_room * at.face).long()
    paint = scenes.materials.t().contiguous().index_select(1, row)
    focal = _per_ray(cameras.focal[frame][None], hits.solid.shape[1], len(cameras.focal) == 1)[0]
    facing, light = _lighting(scenes, hits, at)
    footprint = at.depth / (focal * facing.clamp(min=0.15).sqrt())
    u = torch.addcmul(at.local[0], at.axis[0], at.local[2] - at.local[0])
    v = torch.addcmul(at.local[1], at.axis[1], at.local[2] - at.local[1])
    shift = at.face * 0.381966  # opposite faces must not show the same picture
    texture = _look_up(
        scenes.atlas, paint[0:2], u * paint[2] + paint[4] + shift * at.is_room,
        v * -paint[3] + paint[5], footprint * paint[2],
    )  # fmt: skip
    patina = _blurred_look_up(
        scenes.atlas[:, :1], paint[12:14], u * paint[14] + shift, v * paint[14] - shift,
        footprint * paint[14],
    )  # fmt: skip
    mixed = texture + paint[15] * (patina - texture)
    colour = torch.addcmul(paint[6:9], paint[9:12], mixed)
    return (colour * light).clamp_(0, 1)


def _per_ray(values: Tensor, rays: int, same: bool) -> Tensor:
    """Values [K, B] of blocks as [K, B * rays], or [K] where they are the ``same`` for all."""
    if same:
        return values[:, 0]
    return values[..., None].expand(-1, -1, rays).reshape(len(values), -1)


def _look_up(atlas: Tensor, origin: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
    """Trilinear: two mip levels, bilinear in each. u, v in repetitions; the footprint too."""
    level = _mip_level(footprint)
    low = level.floor()
    u, v = (u - u.floor()) * SIZE, (v - v.floor()) * SIZE
    fine = _sample(atlas, origin, u, v, low)
    coarse = _sample(atlas, origin, u, v, low + 1)
    return fine + (level - low) * (coarse - fine)


def _blurred_look_up(
    atlas: Tensor, origin: Tensor, u: Tensor, v: Tensor, footprint: Tensor
) -> Tensor:
    """Bilinear in the nearest mip level: enough for what shows weakly."""
    level = _mip_level(footprint).round()
    return _sample(atlas, origin, (u - u.floor()) * SIZE, (v - v.floor()) * SIZE, level)


def _mip_level(footprint: Tensor) -> Tensor:
    return torch.log2((footprint * SIZE).clamp_(min=1e-6)).clamp_(0, LEVELS - 1.001)


def _sample(atlas: Tensor, origin: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
    size = torch.exp2(-level)
    x = torch.addcmul(origin[0] + 2 * SIZE + 2 * level, size, u - 2 * SIZE)
    y = torch.addcmul(origin[1], size, v)
    height, width = atlas.shape[2:]
    # A complex number is two floats side by side: far faster here than torch.stack.
    grid = torch.view_as_real(torch.complex(x * (2 / width) - 1, y * (2 / height) - 1))
    return functional.grid_sample(atlas, grid[None, None], align_corners=False)[0, :, 0]


def _lighting(scenes: PackedScenes, hits: Hits, at: Surface) -> tuple[Tensor, Tensor]:
    """Cosine between ray and normal [N], and the light [3, N] that the surface gets."""
    rays = hits.solid.shape[1]
    one_scene = len(scenes.room) == 1
    lights = _per_ray(scenes.lights[hits.scene].t(), rays, one_scene)
    heading = [d.reshape(-1) for d in hits.direction]
    length = _dot(heading, heading).sqrt_()
    facing = _dot(heading, at.normal).abs_() / length
    total = lights[8]
    for lamp in (lights[0:4], lights[4:8]):
        toward = [lamp[k] - at.point[k] for k in range(3)]
        squared = _dot(toward, toward)
        cosine = _dot(toward, at.normal) * squared.rsqrt()
        total = total + lamp[3] * (0.15 + 0.85 * cosine.clamp_(min=0)) / (1 + 0.12 * squared)
    room = _per_ray(scenes.room[hits.scene].t(), rays, one_scene)
    total *= 1 - _CORNER_DARKENING * torch.exp(_second_gap(at.point, room) * (-1 / _CORNER_WIDTH_M))
    return facing, total * lights[9:12].reshape(3, -1)


def _second_gap(point: list[Tensor], room: Tensor) -> Tensor:
    """Second smallest of the distances to the walls along each axis: small in the room's edges."""
    a, b, c = (torch.minimum(p, size - p) for p, size in zip(point, room, strict=True))
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])
