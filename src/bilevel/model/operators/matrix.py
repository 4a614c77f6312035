"""Any linear map given as a matrix, dense or sparse: tomography, compressed sensing, your own."""

from __future__ import annotations

import warnings
from typing import Any, cast

import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch import Tensor, nn

from bilevel.ground.errors import InputError
from bilevel.linear.bounds import schur_bound
from bilevel.model.operators.derived import Derived
from bilevel.model.operators.inputs import check_adjoint, check_forward, check_real, real_tensor
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["Matrix", "eigenvalue_bounds"]

_EXACT_RANK, _EXACT_SIZE = 4096, 2**25
_FEW = 2
"""Images from which on PyTorch multiplies faster than SciPy."""


class Matrix(Operator):
    """Any linear map, as a matrix.

    A x = M vec(x): the data (b, 1, 1, m) are M (m, n) times the image in row-major order.

    A sparse matrix is kept as compressed rows, together with its transpose.

    Args:
        matrix: dense tensor, sparse tensor or SciPy sparse matrix, (m, n).
        image_shape: (c, h, w) with c h w = n.
        saved: whether a sparse matrix belongs to the state, or is made again from options.

    Raises:
        InputError: a matrix that is complex, not finite or empty, or an image shape without n
            entries.

    Example:
        >>> operator = Matrix(torch.tensor([[1.0, 1.0], [0.0, 2.0]]), (1, 1, 2))
        >>> operator(torch.ones(1, 1, 1, 2))
        tensor([[[[2., 2.]]]])
    """

    dense: Tensor | None

    def __init__(self, matrix: object, image_shape: Shape, *, saved: bool = True) -> None:
        super().__init__()
        pair = _compressed(matrix)
        dense = None if pair else real_tensor(matrix, "matrix", (2,))
        self.register_buffer("dense", dense)
        self.sparse = nn.ModuleList([_Rows(part, saved) for part in pair])
        self._derived = Derived()
        m, n = self._pair()[0].shape
        self._image_shape = _image_shape(image_shape, n)
        self._data_shape: Shape = (1, 1, m)

    def forward(self, x: Tensor) -> Tensor:
        """A x: (b, c, h, w) -> (b, 1, 1, m)."""
        check_forward(self, x, self._values)
        return _multiply(x.flatten(1), *self._pair()).reshape(-1, *self._data_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (b, 1, 1, m) -> (b, c, h, w)."""
        check_adjoint(self, y, self._values)
        matrix, transposed = self._pair()
        return _multiply(y.flatten(1), transposed, matrix).reshape(-1, *self._image_shape)

    def _pair(self) -> tuple[Tensor, Tensor]:
        if self.dense is not None:
            return self.dense, self.dense.T
        rows, columns = (cast(_Rows, part).tensor() for part in self.sparse)
        return rows, columns

    @property
    def _values(self) -> Tensor:
        return cast(_Rows, self.sparse[0]).values if self.dense is None else self.dense

    @property
    def roundings(self) -> float:
        """Of sums as long as the matrix; their errors grow like the root (Higham and Mary 2019)."""
        return 2.0 + max(self._pair()[0].shape) ** 0.5 / 8

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Bounds of the eigenvalues of AᵀA.

        Exact up to rank 4096 and 2^25 entries. Larger: the Schur test with |M|, which is sharp
        where the entries have one sign and loose for large dense matrices of both signs.
        """
        self.data_shape(image_shape)
        return self._derived.get(self._values, "bounds", self._gram_bounds)

    def _gram_bounds(self) -> Interval:
        matrix, transposed = (part.cpu().double() for part in self._pair())
        m, n = matrix.shape
        if min(m, n) <= _EXACT_RANK and m * n <= _EXACT_SIZE:
            return eigenvalue_bounds(matrix.to_dense())
        matrix, transposed = matrix.abs(), transposed.abs()
        upper = schur_bound(
            lambda x: _multiply(x, matrix, transposed),
            lambda y: _multiply(y, transposed, matrix),
            (n,),
            (m,),
        )
        return Interval(0.0, upper)

    def image_shape(self, data_shape: Shape) -> Shape:
        """The image shape given at construction."""
        del data_shape
        return self._image_shape

    def data_shape(self, image_shape: Shape) -> Shape:
        """(1, 1, m); raises InputError for an image of another shape than at construction."""
        if image_shape != self._image_shape:
            what = f"this matrix acts on images (c, h, w) = {self._image_shape}"
            raise InputError(what, given=image_shape)
        return self._data_shape

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again; a sparse matrix as a CSR tensor."""
        return {"matrix": self._pair()[0], "image_shape": self._image_shape}


class _Rows(nn.Module):
    """Compressed rows as three plain buffers: unlike torch's own, they can be copied and saved."""

    starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, matrix: Tensor, saved: bool) -> None:
        super().__init__()
        self.shape = matrix.shape
        starts, columns = matrix.crow_indices(), matrix.col_indices()
        self.register_buffer("starts", starts.to(torch.int32), persistent=saved)
        self.register_buffer("columns", columns.to(torch.int32), persistent=saved)
        self.register_buffer("values", matrix.values().clone(), persistent=saved)

    def tensor(self) -> Tensor:
        """The matrix as a CSR tensor that shares the buffers."""
        return torch.sparse_csr_tensor(
            self.starts, self.columns, self.values, self.shape, check_invariants=False
        )


class _Product(torch.autograd.Function):
    """Rows of x times a matrix whose transpose is at hand, so that autograd need not form it."""

    @staticmethod
    def forward(x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        """(b, n) -> (b, m); of a few rows on the CPU by SciPy, whose product takes a third."""
        del transposed
        few = len(x) < _FEW and x.device.type == "cpu"
        if few and matrix.layout is torch.sparse_csr:
            parts = matrix.values(), matrix.col_indices(), matrix.crow_indices()
            arrays = tuple(part.detach().numpy() for part in parts)
            rows = cast(Any, scipy.sparse.csr_array(arrays, shape=tuple(matrix.shape)))
            found = [torch.from_numpy(rows @ row) for row in x.detach().numpy()]
            return torch.stack(found) if found else x.new_zeros(0, len(matrix))
        return (matrix @ x.T).T.contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep both matrices; they are constants."""
        del output
        ctx.pair = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The transpose."""
        matrix, transposed = ctx.pair
        return _multiply(grad_outputs[0], transposed, matrix), None, None

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """The map itself."""
        return _multiply(grad_inputs[0], *ctx.pair)


def _multiply(x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
    return cast(Tensor, _Product.apply(x, matrix, transposed))


def _compressed(matrix: object) -> tuple[Tensor, ...]:
    """A sparse matrix and its transpose as real CSR tensors; nothing if it is dense."""
    device = torch.device("cpu")
    if isinstance(matrix, Tensor) and matrix.layout is not torch.strided:
        found = matrix.detach().to_sparse_coo().coalesce()
        device, values = found.device, check_real(found.values(), "matrix")
        if found.ndim != 2 or values.ndim != 1:
            raise InputError("matrix must have shape (m, n)", given=tuple(found.shape))
        places = tuple(found.indices().cpu().numpy())
        entries = cast(Any, (values.cpu().numpy(), places))
        matrix = scipy.sparse.coo_array(entries, shape=cast(Any, tuple(found.shape)))
    if not scipy.sparse.issparse(matrix):
        return ()
    rows = cast(Any, scipy.sparse.csr_array(cast(Any, matrix)))
    if len(rows.shape) != 2 or 0 in rows.shape:
        raise InputError("matrix must have shape (m, n), not empty", given=rows.shape)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return _tensor(rows, device, checked=True), _tensor(rows.T.tocsr(), device, checked=False)


def _tensor(rows: Any, device: torch.device, *, checked: bool) -> Tensor:
    starts, columns, values = map(torch.as_tensor, (rows.indptr, rows.indices, rows.data))
    values = check_real(values, "matrix")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        made = torch.sparse_csr_tensor(
            starts, columns, values, rows.shape, check_invariants=checked
        )
    return made.to(device)


def _image_shape(given: object, entries: int) -> Shape:
    match given:
        case (int(c), int(h), int(w)) if min(c, h, w) > 0 and c * h * w == entries:
            return (c, h, w)
        case _:
            what = "image_shape (c, h, w) must have as many entries as the matrix has columns"
            raise InputError(f"{what}, {entries}", given=given)


def eigenvalue_bounds(matrix: Tensor) -> Interval:
    """Of MᵀM, to rounding, for M (m, n) float64."""
    m, n = matrix.shape
    gram = matrix @ matrix.T if m < n else matrix.T @ matrix
    eigenvalues = cast(Tensor, torch.linalg.eigvalsh(gram))
    rounding = 4 * (m + n) * torch.finfo(torch.float64).eps * float(gram.trace())
    lower = 0.0 if m < n else max(0.0, float(eigenvalues[0]) - rounding)
    return Interval(lower, float(eigenvalues[-1]) + rounding)
