"""Whether a layer whose tensors were scaled is still the same function.

AWQ and SmoothQuant multiply the columns of a matrix and divide what feeds them by as much: a norm, whose ratio to its
original then says the factors, or the rows of another matrix. So each matrix must be its original with factors for rows
and columns, but for rounding, and each factor must be met by its inverse in the same layer. What feeds what is not
asked: factors of different origin do not look alike.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.checkpoints import read_tensors
from engines.verification.subject import Fault, Subject

if TYPE_CHECKING:
    import torch

LAYER_PREFIX = re.compile(r".*?\.\d+\.")
KEPT_ERROR_MAX = 0.01  # of what is scaled and not quantized; bfloat16 rounds to 0.004
SWEEPS = 3  # of the alternating least squares that find factors for rows and columns
# How much more of the error's square factors known from elsewhere may leave than the best ones, and what that is where
# nothing was rounded but to 16 bits.
EXPLAINED_MAX = 1.15
STORED_ERROR = 2**-9  # of a number in bfloat16, as a part of it
EXACT = 1e-5
SCALAR_MAX = 0.15  # how far all factors together may be off: clipping makes weights smaller
ROWS_MAX = 0.25  # how far factors of rows may be from one: clipping makes some rows smaller than others
OTHERS_MAX = 0.01  # which part of them may be further: rows of outliers are


@dataclass(frozen=True)
class Dense:
    """A quantized module.

    Attributes:
        weight: returns what it stands for, in float32.
        error_max: how far that may be from its original, as a part of the original's norm.
    """

    weight: Callable[[], "torch.Tensor"]
    error_max: float


def require_same_layers(subject: Subject, names: Iterable[str], dense: Mapping[str, Dense]) -> tuple[float, str]:
    """Compare tensors with the source's, up to factors that cancel within their layer.

    Args:
        subject: the result and its source.
        names: the source's tensors that lie in layers.
        dense: for each quantized module what it stands for, and how far that may be from its original.

    Returns:
        the largest error of a matrix beside its factors, as a part of its norm, and the matrix that has it.

    Raises:
        Fault: a tensor is too far from its original, or scaled by what nothing makes up for.
    """
    layers: dict[str, list[str]] = {}
    for name in names:
        if prefix := LAYER_PREFIX.match(name):
            layers.setdefault(prefix[0], []).append(name)
    return max((_check_layer(subject, of_layer, dense) for of_layer in layers.values()), default=(0.0, ""))


def _check_layer(subject: Subject, names: Sequence[str], dense: Mapping[str, Dense]) -> tuple[float, str]:
    folds = Folds()
    originals = read_tensors(subject.source, set(names))
    kept = read_tensors(subject.result, {name for name in names if name.removesuffix(".weight") not in dense})
    # Vectors first: they say what matrices must show.
    for name, original in sorted(originals.items(), key=lambda item: (item[1].ndim, item[0])):
        module = name.removesuffix(".weight")
        if module in dense:
            folds.add_matrix(name, dense[module].weight(), original.float(), dense[module].error_max)
        elif original.ndim == 1:
            folds.add_vector(name, kept[name].float(), original.float())
        else:
            folds.add_matrix(name, kept[name].float(), original.float(), KEPT_ERROR_MAX)
    folds.require_cancelled()
    return folds.worst


@dataclass(frozen=True)
class _Ratio:
    """What a vector says of the factors of columns.

    Attributes:
        factors: for each column.
        error: how far each may be off, as a part of it, since the vector is stored in so few bits.
    """

    factors: "torch.Tensor"
    error: "torch.Tensor"


@dataclass(frozen=True)
class _Fit:
    """Factors of a matrix.

    Attributes:
        rows: for each, where the columns have the factors that a vector, or nothing, says.
        columns: for each, where the rows have none.
        power: of each column, as a part of the matrix's.
        least: the part of its power that the best factors of rows and columns leave unexplained.
        fed_by: the vectors whose factors explain the columns; an empty name where they need none.
    """

    rows: "torch.Tensor"
    columns: "torch.Tensor"
    power: "torch.Tensor"
    least: float
    fed_by: frozenset[str]

    def has_columns(self, factors: "torch.Tensor") -> bool:
        """Return whether these factors explain the columns as well as the best do; of parts stored as one, the last."""
        count = len(self.columns)
        if len(factors) < count:
            return False
        factors = factors[len(factors) - count :]
        scalar = float((self.power * factors * self.columns).sum() / (self.power * factors.square()).sum())
        more = float((self.power * (scalar * factors - self.columns).square()).sum())
        return abs(scalar - 1) <= SCALAR_MAX and more <= (EXPLAINED_MAX - 1) * self.least + EXACT

    def has_rows(self) -> bool:
        """Return whether the rows have factors."""
        return float(((self.rows - 1).abs() > ROWS_MAX).float().mean()) > OTHERS_MAX


class Folds:
    """The factors in one layer; vectors are added before matrices."""

    def __init__(self) -> None:
        self._ratios: dict[str, list[_Ratio]] = {}
        self._unchanged: set[str] = set()
        self._fits: dict[str, _Fit] = {}
        self.worst = (0.0, "")

    def add_vector(self, name: str, found: "torch.Tensor", original: "torch.Tensor") -> None:
        """Take a vector's ratio to its original for factors of columns.

        Some norms multiply by one more than they store, so the ratio of that is kept, too. Where little is left of the
        sum, what is stored is much too coarse for it.
        """
        import torch

        if torch.equal(found, original):
            if found.any():
                self._unchanged.add(name)
            return
        self._ratios[name] = [
            _Ratio(_ratio(original, found), torch.full_like(found, STORED_ERROR)),
            _Ratio(_ratio(1 + original, 1 + found), STORED_ERROR * (found / (1 + found)).abs()),
        ]

    def add_matrix(self, name: str, found: "torch.Tensor", original: "torch.Tensor", error_max: float) -> None:
        """Find a matrix's factors.

        Args:
            name: of the tensor.
            found: what it stands for, dense; ``[rows, columns]``.
            original: the source's.
            error_max: the bound of its error, as a part of its norm, beside the factors.

        Raises:
            Fault: it is too far from its original, whatever the factors.
        """
        import torch

        if found.ndim != 2:  # noqa: PLR2004 - experts stored as one, which are not quantized
            if not torch.equal(found, original):
                raise Fault(f"{name} is not quantized, and yet not the source's own.")
            return
        least = _least_error(found, original)
        if not least <= error_max:
            raise Fault(f"{name} differs from its original by {least:.1%}, and {error_max:.1%} would be much.")
        self.worst = max(self.worst, (least, name))
        ones = torch.ones(original.shape[1])
        power = original.square().sum(dim=0) / found.square().sum()
        known = [("", _Ratio(ones, 0 * ones))]
        known += [
            (of, ratio) for of, ratios in self._ratios.items() for ratio in ratios if len(ratio.factors) == len(ones)
        ]
        tried = [
            (
                of,
                *_row_factors(found, original * one.factors),
                float((power * (one.factors * one.error).square()).sum()),
            )
            for of, one in known
        ]
        self._fits[name] = _Fit(
            rows=min(tried, key=lambda one: one[2])[1],
            columns=_row_factors(found.T, original.T)[0],
            power=power,
            least=least**2,
            fed_by=frozenset(
                of for of, _, error, coarse in tried if error**2 <= EXPLAINED_MAX * least**2 + EXACT + coarse
            ),
        )

    def require_cancelled(self) -> None:
        """Compare all factors of the layer.

        Raises:
            Fault: one has nothing that makes up for it.
        """
        fits = self._fits.values()
        for name, ratios in self._ratios.items():
            own = self._fits.get(name.removesuffix("bias") + "weight") if name.endswith(".bias") else None
            if own is None and not any(name in fit.fed_by for fit in fits):
                raise Fault(f"{name} is not the source's own, and no matrix makes up for it.")
            if own is not None and not _are_near(ratios[0].factors, own.rows.reciprocal()):
                raise Fault(f"{name} is not the source's own, and its matrix has not changed as it has.")
        for name, fit in self._fits.items():
            if fit.fed_by and fit.has_rows() and not any(one.has_columns(fit.rows.reciprocal()) for one in fits):
                raise Fault(f"The rows of {name} are scaled, and nothing in the layer makes up for it.")
            bias = name.removesuffix("weight") + "bias"
            if fit.fed_by and fit.has_rows() and bias in self._unchanged:
                raise Fault(f"The rows of {name} are scaled, and {bias} is not.")
        for name, fit in self._fits.items():
            if not fit.fed_by and not any(fit.has_columns(one.rows.reciprocal()) for one in fits):
                raise Fault(f"The columns of {name} are scaled, and nothing in the layer makes up for it.")


def _ratio(original: "torch.Tensor", found: "torch.Tensor") -> "torch.Tensor":
    """Return the ratio of each pair; one where there is nothing to divide."""
    return (original / found).nan_to_num(nan=1.0, posinf=1.0, neginf=1.0)


def _row_factors(found: "torch.Tensor", original: "torch.Tensor") -> tuple["torch.Tensor", float]:
    """Return the factor of each row that brings the original nearest, one for a row of zeros, and the error then."""
    import torch

    power = original.square().sum(dim=1)
    factors = torch.where(power > 0, (found * original).sum(dim=1) / power, 1.0)
    return factors, _error(found, original * factors[:, None])


def _least_error(found: "torch.Tensor", original: "torch.Tensor") -> float:
    """Return the error that the best factors of rows and columns together leave."""
    scaled, error = original, _error(found, original)
    for _ in range(SWEEPS):
        scaled = scaled * _row_factors(found.T, scaled.T)[0]
        factors, error = _row_factors(found, scaled)
        scaled = scaled * factors[:, None]
    return error


def _error(found: "torch.Tensor", expected: "torch.Tensor") -> float:
    """Return the norm of the difference as a part of what was found; NaN where a number is."""
    norm = float(found.norm())
    return float((found - expected).norm()) / norm if norm != 0 else float(expected.norm() > 0)


def _are_near(one: "torch.Tensor", other: "torch.Tensor") -> bool:
    """Return whether nearly all factors are the same, as far as factors of rows can be known."""
    return float(((one / other - 1).abs() <= ROWS_MAX).float().mean()) >= 1 - OTHERS_MAX
