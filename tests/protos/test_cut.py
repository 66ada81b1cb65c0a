import subprocess
import sys

import torch

from protos.cut import along

_FIRST_PASS = """\
import sys, torch
from protos.cut import along
x = torch.ones(3, 2, requires_grad=True)
torch.autograd.backward(along(x * 2, torch.ones(3, 2)))
print("sympy" in sys.modules)
"""


def test_the_gradient_at_the_outputs_is_the_slopes_to_the_bit_however_large_their_product() -> None:
    outputs = torch.tensor([[1e30, 2.0], [torch.inf, 0.0]], requires_grad=True)
    slopes = torch.tensor([[1e30, -3.5], [1e-40, torch.nan]])
    (found,) = torch.autograd.grad(along(outputs, slopes), outputs)
    assert torch.equal(found.view(torch.int32), slopes.view(torch.int32))


def test_a_pass_goes_on_where_nobody_keeps_a_graph() -> None:
    outputs = torch.ones(2, 3, requires_grad=True)
    with torch.no_grad():
        number = along(outputs, torch.ones(2, 3))
    assert number.requires_grad


def test_a_first_pass_imports_no_symbols() -> None:
    said = subprocess.run([sys.executable, "-c", _FIRST_PASS], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
