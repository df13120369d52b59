"""Nets that compile in a moment: one of all layers of the chapter's nets, and nets of a user's own."""

import flax.linen as nn
from jax import lax
from jax.typing import DTypeLike

from jaxconv.models import Flatten
from jaxconv.models.layers import Conv, Dense, MaxPool


class SmallNet(nn.Module):
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, images, *, train):
        x = Flatten()(nn.relu(MaxPool()(Conv(4)(images))))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return Dense(1)(nn.relu(Dense(32)(x)))


class Block(nn.Module):
    """A convolution with batch norm, as a module inside a net."""

    features: int

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(self.features, (3, 3), strides=2)(x)
        return nn.relu(nn.BatchNorm(use_running_average=not train)(x))


class BatchNormNet(nn.Module):
    """A net that jaxconv does not know: nested modules, batch norm, dropout, and an L2 term that it sows itself."""

    classes: int = 2

    @nn.compact
    def __call__(self, images, *, train):
        x = images
        for features in (4, 6):
            x = Block(features)(x, train=train)
        head = nn.Dense(self.classes)
        x = head(nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2))))
        self.sow("losses", "l2", 1e-3 * (head.variables["params"]["kernel"] ** 2).sum())
        return x


class PretrainedNet(nn.Module):
    """In the place of a large pretrained net: features of two convolutions, of which the upper one is fine-tuned."""

    classes: int = 2
    dtype: DTypeLike = "float32"
    trained_blocks: int | None = None

    def setup(self):
        self.lower, self.upper = nn.Conv(6, (3, 3), strides=2), nn.Conv(8, (3, 3), strides=2)
        self.classifier = Dense(1 if self.classes == 2 else self.classes)

    def features(self, images):
        x = nn.relu(self.lower(images))
        return nn.relu(self.upper(lax.stop_gradient(x) if self.trained_blocks else x)).mean((1, 2))

    def __call__(self, images, *, train):
        return self.classifier(self.features(images))


class FlatNet(nn.Module):
    """A net without convolutions, of two classes."""

    @nn.compact
    def __call__(self, images, *, train):
        return Dense(2)(Flatten()(images))


class SizedNet(nn.Module):
    """A net whose field has no default, so that its class alone is not enough to make it."""

    features: int

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(2)(Block(self.features)(images, train=train).mean((1, 2)))


sized = SizedNet(4)
