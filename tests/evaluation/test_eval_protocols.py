import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_methods import right
from synthetic_bank import CLASSES, COUNTS, DIM, synthetic_bank

from fsclip_jax.adapters.base import grids_of
from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation import measure, prepare
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.draws import draw_supports
from fsclip_jax.evaluation.evaluate import evaluate_bank
from fsclip_jax.evaluation.label_spaces import Group, LabelSpace, label_spaces
from fsclip_jax.evaluation.metrics import Judged, calibration_error
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.fitted import fit_and_predict
from fsclip_jax.fitting.methods import choose_methods

PLAIN = ("zero_shot", "prototype", "text_prototype", "tip_adapter", "meta_adapter")
QUICK = ("zero_shot", "text_prototype")


def run(stored, tmp_path, **fields):
    fields = {"shots": (1,), "data": "bank:there", "methods": PLAIN} | fields
    return evaluate_bank(EvalConfig(**fields), stored, tmp_path).report


def accuracies(report):
    return {(r.split, r.method, r.shots): r.metrics["accuracy"] for r in report.rows}


def selections(report):
    return {(r.split, r.method, r.shots): dict(r.selection) for r in report.rows}


def numpy_params(method, row, seed):
    """The parameters that the report says were used."""
    if method.searched:
        names = grids_of(method.adapter)[0].names
        return {
            n: np.atleast_1d(row.selection[n])[min(seed, np.size(row.selection[n]) - 1)]
            for n in names
        }
    return jax.tree.map(np.asarray, method.params)


@pytest.mark.parametrize(("label_space", "shots"), [("restricted", (3,)), ("generalised", (1,))])
def test_every_row_equals_a_plain_loop_over_the_same_draws(bank, tmp_path, label_space, shots):
    report = run(
        bank, tmp_path, protocol="cross_category", label_space=label_space, shots=shots, seeds=2
    )
    methods = {m.name: m for m in choose_methods(PLAIN, FeatureSpec(DIM)).methods}
    space_of = {
        group.name: space
        for space in label_spaces(
            EvalConfig(protocol="cross_category", label_space=label_space), CLASSES
        )
        for group in space.groups
    }
    train = bank.select(["train"])
    checked = 0
    for row in report.rows:
        if row.split == "harmonic":
            continue
        space = space_of[row.split]
        draws = draw_supports(jax.random.key(prepare.SUPPORT_SEED), train, space, 3, 2)
        ids = next(group.classes for group in space.groups if group.name == row.split)
        chosen = np.flatnonzero((bank.splits == 2) & np.isin(bank.labels, ids))
        labels = [list(space.classes).index(bank.labels[i]) for i in chosen]
        for seed, measured in enumerate(row.metrics["accuracy"].per_seed):
            count, margin = right(
                row.method,
                numpy_params(methods[row.method], row, seed),
                np.asarray(draws.task.support[seed, :, : row.shots], np.float64),
                np.asarray(draws.task.support_mask[seed, :, : row.shots]),
                bank.text_features[space.classes].astype(np.float64),
                bank.logit_scale,
                bank.features[0, chosen].astype(np.float64),
                labels,
            )
            if margin > 1e-4:  # closer than that, float32 may decide otherwise
                assert measured == pytest.approx(100 * count / len(chosen)), row
                checked += 1
    assert checked > 0.9 * 2 * sum(row.split != "harmonic" for row in report.rows)


def test_support_is_the_mean_over_views_of_train_images_and_nested_in_shots(bank):
    train = bank.select(["train"])
    whole = LabelSpace(np.arange(CLASSES), (Group("test", np.arange(CLASSES)),))
    key = jax.random.key(5)
    draws = draw_supports(key, train, whole, 4, 3)
    fewer = draw_supports(key, train, whole, 2, 3)
    np.testing.assert_array_equal(draws.task.support[:, :, :2], fewer.task.support)
    mean = bank.features.mean(0)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    for seed, label, shot in itertools.product(range(3), range(CLASSES), range(4)):
        found = np.abs(mean - np.asarray(draws.task.support[seed, label, shot])).max(-1) < 1e-6
        assert bank.splits[found].tolist() == [0]
        assert bank.labels[found].tolist() == [label]
        plain = np.asarray(draws.plain[seed, label, shot])
        np.testing.assert_allclose(bank.features[0][found][0], plain, atol=1e-6)


def test_a_class_has_the_same_shots_in_every_label_space(bank):
    train = bank.select(["train"])
    key = jax.random.key(prepare.SUPPORT_SEED)
    novel = np.arange(4, CLASSES)
    whole = draw_supports(key, train, LabelSpace(np.arange(CLASSES), ()), 2, 2)
    half = draw_supports(key, train, LabelSpace(novel, ()), 2, 2)
    np.testing.assert_array_equal(whole.task.support[:, 4:], half.task.support)


def test_seeds_draw_differently(bank):
    train = bank.select(["train"])
    draws = draw_supports(jax.random.key(0), train, LabelSpace(np.arange(CLASSES), ()), 2, 2)
    assert not np.array_equal(draws.task.support[0], draws.task.support[1])


def test_every_method_gets_the_same_support_and_queries(bank, tmp_path, monkeypatch):
    seen = {}

    def spy(engine, method, choice, task, queries):
        content = [np.asarray(x).tobytes() for x in jax.tree.leaves((task, queries))]
        seen.setdefault(task.support.shape[2], []).append((method.adapter.name, content))
        return fit_and_predict(engine, method, choice, task, queries)

    monkeypatch.setattr(measure, "fit_and_predict", spy)
    run(bank, tmp_path, shots=(1, 2), seeds=2)
    assert set(seen) == {1, 2}
    for calls in seen.values():
        assert len({name for name, _ in calls}) == 5
        assert all(content == calls[0][1] for _, content in calls)


def relabelled(bank, split, seed=0):
    """The bank with the labels of one split shuffled; sizes of classes stay."""
    labels = bank.labels.copy()
    rows = np.flatnonzero(bank.splits == split)
    labels[rows] = np.random.default_rng(seed).permutation(labels[rows])
    return dataclasses.replace(bank, labels=labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "method"),
    [
        ("full_way", "tip_adapter"),
        ("cross_category", "text_prototype"),
        ("episodic", "text_prototype"),
    ],
)
def test_the_test_labels_have_no_part_in_the_selection(
    bank, tmp_path, protocol, method, monkeypatch
):
    monkeypatch.setattr(prepare, "VAL_EPISODES", 20)
    fields = {"protocol": protocol, "methods": (method,), "seeds": 2, "shots": (2,)}
    fields |= {"way": 3, "query": 3, "episodes": 20}
    honest = run(bank, tmp_path, **fields)
    shuffled = run(relabelled(bank, 2), tmp_path, **fields)
    assert selections(shuffled) == selections(honest)
    assert accuracies(shuffled) != accuracies(honest)
    # The check could not fail if the val labels had no part either.
    other = run(relabelled(bank, 1), tmp_path, **fields)
    assert selections(other) != selections(honest)


def test_without_val_shots_are_held_out_and_one_shot_keeps_the_fixed_setting(tmp_path):
    stored = synthetic_bank(tmp_path / "bank", {"train": 6, "test": 5})
    report = run(stored, tmp_path, methods=("tip_adapter", "text_prototype"), shots=(1, 3))
    chosen = selections(report)
    assert chosen["test", "tip_adapter", 1]["split"] == "none"
    assert chosen["test", "tip_adapter", 1]["alpha"] == 1.0
    assert chosen["test", "tip_adapter", 3]["split"] == "train"
    assert len(chosen["test", "text_prototype", 3]["gate"]) == 3


def test_select_shots_uses_no_other_labelled_image(bank, tmp_path):
    fields = {"methods": ("tip_adapter",), "shots": (4,), "select": "shots", "seeds": 2}
    report = run(bank, tmp_path, **fields)
    chosen = selections(report)["test", "tip_adapter", 4]
    assert chosen["split"] == "train"
    assert chosen["rule"] == "shots of the support held out in turn, 4 of 4 folds"
    for split in (1, 2):
        shuffled = run(relabelled(bank, split), tmp_path, **fields)
        assert selections(shuffled) == selections(report)


def test_calibration_follows_from_the_logits(bank, tmp_path):
    report = run(bank, tmp_path, methods=("zero_shot",))
    test = bank.select(["test"])
    logits = np.float64(test.logit_scale) * np.asarray(test.features[0]) @ np.asarray(test.text).T
    log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    labels = np.asarray(test.labels)
    nll = -log[np.arange(len(labels)), labels].mean()
    (row,) = report.rows
    assert row.metrics["nll"].mean == pytest.approx(nll, rel=1e-4)
    confidence, right = np.exp(log.max(1)), log.argmax(1) == labels
    judged = Judged(np.where(right, 1, 0), confidence, nll, np.ones(right.shape, int), right | True)
    error = calibration_error(judged)
    assert row.metrics["calibration_error"].mean == pytest.approx(float(error), abs=0.5)
    assert row.metrics["state_bytes"].mean == 4 * (CLASSES * DIM + 1)


def test_select_none_is_one_fixed_setting(bank, tmp_path):
    report = run(bank, tmp_path, select="none", methods=("tip_adapter", "text_prototype"))
    for row in report.rows:
        wanted = {"tip_adapter": {"alpha": 1.0, "beta": 5.5}, "text_prototype": {"gate": 0.73}}
        for name, value in wanted[row.method].items():
            assert row.selection[name] == pytest.approx(value)
        assert row.selection["split"] == "none"


def test_more_classes_to_choose_from_never_help_zero_shot(bank, tmp_path):
    fields = {"protocol": "cross_category", "methods": ("zero_shot",), "shots": (1,)}
    restricted = accuracies(run(bank, tmp_path, **fields))
    generalised = accuracies(run(bank, tmp_path, label_space="generalised", **fields))
    for split in ("base", "novel"):
        place = split, "zero_shot", 1
        assert generalised[place].mean < restricted[place].mean


def test_harmonic_rows_and_differences_follow_from_the_draws(bank, tmp_path):
    report = run(bank, tmp_path, protocol="cross_category", methods=QUICK, shots=(2,))
    found = accuracies(report)
    for method in QUICK:
        base = np.array(found["base", method, 2].per_seed)
        novel = np.array(found["novel", method, 2].per_seed)
        np.testing.assert_allclose(
            found["harmonic", method, 2].per_seed, 2 * base * novel / (base + novel)
        )
    for row in report.rows:
        if row.method == "zero_shot":
            assert not row.versus
        else:
            zero = found[row.split, "zero_shot", row.shots].mean
            assert row.versus["zero_shot"]["accuracy"].mean == pytest.approx(
                row.metrics["accuracy"].mean - zero
            )


def test_numbers_of_classes_and_images(bank, tmp_path):
    data = run(bank, tmp_path, protocol="cross_category", methods=("zero_shot",)).data
    assert data["n_classes"] == CLASSES
    assert data["n_query"] == CLASSES * COUNTS["test"]
    assert data["groups"]["base"] == {"n_classes": 4, "n_query": 20}
    half = run(bank, tmp_path, classes="novel", methods=("zero_shot",))
    assert {row.split for row in half.rows} == {"novel"}
    assert half.data["n_query"] == 15


def test_episodes_are_drawn_from_train_and_test_and_make_the_interval(bank, tmp_path):
    fields = {"protocol": "episodic", "methods": QUICK, "select": "none"}
    report = run(bank, tmp_path, way=3, query=4, episodes=40, **fields)
    for row in report.rows:
        assert len(row.metrics["accuracy"].per_seed) == 40
        assert row.metrics["accuracy"].ci95 > 0
    more = accuracies(report)
    # Fewer classes to tell apart than in the whole task.
    whole = accuracies(run(bank, tmp_path, methods=("zero_shot",)))
    assert more["test", "zero_shot", 1].mean > whole["test", "zero_shot", 1].mean


def test_a_checkpoint_gives_a_trained_and_an_untrained_row(bank, tmp_path):
    adapter = get_adapter("meta_adapter", heads=2)
    params = adapter.init(jax.random.key(7), DIM)
    params["alpha_proj"]["bias"] = jnp.full((1,), 4.0)
    meta = {"backbone": "toy", "backbone_sha256": "a" * 64, "data": {"spec": "other"}}
    save_adapter(tmp_path, "meta_adapter", params, meta, adapter=adapter)
    report = run(bank, tmp_path, methods=("zero_shot", "meta_adapter"), shots=(2,))
    assert [row.method for row in report.rows] == [
        "zero_shot", "meta_adapter", "meta_adapter_untrained",
    ]  # fmt: skip
    trained = report.rows[1]
    assert trained.selection["parameters"] == "trained"
    assert set(trained.versus) == {"zero_shot", "meta_adapter_untrained"}
    assert trained.metrics["accuracy"] != report.rows[2].metrics["accuracy"]
    assert not report.warning
    assert report.checkpoints[0]["path"] == str(tmp_path)


@pytest.mark.parametrize(
    ("classes", "fields", "says"),
    [
        ("base", {"protocol": "cross_category"}, None),
        ("all", {"protocol": "cross_category"}, "no class here is new"),
        ("base", {}, "base half of these classes"),
        ("base", {"classes": "novel"}, None),
        ("base", {"classes": "novel", "query_split": "val", "select": "none"}, None),
        ("base", {"classes": "base", "query_split": "val", "select": "none"}, "chosen on val"),
    ],
)
def test_classes_that_the_training_saw_are_told(bank, tmp_path, classes, fields, says):
    adapter = get_adapter("meta_adapter")
    meta = {"data": {"spec": "synthetic", "version": "1"}, "train": {"classes": classes}}
    save_adapter(tmp_path, "meta_adapter", adapter.init(jax.random.key(7), DIM), meta)
    report = run(bank, tmp_path, methods=("meta_adapter",), shots=(1,), **fields)
    assert bool(report.warning) == (says is not None)
    if says:
        assert says in report.warning[0]


def test_a_draw_without_choice_is_told(bank, tmp_path):
    report = run(bank, tmp_path, methods=("zero_shot",), shots=(1, COUNTS["train"]))
    assert "at 6 shots there is a single draw, of all of them" in report.warning[0]
    few, all_of_them = report.rows
    assert len(few.metrics["accuracy"].per_seed) == 3
    assert few.metrics["accuracy"].ci95 is not None
    assert len(all_of_them.metrics["accuracy"].per_seed) == 1
    assert all_of_them.metrics["accuracy"].ci95 is None


def test_families_leave_gaps_in_the_support_and_plain_data_does_not(tmp_path):
    sizes = [1, 2, 3, 4, 5, 5, 5]
    artists = synthetic_bank(tmp_path / "families", families=1, per_class=sizes)
    report = run(artists, tmp_path, methods=QUICK, shots=(1, 5))
    assert report.data["classes_short_of_shots"] == {"5": 4}
    with pytest.raises(UserError, match="largest class has 5"):
        run(artists, tmp_path, methods=QUICK, shots=(6,))
    plain = synthetic_bank(tmp_path / "plain", per_class=sizes)
    with pytest.raises(UserError, match="'thing 0', has 1"):
        run(plain, tmp_path, methods=QUICK, shots=(2,))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"methods": ("tip_adpter",)}, "did you mean tip_adapter"),
        ({"methods": ("zero_shot_untrained",)}, "no method named"),
        ({"methods": ()}, "no methods"),
        ({"shots": (0,)}, "at least 1"),
        ({"shots": ()}, "shots"),
        ({"shots": (7,)}, "give 6 shots or less"),
        ({"seeds": 0}, "seeds is 0"),
        ({"query_split": "val"}, "--select shots or none"),
        ({"label_space": "generalised"}, "cross_category"),
        ({"protocol": "cross_category", "classes": "base"}, "leave --classes out"),
        ({"protocol": "episodic", "way": 8}, "--way 7 or less"),
        ({"protocol": "episodic", "way": 1}, "two classes"),
    ],
)
def test_what_does_not_go_is_told_in_one_line(bank, tmp_path, fields, says):
    with pytest.raises(UserError, match=says) as caught:
        run(bank, tmp_path, **fields)
    assert "\n" not in str(caught.value)


def test_data_without_the_images_that_are_needed_is_told(tmp_path):
    no_test = synthetic_bank(tmp_path / "a", {"train": 3, "val": 2})
    with pytest.raises(UserError, match="--query-split val --select shots"):
        run(no_test, tmp_path)
    no_train = synthetic_bank(tmp_path / "b", {"val": 3, "test": 2})
    with pytest.raises(UserError, match="no train images"):
        run(no_train, tmp_path)
    report = run(no_test, tmp_path, query_split="val", select="none", methods=QUICK)
    assert report.data["n_query"] == 2 * CLASSES


def test_checkpoints_are_found_in_folders_named_after_their_method(bank, tmp_path):
    adapter = get_adapter("meta_adapter")
    params = adapter.init(jax.random.key(5), DIM)
    meta = {"dim": DIM, "backbone": "toy"}
    save_adapter(tmp_path / "meta_adapter", "meta_adapter", params, meta, adapter=adapter)
    names = [row.method for row in run(bank, tmp_path, methods=("meta_adapter",)).rows]
    assert names == ["meta_adapter", "meta_adapter_untrained"]
    save_adapter(tmp_path / "again", "meta_adapter", params, meta, adapter=adapter)
    both = (tmp_path / "meta_adapter", tmp_path / "again")
    with pytest.raises(UserError, match="both hold a meta_adapter"):
        run(bank, tmp_path, checkpoint=both)


def test_a_checkpoint_that_does_not_fit_is_told(bank, tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        run(bank, tmp_path, checkpoint=(tmp_path / "nowhere",))
    with pytest.raises(UserError, match="no adapter"):
        run(bank, tmp_path, checkpoint=(tmp_path,))
    adapter = get_adapter("meta_adapter")
    save_adapter(tmp_path / "dim", "meta_adapter", adapter.init(jax.random.key(7), 8), {})
    with pytest.raises(UserError, match=r"8.*12"):
        run(bank, tmp_path, checkpoint=(tmp_path / "dim",))
    params = adapter.init(jax.random.key(7), DIM)
    meta = {"backbone": "ViT-B/32", "backbone_sha256": "b" * 64}
    save_adapter(tmp_path / "sha", "meta_adapter", params, meta)
    with pytest.raises(UserError, match="ViT-B/32"):
        run(bank, tmp_path, checkpoint=(tmp_path / "sha",))
    unknown = synthetic_bank(tmp_path / "bank", backbone={"id": "ViT-L/14", "sha256": None})
    with pytest.raises(UserError, match=r"ViT-B/32.*ViT-L/14"):
        run(unknown, tmp_path, checkpoint=(tmp_path / "sha",))


def test_a_bank_without_lengths_of_text_is_told_where_a_method_starts_from_them(bank, tmp_path):
    known = dataclasses.replace(bank, text_lengths=np.full(len(bank.class_names), 4, np.float32))
    asked = {"methods": ("zero_shot", "clap"), "shots": (1,)}
    start = "training of clap starts at 1/20 of the logit scale"
    line = f"the bank keeps no lengths of text vectors: {start}"
    assert run(bank, tmp_path, **asked).warning == (line,)
    assert not run(known, tmp_path, **asked).warning
    long = dataclasses.replace(known, text_lengths=3 * known.text_lengths)
    (line,) = run(long, tmp_path, **asked).warning
    assert line.startswith("text vectors are longer than 0.25 of the logit scale: training of clap")
    assert not run(bank, tmp_path, methods=("zero_shot",), shots=(1,)).warning
