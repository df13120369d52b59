"""A net that compiles in a moment, of all the layers that the nets of the chapter have."""

import flax.linen as nn
from jax.typing import DTypeLike

from jaxconv.layers import Conv, Dense, MaxPool
from jaxconv.models import Flatten


class SmallNet(nn.Module):
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, images, *, train):
        x = Flatten()(nn.relu(MaxPool()(Conv(4)(images))))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return Dense(1)(nn.relu(Dense(32)(x)))
