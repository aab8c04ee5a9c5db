"""MatmulRelu: y = relu(x @ W + b) for x (M, K), W (K, N), b (N,) or none.

The bias and the relu happen in registers, before the only store of y; the bias is one more index of
the product (a row of W beside a column of ones of x that lies nowhere). Backward, with
g = grad_y * (y > 0 ? 1 : 0): grad_x = g @ W^T, grad_W = x^T @ g, grad_b = 1^T @ g.

With a gate (M, N), forward multiplies y by gate > 0 ? 1 : 0. So a layer's gradient goes below: x is
its grad_y, W its W^T, gate its input, which is a relu's output.
"""

from fastmlp_kernels import product

forward = product.run  # x, W, y, b, gate
forward_of_usual = product.forward_of_usual  # x, W, b
backward = product.run  # x, W, grad_y, grad_x, grad_W (K, N), or (K + 1, N) with grad_b last, y
backward_of_usual = product.backward_of_usual  # x, W, grad_y, y
