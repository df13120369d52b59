"""Evaluate a trained net: accuracy, loss, AUC, calibration, confusion matrix and worst mistakes.

accuracy           the share of pictures whose most probable class is their label; its 95% confidence interval
                   (Wilson's) is wide if there are few pictures
loss               the mean cross-entropy, in nats: -log of the probability of the label
AUC                the area under the ROC curve: the chance that a picture of a class has a higher probability for
                   this class than a picture of another class; the mean over the classes if there are more than two
calibration error  the mean distance between confidence and accuracy, over 15 bins of confidence; 0 if, for example,
                   80% of the predictions with a probability of 0.8 are right
Brier score        the mean squared distance between the probabilities and the truth, which is 0 or 1; summed over the
                   classes if there are more than two
recall             the share of a class's pictures that were recognised
mean recall        the mean of the recall over the classes, which counts a class with few pictures as much as others
precision          the share of the predictions of a class that were right

    python -m tools.evaluate runs/catsdogs-plain-seed0
    python -m tools.evaluate runs/catsdogs-plain-seed0 --flip --worst 20 --json scores.json
    python -m tools.evaluate runs/catsdogs-plain-seed0 --data data/others --split validation

Without --data, the pictures of the run are used. They must be unchanged and in their old place.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxconv.config import SPLITS
from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import printable, write_json
from tools import net

PLAIN, FLIPPED = "as they are", "averaged with their mirror images"


def describe(found: dict[str, Any], class_names: list[str]) -> Iterator[str]:
    """The scores as lines of text."""
    low, high = found["accuracy_interval"]
    yield f"accuracy           {found['accuracy']:.4f}  (95% interval {low:.4f} to {high:.4f})"
    yield f"mean recall        {found['mean_recall']:.4f}"
    yield f"loss               {found['loss']:.4f}"
    yield f"AUC                {found['auc']:.4f}"
    yield f"calibration error  {found['calibration_error']:.4f}"
    yield f"Brier score        {found['brier_score']:.4f}"
    yield ""
    yield from _table(found, class_names)
    if found["never_predicted"]:
        yield f"never predicted: {', '.join(class_names[label] for label in found['never_predicted'])}"
    if found["worst"]:
        yield ""
        yield "the most confident mistakes:"
        width = max(len(printable(mistake["file"])) for mistake in found["worst"])
        for mistake in found["worst"]:
            what = f"{mistake['label']} taken for {mistake['prediction']}"
            yield f"{printable(mistake['file']):{width}}  {mistake['confidence']:.4f}  {what}"


def _table(found: dict[str, Any], class_names: list[str]) -> Iterator[str]:
    """The lines of the confusion matrix, with the recall beside it and the precision below."""
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
    """The value with None for nan, which JSON does not have."""
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
        "--data", type=Path, metavar="DIR", help="folder of train, validation, test (default: the folder of the run)"
    )
    parser.add_argument(
        "--split", choices=SPLITS, help="split to evaluate (default: test; validation for a run without test pictures)"
    )
    parser.add_argument("--flip", action="store_true", help="also evaluate the average with the mirror images")
    parser.add_argument(
        "--worst", type=int, default=5, metavar="N", help="number of mistakes to list (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all scores to this file")
    arguments = parser.parse_args(argv)
    if arguments.worst < 0:
        raise InputError(f"--worst is {arguments.worst}: give a whole number from 0 on")
    predictor = net.read(arguments)
    from jaxconv.analysis.evaluation import evaluate_source, read_split

    split = arguments.split or predictor.config.data.final_split
    source, folder = read_split(predictor, arguments.data, split)
    found = {PLAIN: evaluate_source(predictor, source, worst=arguments.worst)}
    if arguments.flip:
        found[FLIPPED] = evaluate_source(predictor, source, ("plain", "mirrored"), worst=arguments.worst)
    print(f"{arguments.run}, epoch {predictor.epoch:g}: {len(source):,} {split} pictures of {folder}")
    for how, numbers in found.items():
        print(f"\n{how}:" if arguments.flip else "")
        print("\n".join(describe(numbers, predictor.class_names)))
    if arguments.json is not None:
        of = {"run": str(arguments.run), "epoch": predictor.epoch, "data": str(folder), "split": split}
        both = {"scores": found[PLAIN]} | ({"scores_flipped": found[FLIPPED]} if arguments.flip else {})
        every = of | {"pictures": len(source), "class_names": predictor.class_names} | both
        try:
            write_json(arguments.json, _for_json(every))
        except OSError as error:
            raise InputError(
                f"--json {arguments.json} cannot be written ({error.strerror}): name another file"
            ) from error


if __name__ == "__main__":
    main()
