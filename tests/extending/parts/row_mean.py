"""A forward operator of one's own."""

from torch import Tensor

from bilevel.extend import InputError, Interval, Operator, Shape


class RowMean(Operator):
    """The mean of neighbours in a row, periodic: motion blur.

    (A x)_i = (x_i + ... + x_{i+n-1})/n.

    Args:
        length: n [pixel].
    """

    def __init__(self, length: int = 3) -> None:
        super().__init__()
        if length < 1:
            raise InputError("length must be at least 1", given=length)
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        return sum((x.roll(-k, -1) for k in range(1, self.length)), x) / self.length

    def adjoint(self, y: Tensor) -> Tensor:
        return sum((y.roll(k, -1) for k in range(1, self.length)), y) / self.length

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """‖A‖ = 1: circulant rows of entries >= 0 with the sum 1."""
        return Interval(0.0, 1.0)

    def data_shape(self, image_shape: Shape) -> Shape:
        if self.length > image_shape[2]:
            given = f"an image that is {image_shape[2]} wide"
            raise InputError(f"the mean of {self.length} pixels needs as many", given=given)
        return image_shape

    def options(self) -> dict[str, object]:
        return {"length": self.length}
