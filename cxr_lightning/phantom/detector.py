"""What the detector and its processing make of attenuation: contrast, blur, noise, collimation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxr_lightning.phantom.canvas import Field
from cxr_lightning.phantom.effects import Chest
from cxr_lightning.phantom.streams import stream

__all__ = ["expose"]


def expose(chest: Chest, attenuation: Field, shot: str = "") -> NDArray[np.uint8]:
    """Return grey values (size, size) of an attenuation field: dense is white.

    `shot` names a further picture of the same visit, which has an exposure and noise of its own.
    """
    case, canvas = chest.case, chest.canvas
    generator = stream(case.seed, case.patient, case.visit, f"{shot}exposure")
    bedside = case.view == "AP"

    # Digital processing lifts local contrast; scattered radiation takes global contrast away.
    crisp = float(generator.uniform(0.15, 0.55))
    field = attenuation + crisp * (attenuation - canvas.blur(attenuation, 9))
    scatter = float(generator.uniform(0.02, 0.1)) + (0.07 if bedside else 0)
    field = (1 - scatter) * field + scatter * canvas.blur(attenuation, 40)

    middle = float(np.exp(generator.normal(np.log(0.62), 0.09)))
    gamma = float(generator.uniform(1.05, 1.5))
    grey = 1 - np.exp(-np.power(np.maximum(field, 0) * (1 / middle), gamma))
    grey = grey.astype(np.float32)
    low = float(generator.gamma(1.2, 0.018)) + (float(generator.uniform(0, 0.1)) if bedside else 0)
    high = float(generator.uniform(0.88, 1.0))
    grey = low + (high - low) * grey

    slope = generator.normal(0, 0.03, 2)
    grey *= 1 + (canvas.x * float(slope[0]) + canvas.y * float(slope[1])) * (1 / 200)

    fine = stream(case.seed, case.patient, case.visit, f"{shot}quantum noise")
    strength = float(generator.uniform(0.004, 0.011)) * (1.3 if bedside else 1.0)
    noise = canvas.blur(fine.standard_normal(grey.shape, dtype=np.float32), 0.7)
    grey += strength * noise * (1.3 - 0.6 * grey)
    grey = _collimate(chest, grey, generator)
    pixels: NDArray[np.uint8] = np.clip(grey * 255 + 0.5, 0, 255).astype(np.uint8)
    return pixels


def _collimate(chest: Chest, grey: Field, generator: np.random.Generator) -> Field:
    """Blacken what lies outside the shutters; not every picture shows them."""
    if generator.random() > 0.35:
        return grey
    canvas = chest.canvas
    half = 0.5 * canvas.fov
    insets = np.where(generator.random(4) < 0.45, generator.uniform(0.01, 0.09, 4), -0.2)
    left, top, right, bottom = half * (1 - insets)
    angle = np.deg2rad(float(generator.normal(0, 1.2)))
    cos, sin = np.cos(angle), np.sin(angle)
    corners = np.array([[-left, -top], [right, -top], [right, bottom], [-left, bottom]])
    turned = corners @ np.array([[cos, sin], [-sin, cos]])
    middle = np.array([canvas.x.mean(), canvas.y.mean()])
    return grey * canvas.blur(canvas.fill([turned + middle]), 0.5)
