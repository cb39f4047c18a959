"""The measures of one thorax at one visit, and the outlines that follow from them.

All lengths are millimetres in the coordinates of :mod:`cxr_lightning.phantom.canvas`. Outlines are
polygons; nothing is drawn here, so other projections and layouts can use the same measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_lightning.phantom.canvas import Points, spline
from cxr_lightning.phantom.cases import Case, Side
from cxr_lightning.phantom.streams import stream

__all__ = ["SIGN", "Thorax", "hilum", "lateral_border", "lung_outline", "mediastinum_outline"]

SIGN: dict[Side, int] = {"R": -1, "L": 1}
"""Direction of x on the patient's sides."""


@dataclass(frozen=True, slots=True)
class Thorax:
    """Measures of the chest, shared by everything that is drawn in it.

    Attributes
    ----------
    half_width
        Half the inner width of the thorax at the bases.
    apex, base
        Height (y) of the lung apices and of the costophrenic angles.
    dome
        Height (y) of the top of each hemidiaphragm.
    ctr
        Cardiothoracic ratio: the heart's transverse diameter over the inner thoracic width.
    shift
        Displacement of the mediastinum, positive towards the patient's left.
    turn
        Rotation of the patient about the long axis, as a fraction; 0 is straight.
    fat
        Thickness of the chest wall beyond the ribs.
    bulk
        Attenuation of the body relative to the average.
    breast
        Size of the breast shadows, 0 for none.
    aorta
        Radius of the aortic knob.
    bone
        Density of the skeleton, 1 in the young.
    rib_slope, rib_gap
        Inclination of the posterior ribs, and their distance from one another.
    clavicle
        Height (y) of the medial ends of the clavicles.
    scapula
        How far the scapulae project over the lungs, 0 to 1.
    bubble
        Size of the gastric air bubble, 0 (none) to 1.
    vascularity
        Density of the lung vessels relative to the average.
    crowding
        Share of the air that is missing at the bases after a poor inspiration.
    left_atrium, right_atrium, ascending
        Enlargement of the atria and of the ascending aorta, 0 (none) to 1.
    """

    half_width: float
    apex: float
    base: float
    dome: dict[Side, float]
    ctr: float
    shift: float
    turn: float
    fat: float
    bulk: float
    breast: float
    aorta: float
    bone: float
    rib_slope: float
    rib_gap: float
    clavicle: float
    scapula: float
    bubble: float
    vascularity: float
    crowding: float
    left_atrium: float = 0.0
    right_atrium: float = 0.0
    ascending: float = 0.0

    @classmethod
    def of(cls, case: Case) -> Thorax:
        """Derive the measures from the patient, the visit and what the findings do to the chest."""
        body = stream(case.seed, case.patient, None, "body")
        pose = stream(case.seed, case.patient, case.visit, "pose")
        male, bedside = case.sex == "M", case.view == "AP"
        years = (case.age - 45) / 30

        half_width = float(body.normal(139 if male else 124, 7))
        obesity = float(body.beta(1.6, 3.0))
        ctr = float(np.clip(body.normal(0.452, 0.025) + 0.012 * years, 0.39, 0.5))
        lung_height = float(body.normal(228 if male else 208, 9))
        right_above_left = float(body.normal(11, 5))
        aorta = float(np.clip(body.normal(13, 2) + 4 * max(years, -0.5), 9, 24))
        breast = 0.0 if male else float(np.clip(body.normal(0.75, 0.25) + 0.5 * obesity, 0.25, 1.4))
        rib_slope, rib_gap = float(body.normal(0.13, 0.05)), float(body.normal(21.5, 0.9))
        scapula = float(body.uniform(0.0, 0.35))
        vascularity = float(np.exp(body.normal(0, 0.2)))

        inspiration = float(pose.normal(0, 5)) - (float(pose.gamma(2.0, 7.0)) if bedside else 0.0)
        turn = float(pose.normal(0, 0.05 if bedside else 0.022))
        lordosis = float(pose.normal(8 if bedside else 0, 5))
        ap_heart = float(pose.uniform(0.02, 0.055)) if bedside else 0.0
        scapula = min(1.0, scapula + (float(pose.uniform(0.3, 0.75)) if bedside else 0.0))

        crowding = float(pose.uniform(0, 0.3 if bedside else 0.08))
        if bedside:
            # Lying down fills the vessels of the upper lobes, as heart failure does.
            vascularity *= float(pose.uniform(1.0, 1.3))

        # An empty stomach shows no bubble.
        bubble = float(pose.beta(1.5, 1.5)) * float(pose.random() < 0.78)

        apex = -138.0
        base = apex + lung_height + inspiration
        ctr += ap_heart - 0.0012 * inspiration
        dome: dict[Side, float] = {
            "R": base - 38 - right_above_left / 2,
            "L": base - 38 + right_above_left / 2,
        }
        shift = 0.0

        heart = case.severity("Cardiomegaly")
        if heart:
            ctr = max(ctr + 0.06, 0.545) + 0.12 * heart
        trapped = case.severity("Emphysema")
        if trapped:
            base += 3 + 19 * trapped
            half_width *= 1 + 0.05 * trapped
            ctr *= 0.97 - 0.17 * trapped
            rib_gap *= 1.03 + 0.07 * trapped
            flat = 0.3 + 0.55 * trapped
            dome = {side: y + flat * (base - y) for side, y in dome.items()}
        stiff = case.severity("Fibrosis")
        dome = {side: y - 12 * stiff for side, y in dome.items()}
        for finding in case.findings:
            towards = SIGN[finding.side]
            if finding.name == "Atelectasis":
                dome[finding.side] -= 8 + 26 * finding.severity
                shift += towards * 9 * finding.severity
            elif finding.name == "Effusion":
                shift -= towards * 22 * max(0.0, finding.severity - 0.55)
            elif finding.name == "Pneumothorax":
                shift -= towards * 45 * max(0.0, finding.severity - 0.6)

        return cls(
            half_width=half_width,
            apex=apex,
            base=base,
            dome=dome,
            ctr=ctr,
            shift=shift,
            turn=turn,
            fat=14 + 34 * obesity,
            bulk=0.9 + 0.35 * obesity,
            breast=breast,
            aorta=aorta,
            bone=float(np.clip(1.05 - 0.25 * years, 0.6, 1.25)),
            rib_slope=rib_slope,
            rib_gap=rib_gap,
            clavicle=-112 - lordosis,
            scapula=scapula,
            bubble=bubble,
            vascularity=vascularity,
            crowding=crowding,
            left_atrium=case.severity("Left Atrial Enlargement"),
            right_atrium=case.severity("Right Atrial Enlargement"),
            ascending=case.severity("Aortic Dilatation"),
        )


def lateral_border(thorax: Thorax, side: Side, count: int = 24) -> Points:
    """Return the lung's outer border (count, 2), from the costophrenic angle up to the apex."""
    # Evenly spaced angles crowd the points where the border curves inwards to the apex.
    t = np.sin(np.linspace(0, np.pi / 2, count))
    inner = 0.3 * thorax.half_width
    reach = np.maximum(0, 1 - t**2.3) ** 0.52
    x = inner + (thorax.half_width - inner) * reach
    y = thorax.base + (thorax.apex - thorax.base) * t
    return np.stack([SIGN[side] * x * (1 + SIGN[side] * thorax.turn), y], axis=1)


def _diaphragm(thorax: Thorax, side: Side, count: int = 20) -> Points:
    """Return the dome (count, 2), from the midline to the costophrenic angle."""
    x = np.linspace(0.04, 1, count)
    top, height = 0.5, thorax.base - thorax.dome[side]
    outer = np.clip((x - top) / (1 - top), 0, 1) ** 2.3
    inner = np.clip((top - x) / top, 0, 1) ** 2
    y = thorax.dome[side] + height * outer + 0.3 * height * inner
    return np.stack(
        [SIGN[side] * x * thorax.half_width * (1 + SIGN[side] * thorax.turn), y], axis=1
    )


def lung_outline(thorax: Thorax, side: Side) -> Points:
    """Return the lung's outline (n, 2); medially it reaches behind the mediastinum."""
    sign = SIGN[side]
    border = lateral_border(thorax, side)
    arc = np.linspace(0.1, np.pi / 2, 8)
    inner = 0.3 * thorax.half_width
    medial = np.stack(
        [
            sign * (inner - (inner - 6) * np.sin(arc)) * (1 + sign * thorax.turn),
            thorax.apex + 46 * (1 - np.cos(arc)),
        ],
        axis=1,
    )
    return np.concatenate([border, medial, _diaphragm(thorax, side)])


def hilum(thorax: Thorax, side: Side) -> tuple[float, float]:
    """Return the middle of the hilum; the left one lies a little higher."""
    turned = 60 * thorax.turn + thorax.shift
    return SIGN[side] * (33 if side == "R" else 36) + turned, -34.0 if side == "R" else -43.0


def mediastinum_outline(thorax: Thorax) -> Points:
    """Return the outline of great vessels and heart (n, 2) as one closed curve."""
    width = 2 * thorax.half_width * thorax.ctr
    right, left = 0.34 * width, 0.66 * width
    waist = 0.5 * (thorax.dome["L"] + thorax.dome["R"]) - 44
    low_right, low_left = thorax.dome["R"], thorax.dome["L"]
    knob = thorax.aorta + 9 * thorax.ascending
    appendage, ascending = 28 * thorax.left_atrium, 23 * thorax.ascending
    right *= 1 + 0.85 * thorax.right_atrium
    points = np.array(
        [
            [-20, -200],
            [-23, -150],
            [-27, -115],
            [-28 - ascending, -80],
            [-29 - ascending, -52],
            [-max(32, 0.75 * right), waist - 30],
            [-right, waist + 4],
            [-0.97 * right, waist + 26],
            [-0.72 * right, low_right + 10],
            [-0.5 * right, low_right + 40],
            [0.6 * left, low_left + 40],
            [0.97 * left, low_left + 6],
            [left, low_left - 12],
            [0.35 * 43 + 0.65 * left + 7, low_left - 12 - 0.42 * (low_left + 24)],
            [0.7 * 43 + 0.3 * left + 3, low_left - 12 - 0.74 * (low_left + 24)],
            [43 + appendage, -36],
            [42 + appendage, -50],
            [37 + 0.5 * appendage, -65],
            [22 + knob, -80],
            [20 + 0.85 * knob, -96],
            [25, -110],
            [22, -150],
            [20, -200],
        ]
    )
    height = np.clip((points[:, 1] + 120) / 100, 0.25, 1)
    points[:, 0] += (thorax.shift + 60 * thorax.turn) * height
    return spline(points, closed=True)
