"""SciPy and, where it is installed, Keras are the oracles."""

import numpy as np
import pytest
from scipy import ndimage

from jaxconv.config import BOOK_AUGMENTATION, Augmentation
from jaxconv.data.augment import RandomAffine, affine_matrix, draw_matrix, warp


def random_image(rng, height=61, width=83, channels=3, dtype=np.float32):
    return rng.integers(0, 256, (height, width, channels)).astype(dtype)


def by_scipy(image, matrix, fill, interpolation, cval):
    order = {"nearest": 0, "bilinear": 1}[interpolation]
    channels = [
        ndimage.affine_transform(image[..., c], matrix[:, :2], matrix[:, 2], order=order, mode=fill, cval=cval)
        for c in range(image.shape[2])
    ]
    return np.stack(channels, -1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 0.01), (np.uint8, 1)])
def test_warp_equals_scipy(fill, interpolation, dtype, tolerance, channels):
    rng = np.random.default_rng(0)
    for _ in range(10):
        image = random_image(rng, channels=channels, dtype=dtype)
        matrix = draw_matrix(*image.shape[:2], BOOK_AUGMENTATION, rng)
        ours = warp(image, matrix, fill=fill, interpolation=interpolation, cval=37.0)
        assert ours.dtype == dtype
        assert ours.shape == image.shape
        expected = by_scipy(image, matrix, fill, interpolation, 37.0)
        difference = np.abs(ours.astype(float) - expected.astype(float)).max(-1)
        # A coordinate within rounding of a pixel's border or of the picture's edge may fall to either side.
        borders = interpolation == "nearest" or fill == "constant"
        assert (difference > tolerance).sum() <= (2 if borders else 0)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
def test_the_identity_changes_nothing(fill, interpolation):
    image = random_image(np.random.default_rng(1), dtype=np.uint8)
    np.testing.assert_array_equal(warp(image, affine_matrix(61, 83), fill=fill, interpolation=interpolation), image)


def test_half_a_turn_is_the_double_flip_of_a_picture_that_is_not_square():
    image = random_image(np.random.default_rng(2))
    turned = warp(image, affine_matrix(61, 83, rotation_deg=180.0))
    np.testing.assert_allclose(turned, image[::-1, ::-1], atol=0.01)


@pytest.mark.parametrize(
    "parameters, expected",
    [
        # A dot at row 15, column 40 of 31 x 51; the centre is row 15, column 25.
        ({"shift_rows": 4.0}, (11, 40)),  # a positive shift moves the content up
        ({"shift_cols": 6.0}, (15, 34)),  # and left
        ({"rotation_deg": 90.0}, (30, 25)),  # clockwise: from the right of the centre to below it
        ({"rotation_deg": -90.0}, (0, 25)),
        ({"zoom_cols": 0.75}, (15, 45)),  # below 1 enlarges: away from the centre
        ({"zoom_rows": 0.75}, (15, 40)),
        # in = (r - sin k * c, cos k * c): the column grows by 1 / cos k, the row by tan k times the column.
        ({"shear_deg": 30.0}, (15 + 15 * np.tan(np.pi / 6), 25 + 15 / np.cos(np.pi / 6))),
    ],
)
def test_where_an_off_centre_dot_goes(parameters, expected):
    image = np.zeros((31, 51, 1), np.float32)
    image[15, 40] = 255.0
    warped = warp(image, affine_matrix(31, 51, **parameters))[..., 0]
    assert warped.sum() > 0
    centre = [(warped * index).sum() / warped.sum() for index in np.indices(warped.shape)]
    np.testing.assert_allclose(centre, expected, atol=0.6)


def test_the_matrix_is_the_product_of_its_factors():
    """By hand, as reference: R @ T @ S @ Z about the centre, rows first."""
    t, k = np.deg2rad(25.0), np.deg2rad(-8.0)
    rotation = np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
    shift = np.array([[1, 0, 3.0], [0, 1, -5.0], [0, 0, 1]])
    shear = np.array([[1, -np.sin(k), 0], [0, np.cos(k), 0], [0, 0, 1]])
    centre = np.array([[1, 0, 19.5], [0, 1, 29.5], [0, 0, 1]])
    expected = centre @ rotation @ shift @ shear @ np.diag([0.9, 1.2, 1]) @ np.linalg.inv(centre)
    matrix = affine_matrix(
        40, 60, rotation_deg=25.0, shift_rows=3.0, shift_cols=-5.0, shear_deg=-8.0, zoom_rows=0.9, zoom_cols=1.2
    )
    assert matrix.dtype == np.float64
    np.testing.assert_allclose(matrix, expected[:2], atol=1e-12)


def test_draws_stay_in_their_ranges_and_reach_the_ends():
    rng = np.random.default_rng(3)

    def draws(**ranges):
        return np.array([draw_matrix(101, 201, Augmentation(**ranges), rng) for _ in range(2_000)])

    angles = np.rad2deg(np.arctan2(*draws(rotation_deg=40.0)[:, :, 0].T[::-1]))
    assert 39 < np.abs(angles).max() <= 40
    shifts = draws(shift=0.2)[:, :, 2] / [101, 201]
    assert (np.abs(shifts).max(0) <= 0.2).all() and (np.abs(shifts).max(0) > 0.19).all()
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.1
    zooms = np.diagonal(draws(zoom=0.2)[:, :, :2], axis1=1, axis2=2)
    assert 0.8 <= zooms.min() < 0.81 and 1.19 < zooms.max() <= 1.2
    assert abs(np.corrcoef(zooms.T)[0, 1]) < 0.1  # independent for the two axes
    shears = np.rad2deg(np.arcsin(-draws(shear_deg=11.46)[:, 0, 1]))
    assert 11.3 < np.abs(shears).max() <= 11.46
    flips = draws(flip=True)[:, 1, 1]
    assert set(flips) == {-1.0, 1.0} and abs(flips.mean()) < 0.1


def test_the_flip_mirrors_columns():
    image = random_image(np.random.default_rng(4), dtype=np.uint8)
    ranges = Augmentation(flip=True)
    matrices = [draw_matrix(61, 83, ranges, np.random.default_rng(seed)) for seed in range(10)]
    flipped = next(matrix for matrix in matrices if matrix[1, 1] < 0)
    np.testing.assert_array_equal(warp(image, flipped), image[:, ::-1])


def test_random_affine_leaves_the_label_and_depends_on_the_generator_alone():
    record = {"image": random_image(np.random.default_rng(5), dtype=np.uint8), "label": 1}
    first, again, other = (RandomAffine().random_map(record, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first["label"] == 1
    np.testing.assert_array_equal(first["image"], again["image"])
    assert (first["image"] != other["image"]).mean() > 0.5


def test_warp_refuses_what_it_does_not_know():
    image, matrix = np.zeros((4, 4, 3), np.uint8), affine_matrix(4, 4)
    with pytest.raises(ValueError, match="fill='wrap' must be one of nearest, reflect, constant"):
        warp(image, matrix, fill="wrap")
    with pytest.raises(ValueError, match="interpolation='cubic' one of nearest, bilinear"):
        warp(image, matrix, interpolation="cubic")
    with pytest.raises(ValueError, match="an image is uint8 or float32 with 1 to 4 channels, not float64"):
        warp(image.astype(float), matrix)
    with pytest.raises(ValueError, match=r"not uint8\[4, 4, 5\]"):
        warp(np.zeros((4, 4, 5), np.uint8), matrix)


@pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")  # Keras's own import
def test_warp_equals_keras():
    """Keras turns its axes round: its x is our column. Its centre is right on square pictures alone."""
    pytest.importorskip("keras", reason="Keras is not installed (extra: bench)")
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    generator, rng = ImageDataGenerator(fill_mode="nearest"), np.random.default_rng(6)
    for _ in range(20):
        image = random_image(rng, 60, 60)
        theta, shear = rng.uniform(-40, 40), rng.uniform(-11.46, 11.46)
        tx, ty, zx, zy = *rng.uniform(-12, 12, 2), *rng.uniform(0.8, 1.2, 2)
        theirs = generator.apply_transform(
            image, {"theta": theta, "tx": tx, "ty": ty, "shear": shear, "zx": zx, "zy": zy}
        )
        matrix = affine_matrix(
            60, 60, rotation_deg=theta, shift_rows=tx, shift_cols=ty, shear_deg=shear, zoom_rows=zx, zoom_cols=zy
        )
        ours = warp(image.transpose(1, 0, 2), matrix).transpose(1, 0, 2)
        np.testing.assert_allclose(ours, theirs, atol=0.01)
