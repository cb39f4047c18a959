"""What can be fetched without a data use agreement, and what to do by hand for the rest.

The NIH sample (5,606 radiographs of ChestX-ray14, CC0) comes through Kaggle's own library,
kagglehub (https://github.com/Kaggle/kagglehub): it resumes a download that broke off, and compares
the checksum that the server states; the ZIP archive holds one of each file besides. Keys are taken
from the environment or from `.env`; they are handed to the library and to nothing else.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.reading import Reading
from cxr_lightning.errors import ConfigError, DataError, bullet_list

__all__ = ["download"]

SAMPLE = "nih-chest-xrays/sample"
TABLE = "sample_labels.csv"
KEYS = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")

_NIH_BY_HAND = f"""\
By hand: open https://www.kaggle.com/datasets/{SAMPLE}, press Download, and unpack the archive so
that {TABLE} and the folder images lie in {{root}}; then run this command without --download.
The whole data set is at https://nihcc.app.box.com/v/ChestXray-NIHCC."""
_BY_HAND = {
    "chexpert": "CheXpert is given to those who accept its research use agreement: register at "
    "https://stanfordaimi.azurewebsites.net (CheXpert), download the archive from there, unpack "
    "it, and set data.root to its folder.",
    "mimic_cxr": "MIMIC-CXR-JPG is given to credentialed users of PhysioNet who have done its "
    "training and signed its data use agreement: https://physionet.org/content/mimic-cxr-jpg. "
    "Download it with the command at the foot of that page, and set data.root to its folder.",
    "ehr": "these are a hospital's own files: set data.root to the folder of radiographs, and "
    "data.echo.file to the table.",
    "table": "these are files of your own: set data.csv to the table.",
    "phantom": "nothing has to be fetched: the radiographs are made on first use.",
    "mix": "fetch each source by itself, e.g. data=nih --download.",
}


def download(config: DataConfig, say: Callable[[str], None]) -> DataConfig:
    """Fetch the public part of a data set, and return the configuration that reads it.

    What is there already is kept; an interrupted download goes on where it stopped.

    Parameters
    ----------
    config
        `root` is where the files go; None: the folder ``nih-sample`` of the current one.
    say
        Prints a line.

    Raises
    ------
    ConfigError
        The data set cannot be fetched: what to do instead; or kagglehub is not installed.
    DataError
        No network, no permission, no room, damaged files: what to do by hand.
    """
    if config.name != "nih" or config.synthetic:
        name = "phantom" if config.synthetic else config.name
        reason = _BY_HAND.get(name, "where its files come from is not known here.")
        raise ConfigError(f"data={config.name} --download: {reason}")
    root = config.root or Path("nih-sample")
    chosen = config.model_copy(update={"root": root, "split": "patient"})
    if any(root.glob("Data_Entry_2017*.csv*")):
        raise ConfigError(f"data.root={root}: holds the NIH data set already; leave --download out")
    if (root / TABLE).is_file():
        say(f"{root} holds the NIH sample already")
    else:
        say(f"fetching the NIH sample from kaggle.com/datasets/{SAMPLE} into {root}")
        _fetch(root)
    _check(chosen)
    say("the sample has no official lists; it is split by patient. Next:")
    say(f"  python -m cxr_lightning.fit data=nih data.root={root} data.split=patient")
    return chosen


def _fetch(root: Path) -> None:
    # Beside its final place: the same disk, and a run that was stopped finds it again.
    parked = root / ".download"
    by_hand = _NIH_BY_HAND.format(root=root)
    try:
        parked.mkdir(parents=True, exist_ok=True)
        _arrange(_through_kaggle(parked, by_hand), root, by_hand)
        shutil.rmtree(parked)
    except OSError as error:  # requests' errors are dealt with below
        raise DataError(f"{root}: {error.strerror or error}") from error


def _through_kaggle(parked: Path, by_hand: str) -> Path:
    """Return the folder into which kagglehub has unpacked the sample."""
    try:
        import kagglehub
        from kagglehub.exceptions import DataCorruptionError
        from requests import HTTPError, RequestException
    except ImportError:
        raise ConfigError(
            "--download needs Kaggle's library: pip install 'cxr-lightning[kaggle]'\n" + by_hand
        ) from None
    # What these errors say may hold signed addresses; it is told in other words.
    try:
        with _environment({**_keys(), "KAGGLEHUB_CACHE": str(parked.absolute())}):
            return Path(kagglehub.dataset_download(SAMPLE))
    except HTTPError as error:
        code = error.response.status_code if error.response is not None else None
        hint = (
            "It wants keys: make a token at https://www.kaggle.com/settings and put "
            "KAGGLE_API_TOKEN=... (or KAGGLE_USERNAME and KAGGLE_KEY) into .env.\n"
            if code in (401, 403)
            else ""
        )
        raise DataError(f"Kaggle's server answered {code}.\n{hint}{by_hand}") from None
    except RequestException as error:
        raise DataError(
            f"the download broke off or Kaggle cannot be reached ({type(error).__name__}). The "
            f"same command goes on where it stopped.\n{by_hand}"
        ) from None
    except (DataCorruptionError, zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, ValueError) and "archive" not in str(error):
            raise DataError(f"kagglehub: {error}") from None  # e.g. a kaggle.json without a key
        shutil.rmtree(parked)
        raise DataError(
            "what was downloaded is damaged (its checksum is not the stated one, or it is no "
            f"archive), and was deleted; run the same command again.\n{by_hand}"
        ) from None


def _keys() -> dict[str, str]:
    """Return the keys in `.env` of the current folder that the environment does not set."""
    file = Path(".env")
    found = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.strip().removeprefix("export ").partition("=")
            value = value.strip().strip("'\"")
            if name.strip() in KEYS and value:
                found[name.strip()] = value
    return {name: value for name, value in found.items() if not os.environ.get(name)}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _arrange(unpacked: Path, root: Path, by_hand: str) -> None:
    """Move the pictures to `images` and then the table, whatever folders the archive has.

    Some releases of the archive hold everything twice, one folder deeper.
    """
    tables = sorted(unpacked.rglob(TABLE), key=lambda file: len(file.parts))
    if not tables:
        raise DataError(f"the archive holds no {TABLE}.\n{by_hand}")
    images = root / "images"
    images.mkdir(exist_ok=True)
    for picture in unpacked.rglob("*.png"):
        if not (images / picture.name).exists():
            picture.rename(images / picture.name)
    tables[0].rename(root / TABLE)  # last: the table says that all is there


def _check(config: DataConfig) -> None:
    """Refuse a sample that lacks pictures of its table."""
    from cxr_lightning.data import nih

    reading: Reading = nih.read_studies(cast("nih.Config", config))
    lost = [path for path in reading.table["image_path"] if not _has_content(path)]
    if lost:
        raise DataError(
            f"{config.root}: {len(lost):,} of {len(reading.table):,} images are missing or empty:\n"
            f"{bullet_list(lost)}\nDelete the folder and run the same command again."
        )


def _has_content(path: str) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) > 0
