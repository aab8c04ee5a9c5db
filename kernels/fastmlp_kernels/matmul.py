"""Matmul: y = x @ W for x (M, K), W (K, N); grad_x = grad_y @ W^T, grad_W = x^T @ grad_y."""

from fastmlp_kernels import product

forward = product.run  # x, W, y
forward_of_usual = product.forward_of_usual  # x, W
backward = product.run  # x, W, grad_y, grad_x, grad_W
backward_of_usual = product.backward_of_usual  # x, W, grad_y
