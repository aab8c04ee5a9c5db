"""`fit_many` on other processes and machines: blocks of models, and the engines that run them."""
