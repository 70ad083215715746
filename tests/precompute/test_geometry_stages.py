"""Exact geometry and its evidence on a tiny study: each row is what the library gives, and no kill or division of the
work changes any.
"""

import io
import shutil
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from backend.evidence import pairs
from backend.evidence.power import N_PLANTED
from backend.evidence.rows import row_of
from backend.evidence.sample import SUBSETS
from backend.geometry import neighbourhoods as clouds
from backend.geometry.directions import ANCHOR_METRIC
from backend.geometry.fisher import fisher_cot
from backend.geometry.local_geometry import local_geometry_cot
from backend.ids import seed_for, stable_id
from backend.models.loading import load_model
from backend.schema.tables import TABLES
from backend.store.geometry_columns import NO_LAYER
from backend.store.geometry_queries import COVARIATES
from backend.store.store import Store, generation_of
from backend.store.unit_files import StudyFolder
from precompute import models, steered
from precompute.kept_units import KeptUnits
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.rules import units_of
from precompute.stages import (
    activations,
    before_after,
    chunks,
    geometry,
    neighbourhoods,
    problems,
    random_steps,
    sweep,
)
from precompute.stages import evidence as evidence_stage
from precompute.study import Study, StudyError, load_study
from precompute.units import Context, Finished, Unit

SEED, LAYER = 3, 1
OURS = (neighbourhoods, geometry, random_steps, before_after, evidence_stage)


class Written:
    """Two CoTs a problem, of four and five sentences: a tiny model's own would have one."""

    NAME, UNIT = "cots", "study"

    @staticmethod
    def units(context: Context) -> list[Unit]:
        return [Unit("all", {})]

    @staticmethod
    def compute(context, units):
        loaded = load_model(context.study.models[0].name)
        rows = []
        for number, problem in enumerate(context.store.study_problems()):
            for sample in range(2):
                told = [
                    f"First we add {number + 3} and {sample + 4}. ",
                    f"That makes {number + sample + 7}. ",
                    "Wait, is that right? ",
                    "Yes, we counted it twice. ",
                ][: 4 - sample]
                text, prompt = (
                    "".join([*told, f"The answer is \\boxed{{{number + sample + 7}}}."]),
                    f"{problem['question']}\n\n",
                )
                n_prompt = len(loaded.tokenizer(prompt)["input_ids"])
                tokens = loaded.tokenizer(prompt + text)["input_ids"]
                rows.append(
                    dict.fromkeys(TABLES["cots"].columns)
                    | {
                        "cot_id": stable_id("c", number, sample),
                        "problem_id": problem["problem_id"],
                        "model_id": loaded.model_id,
                        "run_id": context.run_id,
                        "sample": sample,
                        "seed": sample,
                        "prompt": prompt,
                        "text": text,
                        "token_ids": tokens,
                        "n_prompt_tokens": n_prompt,
                        "n_tokens": len(tokens) - n_prompt,
                        "answer": str(number + sample + 7),
                    }
                )
        yield Finished(units[0], {"models": [models.model_row(loaded, "model")], "cots": rows})


class Importance:
    """An importance of every chunk but the last, by its id: rollouts are not needed here."""

    NAME, UNIT = "importance", "study"

    @staticmethod
    def units(context: Context) -> list[Unit]:
        return [Unit("all", {})]

    @staticmethod
    def compute(context, units):
        rows = []
        for own in context.store.chunks_of([cot["cot_id"] for cot in context.store.tokenised_cots()]).values():
            for chunk in own:
                for metric, convention in (
                    (ANCHOR_METRIC, "fl"),
                    (ANCHOR_METRIC, "paper"),
                    ("different_trajectories_fraction", "all"),
                    ("counterfactual_importance_accuracy", "fl"),
                ):
                    value = None if chunk is own[-1] else seed_for(chunk["chunk_id"], metric) / 2**63 / 2
                    rows.append(
                        {
                            "chunk_id": chunk["chunk_id"],
                            "metric": metric,
                            "convention": convention,
                            "value": value,
                            "ci_low": None,
                            "ci_high": None,
                            "n": 4,
                            "n_comparator": None,
                            "p": None,
                            "written": None,
                            "reason": None,
                        }
                    )
        yield Finished(units[0], {"importance": rows})


STAGES = (
    problems,
    Written,
    chunks,
    activations,
    Importance,
    neighbourhoods,
    sweep,
    geometry,
    random_steps,
    before_after,
    evidence_stage,
)


def study_of(model: str, **keys) -> Study:
    wanted = {
        "layers": [LAYER, 2],
        "positions": ["anchor"],
        "probes": 3,
        "spectra": 2,
        "eigen": 2,
        "neighbours": 9,
        "before_after": 2,
        "n_bootstrap": 40,
        "n_permutations": 40,
    }
    return Study.model_validate(
        {
            "name": "tiny",
            "seed": SEED,
            "models": [{"name": model}],
            "problems": {"per_level": 1, "levels": [1, 2]},
            "activations": {"layers": [1, 2]},
            "map": {"layers": [1]},
            "sweep": {"layers": [LAYER], "kinds": ["per_chunk"], "positions": ["anchor"], "points": 5},
            "engine": {"workers": 1, "rows": 8},
            "geometry": wanted | keys,
            "random_steps": {"directions": 3, "magnitudes": [0.1, 1.0], "layers": [LAYER, 2]},
        }
    )


def run(study: Study, folder: StudyFolder) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=STAGES, console=Console(file=said, width=200))
    return said.getvalue()


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Curves and mixed models have tests of their own, and are most of what a pair takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "fits", lambda sample, **options: ())
        patch.setattr(pairs, "theil_sen", lambda sample, **options: pairs.NO_SLOPE)
        patch.setattr(pairs.mixed_model, "mixed", lambda sample: pairs.mixed_model.unknown(""))
        yield


@pytest.fixture(scope="module")
def model_id(store) -> str:
    return store.models()["model_id"][0]


def rows_of(folder: StudyFolder) -> dict[str, list]:
    with closing(Store(folder.path)) as store:
        tables = (
            "directions",
            "neighbourhoods",
            "fisher",
            "local_geometry",
            "random_steps",
            "before_after",
            "associations",
        )
        return {table: store.whole_table(table).to_pylist() for table in tables}


def same(found: list[dict], expected: list[dict], key: str) -> None:
    """The rows agree, but for last bits, which kernels may owe to memory alignment."""
    one, other = (pd.DataFrame(rows).sort_values(key).reset_index(drop=True) for rows in (found, expected))
    pd.testing.assert_frame_equal(one[sorted(one)], other[sorted(other)], check_dtype=False, rtol=1e-4, atol=1e-9)


def first_cot(store) -> tuple[dict, dict]:
    """The CoT with most chunks, and its spans."""
    by_cot = store.chunks_of([cot["cot_id"] for cot in store.tokenised_cots()])
    name = max(by_cot, key=lambda cot: len(by_cot[cot]))
    return next(cot for cot in store.tokenised_cots() if cot["cot_id"] == name), steered.spans(by_cot[name])


def cloud(store, model_id: str, layer: int) -> dict[str, np.ndarray]:
    return dict(zip(*store.activations(model_id, layer), strict=True))


def test_fisher_is_along_the_directions_of_the_sweep_and_bears_the_ids_of_its_curves(store, study, model_id):
    cot, where = first_cot(store)
    context = Context(study, "r", store, print)
    made = steered.that_apply(steered.study_directions(context, model_id, study.geometry_layers), where)
    options = {"layers": study.geometry_layers, "positions": ("anchor",), "unit": "rms"}
    expected = fisher_cot(load_model(study.models[0].name), cot["token_ids"], where, made, **options)
    found = pd.concat(store.fisher_of(chunk) for chunk in where).drop(columns=["steepness", "amplitude", "below_floor"])
    same(found.to_dict("records"), expected, "curve_id")
    swept = store.frame("SELECT curve_id FROM kl_curves")["curve_id"]
    both = store.frame("SELECT curve_id, layer FROM fisher")
    assert set(swept) == set(both.loc[both["layer"] == LAYER, "curve_id"]) and len(both) == 2 * len(swept)
    unknown = store.frame("SELECT direction_id FROM fisher EXCEPT SELECT direction_id FROM directions")
    assert unknown.empty  # also of the layer that is not swept


def test_local_geometry_is_the_librarys_with_the_tangents_of_all_chunks(store, study, model_id):
    cot, where = first_cot(store)
    spaces = {layer: clouds.tangent_spaces(cloud(store, model_id, layer)) for layer in study.geometry_layers}
    tangents = {
        (chunk, layer): space for layer, own in spaces.items() for chunk, space in own.items() if chunk in where
    }
    drawn = geometry._spectra(Context(study, "r", store, print)) & where.keys()
    options = {"layers": study.geometry_layers, "positions": ("anchor",), "unit": "rms", "probes": 3, "n_eigen": 2}
    options |= {"seed": seed_for(SEED, "geometry", cot["cot_id"]), "tangents": tangents, "spectrum_of": drawn}
    expected = local_geometry_cot(load_model(study.models[0].name), cot["token_ids"], where, **options)
    found = pd.concat(store.local_geometry_of(chunk) for chunk in where)
    numbers = [
        "chunk_id",
        "layer",
        "isotropic_steepness",
        "on_manifold_steepness",
        "participation_ratio",
        "anisotropy_ratio",
        "entropy",
    ]
    one, other = found[numbers], pd.DataFrame(expected.local_geometry)[numbers]
    order = ["chunk_id", "layer"]
    pd.testing.assert_frame_equal(
        one.sort_values(order).reset_index(drop=True).astype({n: float for n in numbers[2:]}),
        other.sort_values(order).reset_index(drop=True).astype({n: float for n in numbers[2:]}),
        check_dtype=False,
        rtol=1e-3,
    )
    assert found["on_manifold_steepness"].notna().any() and found["entropy"].notna().all()


def test_so_many_chunks_have_a_spectrum_and_no_cot_a_second_before_each_has_one(store, study):
    spectral = store.frame(
        "SELECT DISTINCT chunk_id, cot_id FROM local_geometry JOIN chunks USING (chunk_id) WHERE eigenvalues IS NOT"
        " NULL"
    )
    assert len(spectral) == study.geometry.spectra == spectral["cot_id"].nunique()
    eigen = store.frame("SELECT chunk_id, layer FROM directions WHERE kind = 'eigen'")
    assert set(eigen["chunk_id"]) == set(spectral["chunk_id"]) and set(eigen["layer"]) == set(study.geometry_layers)


def test_random_steps_are_had_at_every_steered_chunk_along_the_directions_of_the_exact_geometry(store, study):
    every = store.whole_table("random_steps").to_pandas().set_index(["chunk_id", "layer"])
    steered_chunks = store.frame("SELECT DISTINCT chunk_id FROM kl_curves")["chunk_id"]
    assert set(every.index) == {(chunk, layer) for chunk in steered_chunks for layer in (LAYER, 2)}
    assert set(every["n_random"]) == {3} and (every["kl_at_1"].str.len() == 3).all()
    exact = store.frame("SELECT * FROM local_geometry WHERE n_random IS NOT NULL").set_index(["chunk_id", "layer"])
    assert len(exact) == 2 * study.geometry.spectra
    for at, row in exact.iterrows():  # of its sixteen directions the first three are these
        own, ones = every.loc[at], row["epsilons"].tolist().index(1.0)
        assert own["random_kl"][1] == pytest.approx(np.mean(own["kl_at_1"]), rel=1e-12)
        assert min(own["kl_at_1"]) < row["random_kl"][ones] * 5 and own["seed"] == row["seed"]


def test_neighbourhoods_are_of_all_chunks_with_activations(store, model_id):
    for layer in (1, 2):
        expected = clouds.neighbourhoods(cloud(store, model_id, layer), model_id=model_id, layer=layer, k=9)
        found = store.frame("SELECT * FROM neighbourhoods WHERE layer = $layer", layer=layer).to_dict("records")
        same(found, expected, "chunk_id")


def test_steering_before_and_after_is_had_in_so_many_cots_those_with_anchors_first(store, study):
    steered_cots = store.frame("SELECT DISTINCT cot_id FROM before_after JOIN chunks USING (chunk_id)")[
        "cot_id"
    ].tolist()
    anchors = store.frame(
        "SELECT DISTINCT cot_id FROM importance JOIN chunks USING (chunk_id) WHERE metric = $m AND convention = 'fl'"
        " AND value >= 0.2",
        m=ANCHOR_METRIC,
    )["cot_id"].tolist()
    assert len(steered_cots) == study.geometry.before_after and set(steered_cots) <= set(anchors)
    for cot in steered_cots:
        rows = store.before_after_of(cot)
        assert set(rows["side"]) == {"before", "after"} and set(rows["chunk_id"]) == {
            c["chunk_id"] for c in store.chunks_of([cot])[cot]
        }


def test_the_evidence_is_that_of_the_frames_a_page_asks_for(store, model_id):
    found = store.whole_table("associations").to_pylist()
    wanted = store.geometry_choices()
    wanted = wanted[wanted["n_known"] > 0]
    tested = {(row["metric"], row["convention"]) for row in found}
    assert tested == {(ANCHOR_METRIC, "fl"), ("different_trajectories_fraction", "all")}
    assert len(found) == len(SUBSETS) * (len(wanted) * len(tested) - 1)  # no metric against itself
    key = ("x", "kind", "model_id", "layer", "position", "unit", "metric", "convention")
    for x in ("steepness", "residual_norm", "different_trajectories_fraction"):
        row = next(row for row in found if row["x"] == x)
        name = {column: row[column] for column in key}
        frame = store.geometry_and_importance(**name, source="")
        covariates = [column for column in COVARIATES if column != row["x"]]
        again = pairs.evidence(
            frame.rename(columns={"value": "y"}),
            n_bootstrap=40,
            n_permutations=40,
            seed=row["seed"],
            covariates=covariates,
            subset=row["subset"],
            n_planted=N_PLANTED,
        )
        expected = row_of(again)
        assert row == name | {column: expected[column] for column in row if column not in key}
    assert {place for place in store.associations()["layer"]} == {NO_LAYER, *(1, 2)}


def test_a_finished_study_does_nothing_and_other_work_only_what_it_touches(study, folder, tmp_path):
    copy = StudyFolder(shutil.copytree(folder.path, tmp_path / "tiny"))
    before = copy.manifest.read_bytes()
    assert run(study, copy).count("all done") == len(STAGES) and copy.manifest.read_bytes() == before
    said = run(study_of(study.models[0].name, n_permutations=20), copy)
    assert said.count("all done") == len(STAGES) - 1 and "evidence" in said
    with closing(Store(copy.path)) as store:
        assert set(store.associations()["n_permutations"]) == {20}


def test_a_lost_unit_is_computed_again_alone_with_the_same_rows(study, folder, tmp_path):
    copy = StudyFolder(shutil.copytree(folder.path, tmp_path / "tiny"))
    with copy.writing("test") as writer:
        for stage in OURS:
            lost = next(line for (of, _), line in writer.ledger.live.items() if of == stage.NAME)
            for file in lost.files:
                (copy.path / file.name).unlink()
            writer.forget([lost])
    said = run(study, copy)
    assert said.count("all done") == len(STAGES) - len(OURS)
    expected = rows_of(folder)
    for table, rows in rows_of(copy).items():
        assert rows == expected[table], table


def with_kinds(study: Study, *kinds: str, positions: tuple[str, ...] = ("anchor",)) -> Study:
    data = study.model_dump(mode="json", exclude_none=True)
    data["sweep"] |= {"kinds": list(kinds), "positions": list(positions)}
    data["geometry"] |= {"before_after": 0}
    return Study.model_validate(data)


def marked(folder: StudyFolder) -> None:
    """Every stored curve, exact steepness and trace bears a number that nothing would compute."""
    columns = {"kl_curves": "noise_floor", "fisher": "fisher_steepness", "local_geometry": "isotropic_steepness"}
    with folder.writing("test") as writer:
        for (stage, key), line in list(writer.ledger.live.items()):
            if stage in (sweep.NAME, geometry.NAME):
                tables = {file.table: folder.read(file).to_pylist() for file in line.files}
                for table, column in columns.items():
                    tables[table] = [row | {column: 123.0} for row in tables.get(table, ())]
                writer.add(stage, key, {table: rows for table, rows in tables.items() if rows})


def test_a_kind_and_a_position_that_come_in_leave_stored_rows_as_they_are_and_add_their_own(study, folder, tmp_path):
    grown = StudyFolder(shutil.copytree(folder.path, tmp_path / "tiny"))
    marked(grown)
    more = with_kinds(study, "on_manifold", "per_chunk", "random", positions=("anchor", "chunk"))
    run_study(more, grown, stages=STAGES[:-2], console=Console(file=io.StringIO()))
    whole = StudyFolder(tmp_path / "whole")
    run_study(more, whole, stages=STAGES[:-2], console=Console(file=io.StringIO()))
    old = {table: {row["curve_id"] for row in rows_of_table(folder, table)} for table in ("kl_curves", "fisher")}
    for table, column in (("kl_curves", "noise_floor"), ("fisher", "fisher_steepness")):
        found, expected = (rows_of_table(one, table) for one in (grown, whole))
        assert {row["curve_id"] for row in found if row[column] == 123.0} == old[table], table
        assert [row["curve_id"] for row in found] == [row["curve_id"] for row in expected], table
        new = [[row for row in rows if row["curve_id"] not in old[table]] for rows in (found, expected)]
        assert len(new[0]) > len(old[table]) and {row["kind"] for row in new[0]} >= {"on_manifold", "random"}
        same(*new, "curve_id")
    assert {row["isotropic_steepness"] for row in rows_of_table(grown, "local_geometry")} == {123.0}
    assert rows_of_table(grown, "directions") == rows_of_table(whole, "directions")
    fewer = with_kinds(study, "per_chunk", "random")
    run_study(fewer, grown, stages=STAGES[:-2], console=Console(file=io.StringIO()))
    assert {row["kind"] for row in rows_of_table(grown, "kl_curves")} == {"per_chunk", "random"}


def rows_of_table(folder: StudyFolder, table: str) -> list[dict]:
    with closing(Store(folder.path)) as store:
        return store.whole_table(table).to_pylist()


def test_stored_rows_serve_only_a_unit_that_differs_in_its_directions_alone(study, folder, store):
    context = Context(study, "r", store, print)
    kept = KeptUnits(context, sweep.NAME)
    for unit in units_of(sweep, context):
        assert len(list(kept.that_serve(unit, lambda _: {}))) == 1
        other = Unit(unit.unit_id, {**unit.inputs, "betas": [0.0, 1.0]})
        assert not list(kept.that_serve(other, lambda _: {})) and not list(kept.that_serve(Unit("m.c", {}), dict))


def test_curves_of_a_portable_study_serve_where_they_have_the_same_betas(study, folder, tmp_path):
    file = tmp_path / "tiny.duckdb"
    shutil.copy(generation_of(folder.path), file)
    with closing(Store(file)) as portable:
        for points, whole in ((5, True), (7, False)):
            own = study.model_copy(update={"sweep": study.sweep.model_copy(update={"points": points})})
            context = Context(own, "r", portable, print)
            made = steered.study_directions(context, portable.models()["model_id"][0], own.sweep.layers)
            assert {one.is_whole for one in sweep._asked(context, units_of(sweep, context), made)} == {whole}


def test_a_study_that_does_not_ask_for_geometry_has_none(study, store):
    context = Context(study.model_copy(update={"geometry": None, "random_steps": None}), "r", store, print)
    assert [stage.units(context) for stage in OURS] == [[], [], [], [], []]


def test_the_plan_knows_what_they_cost(study, folder):
    def planned(**keys) -> dict:
        return {line.stage: line for line in plan_study(study_of(study.models[0].name, **keys), folder)[0]}

    lines = planned()
    assert all(lines[stage.NAME].minutes > 0 for stage in OURS)
    assert [lines[stage.NAME].done for stage in OURS] == [2, 4, 4, 2, 3]
    assert (
        planned(probes=6)["geometry"].tokens > lines["geometry"].tokens
        and planned(before_after=0)["before_after"].tokens == 0
    )
    plain, _ = plan_study(study.model_copy(update={"geometry": None, "random_steps": None}), folder)
    assert not {stage.NAME for stage in OURS} & {line.stage for line in plain}


@pytest.mark.parametrize("magnitudes", [[0.1, 10.0], [1.0, 0.1], [1.0, 1.0], [-1.0, 1.0], []])
def test_magnitudes_of_random_steps_rise_and_1_is_among_them(study, magnitudes):
    data = study.model_dump(mode="json", exclude_none=True)
    with pytest.raises(ValueError, match="magnitudes"):
        Study.model_validate(data | {"random_steps": {"magnitudes": magnitudes}})


def test_layers_are_the_sweeps_unless_given_and_must_have_activations(study, tmp_path):
    data = study.model_dump(mode="json", exclude_none=True)
    data["geometry"].pop("layers")
    data["random_steps"].pop("layers")
    own = Study.model_validate(data)
    assert own.geometry_layers == own.random_step_layers == study.sweep.layers
    data["geometry"]["layers"] = [
        2
    ]  # the norm of an activation is held fixed wherever the model is steered, exactly or by the sweep
    context = SimpleNamespace(
        study=Study.model_validate(data),
        store=SimpleNamespace(activation_layers=lambda _: [1, 2], activation_digest=lambda _: "", cot_texts=list),
    )
    assert {unit.unit_id.split(".")[1] for unit in neighbourhoods.units(context)} == {
        "1",
        "2",
    } and study.sweep.layers == (1,)
    with pytest.raises(ValueError, match=r"geometry.layers has \[3\], which activations.layers \[1, 2\] does not have"):
        Study.model_validate(data | {"geometry": {"layers": [3]}})
    file = tmp_path / "study.toml"
    file.write_text(
        'name = "x"\n[[models]]\nname = "m"\n[problems]\nper_level = 1\n[sweep]\nlayers = [1]\n[geometry]\nrandom = 3\n'
    )
    with pytest.raises(
        StudyError, match=r"geometry.random: there is no such key; allowed here: before_after, eigen, layers"
    ):
        load_study(file)
