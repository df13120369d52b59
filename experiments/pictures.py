"""The pictures of --data: a folder that is split already, or a folder of classes that is divided here."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    from jaxconv.data.records import Splits

SHARES = {"test": 0.2, "validation": 0.2}
DEMO_FOLDER = Path("data/demo")


class Read(NamedTuple):
    """The pictures, and the names of those of each split if the command divided them."""

    splits: "Splits"
    division: dict[str, list[str]] | None


def read(data: str, image_size: int) -> Read:
    """The pictures of --data.

    Raises:
        InputError: as `read_splits` and `divide`.
    """
    from jaxconv.data import splits
    from jaxconv.data.layout import is_split, list_part
    from jaxconv.data.records import read_listings, read_splits

    size = (image_size, image_size)
    root = _root(data)
    if is_split(root):
        return Read(read_splits(root, size, interpolation="bicubic"), None)
    try:
        divided = splits.divide(root, SHARES, seed=0)
    except InputError as error:
        hint = "flags are those of python -m tools.split_folders, and its --dest can be the --data here"
        raise InputError(f"{error} ({hint})") from error
    print(*divided.notes, sep="\n", flush=True)
    listings = {name: list_part(root, divided.class_names, divided.splits[name]) for name in ("train", *SHARES)}
    for name, listing in listings.items():
        print(listing.describe(f"for {name}"), flush=True)
    return Read(read_listings(root, listings, size, interpolation="bicubic"), divided.splits)


def class_names(data: str) -> list[str]:
    """The classes of --data, without a look at the pictures."""
    from jaxconv.data.classes import list_classes
    from jaxconv.data.layout import is_split, list_split

    root = _root(data)
    return (list_split(root, "train") if is_split(root) else list_classes(root)).class_names


def _root(data: str) -> Path:
    """The folder of --data; the drawn pictures are drawn if they are not there yet."""
    from jaxconv.data import demo
    from jaxconv.data.folders import check_folder

    root = demo.write(DEMO_FOLDER) if data == "demo" else Path(data)
    check_folder(root)
    return root
