from jaxconv.models import CatsDogsConvNet
from jaxconv.summary import summary


def test_the_table_reads_as_the_chapter_s():
    lines = summary(CatsDogsConvNet(dropout=0.5), (150, 150, 3)).splitlines()
    assert lines[0].split() == ["layer", "output", "shape", "parameters"]
    assert lines[2].split() == ["Conv_0", "(n,", "148,", "148,", "32)", "896"]
    assert [line.split()[0] for line in lines[10:13]] == ["Flatten_0", "Dropout_0", "Dense_0"]
    assert lines[-1].split() == ["total", "3,453,121"]
    assert len({len(line) for line in lines}) == 1
