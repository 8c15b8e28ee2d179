"""Tables: what is learnt of them is scikit-learn's, and errors name row and column."""

import gzip

import numpy as np
import pandas as pd
import pytest
from sklearn import compose, impute, pipeline, preprocessing
from sklearn.utils import class_weight

from tfreg import _checks, data
from tfreg.data import encoding, frames, splits, tasks


def make_frame(count=200):
    """Returns numbers and texts with missing ones, and two targets."""
    rng = np.random.default_rng(0)
    city = np.array(["Bern", "Genève", "Zug", None], object)[rng.integers(0, 4, count)]
    age = rng.normal(40, 9, count).round(1)
    age[::7] = np.nan
    return pd.DataFrame(
        {
            "age": age,
            "city": city,
            "rooms": rng.integers(1, 6, count),
            "price": rng.normal(2e5, 4e4, count),
            "sold": rng.choice(["no", "yes"], count, p=[0.8, 0.2]),
        }
    )


@pytest.fixture
def write(tmp_path):
    """Returns a function: frame or text -> path of a CSV."""

    def write_csv(content, name="houses.csv"):
        path = tmp_path / name
        if isinstance(content, pd.DataFrame):
            content = content.to_csv(index=False)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_csv


def test_inputs_are_those_of_scikit_learn_fitted_on_the_training_rows(write):
    frame, said = make_frame(), []
    path = write(frame)
    loaded = data.load_table(path, ["price"], drop=["sold"], log=said.append)
    rows = splits.draw(len(frame), (0.8, 0.1, 0.1), 0)
    numbers = pipeline.make_pipeline(
        impute.SimpleImputer(add_indicator=True),
        preprocessing.FunctionTransformer(),
    )
    texts = preprocessing.OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    ours = compose.ColumnTransformer(
        [
            ("a", numbers, ["age"]),
            ("c", texts, ["city"]),
            ("r", "passthrough", ["rooms"]),
        ]
    )
    filled = frame.assign(city=frame.city.fillna(""))
    ours.fit(filled.iloc[rows["train"]])
    # The mean stands for what is missing, but doesn't narrow the spread.
    ages = frame.age[rows["train"]]
    rooms = frame.rooms[rows["train"]]
    for name, part in rows.items():
        want = ours.transform(filled.iloc[part])
        want[:, 0] = (want[:, 0] - ages.mean()) / ages.std(ddof=0)
        want[:, -1] = (want[:, -1] - rooms.mean()) / rooms.std(ddof=0)
        split = getattr(loaded, name)
        np.testing.assert_allclose(split.x, want, rtol=1e-5, atol=1e-6)  # float32
        np.testing.assert_allclose(split.y[:, 0], frame.price[part], rtol=1e-6)
    assert any("`age` is missing in" in text for text in said)
    assert any("`city` is missing in" in text for text in said)
    task = loaded.task
    assert task.mean == pytest.approx([frame.price[rows["train"]].mean()])
    assert task.scale == pytest.approx([frame.price[rows["train"]].std(ddof=0)])


def test_the_graph_encodes_as_numpy_does(write):
    import tensorflow as tf

    frame = make_frame()
    reader = data.load_table(write(frame), ["price"]).reader
    tensors = []
    for column in reader.columns:
        values = frame[column.name]
        if column.categories is None:
            tensors.append(tf.constant(values, tf.float32))
        else:
            tensors.append(tf.constant(values.fillna("").tolist()))
    x = tf.function(reader.compute)(*tensors).numpy()
    np.testing.assert_array_equal(x, reader.encode(frame))
    names = [spec.name for spec in reader.make_specs()]
    assert names == ["age", "city", "rooms", "sold"]


def test_a_reader_comes_back_from_json(write):
    from tfreg.data import tables

    reader = data.load_table(write(make_frame()), ["sold"]).reader
    assert tables.make_reader(reader.describe(), reader.task) == reader


def test_what_the_training_has_not_seen_is_zero(write):
    frame = make_frame()
    reader = data.load_table(write(frame), ["price"], drop=["sold"]).reader
    new = pd.DataFrame({"rooms": [3], "age": [40.0], "city": ["Chur"], "other": [1]})
    x = reader.encode(new)
    assert np.array_equal(x[0, 2:6], np.zeros(4))
    with pytest.raises(data.DataError, match="got none named age, city"):
        reader.encode({"rooms": [3]})


@pytest.mark.parametrize("name", ["houses.csv", "houses.tsv", "houses.csv.gz"])
def test_parts_of_a_file_are_the_file(name, write, monkeypatch):
    frame = make_frame()
    text = frame.to_csv(index=False, sep="\t" if ".tsv" in name else ",").encode()
    path = write(gzip.compress(text) if name.endswith("gz") else text, name)
    whole = data.load_table(path, ["price"])
    monkeypatch.setattr(frames, "ROWS", 17)
    parts = data.load_table(path, ["price"])
    np.testing.assert_array_equal(whole.train.x, parts.train.x)
    read = np.concatenate(list(whole.reader.read(path)))
    np.testing.assert_array_equal(read, whole.reader.encode(frame))


def test_a_column_whose_first_part_looks_like_numbers_is_texts(write, monkeypatch):
    monkeypatch.setattr(frames, "ROWS", 20)
    code = ["1", "2"] * 30 + ["x", "y"] * 30
    path = write(pd.DataFrame({"code": code, "y": np.arange(120) / 7}))
    reader = data.load_table(path, ["y"]).reader
    assert reader.columns[0].categories == ("1", "2", "x", "y")
    first = next(reader.read(path))
    assert first[:2, :2].tolist() == [[1, 0], [0, 1]]
    # Pandas would read a file of these as numbers.
    assert reader.encode({"code": [1.0, 2.0, np.nan]}).sum(1).tolist() == [1, 1, 0]


def test_parquet_is_read_as_csv_is(write, tmp_path):
    pytest.importorskip("pyarrow")
    frame = make_frame()
    frame.to_parquet(tmp_path / "houses.parquet")
    a = data.load_table(write(frame), ["price"])
    b = data.load_table(tmp_path / "houses.parquet", ["price"])
    np.testing.assert_array_equal(a.train.x, b.train.x)
    assert a.reader == b.reader


# Parts


def test_parts_have_their_sizes_and_depend_on_the_seed():
    rows = splits.draw(1000, (0.7, 0.1, 0.2), 3)
    assert [len(rows[name]) for name in splits.NAMES] == [700, 100, 200]
    every = np.sort(np.concatenate(list(rows.values())))
    assert np.array_equal(every, np.arange(1000))
    again, other = (splits.draw(1000, (0.8, 0.0 + 0.1, 0.1), s) for s in (3, 4))
    assert set(again["test"]) < set(rows["test"])  # Another size, the same order.
    assert not np.array_equal(again["test"], other["test"])
    assert [len(v) for v in splits.draw(3, (0.98, 0.01, 0.01), 0).values()] == [1] * 3


def test_a_group_is_in_one_part():
    groups = np.random.default_rng(0).integers(0, 30, 500).tolist()
    rows = splits.draw(500, (0.8, 0.1, 0.1), 0, groups)
    held = [{groups[row] for row in part} for part in rows.values()]
    assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]
    assert sum(map(len, held)) == len(set(groups))
    assert 30 <= len(rows["test"]) <= 80
    with pytest.raises(data.DataError, match="3 groups or more"):
        splits.draw(9, (0.8, 0.1, 0.1), 0, [0, 1] * 4 + [0])


def test_parts_may_be_given(write):
    frame = make_frame(9)
    frame["part"] = ["train", "test", "validation"] * 3
    loaded = data.load_table(write(frame), ["price"], split="part", drop=["sold"])
    np.testing.assert_allclose(loaded.test.y[:, 0], frame.price[1::3], rtol=1e-6)
    frame.loc[4, "part"] = "tset"
    with pytest.raises(data.DataError, match="got 'tset' in row 5"):
        data.load_table(write(frame), ["price"], split="part")
    with pytest.raises(ValueError, match="three fractions"):
        _checks.parse_split("0.5,0.4,0.2")


# Tasks

FLOATS = np.array([0.5, 1.25, 3.0, 2.5])
CASES = {
    "numbers": ([FLOATS], "regression", None),
    "two texts": ([["b", "a", "b", "a"]], "binary", None),
    "texts": ([["b", "a", "c", "a"]], "classification", None),
    "bools": ([[True, False, True, True]], "binary", None),
    "codes": ([[0, 2, 1, 2]], "classification", None),
    "zero and one": ([[0, 1, 1, 0]], "binary", None),
    "gaps": ([[0, 10, 20, 10]], "classification", "--task=regression"),
    "many": ([np.arange(30)], "regression", "--task=classification"),
    "whole floats": ([[1.0, 2.0, 0.0, 1.0]], "regression", "--task=classification"),
    "one-hot": ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "classification", "multilabel"),
    "labels": ([[1, 0, 1], [1, 1, 0]], "multilabel", "--task=regression"),
    "outputs": ([FLOATS, FLOATS], "regression", None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_task_is_decided_and_a_doubt_names_the_flag(name):
    columns, kind, flag = CASES[name]
    named = {f"y{i}": np.array(values) for i, values in enumerate(columns)}
    for column, values in named.items():
        if values.dtype.kind == "U":
            named[column] = values.astype(object)
    task, doubts = tasks.decide(named, "auto")
    assert task.kind == kind
    assert len(doubts) == (flag is not None)
    assert flag is None or flag in doubts[0]
    y = tasks.encode(task, named)
    assert y.dtype == (np.int32 if kind == "classification" else np.float32)
    assert tasks.describe(task, y).startswith(
        {"regression": "regression"}.get(kind, "")
    )


def test_targets_are_encoded_by_their_kind():
    texts = {"y": np.array(["b", "a", "c", "a"], object)}
    task, _ = tasks.decide(texts, "classification")
    assert tasks.encode(task, texts).tolist() == [1, 0, 2, 0]
    gaps = {"y": np.array([0, 20, 10])}
    task, _ = tasks.decide(gaps, "auto")
    assert task.classes == (0, 10, 20)
    assert tasks.encode(task, gaps).tolist() == [0, 2, 1]
    hot = {"a": np.array([1, 0, 0]), "b": np.array([0, 1, 1])}
    task, _ = tasks.decide(hot, "classification")
    assert task.classes == ("a", "b") and tasks.encode(task, hot).tolist() == [0, 1, 1]
    task, _ = tasks.decide({"y": np.array([3, 7, 7])}, "binary")
    assert tasks.encode(task, {"y": np.array([7, 3])}).tolist() == [[1.0], [0.0]]
    with pytest.raises(data.DataError, match="must be a class of the training.*row 12"):
        tasks.encode(task, {"y": np.array([3, 5])}, first=10)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["a", "b"], "regression", "must be numbers to regress, got 'a'"),
        ([0.5, 1.0], "classification", "whole numbers or texts as classes, got 0.5"),
        ([0, 1, 2], "binary", "must be two classes, got 3: 0, 1, 2"),
        ([0, 1, 2], "multilabel", "must be 0 and 1 as labels"),
        ([1, 1], "classification", "must be two classes or more, got 1"),
        (np.arange(2000), "classification", "at most 1,000 classes"),
    ],
)
def test_targets_of_another_kind_are_refused(values, kind, message):
    values = np.array(values)
    values = values.astype(object) if values.dtype.kind == "U" else values
    with pytest.raises(data.DataError, match=message):
        tasks.decide({"y": values}, kind)


def test_balanced_weights_are_those_of_scikit_learn():
    y = np.array([0, 0, 0, 2, 2, 3], np.int32)
    want = class_weight.compute_sample_weight("balanced", y)
    np.testing.assert_allclose(tasks.balance(y), want, rtol=1e-6)


# Errors

GOOD = "a,b,y\n" + "".join(f"{i},{'uv'[i % 2]},{i / 7}\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "1,2,3,4\n", "line 42"),
        (GOOD + '1,"2,3\n', "row 41"),
        (GOOD.encode() + b"1,\xff,2\n", "got other bytes in row 41"),
        (GOOD + "7,u,\n", "the target `y` must not be missing, got none in row 41"),
        (GOOD + "inf,u,1\n", "`a` must be finite numbers, got 'inf' in row 41"),
        (GOOD + "1e99,u,1\n", "`a` must be finite numbers.*row 41"),
        (GOOD + "7k,u,1\n", "`a` must be numbers as in most of its rows, got '7k' in"),
        (GOOD + "7,u,x\n", "`y` must be numbers as in most of its rows, got 'x' in r"),
        ("", "must be readable and intact, got No columns"),
        ("a,b,y\n", "must have rows below its line of names"),
        ("y\n1\n2\n3\n", "must have columns to learn from"),
        ("a,y\n1,2\n3,4\n", "data must have 3 rows or more"),
        ("a,b\n1,2\n", "must have the column 'y', got only a, b"),
        ("a,y\n,1\n,2\n,3\n,4\n", "`a` must have values in the training rows"),
    ],
)
def test_a_damaged_table_is_named_with_its_row(text, message, write):
    with pytest.raises(data.DataError, match=message):
        data.load_table(write(text), ["y"])


def test_texts_of_which_no_two_are_equal_are_refused(write):
    frame = make_frame(60).assign(name=[f"n{i}" for i in range(60)])
    with pytest.raises(data.DataError, match="--drop=name, or --text=name"):
        data.load_table(write(frame), ["price"])


def test_a_column_of_row_numbers_is_left_out(write):
    said = []
    path = write(make_frame().to_csv(index=True))
    reader = data.load_table(path, ["price"], log=said.append).reader
    assert [column.name for column in reader.columns][0] == "age"
    assert "`Unnamed: 0` numbers the rows: it is no input" in said


def test_a_constant_says_nothing(write):
    said = []
    frame = make_frame().assign(one=1.0)
    loaded = data.load_table(write(frame), ["price"], log=said.append)
    assert not loaded.train.x[:, -1].any() and not loaded.test.x[:, -1].any()
    assert any("`one` is 1 in all training rows" in text for text in said)


def test_names_of_a_signature_are_its_own():
    columns = [encoding.Column(n) for n in ("mean radius", "mean_radius", "2nd", "é")]
    names = [spec.name for spec in encoding.make_specs(columns)]
    assert names == ["mean_radius", "mean_radius_1", "column_2nd", "column__"]
