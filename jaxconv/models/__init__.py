"""The nets, their layers, and the registry that knows them by name."""

from jaxconv.models.convnets import CatsDogsConvNet as CatsDogsConvNet
from jaxconv.models.convnets import DenseNet as DenseNet
from jaxconv.models.convnets import Flatten as Flatten
from jaxconv.models.convnets import MnistConvNet as MnistConvNet
from jaxconv.models.efficientnet import EfficientNetLite0 as EfficientNetLite0
