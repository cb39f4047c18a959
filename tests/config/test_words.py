"""KEY=VALUE words to options: all problems at once, with the nearest match."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from cxr_lightning.config.schema import Section
from cxr_lightning.config.words import options_from_words, print_options
from cxr_lightning.errors import ConfigError


class Options(Section):
    """For these tests."""

    bundle: Path = Field(description="A file.")
    input: tuple[str, ...] = Field(min_length=1, description="Several paths.")
    batch_size: int = Field(32, ge=1, description="How many.")


def parse(*words: str) -> Options:
    return options_from_words(words, Options, verb="predict", bare="input")


def test_words() -> None:
    found = parse("bundle=a=b.safetensors", "input=x.png", "y.png", "input=z", "-", "@l.txt")
    assert found.bundle == Path("a=b.safetensors")
    assert found.input == ("x.png", "y.png", "z", "-", "@l.txt")
    assert parse("bundle=a", "x", "batch_size=8").batch_size == 8


def test_a_file_whose_name_holds_an_equals_sign(tmp_path: Path) -> None:
    file = tmp_path / "a=b.png"
    file.touch()
    assert parse("bundle=a", str(file)).input == (str(file),)


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("bundel=x", "batch_size=0", "--fast", "batch_size=0")
    assert str(caught.value) == (
        "6 problems on the command line\n"
        "  - bundel=x: no such key. Did you mean 'bundle'? predict has: bundle, input, batch_size\n"
        "  - '--fast' is not understood: write KEY=VALUE\n"
        "  - batch_size is given 2 times: 0, 0\n"
        "  - bundle: required, but not given (A file.)\n"
        "  - input: required, but not given (Several paths.)\n"
        "  - batch_size=0: must be greater than or equal to 1. (How many.)\n"
        "See python -m cxr_lightning.predict --help"
    )


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*words: str) -> bool:
        return print_options(
            words, Options, verb="predict", usage="U", description="Dee", examples=["a=b"]
        )

    assert not shown("bundle=a")
    assert shown("--help")
    text = capsys.readouterr().out
    for part in ("usage: python -m cxr_lightning.predict U", "Dee", "How many.", "default 32"):
        assert part in text
    assert "python -m cxr_lightning.predict a=b" in text
    assert shown("--version")
    assert capsys.readouterr().out.startswith("cxr_lightning ")
