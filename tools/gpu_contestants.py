"""What `tools.bench --gpu` compares: contestants that keep their pictures on the device, a process each.

The work is that of `tools.contestants`. Keras is the exception: the loader of the book's code feeds it from the host.
"""

import functools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from tools.contestants import BATCH, SIZE, Contestant, Jaxconv, Keras, Torch, TorchPictures, serve

SEEDS = 5


@functools.cache
def _feed(splits: Any, steps: int, seeds: int) -> Any:
    """The one source of augmented epochs of so many steps and seeds; it draws as long as the process lives."""
    from jaxconv.augment import RandomAffine
    from jaxconv.config import FitConfig
    from jaxconv.resident import Resident

    config = functools.partial(FitConfig, 10**9, steps, BATCH, 1e-4)
    return Resident(splits, [config(seed=seed) for seed in range(seeds)], 0, RandomAffine()).__enter__()


class JaxconvOnDevice(Jaxconv):
    """This project, an epoch a dispatch."""

    def __init__(self, data: Path) -> None:
        from jaxconv.records import SplitDirectory, Splits

        super().__init__(data)
        train, validation = (SplitDirectory(data, split, SIZE) for split in ("train", "validation"))
        self.splits = Splits(train, validation, validation)

    @functools.cached_property
    def pictures(self) -> Any:
        """Those to train on, placed."""
        from jaxconv.resident import place

        return place(self.splits.train)

    def plain_steps(self, steps: int) -> None:
        """Train on pictures as they are."""
        from jaxconv.metrics import total
        from jaxconv.resident import train_steps

        index = np.random.default_rng(0).integers(0, len(self.splits.train), (steps, BATCH), np.int32)
        (self.state,), sums = train_steps([self.state], self.pictures, [{"index": index}])
        total(sums)

    def augmented_epoch(self, steps: int) -> None:
        """Train on warped pictures, and validate."""
        from jaxconv.metrics import total

        feed = _feed(self.splits, steps, 1)
        (self.state,), *_ = feed.train([self.state], range(steps))
        (validated,) = feed.evaluate([self.state], self.splits.validation)
        total(validated)

    def one_by_one(self, steps: int) -> None:
        """Train several seeds on warped pictures, one after the other."""
        for _ in range(SEEDS):
            (self.state,), *_ = _feed(self.splits, steps, 1).train([self.state], range(steps))

    def together(self, steps: int) -> None:
        """The same, vectorized into one program."""
        import jax
        import jax.numpy as jnp

        states = [self.state, *(jax.tree.map(jnp.copy, self.state) for _ in range(SEEDS - 1))]
        (self.state, *_), *_ = _feed(self.splits, steps, SEEDS).train(states, range(steps))

    def step_flops(self) -> float:
        """Floating point operations of a step: a product for each layer, and two for its gradients.

        The pictures need none of the second kind.
        """
        from jaxconv.summary import layer_shapes

        layers, params = layer_shapes(self.model, (*SIZE, 3))
        forward = [2 * params[name]["kernel"].size * math.prod(shape[1:-1]) for name, shape in layers if name in params]
        return BATCH * (3 * sum(forward) - forward[0])

    def step_bytes(self) -> float:
        """Bytes that a step moves when each layer is a kernel of its own.

        What a layer puts out is written, read by the next and read again for the gradient, which is itself written and
        read. RMSprop reads and writes weights, averages and gradients.
        """
        from jaxconv.summary import count_params, layer_shapes

        layers, params = layer_shapes(self.model, (*SIZE, 3))
        outputs = sum(math.prod(shape) for name, shape in layers if not name.startswith("Flatten"))
        return 5 * BATCH * outputs * np.dtype(self.dtype).itemsize + 6 * count_params(params) * 4

    def flop_rate(self) -> float:
        """Of this device, a second: those of the product of two large matrices."""
        import jax.numpy as jnp

        size = 8192 if self.on_gpu else 512
        matrix = jnp.ones((size, size), self.dtype)
        return 2 * size**3 / _seconds(lambda x: x @ x, matrix)

    def byte_rate(self) -> float:
        """Of this device, a second: reading and writing a large array."""
        import jax.numpy as jnp

        array = jnp.ones(2**28 if self.on_gpu else 2**20, jnp.float32)
        return 2 * array.nbytes / _seconds(lambda x: x + 1, array)

    @property
    def on_gpu(self) -> bool:
        """Whether this is measured where it is meant to be."""
        import jax

        return jax.default_backend() == "gpu"


class JaxconvBfloat16(JaxconvOnDevice):
    """The same in bfloat16."""

    dtype = "bfloat16"


def _seconds(function: Any, argument: Any) -> float:
    """The shortest of ten calls of a jitted function."""
    import jax

    function, times = jax.jit(function), []
    for _ in range(11):
        started = time.perf_counter()
        jax.block_until_ready(function(argument))
        times.append(time.perf_counter() - started)
    return min(times[1:])


class KerasFromHost(Keras):
    """Keras as the book's readers run it."""

    def plain_steps(self, steps: int) -> None:
        """Train on pictures as they are."""
        images, labels = next(self._flow(self.plain, "train"))
        for _ in range(steps):
            self.model.train_on_batch(images, labels)

    def augmented_epoch(self, steps: int) -> None:
        """Train on warped pictures, and validate."""
        train, validation = self._flow(self.augmented, "train"), self._flow(self.plain, "validation")
        # Its generator ends with a pass: the book's Keras went on, so that each of its epochs had all its steps.
        while steps > 0:
            some, steps = min(steps, len(train)), steps - len(train)
            last = {} if steps > 0 else {"validation_data": validation}
            self.model.fit(train, steps_per_epoch=some, epochs=1, verbose=0, **last)


class TorchOnDevice(Torch):
    """PyTorch with TF32 products, as JAX has them by itself; it draws and warps on the device too."""

    bfloat16 = False

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        torch = self.torch
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.net.to(self.device)
        self.splits = {split: self._place(data / split) for split in ("train", "validation")}

    def _place(self, folder: Path) -> Any:
        records = TorchPictures(folder, augment=False)
        images, labels = zip(*(records[index] for index in range(len(records))), strict=True)
        as_tensor = functools.partial(self.torch.as_tensor, device=self.device)
        return as_tensor(np.stack(images)), as_tensor(np.array(labels, np.float32))

    def _logits(self, images: Any) -> Any:
        with self.torch.autocast(self.device, self.torch.bfloat16, enabled=self.bfloat16):
            return self.net(images)[:, 0].float()

    def _train(self, steps: int, augment: bool) -> None:
        torch, (images, labels) = self.torch, self.splits["train"]
        sums = torch.zeros(2, device=self.device)
        self.net.train()
        for _ in range(steps):
            index = torch.randint(len(labels), (BATCH,), device=self.device)
            batch = self._images(images[index])
            logits = self._logits(self._warp(batch) if augment else batch)
            loss = self.loss(logits, labels[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            sums += torch.stack([BATCH * loss.detach(), ((logits > 0) == labels[index]).sum()])
        sums.tolist()

    def _warp(self, images: Any) -> Any:
        """The book's augmentation, in coordinates from -1 to 1."""
        torch, n = self.torch, len(images)
        spread = torch.tensor([40 * math.pi / 180, 0.2, 0.4, 0.4, 0.2, 0.2, 1.0], device=self.device)
        turn, shear, down, right, tall, wide, flip = ((2 * torch.rand(n, 7, device=self.device) - 1) * spread).T
        zero, one = torch.zeros_like(turn), torch.ones_like(turn)

        def matrix(*entries: Any) -> Any:
            return torch.stack(entries, -1).view(n, 2, 2)

        rotate = matrix(turn.cos(), -turn.sin(), turn.sin(), turn.cos())
        slant = matrix(one, -shear.sin(), zero, shear.cos())
        zoom = matrix((1 + wide) * flip.sign(), zero, zero, 1 + tall)
        theta = torch.cat([rotate @ slant @ zoom, torch.stack([right, down], -1)[..., None]], -1)
        grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=True)
        return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=True)

    def plain_steps(self, steps: int) -> None:
        """Train on pictures as they are."""
        self._train(steps, augment=False)

    def augmented_epoch(self, steps: int) -> None:
        """Train on warped pictures, and validate."""
        self._train(steps, augment=True)
        torch, (images, labels) = self.torch, self.splits["validation"]
        sums = torch.zeros(2, device=self.device)
        self.net.eval()
        with torch.inference_mode():
            for start in range(0, len(labels), BATCH):
                logits, truth = self._logits(self._images(images[start : start + BATCH])), labels[start : start + BATCH]
                sums += torch.stack([len(truth) * self.loss(logits, truth), ((logits > 0) == truth).sum()])
        sums.tolist()


class TorchBfloat16(TorchOnDevice):
    """The same in bfloat16, by autocast."""

    bfloat16 = True


CONTESTANTS: dict[str, type[Contestant]] = {
    "jaxconv": JaxconvOnDevice,
    "jaxconv-bfloat16": JaxconvBfloat16,
    "keras-jax": KerasFromHost,
    "pytorch": TorchOnDevice,
    "pytorch-bfloat16": TorchBfloat16,
}


def measure(contestant: Contestant, what: str, count: int) -> float:
    """The seconds that `count` steps of something take, or a figure that a contestant knows."""
    started = time.perf_counter()
    if what.startswith(("step_", "flop_", "byte_")):
        return float(getattr(contestant, what)())
    getattr(contestant, what)(count)
    return time.perf_counter() - started


if __name__ == "__main__":
    serve(CONTESTANTS, measure)
