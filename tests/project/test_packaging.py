"""The promises of the repository's own files: versions, hashes, images, package data, no leaks."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("3.11", "3.12", "3.13")


def declared(*, extras: bool) -> list[Requirement]:
    lines = list(PROJECT["project"]["dependencies"])
    if extras:
        for extra in PROJECT["project"]["optional-dependencies"].values():
            lines += extra
    return [Requirement(line) for line in lines]


def pinned() -> dict[tuple[str, str], str]:
    """Version of each package of constraints.txt, by Python version and canonical name."""
    pins: dict[tuple[str, str], str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line[:1].isalnum():
            continue
        pin = Requirement(line.removesuffix("\\").strip())
        for python in PYTHONS:
            environment = {
                "python_version": python,
                "python_full_version": f"{python}.0",
                "sys_platform": "linux",
                "platform_system": "Linux",
                "platform_machine": "x86_64",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
            }
            if pin.marker is None or pin.marker.evaluate(environment):
                key = python, canonicalize_name(pin.name)
                assert key not in pins, f"{pin.name} is pinned twice for Python {python}"
                (only,) = pin.specifier
                assert only.operator == "=="
                pins[key] = only.version
    return pins


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files are tracked is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def docker_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", ROOT / "docker/environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestVersions:
    @pytest.mark.parametrize("python", PYTHONS)
    def test_every_requirement_is_pinned_within_its_bounds(self, python: str) -> None:
        pins = pinned()
        for requirement in declared(extras=True):
            version = pins[python, canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement} but pinned {version}"

    def test_pythons_are_those_that_the_package_allows(self) -> None:
        allowed = SpecifierSet(PROJECT["project"]["requires-python"])
        minors = [f"3.{minor}" for minor in range(20) if f"3.{minor}.0" in allowed]
        assert minors == list(PYTHONS)
        classifiers = PROJECT["project"]["classifiers"]
        listed = [line.split(" :: ")[-1] for line in classifiers if ":: Python :: 3." in line]
        assert listed == list(PYTHONS)

    def test_torch_has_no_upper_bound(self) -> None:
        for requirement in declared(extras=False):
            if requirement.name in {"torch", "torchvision"}:
                assert [each.operator for each in requirement.specifier] == [">="]

    def test_every_other_requirement_says_why_it_is_there(self) -> None:
        text = (ROOT / "pyproject.toml").read_text()
        listed = text[text.index("\ndependencies = [") : text.index("\n[tool.hatch.version]")]
        bare = [
            line.strip()
            for line in listed.splitlines()
            if line.startswith('  "') and "#" not in line and not line.startswith('  "pytest>')
        ]
        assert bare == []

    def test_only_the_headless_opencv_is_installed(self) -> None:
        names = {name for _, name in pinned() if name.startswith("opencv")}
        assert names == {"opencv-python-headless"}

    def test_every_pin_has_a_hash_and_no_address(self) -> None:
        text = (ROOT / "constraints.txt").read_text()
        blocks = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 2)[2])
        assert len(blocks) > 100
        unhashed = [block.split()[0] for block in blocks if "--hash=sha256:" not in block]
        assert unhashed == []
        assert not re.search(r"://|file:|^-|^\s+--(?!hash)", text, re.MULTILINE)


class TestImports:
    def test_every_import_is_a_requirement(self) -> None:
        """What the package imports, it asks for itself, and not through another package."""
        # What belongs to an extra is imported where it is used; its absence is told by name.
        wanted = {canonicalize_name(each.name) for each in declared(extras=True)}
        wanted -= {"pytest", "hypothesis"}
        # pydantic documents parts of its core as its own interface and pins it exactly.
        providers = packages_distributions() | {
            "pydantic_core": ["pydantic"],
            "umap": ["umap-learn"],
        }
        undeclared: dict[str, list[str]] = {}
        for path in sorted((ROOT / "cxr_lightning").rglob("*.py")):
            for module in third_party(path):
                names = {canonicalize_name(name) for name in providers.get(module, [module])}
                if not names & wanted:
                    undeclared.setdefault(module, []).append(path.name)
        assert undeclared == {}

    def test_the_layer_order_names_every_module(self) -> None:
        contract = PROJECT["tool"]["importlinter"]["contracts"][0]
        layers = re.findall(r"cxr_lightning\.(\w+)", " ".join(contract["layers"]))
        package = ROOT / "cxr_lightning"
        modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
        modules |= {path.parent.name for path in package.glob("*/__init__.py")}
        assert modules == set(layers)


def third_party(path: Path) -> Iterator[str]:
    """Top-level names of what a file imports, less the standard library and the package itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top != "cxr_lightning":
                yield top


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with hatchling as installed here: no isolation, no network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


class TestWheel:
    def test_it_holds_the_package_and_its_configuration(self, wheel: Path) -> None:
        held = set(zipfile.ZipFile(wheel).namelist())
        for folder, prefix in (("conf", "cxr_lightning/conf"), ("cxr_lightning", "cxr_lightning")):
            for path in (ROOT / folder).rglob("*"):
                if path.suffix in {".yaml", ".py", ".typed"}:
                    assert f"{prefix}/{path.relative_to(ROOT / folder)}" in held

    def test_it_holds_nothing_else(self, wheel: Path) -> None:
        names = zipfile.ZipFile(wheel).namelist()
        tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        assert tops == {"cxr_lightning"}
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)

    def test_it_finds_its_configuration_where_no_checkout_is(
        self, wheel: Path, tmp_path: Path
    ) -> None:
        zipfile.ZipFile(wheel).extractall(tmp_path / "site")
        code = (
            "import sys; sys.path[:0] = sys.argv[1:]\n"
            "from cxr_lightning.config.groups import shipped_conf\n"
            "print(shipped_conf())"
        )
        borrowed = [str(tmp_path / "site"), sysconfig.get_path("purelib")]
        answer = subprocess.run(
            # -I -S: neither this folder nor the .pth file of an editable install.
            [sys.executable, "-I", "-S", "-c", code, *borrowed],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(answer.stdout.strip()) == tmp_path / "site/cxr_lightning/conf"


class TestNoLeaks:
    # Written in pieces so that this file does not name them either.
    FORBIDDEN = re.compile(
        "|".join(
            (
                r"(?<![\w.}])/(?:wo" r"rk|fa" r"rm|ro" r"ot)/",
                r"--(?:extra-)?index-" r"url",
                r"/opt/(?:py" r"pi|whe" r"els)",
                r"registry = \"ht" r"tp",
                r"\"resolved\": \"ht" r"tp",
                r"files\.python" r"hosted\.org",
            )
        )
    )

    def test_no_file_names_a_machine_or_an_index(self) -> None:
        found = []
        for path in tracked_files():
            try:
                text = path.read_text()
            except UnicodeDecodeError:
                continue
            for number, line in enumerate(text.splitlines(), 1):
                if self.FORBIDDEN.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
        assert found == []

    def test_no_secret_is_in_the_example(self) -> None:
        for line in (ROOT / ".env.example").read_text().splitlines():
            if re.match(r"\w*(PASSWORD|KEY|TOKEN|SECRET)\w*=", line):
                assert line.endswith("=")


class TestImages:
    def test_the_dockerfile_never_asks_for_torch(self) -> None:
        text = (ROOT / "docker/Dockerfile").read_text().replace("\\\n", " ")
        instructions = [line for line in text.splitlines() if line.startswith("RUN")]
        assert not any(re.search(r"install.*\btorch", line) for line in instructions)
        installs = [line for line in instructions if "pip install" in line]
        assert len(installs) == 2
        for line in installs:
            assert "--no-deps" in line or "--constraint /tmp/pins.txt" in line
            assert "docker/environment.py check" in line

    def test_pins_keep_the_torch_of_the_image(self, tmp_path: Path) -> None:
        image = tmp_path / "image"
        for name, version in (("torch", "2.14.0a0+b2c75dd.nv26.09"), ("torchvision", "0.29.0a0")):
            fake_distribution(image, name, version)
        fake_distribution(image, "numpy", "2.1.0")
        script = docker_script()
        constraints = (ROOT / "constraints.txt").read_text()

        lines = list(script.pins(constraints, installed_in(image)))

        assert lines[-2:] == ["torch==2.14.0a0+b2c75dd.nv26.09", "torchvision==0.29.0a0"]
        names = [canonicalize_name(Requirement(line).name) for line in lines]
        assert [name for name in names if name.startswith(("nvidia-", "cuda-", "triton"))] == []
        assert names.count("torch") == 1
        ours = {name for _, name in pinned() if not script.is_image_package(name)}
        assert ours <= set(names)

    def test_pins_refuse_an_image_without_torchvision(self, tmp_path: Path) -> None:
        fake_distribution(tmp_path, "torch", "2.14.0")
        with pytest.raises(SystemExit, match="no torchvision"):
            list(docker_script().pins("", installed_in(tmp_path)))

    def test_a_second_torch_is_noticed(self, tmp_path: Path) -> None:
        image, environment = tmp_path / "image", tmp_path / "venv"
        fake_distribution(image, "torch", "2.14.0")
        fake_distribution(environment / "lib", "numpy", "2.5.0")
        script = docker_script()
        both = [*installed_in(image), *installed_in(environment / "lib")]
        assert script.replaced(both, environment) == []

        fake_distribution(environment / "lib", "torch", "2.15.0")
        fake_distribution(environment / "lib", "nvidia_cudnn_cu13", "9.26")
        both = [*installed_in(image), *installed_in(environment / "lib")]
        assert script.replaced(both, environment) == ["nvidia_cudnn_cu13 9.26", "torch 2.15.0"]

    def test_requirements_are_those_of_the_project(self) -> None:
        lines = list(docker_script().requirements(["dev"]))
        extras = PROJECT["project"]["optional-dependencies"]
        assert lines == PROJECT["project"]["dependencies"] + extras["dev"]

    def test_the_builder_receives_all_that_is_copied(self) -> None:
        sent = {
            line.removeprefix("!")
            for line in (ROOT / ".dockerignore").read_text().splitlines()
            if line.startswith("!")
        }
        for name in ("Dockerfile", "mlflow.Dockerfile"):
            for line in (ROOT / "docker" / name).read_text().splitlines():
                if line.startswith("COPY"):
                    sources = [word for word in line.split()[1:-1] if not word.startswith("--")]
                    assert set(sources) <= sent

    def test_compose_waits_for_health_and_takes_secrets_from_outside(self) -> None:
        services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
        for service in services.values():
            for needed, how in service.get("depends_on", {}).items():
                assert how == {"condition": "service_healthy"}
                assert "healthcheck" in services[needed]
        text = (ROOT / "docker/compose.yaml").read_text()
        for line in text.splitlines():
            if "PASSWORD:" in line:
                assert "${POSTGRES_PASSWORD:?" in line
        named = set(re.findall(r"\$\{(\w+)", text))
        example = (ROOT / ".env.example").read_text()
        assert named == set(re.findall(r"^(\w+)=", example, re.MULTILINE))

    def test_the_dev_container_builds_a_stage_that_exists(self) -> None:
        text = (ROOT / ".devcontainer/devcontainer.json").read_text()
        settings = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
        dockerfile = ROOT / ".devcontainer" / settings["build"]["dockerfile"]
        assert f" AS {settings['build']['target']}\n" in dockerfile.read_text()
        assert settings["hostRequirements"] == {"gpu": "optional"}
        assert (ROOT / settings["postCreateCommand"].split()[-1]).is_file()


def fake_distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def installed_in(folder: Path) -> list[object]:
    from importlib.metadata import distributions

    return list(distributions(path=[str(folder)]))
