"""Pictures: pure, with every finding where a reader would look for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cxr_lightning.phantom import FINDINGS, Case, Finding, make_cohort, render, render_with_truth
from cxr_lightning.phantom.anatomy import SIGN, Thorax, lung_outline, mediastinum_outline
from cxr_lightning.phantom.canvas import Canvas
from cxr_lightning.phantom.cases import BOXED, Side
from cxr_lightning.phantom.render import pose

SIZE = 96
PATIENTS = range(1, 7)
Region = Callable[[Thorax, Canvas, Side], np.ndarray]


def case_of(patient: int, *findings: Finding, view: str = "PA", sex: str = "M") -> Case:
    return Case(9, patient, 0, 50.0, sex, view, findings, test=False)  # type: ignore[arg-type]


def one(name: str, side: Side = "R", severity: float = 0.7) -> Finding:
    diameter = {"Nodule": 22.0, "Mass": 50.0}.get(name, 0.0)
    return Finding(name, side, severity, 0, diameter)


def change(case: Case, size: int = SIZE) -> np.ndarray:
    """Grey values with the findings minus those without; nothing else of the picture moves."""
    plain = render(replace(case, findings=()), size=size)
    return render(case, size=size).astype(float) - plain


def lung(thorax: Thorax, canvas: Canvas, side: Side) -> np.ndarray:
    return canvas.blur(canvas.fill([lung_outline(thorax, side)]), 6) > 0.05


def test_a_picture_depends_on_its_case_alone() -> None:
    case = make_cohort(40, 3)[17]
    first = render(case, size=SIZE)
    assert first.dtype == np.uint8
    assert first.shape == (SIZE, SIZE)
    render(make_cohort(40, 3)[5], size=SIZE)
    np.testing.assert_array_equal(render(case, size=SIZE), first)
    assert (render(replace(case, seed=4), size=SIZE) != first).mean() > 0.5
    assert (render(replace(case, visit=case.visit + 1), size=SIZE) != first).mean() > 0.5


def test_sizes_show_the_same_anatomy() -> None:
    for case in make_cohort(40, 3)[::8]:
        small, large = render(case, size=64), render(case, size=256)
        shrunk = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
        assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.95
        boxes = zip(
            render_with_truth(case, size=64).boxes,
            render_with_truth(case, size=256).boxes,
            strict=True,
        )
        for coarse, fine in boxes:
            assert abs(4 * coarse.x - fine.x) < 24
            assert abs(4 * coarse.y - fine.y) < 24


def test_pictures_use_the_grey_scale() -> None:
    for case in make_cohort(60, 1)[::6]:
        low, high = np.percentile(render(case, size=SIZE), [2, 98])
        assert high - low > 110


def test_lungs_are_darker_than_heart_and_abdomen() -> None:
    for patient in PATIENTS:
        case = case_of(patient)
        canvas, thorax, pixels = pose(case, SIZE), Thorax.of(case), render(case, size=SIZE)
        heart = canvas.fill([mediastinum_outline(thorax)]) > 0.5
        lungs = (lung(thorax, canvas, "R") | lung(thorax, canvas, "L")) & ~heart
        abdomen = (canvas.y > thorax.base + 20) & (np.abs(canvas.x) < 0.6 * thorax.half_width)
        middle = heart & (canvas.y < thorax.dome["R"] - 10) & (canvas.y > -60)
        assert pixels[lungs].mean() + 30 < pixels[middle].mean()
        assert pixels[lungs].mean() + 30 < pixels[abdomen].mean()


def test_the_normal_heart_is_normal_and_the_large_one_is_not() -> None:
    for patient in range(1, 60):
        assert 0.37 < Thorax.of(case_of(patient)).ctr < 0.53
        large = Thorax.of(case_of(patient, one("Cardiomegaly", severity=0.05))).ctr
        assert large > 0.53
        assert Thorax.of(case_of(patient, one("Emphysema"))).ctr < Thorax.of(case_of(patient)).ctr


def test_the_outline_has_the_stated_cardiothoracic_ratio() -> None:
    for patient in range(1, 20):
        thorax = Thorax.of(case_of(patient, one("Cardiomegaly", severity=0.3 * (patient % 4))))
        outline = mediastinum_outline(thorax)
        heart = outline[(outline[:, 1] > -30) & (outline[:, 1] < max(thorax.dome.values()))]
        measured = np.ptp(heart[:, 0]) / (2 * thorax.half_width)
        assert measured == pytest.approx(thorax.ctr, abs=0.035)


def test_bedside_films_differ_as_they_should() -> None:
    pa = [Thorax.of(case_of(patient, view="PA")) for patient in range(1, 80)]
    ap = [Thorax.of(case_of(patient, view="AP")) for patient in range(1, 80)]

    def means(attribute: str) -> tuple[float, float]:
        return tuple(float(np.mean([getattr(t, attribute) for t in ts])) for ts in (pa, ap))  # type: ignore[return-value]

    assert means("ctr")[1] > means("ctr")[0] + 0.02
    assert means("base")[1] < means("base")[0] - 5
    assert means("scapula")[1] > means("scapula")[0] + 0.3


def test_only_women_have_breast_shadows() -> None:
    assert all(Thorax.of(case_of(patient)).breast == 0 for patient in PATIENTS)
    assert all(Thorax.of(case_of(patient, sex="F")).breast > 0 for patient in PATIENTS)


def test_the_aorta_widens_with_age() -> None:
    def knob(age: float) -> float:
        return float(np.mean([Thorax.of(replace(case_of(p), age=age)).aorta for p in range(1, 40)]))

    assert knob(25) < knob(50) < knob(80)


REGIONS: dict[str, Region] = {
    "Atelectasis": lambda t, c, s: (c.x * SIGN[s] > -20) & (c.y > t.apex - 10),
    "Cardiomegaly": lambda t, c, s: (np.abs(c.x) < 0.85 * t.half_width) & (c.y > -70),
    "Effusion": lambda t, c, s: lung(t, c, s),
    "Infiltration": lung,
    "Mass": lung,
    "Nodule": lung,
    "Pneumonia": lung,
    "Pneumothorax": lung,
    "Consolidation": lung,
    "Edema": lambda t, c, s: lung(t, c, "R") | lung(t, c, "L"),
    "Emphysema": lambda t, c, s: (np.abs(c.x) < 1.3 * t.half_width) & (c.y > t.apex - 25),
    "Fibrosis": lambda t, c, s: lung(t, c, "R") | lung(t, c, "L"),
    "Pleural_Thickening": lambda t, c, s: lung(t, c, s),
    "Hernia": lambda t, c, s: (np.abs(c.x) < 95) & (np.abs(c.y - t.dome["R"]) < 75),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_changes_its_region(name: str) -> None:
    side: Side
    for patient in PATIENTS:
        side = "R" if patient % 2 else "L"
        case = case_of(patient, one(name, side), sex="F" if patient % 3 == 0 else "M")
        moved = np.abs(change(case))
        moved[moved < 4] = 0
        assert moved.max() >= 12, f"{name} of patient {patient} is invisible"
        canvas = pose(case, SIZE)
        plain, changed = Thorax.of(replace(case, findings=())), Thorax.of(case)
        region = REGIONS[name](plain, canvas, side) | REGIONS[name](changed, canvas, side)
        share = moved[region].sum() / moved.sum()
        assert share > 0.6, f"{name} of patient {patient}: {share:.2f}"


@pytest.mark.parametrize(
    ("name", "brighter"),
    [
        ("Effusion", True),
        ("Consolidation", True),
        ("Pneumonia", True),
        ("Infiltration", True),
        ("Edema", True),
        ("Fibrosis", True),
        ("Nodule", True),
        ("Mass", True),
        ("Pleural_Thickening", True),
        ("Emphysema", False),
    ],
)
def test_fluid_and_tissue_are_bright_and_air_is_dark(name: str, brighter: bool) -> None:
    for patient in PATIENTS:
        difference = change(case_of(patient, one(name)))
        assert (difference.sum() > 0) == brighter


def test_a_pneumothorax_is_black_outside_the_pleural_line() -> None:
    for patient in PATIENTS:
        case = case_of(patient, one("Pneumothorax", "R", 0.6))
        canvas, thorax = pose(case, SIZE), Thorax.of(case)
        apex = lung(thorax, canvas, "R") & (canvas.y < thorax.apex + 35) & (canvas.y > thorax.apex)
        difference = change(case)
        assert np.median(difference[apex & (np.abs(canvas.x) > 45)]) < -2


def test_an_effusion_rises_with_its_severity() -> None:
    areas = [
        (change(case_of(4, one("Effusion", "L", severity))) > 6).sum()
        for severity in (0.05, 0.3, 0.6, 0.95)
    ]
    assert areas == sorted(areas)
    assert areas[0] > 0
    assert areas[3] > 5 * areas[0]


@pytest.mark.parametrize("name", ["Atelectasis", "Emphysema"])
def test_volume_moves_the_diaphragm(name: str) -> None:
    for patient in PATIENTS:
        plain, changed = Thorax.of(case_of(patient)), Thorax.of(case_of(patient, one(name, "L")))
        if name == "Atelectasis":
            assert changed.dome["L"] < plain.dome["L"] - 5
            assert changed.shift > plain.shift
        else:
            flat = [t.base - t.dome["L"] for t in (plain, changed)]
            assert flat[1] < 0.6 * flat[0]


@pytest.mark.parametrize("name", BOXED)
def test_boxes_lie_where_the_finding_changed_the_picture(name: str) -> None:
    for patient in PATIENTS:
        for view in ("PA", "AP"):
            case = case_of(patient, one(name, "L"), view=view)
            boxes = render_with_truth(case, size=SIZE).boxes
            assert len(boxes) == 1
            box = boxes[0]
            assert box.finding == case.findings[0]
            inside = np.zeros((SIZE, SIZE), bool)
            rows = slice(int(box.y), int(box.y + box.height))
            inside[rows, int(box.x) : int(box.x + box.width)] = True
            assert 0 < inside.sum() < 0.4 * SIZE**2
            moved = np.abs(change(case))
            assert moved[inside].mean() > 2.5 * moved[~inside].mean()


def test_a_box_measures_the_lesion() -> None:
    for diameter in (15.0, 40.0, 70.0):
        name = "Mass" if diameter > 30 else "Nodule"
        measured = []
        for patient in PATIENTS:
            case = case_of(patient, Finding(name, "R", 0.8, 0, diameter))
            rendering = render_with_truth(case, size=256)
            (box,) = rendering.boxes
            spacing = rendering.fov_mm / 256
            measured += [box.width * spacing, box.height * spacing]
        # Lobulated and stretched ones are framed more widely.
        np.testing.assert_allclose(measured, diameter, rtol=0.5)
        assert np.mean(measured) == pytest.approx(diameter, rel=0.2)


def test_boxes_stay_in_the_picture() -> None:
    for case in make_cohort(150, 8):
        for box in render_with_truth(case, size=48).boxes:
            assert box.finding.name in BOXED
            assert box.x >= 0
            assert box.y >= 0
            assert box.width > 0
            assert box.height > 0
            assert box.x + box.width <= 48
            assert box.y + box.height <= 48


def test_a_lesion_stays_where_it_is_between_visits() -> None:
    first = case_of(3, one("Mass"))
    later = replace(first, visit=1)
    places = []
    for case in (first, later):
        canvas = pose(case, SIZE)
        (box,) = render_with_truth(case, size=SIZE).boxes
        row, column = int(box.y + box.height / 2), int(box.x + box.width / 2)
        places.append((canvas.x[row, column], canvas.y[row, column]))
    np.testing.assert_allclose(places[0], places[1], atol=14)


def test_a_second_finding_leaves_the_first_where_it_was() -> None:
    alone = render_with_truth(case_of(5, one("Mass", "R")), size=SIZE).boxes
    both = render_with_truth(case_of(5, one("Mass", "R"), one("Nodule", "L")), size=SIZE).boxes
    assert both[0] == alone[0]
