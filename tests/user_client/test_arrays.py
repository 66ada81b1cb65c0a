from pathlib import Path

import numpy as np
import pytest
import torch
from places import task

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(4, 6, 3, 2)), RNG.normal(size=(4, 6, 3))
CLASSES = RNG.integers(0, 7, (4, 6, 3))
CLASSES[2, 1, 0] = 6


def arrays(folder: Path, loss="squared", features="none", **content):
    np.savez(folder / "a.npz", **content)
    return task({"kind": "arrays", "path": "a.npz", "loss": loss, "features": features}, folder=folder)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_regression(tmp_path, dtype):
    one = arrays(tmp_path, x=X.astype(dtype), y=Y)
    job = one.job(3, 5)
    assert (one.input_shape, one.batch, one.validation_batch, one.outputs) == ((2,), 3, 0, 1)
    assert one.dtype == job.x.dtype == job.y.dtype == torch.from_numpy(np.zeros(0, dtype)).dtype
    np.testing.assert_array_equal(job.x.numpy(), X[3, 5].astype(dtype))
    np.testing.assert_array_equal(job.y.numpy(), Y[3, 5].astype(dtype))


def test_classes_and_validation(tmp_path):
    x_val, y_val = RNG.normal(size=(4, 5, 2)), np.full((4, 5), 8, np.uint8)
    one = arrays(tmp_path, "cross_entropy", x=X, y=CLASSES.astype(np.int32), x_val=x_val, y_val=y_val)
    assert (one.outputs, one.validation_batch) == (9, 5)
    assert one.job(2, 1).y.dtype == one.validation(0).y.dtype == torch.int64
    np.testing.assert_array_equal(one.job(2, 1).y.numpy(), CLASSES[2, 1])
    np.testing.assert_array_equal(one.validation(3).x.numpy(), x_val[3])


def test_outputs_are_the_largest_class_plus_one(tmp_path):
    assert arrays(tmp_path, "cross_entropy", x=X, y=CLASSES).outputs == 7


def test_polynomial3_in_training_and_validation(tmp_path):
    tau = X[..., 0]
    one = arrays(tmp_path, features="polynomial3", x=tau, y=Y, x_val=tau[:, :, 0], y_val=Y[:, :, 0])
    assert (one.input_shape, one.validation_batch) == ((4,), 6)
    np.testing.assert_allclose(one.job(1, 2).x.numpy(), tau[1, 2][:, None] ** np.arange(4), rtol=1e-15)
    np.testing.assert_allclose(one.validation(1).x.numpy(), tau[1, :, 0][:, None] ** np.arange(4), rtol=1e-15)


def test_reference_arrays_and_spare_rounds_are_fine(tmp_path):
    one = arrays(tmp_path, x=np.concatenate([X, X]), y=np.concatenate([Y, Y]), theta_star=np.zeros((4, 2)))
    np.testing.assert_array_equal(one.job(0, 0).x.numpy(), X[0, 0])


def test_memory_order_of_the_file_does_not_matter(tmp_path):
    one = arrays(tmp_path, x=np.asfortranarray(X), y=np.asfortranarray(Y))
    assert one.job(1, 2).x.is_contiguous()
    np.testing.assert_array_equal(one.job(1, 2).x.numpy(), X[1, 2])


def test_damaged_content(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=X, y=Y)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"is not an \.npz file of plain arrays"):
        task({"kind": "arrays", "path": "a.npz", "loss": "squared"}, folder=tmp_path)


def test_no_validation(tmp_path):
    with pytest.raises(ValueError, match="has no x_val"):
        arrays(tmp_path, x=X, y=Y).validation(0)


def spoiled(array, index, value):
    copy = array.copy()
    copy[index] = value
    return copy


REFUSALS = [
    ({"x": X}, "has no array y"),
    ({"y": Y}, "has no array x"),
    ({"x": X, "y": Y[:3]}, r"y has shape \[3, 6, 3\], x needs \[4, 6, 3\]"),
    ({"x": X[..., 0], "y": Y}, r"x has shape \[4, 6, 3\], needs \[T, m, B, ...\]"),
    ({"x": X[:, :, :0], "y": Y[:, :, :0]}, "x is empty"),
    ({"x": X.astype(np.float16), "y": Y}, "x has dtype float16, needs float32 or float64"),
    ({"x": X.astype(">f8"), "y": Y}, "x has dtype >f8"),
    ({"x": X.astype(complex), "y": Y}, "x has dtype complex128"),
    ({"x": X, "y": Y.astype(int)}, "y has dtype int64, needs float32 or float64"),
    ({"x": spoiled(X, (1, 2, 0, 1), np.nan), "y": Y}, r"x\[1, 2, 0, 1\] is nan, must be finite"),
    ({"x": X, "y": spoiled(Y, (3, 5, 2), -np.inf)}, r"y\[3, 5, 2\] is -inf, must be finite"),
    ({"x": X[:3], "y": Y[:3]}, "x has 3 rounds, the scenario needs 4"),
    ({"x": X[:, :5], "y": Y[:, :5]}, "x has 5 slots, the scenario needs 6"),
    ({"x": X, "y": Y, "x_val": X[:, :, 0]}, "must have both x_val and y_val"),
    ({"x": X, "y": Y, "y_val": Y[:, :, 0]}, "must have both x_val and y_val"),
    ({"x": X, "y": Y, "x_val": X[:3, :, 0], "y_val": Y[:3, :, 0]}, "x_val has 3 rounds, the scenario needs 4"),
    ({"x": X, "y": Y, "x_val": X[:, :, 0, :1], "y_val": Y[:, :, 0]}, r"x_val has float64 samples \[1\], x has"),
    ({"x": X, "y": Y, "x_val": X[:, :, 0].astype("f4"), "y_val": Y[:, :, 0]}, "x_val has float32 samples"),
    ({"x": X, "y": Y, "x_val": X[:, :, 0], "y_val": Y[:, :5, 0]}, r"y_val has shape \[4, 5\], x_val needs"),
    ({"x": X, "y": Y, "x_val": spoiled(X[:, :, 0], (0, 1, 1), np.nan), "y_val": Y[:, :, 0]}, r"x_val\[0, 1, 1\]"),
]


@pytest.mark.parametrize(("content", "message"), REFUSALS)
def test_refusals(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        arrays(tmp_path, **content)
    assert str(tmp_path / "a.npz") in str(error.value)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y, "y has dtype float64, cross_entropy needs integer classes"),
        (CLASSES.astype(bool), "y has dtype bool"),
        (spoiled(CLASSES, (1, 1, 1), -1), r"y\[1, 1, 1\] is -1, classes are 0 to 65535"),
        (spoiled(CLASSES, (0, 0, 2), 10**9), r"y\[0, 0, 2\] is 1000000000"),
    ],
)
def test_classes_that_are_refused(tmp_path, y, message):
    with pytest.raises(ValueError, match=message):
        arrays(tmp_path, "cross_entropy", x=X, y=y)


def test_polynomial3_needs_bare_tau(tmp_path):
    with pytest.raises(ValueError, match=r"polynomial3 needs tau \[T, m, B\]"):
        arrays(tmp_path, features="polynomial3", x=X, y=Y)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere\.npz"):
        task({"kind": "arrays", "path": "nowhere.npz", "loss": "squared"}, folder=tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\3\4 cut short"])
def test_file_of_another_kind(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.npz is not an .npz file"):
        task({"kind": "arrays", "path": "a.npz", "loss": "squared"}, folder=tmp_path)


def test_pickles_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not an \.npz file of plain arrays"):
        arrays(tmp_path, x=np.array([object()]), y=Y)


def test_a_single_array_is_refused(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match=r"is not an \.npz file"):
        task({"kind": "arrays", "path": "a.npz", "loss": "squared"}, folder=tmp_path)
