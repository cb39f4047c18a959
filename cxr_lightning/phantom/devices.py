"""Lines, tubes, leads and letters: what lies on a radiograph without being a finding."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_lightning.phantom.anatomy import SIGN
from cxr_lightning.phantom.canvas import Field, Points, smoothstep, spline
from cxr_lightning.phantom.effects import Chest
from cxr_lightning.phantom.streams import stream

__all__ = ["devices", "markers"]

_METAL = 0.55
_PLASTIC = 0.2


def devices(chest: Chest) -> Field:
    """Return the attenuation of devices: frequent at the bedside, rare otherwise."""
    case, canvas = chest.case, chest.canvas

    def own(device: str) -> np.random.Generator:
        # A stream for each device, so that one never moves another.
        return stream(case.seed, case.patient, case.visit, device)

    bedside = case.view == "AP"
    illness = max((finding.severity for finding in case.findings), default=0.0)
    leads, tube, line, feeding, drain = own("devices").random(5)
    total = np.zeros_like(canvas.x)
    if leads < (0.5 if bedside else 0.04):
        total += _leads(chest, own("leads"))
    ventilated = bedside and tube < 0.08 + 0.25 * illness
    if ventilated:
        total += _tracheal_tube(chest, own("tracheal tube"))
    if line < ((0.22 + 0.2 * illness) if bedside else 0.03):
        total += _PLASTIC * canvas.stroke([_central_line(chest, own("central line"))], 2.2)
    if ventilated or (bedside and feeding < 0.1):
        total += _PLASTIC * canvas.stroke([_gastric_tube(chest)], 2.6)
    drained = [f.side for f in case.findings if f.name in ("Pneumothorax", "Effusion")]
    if drained and drain < (0.3 if bedside else 0.08):
        route = _chest_tube(chest, SIGN[drained[0]], own("chest tube"))
        total += _PLASTIC * 1.2 * canvas.stroke([route], 4.0)

    life = stream(case.seed, case.patient, None, "implants")
    pacemaker, surgery, port = life.random(3)
    if pacemaker < 0.06 * np.clip((case.age - 45) / 30, 0, 1):
        total += _pacemaker(chest, life)
    if surgery < (0.06 if case.severity("Cardiomegaly") or case.age > 65 else 0.015):
        total += _sternotomy(chest)
    if port < 0.03:
        total += _port(chest, life)
    return total


def _leads(chest: Chest, generator: np.random.Generator) -> Field:
    canvas, width = chest.canvas, chest.thorax.half_width
    places = np.array([[-0.75, -105], [0.75, -105], [-0.8, 40], [0.85, 50], [0.25, -10]])
    places = places[: int(generator.integers(3, 6))] * (width, 1)
    places = places + generator.normal(0, 14, places.shape)
    exit_x = float(generator.choice((-1, 1))) * width * float(generator.uniform(0.2, 1.2))
    total = np.zeros_like(canvas.x)
    wires: list[Points] = []
    for place in places:
        distance = canvas.ellipse((float(place[0]), float(place[1])), (6.5, 6.5))
        total += _METAL * (0.35 * smoothstep(distance, 1.1, 0.8) + smoothstep(distance, 0.3, 0.1))
        bend = 0.5 * (place + np.array([exit_x, -200])) + generator.normal(0, 30, 2)
        wires.append(
            spline(np.stack([place, place + generator.normal(0, 14, 2), bend, [exit_x, -260.0]]))
        )
    return total + 0.14 * canvas.stroke(wires, 1.6)


def _tracheal_tube(chest: Chest, generator: np.random.Generator) -> Field:
    canvas, lean = chest.canvas, 60 * chest.thorax.turn
    tip = float(generator.uniform(-108, -76))
    line = spline([[lean - 2, -240], [lean, -150], [lean - 3, tip]])
    wall = np.array([4.0, 0.0])
    walls = [line + wall, line - wall]
    return 0.12 * canvas.stroke(walls, 1.6) + 0.16 * canvas.stroke([line + wall], 1.2)


def _central_line(chest: Chest, generator: np.random.Generator) -> Points:
    lean = 60 * chest.thorax.turn + chest.thorax.shift
    tip: list[float] = [lean - 27, float(generator.uniform(-55, -15))]
    if generator.random() < 0.5:
        return spline([[lean - 50, -230], [lean - 40, -160], [lean - 27, -110], tip])
    side = -1 if generator.random() < 0.5 else 1
    start: list[float] = [side * 0.8 * chest.thorax.half_width, -80.0]
    under: list[float] = [side * 60.0, -112.0]
    return spline([start, under, [lean - 12, -112], [lean - 26, -85], tip])


def _gastric_tube(chest: Chest) -> Points:
    lean, low = 60 * chest.thorax.turn, chest.thorax.dome["L"]
    return spline([[lean + 2, -240], [lean + 3, -100], [lean + 9, low - 10], [55, low + 45]])


def _chest_tube(chest: Chest, side: int, generator: np.random.Generator) -> Points:
    width = chest.thorax.half_width
    tip = [side * 0.45 * width, float(generator.uniform(-115, -60))]
    return spline(
        [[side * (width + 90), 70], [side * (width + 4), 25], [side * 0.86 * width, -30], tip]
    )


def _pacemaker(chest: Chest, generator: np.random.Generator) -> Field:
    canvas, width = chest.canvas, chest.thorax.half_width
    place = (0.72 * width + float(generator.normal(0, 6)), -82 + float(generator.normal(0, 8)))
    # A square with round corners: the fourth-power norm.
    can = ((canvas.x - np.float32(place[0])) / 19) ** 4 + (
        (canvas.y - np.float32(place[1])) / 21
    ) ** 4
    apex = (0.5 * width, chest.thorax.dome["L"] - 10)
    lead = spline([place, [40, -118], [-14, -105], [-26, -40], [-4, 20], apex])
    return _METAL * smoothstep(can, 1.1, 0.8) + 0.25 * canvas.stroke([lead], 1.8)


def _sternotomy(chest: Chest) -> Field:
    canvas, lean = chest.canvas, 60 * chest.thorax.turn
    angles = np.linspace(0, 2 * np.pi, 9)
    loop = np.stack([5.5 * np.cos(angles), 3.5 * np.sin(angles)], axis=1)
    wires = [loop + np.array([lean, y]) for y in range(-95, 45, 24)]
    return 0.3 * canvas.stroke(wires, 1.4)


def _port(chest: Chest, generator: np.random.Generator) -> Field:
    canvas, width = chest.canvas, chest.thorax.half_width
    side = -1 if generator.random() < 0.7 else 1
    place = (side * 0.6 * width, -66 + float(generator.normal(0, 10)))
    ring = canvas.ellipse(place, (12, 13))
    body = smoothstep(ring, 1.05, 0.85) - 0.55 * smoothstep(ring, 0.5, 0.3)
    tube = spline([place, [side * 50, -116], [-18, -110], [-27, -40]])
    return 0.75 * _METAL * body + _PLASTIC * canvas.stroke([tube], 2.2)


def markers(chest: Chest, pixels: NDArray[np.uint8], *, lateral: bool = False) -> NDArray[np.uint8]:
    """Return the picture with its letters: the side, and at the bedside AP and PORTABLE."""
    case, size = chest.case, chest.canvas.size
    generator = stream(case.seed, case.patient, case.visit, "markers")
    out = pixels.copy()
    scale = size / 256
    right, down = generator.uniform(0.84, 0.93), generator.uniform(0.06, 0.16)
    letter = (round(float(right) * size), round(float(down) * size))
    style = float(generator.random())
    if style < 0.15:
        middle = (letter[0] + round(4 * scale), letter[1] - round(4 * scale))
        cv2.circle(out, middle, round(7 * scale), 5, -1, cv2.LINE_AA)
        cv2.circle(out, middle, round(7 * scale), 250, max(1, round(scale)), cv2.LINE_AA)
    _write(out, "L", letter, (0.32 + 0.16 * float(generator.random())) * scale, scale)
    if style > 0.8 and not lateral:
        _write(out, "R", (size - letter[0] - round(8 * scale), letter[1]), 0.4 * scale, scale)
    if generator.random() < 0.25:
        initials = "".join(chr(65 + int(code)) for code in generator.integers(0, 26, 2))
        _write(out, initials, (letter[0], letter[1] + round(8 * scale)), 0.2 * scale, scale)
    if case.view == "AP" and generator.random() < 0.6:
        top = round(float(generator.uniform(0.04, 0.1)) * size)
        left = round(float(generator.uniform(0.03, 0.1)) * size)
        _write(out, "PORTABLE", (left, top), 0.2 * scale, scale)
        _write(out, "AP", (left, top + round(8 * scale)), 0.22 * scale, scale)
    return out


def _write(
    pixels: NDArray[np.uint8], text: str, place: tuple[int, int], height: float, scale: float
) -> None:
    cv2.putText(
        pixels,
        text,
        place,
        cv2.FONT_HERSHEY_SIMPLEX,
        height,
        250,
        max(1, round(scale)),
        cv2.LINE_AA,
    )
