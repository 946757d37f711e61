"""Pretrained backbones, classifiers, adapters, and several models as one forward pass."""
