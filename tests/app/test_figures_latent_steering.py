import pandas as pd

from app.figures.latent_steering import fitted_vectors, steering_map, taken_apart


def cells(**changed):
    rows = [
        {
            "cell": f"{a}-{b}.{target}",
            "pair": f"{a} − {b}",
            "target": target,
            "n": 500,
            "accuracy": 0.5,
            "accuracy_low": 0.45,
            "accuracy_high": 0.55,
            "unsteered": 0.4 + target / 10,
            "difference": 0.02 * target - 0.05 * (a == 2),
            "low": -0.01,
            "high": 0.06,
            "p_holm": 0.01 if target == 3 else 0.5,
            "n_random": 20,
            "n_random_as_far": 4,
        }
        for a, b in ((1, 2), (1, 3), (2, 3))
        for target in (1, 2, 3)
    ]
    return pd.DataFrame(rows).assign(**changed)


def randoms():
    return pd.DataFrame(
        [{"vector": f"random-{r}", "target": t, "difference": -0.01 * r} for r in range(4) for t in (1, 2, 3)]
    )


def test_a_cell_stands_at_its_pair_and_target_in_points_and_a_star_marks_what_holm_leaves():
    figure = steering_map(cells(), randoms(), alpha=0.05, exit_words="at once")
    heat, marks, strip = figure.data
    assert heat.y == ("1 − 2", "1 − 3", "2 − 3") and heat.x == (1, 2, 3)
    assert [round(z) for z in heat.z[2]] == [-3, -1, 1]
    assert list(heat.text[0]) == ["+2", "+4", "+6 ★"]
    assert marks.customdata[4] == "1-3.2" and (marks.x[4], marks.y[4]) == (2, "1 − 3")
    assert "4 of 20 random vectors" in marks.text[0] and "n = 500" in marks.text[0]
    assert len(strip.y) == 4 and strip.zmax == heat.zmax == -heat.zmin  # one scale of colours
    assert "50 %" in figure.layout.xaxis.ticktext[0]


def test_a_map_that_is_not_there_or_has_no_random_vectors_is_drawn_so():
    none = steering_map(cells().iloc[:0], randoms(), alpha=0.05, exit_words="")
    assert "No pair of latents was steered" in none.layout.annotations[0].text
    alone = steering_map(cells(), randoms().iloc[:0], alpha=0.05, exit_words="", selected="2-3.1")
    assert len(alone.data) == 2 and len(alone.layout.shapes) == 1
    assert (alone.layout.shapes[0].x0, alone.layout.shapes[0].y0) == (0.5, 1.5)


def test_defects_are_bars_with_intervals_beside_random_vectors():
    rows = pd.DataFrame(
        {
            "label": ["as published", "ours"],
            "group": ["published", "ours"],
            "change": [-0.1, 0.02],
            "change_low": [-0.12, 0.01],
            "change_high": [-0.08, 0.03],
            "random": [-0.09, 0.0],
            "likeness": [1.0, None],
            "likeness_low": [1.0, None],
            "likeness_high": [1.0, None],
        }
    )
    change, likeness, random = taken_apart(rows).data
    assert [round(x) for x in change.x] == [-10, 2] and [round(x) for x in change.error_x.array] == [2, 1]
    assert list(change.y) == ["as published", "ours"] and [round(x) for x in random.x] == [-9, 0]
    assert likeness.x[0] == 1
    assert "not been remade" in taken_apart(rows.iloc[:0]).layout.annotations[0].text


def test_fitted_vectors_are_a_line_a_bound_beside_the_unsteered_run():
    rows = pd.DataFrame(
        [
            {
                "space": space,
                "target": target,
                "bound": bound,
                "lengths": bound,
                "n": 500,
                "accuracy": 0.4 + bound / 10,
                "unsteered": 0.4,
                "difference": bound / 10,
                "low": bound / 10 - 0.02,
                "high": bound / 10 + 0.03,
                "p_holm": 0.001,
            }
            for space in ("z", "h")
            for target in (2, 1)
            for bound in (1.0, 2.0)
        ]
    )
    figure = fitted_vectors(rows)
    assert [line.name for line in figure.data[:3]] == [
        "unsteered",
        "up to 1 typical lengths",
        "up to 2 typical lengths",
    ]
    assert list(figure.data[1].x) == [1, 2] and [round(y) for y in figure.data[2].y] == [60, 60]
    assert [round(e) for e in figure.data[2].error_y.array] == [3, 3] and len(figure.data) == 6
    assert "No vector has been fitted" in fitted_vectors(rows.iloc[:0]).layout.annotations[0].text
