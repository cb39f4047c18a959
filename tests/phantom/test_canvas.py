"""The drawing tools, held against plain formulas and shapes whose area is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_lightning.phantom.canvas import Canvas, band, bounding_box, smoothstep, spline
from cxr_lightning.phantom.streams import stream

SQUARE = np.array([[-50.0, -50.0], [50.0, -50.0], [50.0, 50.0], [-50.0, 50.0]])


def test_grid_and_points_agree() -> None:
    canvas = Canvas(64, 320.0, centre=(12.0, -30.0), tilt=7.0)
    row, column = 40, 9
    point = (float(canvas.x[row, column]), float(canvas.y[row, column]))
    np.testing.assert_allclose(canvas.to_pixels(point), [column, row], atol=1e-3)


def test_one_pixel_is_fov_over_size() -> None:
    canvas = Canvas(100, 400.0)
    np.testing.assert_allclose(np.diff(canvas.x, axis=1), 4.0, rtol=1e-4)
    np.testing.assert_allclose(np.diff(canvas.y, axis=0), 4.0, rtol=1e-4)
    assert canvas.x.mean() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_filled_square_has_its_area(tilt: float) -> None:
    canvas = Canvas(200, 400.0, tilt=tilt)
    area = float(canvas.fill([SQUARE]).sum()) / canvas.scale**2
    # OpenCV's anti-aliasing adds less than a pixel (here 2 mm) on each side.
    assert 100**2 <= area <= 104**2


def test_union_of_polygons_counts_overlap_once() -> None:
    canvas = Canvas(128, 400.0)
    once, twice = canvas.fill([SQUARE]), canvas.fill([SQUARE, SQUARE])
    assert twice.max() == 1
    np.testing.assert_array_equal(once == 1, twice == 1)
    np.testing.assert_array_equal(once == 0, twice == 0)


@given(
    x=st.floats(-100, 100),
    y=st.floats(-100, 100),
    wide=st.floats(5, 80),
    high=st.floats(5, 80),
    angle=st.floats(-180, 180),
)
@settings(max_examples=40)
def test_ellipse_and_blob_equal_their_formulas(
    x: float, y: float, wide: float, high: float, angle: float
) -> None:
    canvas = Canvas(48, 380.0, centre=(5.0, 3.0), tilt=4.0)
    turn = np.deg2rad(angle)
    across, down = canvas.x.astype(float) - x, canvas.y.astype(float) - y
    u = (across * np.cos(turn) + down * np.sin(turn)) / wide
    v = (down * np.cos(turn) - across * np.sin(turn)) / high
    expected = u**2 + v**2
    field = canvas.ellipse((x, y), (wide, high), angle)
    near = expected <= 4
    np.testing.assert_allclose(field[near], expected[near], atol=2e-3)
    assert (field[~near] > 3.99).all()
    blob = canvas.blob((x, y), (wide, high), angle)
    np.testing.assert_allclose(blob, np.exp(-0.5 * expected), atol=3e-3)


@pytest.mark.parametrize("sigma", [0.5, 4.0, 30.0])
def test_blur_keeps_a_constant_and_its_input(sigma: float) -> None:
    canvas = Canvas(64, 384.0)
    field = np.full((64, 64), 0.7, np.float32)
    blurred = canvas.blur(field, sigma)
    np.testing.assert_allclose(blurred, 0.7, rtol=1e-5)
    field = canvas.fill([SQUARE])
    before = field.copy()
    canvas.blur(field, sigma)
    np.testing.assert_array_equal(field, before)


@pytest.mark.parametrize("grain", [3.0, 12.0, 40.0])
def test_noise_is_standard_and_repeats(grain: float) -> None:
    canvas = Canvas(128, 384.0)
    draws = [canvas.noise(np.random.default_rng(seed), grain) for seed in range(20)]
    assert np.mean(draws) == pytest.approx(0, abs=0.1)
    assert np.std(draws) == pytest.approx(1, abs=0.25)
    np.testing.assert_array_equal(draws[3], canvas.noise(np.random.default_rng(3), grain))


def test_smoothstep_by_hand() -> None:
    values = np.array([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0], np.float32)
    expected = [0, 0, 0.15625, 0.5, 1, 1]  # 3 t^2 - 2 t^3
    np.testing.assert_allclose(smoothstep(values, 0, 1), expected, atol=1e-6)
    np.testing.assert_allclose(smoothstep(values, 1, 0), 1 - np.array(expected), atol=1e-6)


def test_spline_passes_through_its_points() -> None:
    points = np.array([[0.0, 0.0], [10.0, 5.0], [20.0, -5.0], [40.0, 0.0]])
    curve = spline(points, steps=5)
    np.testing.assert_allclose(curve[::5], points, atol=1e-9)
    loop = spline(points, closed=True, steps=5)
    np.testing.assert_allclose(loop[::5], points, atol=1e-9)
    straight = spline([[0, 0], [1, 1], [2, 2]], steps=4)
    np.testing.assert_allclose(straight[:, 0], straight[:, 1])
    np.testing.assert_allclose(spline(np.stack([points, 2 * points]))[1], 2 * spline(points))


def test_band_has_its_width() -> None:
    line = np.stack([np.linspace(0, 100, 11), np.zeros(11)], axis=1)
    polygon = band(line, 8.0)
    assert np.ptp(polygon[:, 1]) == pytest.approx(8.0)
    area = 0.5 * abs(
        np.dot(polygon[:, 0], np.roll(polygon[:, 1], 1))
        - np.dot(polygon[:, 1], np.roll(polygon[:, 0], 1))
    )
    assert area == pytest.approx(800.0)


def test_bounding_box_by_hand() -> None:
    mask = np.zeros((6, 8), bool)
    assert bounding_box(mask) is None
    mask[2, 3] = mask[4, 6] = True
    assert bounding_box(mask) == (3, 2, 7, 5)


@given(
    first=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3), st.integers(0, 2)),
    second=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3), st.integers(0, 2)),
)
@settings(max_examples=60)
def test_streams_differ_exactly_when_their_addresses_do(
    first: tuple[int, int, int, int], second: tuple[int, int, int, int]
) -> None:
    def draw(address: tuple[int, int, int, int]) -> int:
        seed, patient, visit, key = address
        return int(stream(seed, patient, visit, "x", key).integers(2**62))

    assert (draw(first) == draw(second)) == (first == second)


def test_stream_of_a_patient_is_not_that_of_a_visit() -> None:
    draws = {stream(1, 2, visit, name).integers(2**62) for visit in (None, 0) for name in "ab"}
    assert len(draws) == 4
