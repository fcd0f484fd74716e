"""How far a rounded matrix is from what it was, by its outputs on calibration inputs or, without any, by its weights.

Functions on tensors; refuse to know what is too much. All errors are parts of an energy, ``||(W - Q) X||² / ||W X||²``:
1 is what a matrix of zeros has.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_ELEMENTS = 2**22  # of float32, looked at together, so that nothing of a matrix's size lies beside it
MULTIPLIED_ELEMENTS, MULTIPLIED_COLUMNS = 2**24, 2048  # the same of what is multiplied, which large parts do faster
SAMPLED_ROWS = 128  # or up to twice as many, of inputs that are not summed up: of each of many experts, too


def spread(moments: "Tensor") -> float:
    """Return which part of inputs is not one direction alone: 0 where all are multiples of one vector.

    Args:
        moments: ``X Xᵀ`` or ``Xᵀ X`` of inputs, in float32: of rank one it has ``||H||² = tr(H)²``. Not finite if one
            number in it is not.
    """
    import torch

    trace = moments.diagonal().double().sum().item()
    squares = (
        torch.stack([moments[rows].double().square().sum() for rows in _rows(moments, CHUNK_ELEMENTS)]).sum().item()
    )
    return 1 - squares / trace**2 if trace else float("nan") if squares else 0.0


def weight_error(weight: "Tensor", rounded: "Callable[[slice], Tensor]") -> float:
    """Return the error of the weights alone, as if all inputs were alike in size.

    Args:
        weight: as it was.
        rounded: returns some of its rows as they are now.
    """
    lost = whole = 0.0
    for rows in _rows(weight, CHUNK_ELEMENTS):
        before = weight[rows].double()
        lost += (before - rounded(rows).to(before.device).double()).square().sum().item()
        whole += before.square().sum().item()
    return _part(lost, whole)


@dataclass(frozen=True)
class Weighed:
    """A matrix before GPTQ rounds it, with the Hessian of its inputs, of which nothing is kept.

    GPTQ's loss is half of ``tr((W - Q) (H + λI) (W - Q)ᵀ)``: it sums the squares of what each column leaves to those
    behind it, and these are the residual, told in the factor of the inverse Hessian. Less the damping, that is the
    error of the outputs, and no second Hessian has to lie beside the one that is inverted.

    Attributes:
        output_energy: ``tr(W H Wᵀ)``.
        mean: of the Hessian's diagonal as it is damped by.
        seen: which columns have had an input that is not zero; the others GPTQ makes zero.
    """

    output_energy: float
    mean: float
    seen: "Tensor"

    def error(self, loss: float, damp: float, weight: "Tensor", rounded: "Tensor") -> float:
        """Return the error of the outputs.

        Args:
            loss: GPTQ's, of all rows.
            damp: what was added to the diagonal, as a part of its mean.
            weight: as it was.
            rounded: as it is now.
        """
        moved = 0.0
        for rows in _rows(weight, CHUNK_ELEMENTS):
            change = weight[rows].float() - rounded[rows].to(weight.device).float()
            moved += (change * self.seen.to(weight.device)).double().square().sum().item()
        lost = 2 * loss - damp * self.mean * moved
        return _part(max(lost, 0.0), self.output_energy)  # what is not a number stays so


def weigh(weight: "Tensor", hessian: "Tensor") -> Weighed:
    """Look at a matrix and the Hessian of its inputs, before it is damped and inverted.

    The Hessian is symmetric: what lies below its diagonal is counted with what lies above, and not read.
    """
    import torch

    energies = []
    for rows in _rows(weight, MULTIPLIED_ELEMENTS):
        part = weight[rows].float()
        for first in range(0, len(hessian), MULTIPLIED_COLUMNS):
            block = slice(first, first + MULTIPLIED_COLUMNS)
            met = part[:, block] @ hessian[block, block]
            met.addmm_(part[:, :first], hessian[:first, block], alpha=2)
            energies.append(met.mul_(part[:, block]).sum(dtype=torch.float64))
    diagonal = hessian.diagonal()
    seen = diagonal != 0
    return Weighed(torch.stack(energies).sum().item(), diagonal.where(seen, 1.0).mean().item(), seen)


@dataclass(frozen=True)
class Answers:
    """What a matrix makes of some of its inputs, before it is rounded.

    Attributes:
        inputs: some rows, in float32, in main memory.
        outputs: of these.
    """

    inputs: "Tensor"
    outputs: "Tensor"

    def error(self, rounded: "Tensor") -> float:
        """Return the error of the outputs."""
        now = _outputs(self.inputs, rounded)
        return _part((now - self.outputs).double().square().sum().item(), self.outputs.double().square().sum().item())


def sample(inputs: "Tensor") -> "Tensor":
    """Return some rows of inputs, evenly chosen, in float32 in main memory."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    return rows[:: max(1, len(rows) // SAMPLED_ROWS)].float().cpu()


def answers(weight: "Tensor", inputs: "Tensor") -> Answers:
    """Have a matrix answer to some of its inputs."""
    return Answers(inputs, _outputs(inputs, weight))


def _outputs(inputs: "Tensor", weight: "Tensor") -> "Tensor":
    return (inputs.to(weight.device) @ weight.float().T).cpu()


def _rows(matrix: "Tensor", elements: int) -> Iterator[slice]:
    count = max(1, elements // max(1, matrix.shape[1]))
    for first in range(0, len(matrix), count):
        yield slice(first, first + count)


def _part(lost: float, whole: float) -> float:
    """Return a part; of nothing, nothing is lost, and what comes out of it all the same has no measure."""
    if whole == 0:
        return 0.0 if lost == 0 else float("inf")
    return lost / whole
