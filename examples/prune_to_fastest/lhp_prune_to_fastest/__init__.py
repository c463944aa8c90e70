"""A convolutional network that Torch-Pruning prunes to the widths that are fastest in all."""
