import flax.linen as nn

from jaxconv.models import CatsDogsConvNet
from jaxconv.models.summary import layer_shapes, summary


def test_the_table_reads_as_the_chapter_s():
    lines = summary(CatsDogsConvNet(dropout=0.5), (150, 150, 3)).splitlines()
    assert lines[0].split() == ["layer", "output", "shape", "parameters"]
    assert lines[2].split() == ["Conv_0", "(n,", "148,", "148,", "32)", "896"]
    assert [line.split()[0] for line in lines[10:13]] == ["Flatten_0", "Dropout_0", "Dense_0"]
    assert lines[-1].split() == ["total", "3,453,121"]
    assert len({len(line) for line in lines}) == 1


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x)))


class Nested(nn.Module):
    """Two blocks, and a dense layer that is called twice."""

    @nn.compact
    def __call__(self, images, *, train):
        x = Block()(images, train=train)
        x = Block()(x, train=train).mean((1, 2))
        dense = nn.Dense(4)
        return dense(dense(x))


def test_nested_layers_go_by_their_paths_and_a_shared_one_counts_once():
    rows = {line.split()[0]: line.split()[-1] for line in summary(Nested(), (8, 8, 3)).splitlines() if "(n," in line}
    assert rows == {
        "Block_0/Conv_0": "112",
        "Block_0/BatchNorm_0": "8",
        "Block_1/Conv_0": "148",
        "Block_1/BatchNorm_0": "8",
        "Dense_0": "0",
    }
    names = [name for name, _ in layer_shapes(Nested(), (8, 8, 3))[0]]
    assert names[-2:] == ["Dense_0", "Dense_0"]
    assert summary(Nested(), (8, 8, 3)).splitlines()[-1].split() == ["total", "296"]
