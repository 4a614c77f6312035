"""Hyper-parameters learned by their gradient (Bengio 2000), and training sets cleaned by it."""
