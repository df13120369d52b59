"""How good a trained net is: its accuracy and how sure that is, its confusions, its calibration, its worst mistakes.

accuracy           the share of pictures whose most probable class is their label, with its 95% interval (Wilson's)
loss               the cross-entropy, in nats
AUC                the area under the ROC curve; of more than two classes the mean over each against the rest
calibration error  how far confidence and accuracy are apart: the mean over 15 bins of confidence
Brier score        the squared distance of the probabilities from the truth; of more than two classes summed over them

    python -m tools.evaluate runs/catsdogs-plain-seed0
    python -m tools.evaluate runs/catsdogs-plain-seed0 --flip --worst 20 --json scores.json
    python -m tools.evaluate runs/catsdogs-plain-seed0 --data data/others --split validation

Without --data the pictures are those that the run was trained and tested with, if they are still where they were.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxconv.errors import InputError, one_line_errors
from jaxconv.workdir import CONFIG, write_json
from tools import net
from tools.files import printable

if TYPE_CHECKING:
    import numpy as np

    from jaxconv.records import Source
    from jaxconv.trained import Trained

SPLITS = ("train", "validation", "test")
PLAIN, FLIPPED = "as they are", "averaged with their mirror images"


def read(trained: "Trained", data: Path | None, split: str) -> tuple["Source", Path]:
    """The pictures to evaluate with, and the folder that they are from: `data`, or where the run had its own.

    Raises:
        InputError: they are not there, or no longer those of the run, or have other classes, or as their readers.
    """
    from experiments.catsdogs import DEMO_FOLDER

    config = trained.config["data"]
    folder = data or (DEMO_FOLDER if config.get("kind") == "drawn" else Path(config.get("path", "")))
    if data is None and not ("path" in config and folder.is_dir()):
        where = f"in {folder}, which does not exist here" if "path" in config else "nowhere"
        raise InputError(f"{trained.workdir / CONFIG} has its pictures {where}: name their folder with --data")
    source = _read_mnist(folder, split) if config.get("kind") == "MNIST" else _read_folder(trained, folder, split)
    if (shape := source[0]["image"].shape) != trained.image_shape:
        found, wanted = ("x".join(map(str, sizes)) for sizes in (shape, trained.image_shape))
        raise InputError(
            f"{folder} has pictures of {found}, but {trained.workdir} takes {wanted}: name others with --data"
        )
    if data is None and source.fingerprint != config["fingerprint"][split]:
        raise InputError(
            f"{folder} no longer holds the {split} pictures that {trained.workdir} was made with: name the folder that "
            f"does with --data, or this one for what it holds now"
        )
    return source, folder


def _read_mnist(folder: Path, split: str) -> "Source":
    from jaxconv.mnist import VERSION, read_mnist

    if folder.name != "mnist" or not (folder / VERSION).is_dir():  # which would be made, or downloaded
        raise InputError(f"{folder} is not MNIST as experiments.mnist prepares it: name its folder mnist with --data")
    return getattr(read_mnist(folder.parent), split)


def _read_folder(trained: "Trained", folder: Path, split: str) -> "Source":
    from jaxconv.records import SplitDirectory, list_classes

    classes, _ = list_classes(folder / split)
    if classes != trained.class_names:
        raise InputError(
            f"{folder / split} holds the classes {', '.join(classes)}, but {trained.workdir} was trained with "
            f"{', '.join(trained.class_names)}: name a folder of the same classes with --data"
        )
    interpolation = trained.config["data"]["interpolation"]
    return SplitDirectory(folder, split, trained.image_shape[:2], interpolation=interpolation)


def predict(trained: "Trained", source: "Source", *, mirrored: bool = False) -> tuple["np.ndarray", "np.ndarray"]:
    """The probabilities float32[n, k] of all pictures, or of their mirror images, and the labels int[n]."""
    import numpy as np
    from tqdm import tqdm

    labels = np.empty(len(source), int)

    def images() -> Iterator[np.ndarray]:
        for index in tqdm(range(len(source)), "predicting", unit="picture", leave=False, disable=None, delay=2):
            record = source[index]
            labels[index] = record["label"]
            yield record["image"][:, ::-1] if mirrored else record["image"]

    return np.concatenate([*trained.predictions(images())]), labels


def evaluate(trained: "Trained", source: "Source", *, flip: bool, worst: int) -> dict[str, dict[str, Any]]:
    """What `scores.summarize` says of the pictures, with the worst mistakes; and with `flip` of both ways averaged."""
    from jaxconv import scores

    probabilities, labels = predict(trained, source)
    found = {PLAIN: probabilities}
    if flip:
        found[FLIPPED] = (probabilities + predict(trained, source, mirrored=True)[0]) / 2
    names = trained.class_names
    return {
        how: scores.summarize(probabilities, labels)
        | {
            "worst": [
                {
                    "file": source.name(mistake.position),
                    "label": names[mistake.label],
                    "prediction": names[mistake.prediction],
                    "confidence": mistake.confidence,
                }
                for mistake in scores.mistakes(probabilities, labels)[:worst]
            ]
        }
        for how, probabilities in found.items()
    }


def describe(found: dict[str, Any], class_names: list[str]) -> Iterator[str]:
    """The lines that say it."""
    low, high = found["accuracy_interval"]
    yield f"accuracy           {found['accuracy']:.4f}  (95% interval {low:.4f} to {high:.4f})"
    yield f"loss               {found['loss']:.4f}"
    yield f"AUC                {found['auc']:.4f}"
    yield f"calibration error  {found['calibration_error']:.4f}"
    yield f"Brier score        {found['brier_score']:.4f}"
    yield ""
    yield from _table(found, class_names)
    if found["worst"]:
        yield ""
        yield "the most confident mistakes:"
        width = max(len(printable(mistake["file"])) for mistake in found["worst"])
        for mistake in found["worst"]:
            what = f"{mistake['label']} taken for {mistake['prediction']}"
            yield f"{printable(mistake['file']):{width}}  {mistake['confidence']:.4f}  {what}"


def _table(found: dict[str, Any], class_names: list[str]) -> Iterator[str]:
    """The confusion matrix between its names, with recall beside and precision below."""
    rows = [
        ["label \\ predicted", *class_names, "recall"],
        *(
            [name, *(f"{count:,}" for count in counts), _share(share)]
            for name, counts, share in zip(class_names, found["confusion"], found["recall"], strict=True)
        ),
        ["precision", *map(_share, found["precision"]), ""],
    ]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *cells in rows:
        line = "  ".join([f"{name:{first}}", *(f"{cell:>{width}}" for cell, width in zip(cells, others, strict=True))])
        yield line.rstrip()


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _for_json(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, dict):
        return {key: _for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_for_json(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, evaluate, print and write."""
    assert __doc__
    parser = net.parser("tools.evaluate", __doc__)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of train, validation, test (default: the run's)"
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="which pictures (default: %(default)s)")
    parser.add_argument("--flip", action="store_true", help="average with the mirror images too, and say both")
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="mistakes to list (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there too")
    arguments = parser.parse_args(argv)
    if arguments.worst < 0:
        raise InputError(f"--worst is {arguments.worst}: give a whole number from 0 on")
    trained = net.read(arguments)
    source, folder = read(trained, arguments.data, arguments.split)
    found = evaluate(trained, source, flip=arguments.flip, worst=arguments.worst)
    print(f"{arguments.run}, epoch {trained.epoch:g}: {len(source):,} {arguments.split} pictures of {folder}")
    for how, numbers in found.items():
        print(f"\n{how}:" if arguments.flip else "")
        print("\n".join(describe(numbers, trained.class_names)))
    if arguments.json is not None:
        of = {"run": str(arguments.run), "epoch": trained.epoch, "data": str(folder), "split": arguments.split}
        both = {"scores": found[PLAIN]} | ({"scores_flipped": found[FLIPPED]} if arguments.flip else {})
        every = of | {"pictures": len(source), "class_names": trained.class_names} | both
        try:
            write_json(arguments.json, _for_json(every))
        except OSError as error:
            raise InputError(
                f"--json {arguments.json} cannot be written ({error.strerror}): name another file"
            ) from error


if __name__ == "__main__":
    main()
