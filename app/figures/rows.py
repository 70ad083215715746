"""What a figure takes: frames whose columns a row type names.

`Frame[Point]`, for a TypedDict `Point`, is a DataFrame with a column for each of the row's keys; one that is
NotRequired may be missing. A figure that is marked `takes_rows` is given these columns of the frame and no others: so
it cannot read one that its row type does not name, and where it reads one that a query did not give, the error says
which. That queries give them all is looked at wherever a page's test draws a figure.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Generic, ParamSpec, TypeVar, get_args, get_origin, is_typeddict

import pandas as pd

Row = TypeVar("Row")
P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:

    class Frame(pd.DataFrame, Generic[Row]):  # type: ignore[misc]  # pandas states no types to the checker
        """A DataFrame with the columns that `Row` names."""

else:

    class Frame:
        def __class_getitem__(cls, row: type) -> Any:
            return Annotated[pd.DataFrame, row]


def takes_rows(figure: Callable[P, T]) -> Callable[P, T]:
    """The figure, given the columns that its row types name. Raises TypeError where it misses one of them."""
    signature, rows = inspect.signature(figure), rows_of(figure)

    @functools.wraps(figure)
    def given_rows(*args: P.args, **kwargs: P.kwargs) -> T:
        given, missing = signature.bind(*args, **kwargs), []
        for name, row in rows.items():
            if (frame := given.arguments.get(name)) is not None:
                missing += [f"{name} has no column {column}" for column in missing_columns(row, frame)]
                given.arguments[name] = frame[[column for column in row.__annotations__ if column in frame]]
        try:
            return figure(*given.args, **given.kwargs)
        except (KeyError, AttributeError) as error:
            if missing:
                raise TypeError(f"{figure.__name__}: {', '.join(missing)}") from error
            raise

    return given_rows


def missing_columns(row: Any, frame: pd.DataFrame) -> list[str]:
    """The columns that `row` names and a frame with rows has not."""
    return sorted(row.__required_keys__.difference(frame.columns)) if len(frame) else []


def rows_of(figure: Callable[..., Any]) -> dict[str, Any]:
    """The row type of each frame that the figure takes, by the parameter's name."""
    found = {name: _row(parameter.annotation) for name, parameter in inspect.signature(figure).parameters.items()}
    return {name: row for name, row in found.items() if row is not None}


def _row(annotation: Any) -> Any:
    """The row type of `Frame[…]`, or of `Frame[…] | None`; None of anything else."""
    if get_origin(annotation) is Annotated:
        return next((row for row in annotation.__metadata__ if is_typeddict(row)), None)
    return next((row for part in get_args(annotation) if (row := _row(part)) is not None), None)
